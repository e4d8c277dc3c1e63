"""The card of a dataset, and the page's data section: one source of numbers, and strings that stay text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foley import tables
from foley.audio.acoustic_hash import NO_HASH
from foley.datasets.checksums import Comparison
from foley.datasets.leaks import check_leaks
from foley.report.data_summary import DatasetTables, DataSummary, summarise
from foley.report.dataset_card import plain, render_card, write_dataset_card
from foley.report.page import write_report
from foley.tables.classes import CLASSES
from foley.tables.clips import CLIPS, RAW_CLIPS, REJECTED

HOSTILE = "a|b <script>alert(1)</script> [x](http://evil.example) `c` $d$ *e* _f_ ~g~ # h\n| new | row |"
FACTS = {
    "title": "Barks & Co.",
    "licence": "CC BY 4.0",
    "citation": "Doe 2020, Barks, https://doi.org/10.1/abc_def.",
    "url": "https://example.org/barks_and_more",
    "published_clips": 12,
    "claims": [["recording", "fold"], ["speaker", "fold"], ["audio", "fold"], ["recording", "split"]],
}


class Dataset:
    """Tables of an invented dataset: six clips in two folds, a seventh without one, and three that were refused."""

    def __init__(self, folder: Path, dataset: str = "barks") -> None:
        self.folder, self.dataset = folder, dataset
        self.labels = ["bark", HOSTILE, "never heard"]
        numbers = np.random.default_rng(0)
        self.rows: list[dict[str, Any]] = [
            {
                "dataset": dataset,
                "clip_id": f"clip{n}",
                "class_id": n % 2,
                "label": self.labels[n % 2],
                "labels": [self.labels[n % 2]],
                "fold": None if n == 6 else 1 + n % 2,
                "recording_id": f"r{n}",
                "speaker_id": f"s{n % 2}" if n < 5 else None,
                "duration_s": 1.0 + n,
                "sample_rate_hz": 16_000,
                "source_sample_rate_hz": 44_100 if n else 22_050,
                "source_channels": 2 if n else 1,
                "sha256": f"samples {n}",
                "acoustic_hash": numbers.bytes(32),
                "source": f"audio/{n}.wav",
                "shard": 0,
            }
            for n in range(7)
        ]
        self.refused = [
            ("x0", "bark", "silent", "no sample above 0.0001"),
            ("x1", HOSTILE, "silent", HOSTILE),
            ("x2", "bark", "duplicate", "the same samples as clip1"),
        ]
        self.parents: dict[str, list[str]] = {}
        self.facts: dict[str, Any] = dict(FACTS)

    def path(self, name: str) -> Path:
        return self.folder / self.dataset / f"{name}.parquet"

    def write(self) -> DatasetTables:
        tables.write(self.path("clips"), CLIPS, self.rows)
        tables.write(
            self.path("rejected"),
            REJECTED,
            [
                {
                    "dataset": self.dataset,
                    "clip_id": clip_id,
                    "label": label,
                    "source": f"audio/{clip_id}.wav",
                    "reason": reason,
                    "detail": detail,
                }
                for clip_id, label, reason, detail in self.refused
            ],
        )
        tables.write(
            self.path("classes"),
            CLASSES,
            [
                {"class_id": n, "label": label, "parents": self.parents.get(label, [])}
                for n, label in enumerate(self.labels)
            ],
        )
        tables.write(
            self.path("manifest"),
            RAW_CLIPS,
            [
                {name: row.get(name) for name in RAW_CLIPS.columns}
                for row in (
                    *self.rows,
                    *(
                        {"clip_id": c, "source": c, "label": label, "recording_id": c, "shard": 0, "fold": 1}
                        for c, label, _, _ in self.refused
                    ),
                )
            ],
        )
        check_leaks(
            self.path("leaks"),
            dataset=self.dataset,
            clips=self.path("clips"),
            rejected=self.path("rejected"),
            claims=self.facts.get("claims", ()),
            policy="report",
        )
        return DatasetTables(
            self.dataset,
            self.path("clips"),
            self.path("rejected"),
            self.path("classes"),
            leaks=self.path("leaks"),
            manifest=self.path("manifest"),
            facts=self.facts,
        )

    def summary(self) -> DataSummary:
        return summarise(self.write())

    def card(self, **more: Any) -> str:
        written = self.write()
        write_dataset_card(
            self.folder / "card.md",
            dataset=self.dataset,
            facts=self.facts,
            clips=written.clips,
            rejected=written.rejected,
            classes=written.classes,
            leaks=written.leaks,
            manifest=written.manifest,
            **more,
        )
        return (self.folder / "card.md").read_text(encoding="utf-8")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def cells(card: str) -> list[list[str]]:
    """The rows of all tables: what stands between bars that no backslash precedes."""
    rows = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def states(summary: DataSummary) -> dict[tuple[str, str], str]:
    return {(check.what, check.between): check.state for check in summary.leak_checks}


# ---- numbers ----


def test_card_says_what_the_tables_say(dataset: Dataset) -> None:
    dataset.facts |= {"sources": [{"name": "barks.zip", "size_bytes": 1_500_000, "checksum": "md5:0123"}]}
    card = dataset.card(provenance={"rule": "write_dataset_card"})
    rows = cells(card)
    assert card.startswith("# Barks &amp; Co.\n")
    for row in (
        ["clips", "7 clips accepted of 10 listed; the published count is 12 (-2)"],
        ["licence", "CC BY 4.0"],
        ["home", "<https://example.org/barks_and_more>"],
        ["citation", "Doe 2020, Barks, <https://doi.org/10.1/abc_def>."],
        ["shortest, median, longest", "1, 4, 7 s"],
        ["raw sample rate", "22,050 Hz (1 clip), 44,100 Hz (6 clips)"],
        ["raw channels", "1 (1 clip), 2 (6 clips)"],
        ["speakers", "2, with 2 to 3 clips (median 2.5); 2 clips without a speaker"],
        ["bark", "4", "4", "0.3", "█" * 24],
        ["never heard", "0", "0", "0.0", ""],
        ["1", "3", "0.00", "3", "1"],  # fold, clips, hours, recordings, speakers
        ["bark", "3", "0"],  # clips in fold 1 and 2
        ["recordings", "folds", "claimed, holds"],
        ["duplicate", "1", "audio/x2.wav: the same samples as clip1"],
        ["barks.zip", "1.5 MB", "md5:0123"],
    ):
        assert row in rows
    assert "1 clip without a fold." in card
    assert "1 clip was refused as a duplicate of one in another fold" in card
    assert "3 of 10." in card and "rule write\\_dataset\\_card" in card


def test_durations_fall_into_their_bins(dataset: Dataset) -> None:
    summary = dataset.summary()
    assert sum(count for _, _, count in summary.histogram) == 7
    for low, high, count in summary.histogram:
        assert count == sum(low <= row["duration_s"] < high for row in dataset.rows)


@pytest.mark.parametrize(
    "durations",
    [[5.0], [4.99994, 5.0, 5.00006], [0.1, 600.0], [0.0005, 3.0], [1.0] * 5 + [0.4], [0.3, 29.99, 30.0]],
)
def test_bins_are_few_and_hold_all(dataset: Dataset, durations: Sequence[float]) -> None:
    dataset.rows = [dataset.rows[0] | {"clip_id": f"c{n}", "duration_s": d} for n, d in enumerate(durations)]
    histogram = dataset.summary().histogram
    assert 1 <= len(histogram) <= 22 and sum(count for _, _, count in histogram) == len(durations)
    assert all(before[1] == after[0] for before, after in pairwise(histogram))
    assert histogram[0][2] and histogram[-1][2]  # no empty ends


def test_multi_label_clips_count_for_each_class(dataset: Dataset) -> None:
    dataset.rows[0]["labels"] = ["bark", "never heard"]
    dataset.rows[1]["labels"] = [HOSTILE, "bark", "never heard"]
    dataset.rows[2]["labels"] = None  # its one label counts
    dataset.rows[3]["labels"] = []
    summary = dataset.summary()
    assert {row.label: row.clips for row in summary.balance} == {"bark": 5, HOSTILE: 3, "never heard": 2}
    assert summary.labels_per_clip == ((0, 2), (1, 3), (2, 1), (3, 1))
    (first, second) = summary.sides["fold"]
    assert (first.per_class["never heard"], second.per_class["never heard"]) == (1, 1)
    assert (first.clips, second.clips) == (3, 3)  # clips, not labels
    assert ["2", "1"] in cells(render_card(summary))


def test_hierarchy_names_what_lies_below(dataset: Dataset) -> None:
    dataset.parents = {"bark": ["dog", "domestic"], "never heard": ["dog"]}
    assert dataset.summary().hierarchy == (("dog", ("bark", "never heard")), ("domestic", ("bark",)))
    assert ["dog", "bark, never heard"] in cells(dataset.card())


def test_splits_come_in_the_order_of_their_use(dataset: Dataset) -> None:
    for row, split in zip(
        dataset.rows, ["test", "validation", "train", "extra", "test", None, "train"], strict=True
    ):
        row["split"] = split
    summary = dataset.summary()
    assert [side.name for side in summary.sides["split"]] == ["train", "validation", "test", "extra"]
    assert summary.unplaced == {"fold": 1, "split": 1}


def test_examples_of_a_reason_are_of_different_classes(dataset: Dataset) -> None:
    dataset.refused = [(f"x{n}", "bark", "silent", "") for n in range(9)] + [
        ("y", "never heard", "silent", "")
    ]
    (reason,) = dataset.summary().reasons
    assert (reason.name, reason.count) == ("silent", 10)
    assert [row["clip_id"] for row in reason.examples] == ["x0", "y", "x1"]


# ---- leaks ----


def test_checks_tell_what_holds_from_what_was_not_promised(dataset: Dataset) -> None:
    dataset.rows[1]["recording_id"] = "r0"  # folds 2 and 1
    dataset.rows[2]["acoustic_hash"] = dataset.rows[3]["acoustic_hash"]
    for row in dataset.rows[2:4]:
        row["duration_s"] = 2.0
    dataset.rows[5]["acoustic_hash"] = NO_HASH
    dataset.facts["claims"] = [["recording", "fold"], ["speaker", "fold"], ["recording", "split"]]
    summary = dataset.summary()
    assert states(summary) == {
        ("audio", "fold"): "none",
        ("near_audio", "fold"): "found",
        ("recording", "fold"): "broken",
        ("speaker", "fold"): "holds",
        ("recording", "split"): "unknown",  # there are no splits
    }
    assert summary.leak_state == "broken" and summary.without_hash == 1
    card = cells(dataset.card())
    for row in (
        ["recordings", "folds", "claimed, broken: 1 recording, 2 clips"],
        ["near-equal audio", "folds", "not claimed: 1 group of near copies, 2 clips"],
        ["equal audio", "folds", "not claimed, none found"],
        ["recordings", "splits", "claimed, cannot be checked: there are no two splits"],
        ["recordings", "r0", "folds 1, 2", "2", "clip0, clip1"],
        ["near-equal audio", "", "folds 1, 2", "2", "clip2, clip3"],
    ):
        assert row in card


def test_a_claim_about_speakers_nobody_knows_does_not_hold(dataset: Dataset) -> None:
    for row in dataset.rows:
        row["speaker_id"] = None
    assert states(dataset.summary())["speaker", "fold"] == "unknown"


def test_without_folds_there_is_nothing_to_leak_across(dataset: Dataset) -> None:
    dataset.facts["claims"] = []
    for row in dataset.rows:
        row["fold"] = None
    assert dataset.summary().leak_state == "unchecked"
    assert "There are no folds or splits to leak across." in dataset.card()


# ---- nothing, and too much ----


def test_a_dataset_without_clips_or_facts_has_a_card(dataset: Dataset) -> None:
    dataset.rows, dataset.refused, dataset.labels, dataset.facts = [], [], [], {}
    card = dataset.card()
    assert card.startswith("# barks\n") and ["licence", "unknown"] in cells(card)
    assert "0 clips accepted of 0 listed; the publisher gives no count" in card


def test_old_tables_without_leaks_or_manifest_have_a_summary(dataset: Dataset) -> None:
    written = replace(dataset.write(), leaks=None, manifest=None, facts=None)
    summary = summarise(written)
    assert summary.leak_state == "unchecked" and summary.listed is None
    assert "7 clips accepted of 10 listed" in render_card(summary)


def test_hostile_strings_stay_text(dataset: Dataset) -> None:
    dataset.facts |= {"title": HOSTILE, "licence": HOSTILE, "citation": HOSTILE, "url": "javascript:alert(1)"}
    dataset.rows[0] |= {"recording_id": HOSTILE}
    dataset.rows[1] |= {"recording_id": HOSTILE, "clip_id": f"clip {HOSTILE}"}
    dataset.facts |= {"sources": [{"name": HOSTILE, "size_bytes": None, "checksum": HOSTILE}]}
    card = dataset.card(published=Comparison(HOSTILE, HOSTILE, 1, 0, 1, 0, (HOSTILE,)))
    assert "<script" not in card and "<javascript" not in card and not re.search(r"(?<!\\)\]\(", card)
    widths: set[int] = set()
    for line in card.splitlines():
        if line.startswith("|"):
            widths.add(len(re.split(r"(?<!\\)\|", line)))
        elif widths:
            assert len(widths) == 1  # every row of a table has its columns
            widths = set()


@given(text=st.text(max_size=60))
def test_any_string_is_one_line_of_plain_markdown(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown and "<" not in shown and "://" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*[|`*_\[\]~]", shown)
    # Nothing is lost: what a renderer makes of it is the text, with blanks as one.
    seen = html.unescape(re.sub(r"\\([\\`*_\[\]|~#])", r"\1", shown))
    assert seen == " ".join("".join(c if c.isprintable() else " " for c in text).split())


# ---- the page ----


def page_of(folder: Path, written: Sequence[DatasetTables]) -> str:
    write_report(folder / "index.html", datasets=written, config_summary={})
    return (folder / "index.html").read_text(encoding="utf-8")


def test_page_and_card_say_the_same(dataset: Dataset) -> None:
    dataset.rows[1]["recording_id"] = "r0"
    card = html.unescape(dataset.card())
    page = html.unescape(page_of(dataset.folder, [dataset.write()]))
    for words in (
        "7 clips accepted of 10 listed; the published count is 12 (-2)",
        "claimed, broken: 1 recording, 2 clips",
        "claimed, holds",
        "claimed, cannot be checked: there are no two splits",
    ):
        assert words in card and words in page


def test_page_without_a_study_is_about_the_data(dataset: Dataset) -> None:
    page = page_of(dataset.folder, [dataset.write()])
    for words in ("Leaderboard", "Verdict", "no scores", "Confusion", "There is no gallery"):
        assert words not in page
    assert 'id="data"' in page and "Barks &amp; Co." in page
    assert "<script>alert" not in page and not re.findall(
        r"https?://", page.replace(html.escape(HOSTILE), "")
    )


def test_queries_of_a_page_without_a_study_run(dataset: Dataset) -> None:
    duckdb = pytest.importorskip("duckdb")
    page = page_of(dataset.folder, [dataset.write()])
    (query,) = re.findall(r'<pre data-engine="duckdb">(.*?)</pre>', page, re.DOTALL)
    assert sum(row[2] for row in duckdb.sql(html.unescape(query)).fetchall()) == 7
    (script,) = re.findall(r'<pre data-engine="pandas">(.*?)</pre>', page, re.DOTALL)
    printed: list[Any] = []
    exec(html.unescape(script), {"print": printed.append})
    assert printed[0].sum() == 3


def test_page_with_fifteen_datasets_folds_them(tmp_path: Path) -> None:
    written = []
    for number in range(15):
        one = Dataset(tmp_path, f"barks{number}")
        if number == 3:
            one.rows[1]["recording_id"] = "r0"
        written.append(one.write())
    page = page_of(tmp_path, written)
    folded = re.findall(r'<details class="dataset" id="(data-\d+)">', page)  # none is open
    assert len(folded) == 15 and set(folded) == set(re.findall(r'<a href="#(data-\d+)">', page))
    assert page.count('<span class="chip broken">leaks</span>') == 1
    overview = page[page.index('aria-label="Datasets"') : page.index('<details class="dataset"')]
    assert overview.count('<tr><th scope="row">') == 15
    assert len(page) < 1e6


def test_card_says_how_files_compare_with_published_checksums(dataset: Dataset) -> None:
    card = render_card(dataset.summary(), Comparison(not_checked="the list | is not here"))
    assert "not checked (the list \\| is not here)" in card
    compared = Comparison(None, "x_index.json", 5, 3, 1, 1, ("audio/a.wav",), ("audio/b.wav",))
    card = render_card(dataset.summary(), compared)
    assert "3 of 5 files are the published ones" in card
    assert "1 differ, 1 are missing, for example audio/a.wav, audio/b.wav" in card
