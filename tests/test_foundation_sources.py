"""A source that truly helps and one that truly hurts: the study tells them apart, and so does the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from foley import tables
from foley.classifiers.linear_probe import LinearProbeOptions
from foley.report.chosen import Choices
from foley.report.class_gains import class_panels
from foley.report.foundation import FoundationTables, foundation
from foley.report.leaderboard import boards
from foley.report.mixes import as_they_are, read_mix, read_variant
from foley.report.page import write_report
from foley.report.scores import ScoreBook
from foley.report.verdict import Verdict, verdicts
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION
from foley.studies.foundation.choose_mix import choose_mix
from foley.studies.foundation.class_filter import allocate_clips, filter_classes, read_choice
from foley.studies.foundation.compare_mixes import compare_mixes
from foley.studies.foundation.fit_probes import fit_probes
from foley.studies.foundation.mix import Mix, variant
from foley.tables.audio_studies import AUDIO_PARTITION, SYNTHETIC_CLIPS
from foley.tables.features import EMBEDDINGS
from foley.tables.foundation import CLASS_CHOICE, COSTS, MIX_CHOICE, MIX_CLIPS
from foley.tables.scores import SCORES

CLASSES = list(range(8))
LABELS = {c: f"class {c}" for c in CLASSES}
POOL, AMOUNT, PERCENT = 12, 8, 10
GOOD, BAD = f"good_{AMOUNT}", f"bad_{AMOUNT}"
ROLES = {TRAIN: 20, VALIDATION: 8, TEST: 12}


def point(generator: np.random.Generator, class_id: int) -> list[float]:
    """An embedding of a class: two real clips of it say little, twenty say nearly all."""
    return (1.6 * np.eye(len(CLASSES))[class_id] + 0.9 * generator.normal(size=len(CLASSES))).tolist()


@dataclass(frozen=True)
class Study:
    """All that the rules of the study leave behind, on embedded clips of eight classes."""

    folder: Path

    def path(self, mix: str, percent: int = PERCENT) -> Path:
        return self.folder / f"{percent}-{mix}.parquet"

    def choice(self, source: str, how: str) -> Path:
        return self.folder / f"{how}-{source}.parquet"

    @property
    def book(self) -> ScoreBook:
        return ScoreBook(self.folder / "scores.parquet", ["real", GOOD, BAD, "chosen"], ["toy"])

    @property
    def verdict(self) -> Verdict:
        (found,) = verdicts(self.book)
        return found


def write_vectors(path: Path, rows: Sequence[tuple[str, list[float]]]) -> Path:
    found = [{"clip_id": clip_id, "window": 0, "vector": vector} for clip_id, vector in rows]
    tables.write(path, EMBEDDINGS.with_vectors(vector=len(CLASSES)), found)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Clips of `good` lie where the class's real ones do; those of `bad` bear labels at random."""
    folder = tmp_path_factory.mktemp("study")
    draw = np.random.default_rng(0)
    rows = [
        {"clip_id": f"{role}-{c}-{n}", "class_id": c, "recording_id": f"{role}-{c}-{n}", "role": role}
        for role, count in ROLES.items() for c in CLASSES for n in range(count)
    ]  # fmt: skip
    partition = folder / "partition.parquet"
    tables.write(partition, AUDIO_PARTITION, rows)
    real = write_vectors(folder / "real.parquet", [(r["clip_id"], point(draw, r["class_id"])) for r in rows])
    pools, vectors = {}, {}
    for source in ("good", "bad"):
        clips = [(f"{source}-{c}-{n}", c) for c in CLASSES for n in range(POOL)]
        pools[source] = folder / f"{source}.parquet"
        made = [
            {
                "clip_id": clip_id, "class_id": c, "label": LABELS[c], "generator": source, "method": "sampled",
                "seed": n, "sample_rate_hz": 8000, "sources": [], "audio": {"bytes": b"", "path": None},
            }
            for n, (clip_id, c) in enumerate(clips)
        ]  # fmt: skip
        tables.write(pools[source], SYNTHETIC_CLIPS, made)
        sounds = [
            (i, point(draw, c if source == "good" else int(draw.integers(len(CLASSES))))) for i, c in clips
        ]
        vectors[source] = write_vectors(folder / f"{source}-vectors.parquet", sounds)
    there = Study(folder)

    def fit(mix: Mix, choice: Path | None = None) -> Path:
        out = there.path(mix.name, mix.real_percent)
        source = mix.source
        fit_probes(
            out, out.with_suffix(".clips.parquet"), mix=mix, protocol="clean", real=[real],
            embedded=[vectors[source]] if source else [], partition=partition,
            synthetic=[pools[source]] if source else [], choice=choice, seeds=[0, 1, 2], draw_seed=0,
            options=LinearProbeOptions(strengths=(1e-2, 1e-1, 1.0)),
            labels={
                "dataset": "toy", "split": "fold1", "method": mix.name,
                "variant": variant("probe", mix.real_percent),
            },
        )  # fmt: skip
        return out

    mixes = [fit(Mix(PERCENT))]
    alone = []
    for source in ("good", "bad"):
        alone.append(fit(Mix(0, source, AMOUNT)))
        kept, spent = there.choice(source, "kept"), there.choice(source, "spent")
        filter_classes(kept, predictions=alone[-1], class_ids=CLASSES, amount=AMOUNT, drop_fraction=0.25)
        mixes.append(fit(Mix(PERCENT, source, AMOUNT)))
        allocate_clips(
            spent,
            without=mixes[0],
            added=mixes[-1],
            pool=dict.fromkeys(CLASSES, POOL),
            amount=AMOUNT,
            floor=0.0,
        )
        mixes += [
            fit(Mix(PERCENT, source, AMOUNT, "precision"), kept),
            fit(Mix(PERCENT, source, AMOUNT, "active"), spent),
        ]
    choose_mix(folder / "chosen.parquet", folder / "choice.parquet", mixes=mixes)
    compare_mixes(
        folder / "scores.parquet", predictions=[*mixes, *alone, folder / "chosen.parquet"],
        partitions={"fold1": partition}, draws=500, seed=0,
    )  # fmt: skip
    yield there


