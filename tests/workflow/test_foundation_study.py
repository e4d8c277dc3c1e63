"""The study `foundation` through the real rules: tiny checkpoints of the real formats, a language model on loopback."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from project import LABELS, REPOSITORY, Project, copy_project
from snakemake.utils import update_config

from foley import tables
from foley.config import ConfigError
from foley.plan import Plan
from foley.tables.audio_studies import PROMPTED, SYNTHETIC_CLIPS
from foley.tables.foundation import CLASS_CHOICE, COSTS, MIX_CHOICE, MIX_CLIPS
from foley.tables.prompts import LLM_REQUESTS, PROMPTS, REJECTED_PROMPTS
from foley.tables.scores import PREDICTIONS
from gemini_stub import KEY, Asked, GeminiStub, Reply, good_answer
from smoke_parts import PLACE, PRESET, write_parts

pytestmark = pytest.mark.workflow

# The rules of foundation.smk, prompts.smk and prompted.smk; networks are trained below.
FOUNDATION_RULES = {
    "write_prompts", "generate_prompted", "write_synthetic_card", "embed_prompted", "embed_interpolated", "ask_clap",
    "fit_probes", "filter_classes", "allocate_clips", "choose_mix", "compare_mixes", "count_costs", "pick_sources",
}  # fmt: skip
SOURCES = ["audiogen-gemini", "audioldm2-gemini_legacy", "tiny_diffusion.interpolated"]
# The study is the same whatever recognises; networks take most of the time of `make smoke`, so each has one mix below.
RECOGNISERS = ["tiny_probe"]
NETWORKS = ["tiny_cnn", "tiny_ssast"]
MIXES = ["real", *(f"{s}_3{f}" for s in SOURCES for f in ("", "_precision", "_active"))]
RESULTS = "results/foundation_smoke"
HOME = f"{RESULTS}/foundation/dataset=mine"
# CLAP takes seconds a source, so it is asked about the clips of one, for one mix.
HEARD = f"{SOURCES[0]}_3_clap"
HEARD_MIX = f"{HOME}/split=fold1/recogniser=tiny_probe/protocol=clean/real=50/mix={HEARD}"
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
        preset = config.read_text().replace("http://127.0.0.1:8719", stub.url)
        all_three = "recognisers: [tiny_cnn, tiny_probe, tiny_ssast]"
        filters = "filters: [none, precision, clap, active]"
        assert all_three in preset and filters in preset
        preset = preset.replace(all_three, f"recognisers: [{', '.join(RECOGNISERS)}]")
        config.write_text(preset.replace(filters, "filters: [none, precision, active]"))
        write_parts(project.path(PLACE))
        project.make()
        project.make(
            f"{HEARD_MIX}/predictions.parquet", changes={"foundation": {"filters": ["none", "clap"]}}
        )
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
        place = run.project.path(f"{HOME}/split=fold1/recogniser=tiny_probe")
        kept = tables.read(place / f"kept/{source}_3.parquet", CLASS_CHOICE).to_pylist()
        # A fifth of five classes.
        assert sorted(r["clips"] for r in kept) == [0, 3, 3, 3, 3]
        spent = tables.read(place / f"allocated/real=50/{source}_3.parquet", CLASS_CHOICE).to_pylist()
        assert sum(r["clips"] for r in spent) <= 15
        # Half of 15 is shared evenly, one a class, where any gains; nothing is spent where none does.
        gained = any((r["value"] or 0) > 0 for r in spent)
        assert all(r["clips"] == gained for r in spent if (r["value"] or 0) <= 0)
        assert all(r["clips"] >= 1 for r in spent if (r["value"] or 0) > 0)


def test_a_probe_reads_the_embeddings_of_real_and_synthetic_clips(run: Run) -> None:
    """Through the rules: prompted and interpolated clips are embedded once, and mixes take their rows of them."""
    home = run.project.path(HOME)
    place = home / "split=fold1/recogniser=tiny_probe/protocol=clean"
    made = run.project.path(f"{RESULTS}/audio/dataset=mine/split=fold1/generator=tiny_diffusion")
    clips = tables.read(made / "interpolated.parquet", SYNTHETIC_CLIPS)["clip_id"].to_pylist()
    embedded = tables.read(made / "interpolated-tiny_efficientat.parquet")
    assert sorted(embedded["clip_id"].unique().to_pylist()) == sorted(clips)
    parts = tables.read(run.project.path(f"{RESULTS}/audio/dataset=mine/split=fold1/partition.parquet"))
    held_out = {(r["clip_id"], r["class_id"], r["role"]) for r in parts.to_pylist() if r["role"] != "train"}
    said = {}
    for percent, mix in (
        (0, f"{SOURCES[2]}_3"),
        (50, "real"),
        (50, f"{SOURCES[2]}_3"),
        (50, f"{SOURCES[0]}_3"),
    ):
        rows = tables.read(place / f"real={percent}/mix={mix}/predictions.parquet", PREDICTIONS).to_pylist()
        for seed in (0, 1):
            own = {(r["clip_id"], r["class_id"], r["role"]) for r in rows if r["seed"] == seed}
            assert own == held_out
        said[percent, mix] = [(r["predicted_class_id"], r["margin"]) for r in rows]
    # Four mixes, four probes.
    assert len({str(answers) for answers in said.values()}) == 4


def test_every_mix_says_how_many_clips_it_had(run: Run) -> None:
    for recogniser in RECOGNISERS:
        place = run.project.path(f"{HOME}/split=fold1/recogniser={recogniser}/protocol=clean/real=50")
        for mix in MIXES:
            rows = tables.read(place / f"mix={mix}/clips.parquet", MIX_CLIPS).to_pylist()
            assert len(rows) == 2 * len(LABELS)
            wanted = 0 if mix == "real" else 3
            if mix.endswith(("_precision", "_active")):
                assert all(0 <= r["taken"] <= r["wanted"] <= 4 for r in rows)
            else:
                assert {(r["wanted"], r["taken"]) for r in rows} == {(wanted, wanted)}
            # Half of the clips of a class that are neither tested nor validate.
            assert {r["real"] for r in rows} == {1}


def test_clap_drops_the_clips_that_are_furthest_from_their_prompt(run: Run) -> None:
    place = run.project.path(f"{HOME}/split=fold1/origin={SOURCES[0]}/prompted.parquet")
    asked = tables.read(place, PROMPTED).to_pylist()
    assert len({row["similarity"] for row in asked}) == len(asked) == 4 * len(LABELS)
    rows = run.project.table(f"{HEARD_MIX}/clips.parquet").to_pylist()
    assert {(r["method"], r["wanted"], r["taken"]) for r in rows} == {
        (HEARD, 2, 2)
    }  # a fifth of three, rounded
    said = run.project.table(f"{HEARD_MIX}/predictions.parquet").to_pylist()
    assert {r["method"] for r in said} == {HEARD} and {r["role"] for r in said} == {"validation", "test"}


def test_networks_are_trained_on_a_mix(run: Run, copy: Project) -> None:
    mixes = {
        name: f"{HOME}/split=fold1/recogniser={name}/protocol=clean/real=50/mix={SOURCES[0]}_3/predictions.parquet"
        for name in NETWORKS
    }
    copy.make(*mixes.values(), changes={"foundation": {"recognisers": [*RECOGNISERS, *NETWORKS]}})
    seeds = {"tiny_cnn": {0, 1}, "tiny_ssast": {0}}
    for name, path in mixes.items():
        rows = copy.table(path).to_pylist()
        assert {r["variant"] for r in rows} == {f"{name}/real=50%"}
        assert {(r["seed"], r["role"]) for r in rows} == {
            (seed, role) for seed in seeds[name] for role in ("validation", "test")
        }
    logs = copy.path(f"{RESULTS}/logs/train_mix")
    assert len(list(logs.rglob("*.log"))) == len(NETWORKS)


def test_prompted_clips_belong_to_no_split_and_say_their_prompt(run: Run) -> None:
    for generator, prompts in (("audiogen", "gemini"), ("audioldm2", "gemini_legacy")):
        place = (
            f"{RESULTS}/prompted/dataset=mine/generator={generator}/prompts={prompts}/clips/shard=0.parquet"
        )
        rows = tables.read(run.project.path(place), SYNTHETIC_CLIPS).to_pylist()
        assert Counter(r["label"] for r in rows) == dict.fromkeys(LABELS, 4)
        written = run.project.path(f"{RESULTS}/prompts/dataset=mine/prompts={prompts}/prompts.parquet")
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


def test_the_page_shows_sources_filters_and_sizes(run: Run) -> None:
    page = run.project.path(f"{RESULTS}/report/index.html").read_text(encoding="utf-8")
    for words in (
        "Each source as it is, unfiltered",
        "What the class filter did",
        "Clips of each mix",
        "Validation clips chose ",
        "What validation clips chose",
        "What the clips cost",
    ):
        assert words in page
    assert all(f"{source}_3" in page.replace("_<wbr>", "_") for source in SOURCES)


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
        ("audiogen-gemini", None), ("audioldm2-gemini_legacy", None), ("tiny_diffusion.interpolated", "fold1"),
    }  # fmt: skip
    assert all(r["clips"] == 20 and r["compute_s"] > 0 for r in rows.values())
    asked = tables.read(
        run.project.path(f"{RESULTS}/prompts/dataset=mine/prompts=gemini/requests.parquet"),
        LLM_REQUESTS,
    )
    assert rows["audiogen-gemini", None]["requests"] == asked.num_rows
    assert rows["audiogen-gemini", None]["input_tokens"] == sum(asked["input_tokens"].to_pylist()) > 0
    assert not rows["tiny_diffusion.interpolated", "fold1"]["requests"]


def test_nothing_is_left_to_do_and_a_change_reruns_what_hangs_on_it(run: Run) -> None:
    project = run.project
    assert project.planned() == []
    jobs = Counter(project.planned("mix", changes={"foundation": {"drop_fraction": 0.4}}))
    assert jobs["filter_classes"] == len(SOURCES) * len(RECOGNISERS)
    # The mixes of the filter and what reads them; no clip is made anew, and no other mix is trained.
    assert {job for job in jobs if job.startswith(("train_mix", "fit_probes"))} == {
        f"fit_probes {s}_3_precision" for s in SOURCES
    }
    assert not {job.split()[0] for job in jobs} & {
        "write_prompts", "generate_prompted", "train_generator", "generate_clips", "split_clips",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"interpolation": None, "foundation": {"sources": [{"generator": "audiogen"}]}},
            "a generator of kind `audiogen` needs `prompts`",
        ),
        (
            {
                "interpolation": None,
                "foundation": {"sources": [{"generator": "tiny_diffusion", "prompts": "gemini"}]},
            },
            "is trained on the split and takes no `prompts`",
        ),
        ({"foundation": {"amounts": [9]}}, "clips_per_class is 4"),
        ({"foundation": {"filters": ["precision"]}}, "filters lacks `none`"),
        ({"foundation": {"filters": ["none", "clap"], "clap": None}}, "give `clap`, the model that listens"),
        ({"foundation": {"recognisers": ["tiny_cn"]}}, "did you mean `tiny_cnn`"),
        (
            {
                "interpolation": None,
                "prompts": {"label": {"options": {"template": "no name"}}},
                "foundation": {"sources": [{"generator": "audiogen", "prompts": "label"}]},
            },
            "prompts.label.options",
        ),
    ],
)
def test_wrong_settings_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, changes: dict, says: str
) -> None:
    """By the plan that the Snakefile makes before any job; that it does is shown in test_bad_input.py."""
    monkeypatch.chdir(run.project.folder)
    raw: dict = {}
    for layer in ("config.yaml", run.project.config):
        update_config(raw, yaml.safe_load(run.project.path(layer).read_text()))
    update_config(raw, changes)
    with pytest.raises((ConfigError, ValueError), match=re.escape(says)):
        Plan(raw, Path("resources"))
