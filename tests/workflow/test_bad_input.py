"""Bad input, through the rules: odd clips are taken or listed with a reason, a wrong config ends in one message."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from project import LABELS, ODD_CLIPS, Project

pytestmark = pytest.mark.workflow

CLIPS = "results/clips/dataset=mine/clips.parquet"
REJECTED = "results/clips/dataset=mine/rejected.parquet"
REFUSED = {source: reason for source, reason in ODD_CLIPS.items() if reason is not None}


class Text(HTMLParser):
    """The text of a page, without its markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def __str__(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.parts))


def test_odd_clips_are_taken_or_listed_with_a_reason(folder_run: Project) -> None:
    rejected = folder_run.table(REJECTED).to_pylist()
    assert {row["source"]: row["reason"] for row in rejected} == REFUSED
    assert all(row["detail"] for row in rejected)
    clips = {row["source"]: row for row in folder_run.table(CLIPS).to_pylist()}
    assert set(clips) == {f"{label}/{label}-{clip}.wav" for label in LABELS for clip in range(6)} | {
        source for source, reason in ODD_CLIPS.items() if reason is None
    }
    six = clips["wind/6_channels.wav"]
    assert (six["source_channels"], six["source_sample_rate_hz"], six["sample_rate_hz"]) == (
        6,
        48_000,
        16_000,
    )


def test_odd_clips_are_counted_in_the_page(folder_run: Project) -> None:
    text = str(Text(folder_run.path("results/report/index.html").read_text(encoding="utf-8")))
    assert re.search(rf"\b{len(REFUSED)}\b[^.]{{0,40}}(rejected|refused)", text), text[:5000]
    for source, reason in REFUSED.items():
        assert source in text
        assert reason in text


def test_too_many_rejected_clips_fail_readably(mine: Project) -> None:
    done = mine.snakemake(CLIPS, changes={"datasets": {"mine": {"max_rejected": 0.05}}})
    assert done.returncode != 0
    lines = done.stdout.splitlines()
    start = lines.index("foley: collect_clips (dataset=mine) failed")
    log = "results/logs/collect_clips/dataset=mine.log"
    total = 5 * 6 + len(ODD_CLIPS)
    assert lines[start + 1].startswith(
        f"  TooManyRejected: dataset mine: {len(REFUSED)} of {total} clips rejected ("
    )
    assert "raise datasets.mine.max_rejected" in lines[start + 1]
    assert lines[start + 2] == f"  log: {log}"
    reasons = mine.path(log).read_text()
    for source, reason in REFUSED.items():
        assert re.search(rf"rejected {re.escape(source)}: {reason} \(.+\)", reasons)


WORDS = {"class_vectors": {"words": {"path": "nowhere.txt"}}}
PRETRAINED = {
    "embeddings": {"mn04": {"encoder": "efficientat", "weights": "nowhere.pt"}},
    "zero_shot": {"embeddings": ["mn04"]},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"zero_shot": {"sede": 1}}, r"`zero_shot\.sede`; did you mean `seed`\?", id="key"),
        pytest.param({"zero_shot": {"seeds": "many"}}, r"`zero_shot\.seeds`: .*integer.*'many'", id="type"),
        pytest.param(
            {"datasets": {"mine": {"folder": "nowhere"}}},
            r"`datasets\.mine\.folder`: .*no folder at nowhere",
            id="folder",
        ),
        pytest.param(PRETRAINED, r"`embeddings\.mn04\.weights`: no file at nowhere\.pt", id="weights"),
        pytest.param(WORDS, r"`class_vectors\.words\.path`: no file at nowhere\.txt", id="words"),
        pytest.param(
            {"class_vectors": {"words": {"classes": {"mine": "nowhere.yaml"}}}},
            r"`class_vectors\.words\.classes\.mine`: no file at nowhere\.yaml; it should hold a class table",
            id="class_table",
        ),
        pytest.param(
            {"class_vectors": {"words": {"classes": {"mien": "words.txt"}}}},
            r"class_vectors\.words\.classes.*`mien`.*did you mean `mine`\?",
            id="class_table_of_no_dataset",
        ),
        pytest.param(
            {"datasets": {"other": {"kind": "foldr", "path": "clips"}}, "zero_shot": {"datasets": ["other"]}},
            r"`datasets\.other\.kind` is `foldr`.*did you mean `folder`\?",
            id="dataset_kind",
        ),
        pytest.param(
            {"methods": {"ddpm": {"generator": "dppm"}}},
            r"`methods\.ddpm\.generator` is `dppm`.*did you mean `ddpm`\?",
            id="generator",
        ),
        pytest.param(
            {"methods": {"ddpm": {"generator_options": {"epoch": 3}}}},
            r"`methods\.ddpm\.generator_options\.epoch`; did you mean `epochs`\?",
            id="option",
        ),
        pytest.param({"datasets": {"a/b": {"folder": "clips"}}}, r"`datasets\.a/b", id="slash"),
    ],
)
def test_a_wrong_config_ends_in_one_message(folder_project: Project, changes: dict, message: str) -> None:
    done = folder_project.snakemake(changes=changes)
    assert done.returncode != 0
    assert len(re.findall(r"^config: .+$", done.stdout, re.M)) == 1, done.stdout
    assert re.search(rf"^config: .*{message}", done.stdout, re.M), done.stdout
    assert "Traceback" not in done.stdout
    assert not folder_project.path("results").exists()


def test_a_split_without_its_classes_ends_in_one_message(mine: Project) -> None:
    done = mine.snakemake(changes={"zero_shot": {"splits": ["fold7"]}})
    assert done.returncode != 0
    assert "`zero_shot.splits` names `fold7`, which mine does not have" in done.stdout
    assert "Traceback" not in done.stdout