def test_the_verdict_tells_them_apart(study: Study) -> None:
    outcomes = {finding.system.method: finding.outcome for finding in study.verdict.sources}
    assert outcomes == {GOOD: "helps", BAD: "hurts"}
    (chosen,) = study.verdict.findings
    assert chosen.outcome == "helps" and study.verdict.summary == "helps"


def test_validation_clips_choose_the_source_that_helps(study: Study) -> None:
    rows = tables.read(study.folder / "choice.parquet", MIX_CHOICE).to_pylist()
    (best,) = [row["method"] for row in rows if row["chosen"]]
    assert best.startswith("good_")


def test_the_filters_tell_them_apart(study: Study) -> None:
    means = {}
    for source in ("good", "bad"):
        rows = tables.read(study.choice(source, "kept"), CLASS_CHOICE).to_pylist()
        # A fraction leaves, whatever the source: what differs is the precision that the page shows beside it.
        assert sorted(row["clips"] for row in rows) == [0, 0, *[AMOUNT] * 6]
        means[source] = np.mean([row["value"] or 0.0 for row in rows])
    assert means["good"] > 3 / len(CLASSES) and means["bad"] < 2 / len(CLASSES)
    gaining = {
        source: sum(map(bool, read_choice(study.choice(source, "spent")).values())) for source in means
    }
    assert gaining["good"] > gaining["bad"]


def test_the_table_of_classes_tells_them_apart(study: Study) -> None:
    (panel,) = [p for p in class_panels(study.book, {"toy": LABELS})[0] if "real=10%" in p["name"]]
    gains: dict[str, list[float]] = {}
    for row in panel["table"].rows:
        for (kind, method), cell in zip(panel["table"].columns, row.cells, strict=True):
            if kind == "gain" and cell.score is not None:
                gains.setdefault(method, []).append(cell.score.value)
    assert set(gains) == {GOOD, BAD, "chosen"}
    assert all(len(of_class) == len(CLASSES) for of_class in gains.values())
    assert sum(gain > 0 for gain in gains[GOOD]) > len(CLASSES) / 2
    assert sum(gain < 0 for gain in gains[BAD]) > len(CLASSES) / 2


def tables_of(study: Study, **files: Any) -> dict[str, Any]:
    section = foundation(study.book, FoundationTables(**files), {"toy": LABELS})
    assert section is not None
    (panel,) = section.panels
    return {table.title: table for table in (*panel.tables, *panel.details)}


def one(found: dict[str, Any], words: str) -> Any:
    (table,) = [table for title, table in found.items() if words in title]
    return table


