"""The study `foundation` through the real rules: tiny checkpoints of the real formats, a language model on loopback."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from project import LABELS, REPOSITORY, Project, copy_project

from foley import tables
from foley.tables.audio_studies import SYNTHETIC_CLIPS
from foley.tables.foundation import CLASS_CHOICE, COSTS, MIX_CHOICE
from foley.tables.prompts import LLM_REQUESTS, PROMPTS, REJECTED_PROMPTS
from foley.tables.scores import PREDICTIONS
from gemini_stub import KEY, Asked, GeminiStub, Reply, good_answer
from smoke_parts import PLACE, PRESET, write_parts

pytestmark = pytest.mark.workflow

# The rules of foundation.smk, prompts.smk and prompted.smk that have a script of their own; no probe is asked here.
FOUNDATION_RULES = {
    "write_prompts", "generate_prompted", "write_synthetic_card", "train_mix", "filter_classes", "allocate_clips",
    "choose_mix", "compare_mixes", "count_costs",
}  # fmt: skip
SOURCES = ["audiogen-label", "audiogen-gemini", "audioldm2-gemini_legacy", "tiny_diffusion"]
RECOGNISERS = ["tiny_cnn", "tiny_ssast"]
MIXES = ["real", *(f"{s}_3{f}" for s in SOURCES for f in ("", "_precision", "_active"))]
RESULTS = "results/foundation_smoke"
HOME = f"{RESULTS}/foundation/dataset=mine"
HOSTILE = "<script>alert('bell')</script> ringing in a church"


def answer(asked: Asked) -> Reply:
    """A good answer, but for one class with markup in it."""
    if asked.label == "bell" and not asked.is_critic:
        good = good_answer(asked)
        return Reply(good.text.replace('["', f'["{HOSTILE}", "', 1))
    return good_answer(asked)


@dataclass(frozen=True)
class Run:
    """A finished run, the stub that answered it, and how often it was asked."""

    project: Project
    stub: GeminiStub
    requests: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A finished run. Don't change it: copy it (`copy`)."""
    with GeminiStub(answer) as stub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_API_KEY", KEY)
        folder = tmp_path_factory.mktemp("foundation") / "foley"
        project = copy_project(folder, REPOSITORY / PRESET)
        config = project.path(project.config)
        config.write_text(config.read_text().replace("http://127.0.0.1:8719", stub.url))
        write_parts(project.path(PLACE))
        project.make()
        yield Run(project, stub, len(stub.requests))


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run, to change at will."""
    yield run.project.copy_to(tmp_path / "foley")
    shutil.rmtree(tmp_path / "foley")


def test_every_rule_has_a_log(run: Run) -> None:
    logs = run.project.path(f"{RESULTS}/logs")
    assert {path.relative_to(logs).parts[0] for path in logs.rglob("*.log")} >= FOUNDATION_RULES


def test_every_mix_is_scored_against_as_many_real_clips(run: Run) -> None:
    rows = [
        r
        for r in run.project.table(f"{RESULTS}/scores.parquet").to_pylist()
        if r["study"] == "foundation" and r["class_id"] is None and r["seed"] is None
    ]
    accuracy = {
        (r["variant"], r["split"], r["method"]): r["value"] for r in rows if r["metric"] == "accuracy"
    }
    half = {(f"{r}/real=50%", "fold1", mix) for r in RECOGNISERS for mix in (*MIXES, "chosen")}
    expected = half | {(f"{r}/real=0%", "fold1", f"{source}_3") for r in RECOGNISERS for source in SOURCES}
    assert {key for key in accuracy if key[0]} == expected
    gains = {
        (r["variant"], r["split"], r["method"]): r["value"] for r in rows if r["metric"] == "gain_over_real"
    }
    assert gains.keys() == {key for key in half if key[2] != "real"}
    for (variant, split, mix), gain in gains.items():
        assert gain == pytest.approx(accuracy[variant, split, mix] - accuracy[variant, split, "real"])


def test_validation_chooses_a_mix_in_each_split(run: Run) -> None:
    for recogniser in RECOGNISERS:
        place = run.project.path(f"{HOME}/split=fold1/recogniser={recogniser}/protocol=clean/real=50")
        rows = tables.read(place / "choice.parquet", MIX_CHOICE).to_pylist()
        assert {r["method"] for r in rows} == set(MIXES)
        (best,) = [r for r in rows if r["chosen"]]
        assert best["accuracy"] == max(r["accuracy"] for r in rows)
        chosen = tables.read(place / "chosen.parquet", PREDICTIONS)
        same = tables.read(place / f"mix={best['method']}" / "predictions.parquet", PREDICTIONS)
        assert chosen.drop(["method"]).equals(same.drop(["method"]))


def test_filters_take_synthetic_clips_from_classes(run: Run) -> None:
    for source in SOURCES:
        place = run.project.path(f"{HOME}/split=fold1/recogniser=tiny_cnn")
        kept = tables.read(place / f"kept/{source}_3.parquet", CLASS_CHOICE).to_pylist()
        # A fifth of five classes.
        assert sorted(r["clips"] for r in kept) == [0, 3, 3, 3, 3]
        spent = tables.read(place / f"allocated/real=50/{source}_3.parquet", CLASS_CHOICE).to_pylist()
        assert sum(r["clips"] for r in spent) <= 15
        assert all(r["clips"] == 0 for r in spent if r["value"] is not None and r["value"] <= 0)


def test_prompted_clips_belong_to_no_split_and_say_their_prompt(run: Run) -> None:
    for prompts in ("label", "gemini"):
        place = run.project.path(
            f"results/foundation_smoke/prompted/dataset=mine/generator=audiogen/prompts={prompts}/clips"
        )
        rows = tables.read([place / f"shard={n}.parquet" for n in range(2)], SYNTHETIC_CLIPS).to_pylist()
        assert Counter(r["label"] for r in rows) == dict.fromkeys(LABELS, 4)
        written = run.project.path(
            f"results/foundation_smoke/prompts/dataset=mine/prompts={prompts}/prompts.parquet"
        )
        texts = {r["prompt_id"]: r["text"] for r in tables.read(written, PROMPTS).to_pylist()}
        assert all(texts[r["prompt_id"]] == r["prompt"] for r in rows)
    labels = {r["prompt"] for r in rows if r["label"] == "bell"}
    assert len(labels) == 4  # captions differ from one another


def test_hostile_texts_are_rejected_and_escaped(run: Run) -> None:
    place = run.project.path(f"{RESULTS}/prompts/dataset=mine/prompts=gemini")
    refused = tables.read(place / "rejected.parquet", REJECTED_PROMPTS).to_pylist()
    assert any(r["text"] == HOSTILE and r["label"] == "bell" for r in refused)
    assert not any("<" in r["text"] for r in tables.read(place / "prompts.parquet", PROMPTS).to_pylist())
    page = run.project.path(f"{RESULTS}/report/index.html").read_text(encoding="utf-8")
    assert "alert(" in page and "<script>alert" not in page


def test_the_key_appears_nowhere(run: Run) -> None:
    files = [
        path
        for folder in (RESULTS, ".foley", ".snakemake/log")
        for path in run.project.path(folder).rglob("*")
        if path.is_file()
    ]
    assert len(files) > 100
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_an_answer_is_paid_for_once(run: Run, copy: Project) -> None:
    paid = 0
    for prompts in ("gemini", "gemini_legacy"):
        place = f"{RESULTS}/prompts/dataset=mine/prompts={prompts}"
        before = {kind: copy.table(f"{place}/{kind}.parquet") for kind in ("prompts", "requests", "rejected")}
        paid += before["requests"].num_rows
        shutil.rmtree(copy.path(place))
        copy.make(f"{place}/prompts.parquet")
        for kind, table in before.items():
            assert copy.table(f"{place}/{kind}.parquet").equals(table)
    # As many as were asked at first, and none since.
    assert paid == run.requests == len(run.stub.requests)


def test_costs_of_every_source(run: Run) -> None:
    rows = {
        (r["source"], r["split"]): r
        for r in tables.read(run.project.path(f"{HOME}/costs.parquet"), COSTS).to_pylist()
    }
    assert rows.keys() == {
        ("audiogen-label", None), ("audiogen-gemini", None), ("audioldm2-gemini_legacy", None),
        ("tiny_diffusion", "fold1"),
    }  # fmt: skip
    assert all(r["clips"] == 20 and r["compute_s"] > 0 for r in rows.values())
    asked = tables.read(
        run.project.path(f"{RESULTS}/prompts/dataset=mine/prompts=gemini/requests.parquet"),
        LLM_REQUESTS,
    )
    assert rows["audiogen-gemini", None]["requests"] == asked.num_rows
    assert rows["audiogen-gemini", None]["input_tokens"] == sum(asked["input_tokens"].to_pylist()) > 0
    assert not rows["audiogen-label", None]["requests"]


def test_nothing_is_left_to_do_and_a_change_reruns_what_hangs_on_it(run: Run) -> None:
    project = run.project
    assert project.planned() == []
    jobs = Counter(project.planned("mix", changes={"foundation": {"drop_fraction": 0.4}}))
    assert jobs["filter_classes"] == len(SOURCES) * len(RECOGNISERS)
    # The mixes of the filter and what reads them; no clip is made anew, and no other mix is trained.
    assert {job for job in jobs if job.startswith("train_mix")} == {
        f"train_mix {s}_3_precision" for s in SOURCES
    }
    assert not {job.split()[0] for job in jobs} & {
        "write_prompts", "generate_prompted", "train_generator", "generate_clips", "split_clips",
    }  # fmt: skip
    other = Counter(
        project.planned("prompts", changes={"prompts": {"label": {"options": {"template": "{label}!"}}}})
    )
    assert {"write_prompts label", "generate_prompted label"} <= set(other)
    assert not {"write_prompts gemini", "generate_prompted gemini", "train_generator"} & set(other)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"foundation": {"sources": [{"generator": "audiogen"}]}},
            "a generator of kind `audiogen` needs `prompts`",
        ),
        (
            {"foundation": {"sources": [{"generator": "tiny_diffusion", "prompts": "label"}]}},
            "is trained on the split and takes no `prompts`",
        ),
        ({"foundation": {"amounts": [9]}}, "clips_per_class is 4"),
        ({"foundation": {"filters": ["precision"]}}, "filters lacks `none`"),
        ({"foundation": {"filters": ["none", "clap"]}}, "give `clap`, the model that listens"),
        ({"foundation": {"recognisers": ["tiny_cn"]}}, "did you mean `tiny_cnn`"),
        ({"prompts": {"label": {"options": {"template": "no name"}}}}, "prompts.label.options"),
    ],
)
def test_wrong_settings_end_before_any_job(run: Run, changes: dict, says: str) -> None:
    done = run.project.snakemake("--dry-run", changes=changes)
    assert done.returncode != 0 and says in done.stdout, done.stdout