def test_the_page_says_what_the_class_filter_saw(study: Study) -> None:
    kept = {("toy", "probe", f"{s}_{AMOUNT}"): [study.choice(s, "kept")] for s in ("good", "bad")}
    table = one(tables_of(study, kept=kept), "class filter")
    assert [row.head[0] for row in table.rows] == [GOOD, BAD]
    for row, source in zip(table.rows, ("good", "bad"), strict=True):
        rows = tables.read(study.choice(source, "kept"), CLASS_CHOICE).to_pylist()
        gone = {LABELS[r["class_id"]] for r in rows if not r["clips"]}
        assert set(row.head[1].split(", ")) == gone
        stay = [r["value"] for r in rows if r["clips"] and r["value"] is not None]
        assert row.cells[0].score.value == pytest.approx(np.mean(stay))


def test_the_page_says_how_many_clips_mixes_had(study: Study) -> None:
    counts = sorted(study.folder.glob("*.clips.parquet"))
    found = tables_of(study, counts=counts)
    sizes = {(row.head[0], row.detail): row.head[1:] for row in one(found, "Clips of each mix").rows}
    real = str(2 * len(CLASSES))
    assert sizes["real", "probe, 10 % real"] == (real, "0", "0")
    assert sizes[GOOD, "probe, 10 % real"] == (real, "64", "64")
    assert sizes[f"{GOOD}_precision", "probe, 10 % real"] == (real, "48", "48")
    assert sizes[BAD, "probe, 0 % real"] == ("0", "64", "64")
    assert not [title for title in found if "fewer synthetic clips" in title]


def test_the_page_names_mixes_that_lack_clips(study: Study, tmp_path: Path) -> None:
    """A fifth of a class's clips may be lacking; a reader is told in plain sight."""
    whole = tables.read(study.path(GOOD).with_suffix(".clips.parquet"))
    rows = whole.to_pylist()
    for row in rows:
        row["taken"] -= row["class_id"] == 3
    tables.write(tmp_path / "clips.parquet", MIX_CLIPS, rows)
    table = one(tables_of(study, counts=[tmp_path / "clips.parquet"]), "fewer synthetic clips")
    assert [(row.head, row.detail) for row in table.rows] == [((GOOD, "64", "63"), "probe, 10 % real")]


def page_of(study: Study, folder: Path, **files: Any) -> str:
    write_report(
        folder / "page.html", datasets=[], config_summary={}, scores=study.folder / "scores.parquet",
        prompted=FoundationTables(**files), methods=["real", GOOD, BAD],
    )  # fmt: skip
    whole = (folder / "page.html").read_text(encoding="utf-8")
    return whole[whole.index('<section id="verdict"') : whole.index('<section id="leaderboard"')]


def test_the_verdict_says_what_was_chosen_and_what_it_cost(study: Study, tmp_path: Path) -> None:
    costs = [
        {
            "dataset": "toy", "split": None, "source": source, "generator": f"<i>{source}</i>", "prompts": "gemini",
            "clips": 96, "audio_h": 0.1, "compute_s": 1800.4, "device": "H100", "requests": 102, "input_tokens": 41_000,
            "output_tokens": 10_000,
        }
        for source in ("good", "bad")
    ]  # fmt: skip
    tables.write(tmp_path / "costs.parquet", COSTS, costs)
    files = {"choices": [study.folder / "choice.parquet"], "costs": [tmp_path / "costs.parquet"]}
    chosen = Choices(**files).of("foundation", "toy", variant("probe", PERCENT), "fold1")
    assert chosen is not None and chosen.promise > 0
    (best,) = [r for r in tables.read(files["choices"][0], MIX_CHOICE).to_pylist() if r["chosen"]]
    named = read_mix(best["method"])
    assert named is not None
    how = {"": "", "precision": ", class filter", "active": ", active generation"}[named.filter]
    assert chosen.text == (
        f"<i>good</i> with gemini prompts, 8 clips a class{how} (1,800 GPU s, 102 requests, 51,000 tokens)"
    )
    page = page_of(study, tmp_path, **files)
    lead = page[page.index('<p class="lead">') : page.index("</p>")]
    assert "<strong>toy.</strong>" in lead and " helps." in lead
    assert f"Validation clips chose {escape(chosen.text)}: " in lead and "<i>" not in page
    assert re.search(r"points on test clips\s*\(95&nbsp;% interval", lead)
    assert f"Chosen by validation clips: {escape(chosen.text)}." in page
    assert "Validation clips chose" not in page_of(study, tmp_path)


def test_choices_of_several_splits_are_counted(tmp_path: Path) -> None:
    at = variant("ssast", 1)
    won = {"fold1": "audiogen-llm_30", "fold2": "audiogen-llm_30", "fold3": "real", "fold4": "own_5_active"}
    rows = [
        {
            "dataset": "toy", "split": split, "variant": at, "method": method, "n": 9,
            "accuracy": 0.7 if method == best and method != "real" else 0.5, "chosen": int(method == best),
        }
        for split, best in won.items() for method in ("real", "audiogen-llm_30", "own_5_active")
    ]  # fmt: skip
    tables.write(tmp_path / "choices.parquet", MIX_CHOICE, rows)
    blank = {"dataset": "toy", "clips": 9, "audio_h": 0.1}
    own = [
        {**blank, "source": "own", "generator": "own", "split": split, "compute_s": time}
        for split, time in (("fold3", 1e6), ("fold4", 60.0))
    ]
    tables.write(tmp_path / "costs.parquet", COSTS, own)
    found = Choices([tmp_path / "choices.parquet"], [tmp_path / "costs.parquet"])
    chosen = found.of("foundation", "toy", at, "mean")
    assert chosen is not None and chosen.promise == pytest.approx(0.15)
    # The cost of the splits that chose it: others' generators were not used.
    assert chosen.text == (
        "audiogen-llm, 30 clips a class, in 2 of 4 splits (cost not known); "
        "own, 5 clips a class, active generation, in 1 of 4 splits (60 s of training and sampling); "
        "real clips alone, in 1 of 4 splits"
    )
    alone = found.of("foundation", "toy", at, "fold3")
    assert alone is not None and (alone.text, alone.promise) == ("real clips alone", 0.0)
    assert found.of("foundation", "toy", variant("ssast", 5), "mean") is None


def test_what_was_tuned_on_test_clips_is_in_the_leaderboard_alone(study: Study, tmp_path: Path) -> None:
    rows = tables.read(study.folder / "scores.parquet", SCORES).to_pylist()
    tuned = [
        {**row, "variant": f"{row['variant']}/published"}
        for row in rows
        if row["variant"] == variant("probe", PERCENT) and row["method"] != "chosen"
    ]
    for row in tuned:
        if row["metric"] == "gain_over_real":
            row |= {"value": 0.9, "low": 0.8, "high": 1.0}
    tables.write(tmp_path / "scores.parquet", SCORES, [*rows, *tuned])
    book = ScoreBook(tmp_path / "scores.parquet", ["real", GOOD, BAD, "chosen"], ["toy"])
    assert {s.variant for s in book.systems("foundation", "toy")} >= {f"probe/real={PERCENT}%/published"}
    (found,) = verdicts(book)
    assert found == study.verdict
    panels = class_panels(book, {"toy": LABELS})[0]
    assert [p["title"] for p in panels] == [p["title"] for p in class_panels(study.book, {"toy": LABELS})[0]]
    assert not any("published" in p["name"] for p in panels)
    (board,) = boards(book, [])[0]
    details = [
        row.detail for row in board.tables[0].rows if row.detail.startswith("probe/real=10%/published")
    ]
    assert details and set(details) == {"probe/real=10%/published, weights chosen on the test clips"}


def test_names_of_mixes_are_read_back() -> None:
    for mix in (Mix(10, "a_b-llm", 30), Mix(10, "g", 5, "active"), Mix(1, "g", 5, "clap")):
        found = read_mix(mix.name)
        assert found is not None and (found.source, found.amount) == (mix.source, mix.amount)
        assert found.filter == ("" if mix.filter == "none" else mix.filter)
    assert read_mix("real") is read_mix("chosen") is None
    assert as_they_are(["real", "g_5", "g_30", "g_30_active", "h_10", "chosen"]) == ["g_30", "h_10"]
    assert read_variant(variant("cnn", 10, "published")) == ("cnn", 10, "published")


def test_scores_are_those_of_the_mixes(study: Study) -> None:
    rows = tables.read(study.folder / "scores.parquet", SCORES).to_pylist()
    alone = {r["method"]: r["value"] for r in rows if r["metric"] == "accuracy" and r["seed"] is None
             and r["class_id"] is None and r["variant"] == "probe/real=0%"}  # fmt: skip
    assert alone[GOOD] > 3 / len(CLASSES) and alone[BAD] < 2 / len(CLASSES)


def test_parts_of_the_real_clips_stand_in_their_order(tmp_path: Path) -> None:
    rows = [
        {
            "study": "foundation", "dataset": "toy", "split": "fold1", "method": "real", "metric": "accuracy",
            "variant": variant("probe", percent), "value": 0.5, "n": 3,
        }
        for percent in (10, 4, 100)
    ]  # fmt: skip
    tables.write(tmp_path / "scores.parquet", SCORES, rows)
    systems = ScoreBook(tmp_path / "scores.parquet").systems("foundation", "toy")
    assert [read_variant(system.variant)[1] for system in systems] == [4, 10, 100]
