"""The study `diverse_embeddings` through the real rules: a folder of few clips, and a tiny tree of FSD50K's layout."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from project import LABELS, REPOSITORY, Project, copy_project, parse_dry_run, run, tone, write_clips
from safetensors.numpy import load_file

from foley import tables
from foley.classifiers.subset_heads import subsets
from foley.encoders import efficientat
from foley.metrics.average_precision import mean_average_precision
from foley.tables.diverse import CHUNK_EMBEDDINGS, CLIP_SCORES, LABELLED_CLIPS
from trees.sound import build_esc50, build_fsd50k, build_urbansound8k, fsd50k_clips, fsd50k_vocabulary

pytestmark = pytest.mark.workflow

# The rules of diverse.smk.
DIVERSE_RULES = {
    "label_clips", "extract_features", "extract_neuralogram", "train_neuralogram", "train_network", "train_heads",
    "train_jointly", "compare_representations",
}  # fmt: skip
SETS = {
    "all": ["pitch", "waveform", "activations", "own_activations"],
    "scratch": ["pitch", "own_activations"],
}
NETWORKS = ["pitch", "waveform", "activations", "own_activations", "end_to_end", "probe"]
METRIC = {"mine": ("fold1", "accuracy"), "fsd50k": ("official", "map")}
# The published clips last 0.3 to 30 s.
FSD50K_SECONDS = {
    clip.clip_id: (0.3, 0.8, 1.0, 1.3, 2.0, 2.6)[n % 6] for n, clip in enumerate(fsd50k_clips())
}


def write_encoder(path: Path) -> None:
    """A random checkpoint of the published format whose activations differ from clip to clip."""
    torch.manual_seed(0)
    network = efficientat.MobileNet(0.1, n_classes=7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Fresh layers let next to nothing through.
            module.running_var.fill_(0.18)
    torch.save(network.state_dict(), path)


def write_fsd50k(root: Path, scratch: Path) -> None:
    """FSD50K's layout with few clips, as unequal in length as the published ones."""
    shutil.copytree(build_fsd50k(scratch).root, root)
    for number, (name, seconds) in enumerate(FSD50K_SECONDS.items()):
        (path,) = root.glob(f"*/{name}.wav")
        soundfile.write(path, tone(number, seconds, 44_100), 44_100)


@pytest.fixture(scope="module")
def diverse_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run. Don't change it: copy it (`diverse`)."""
    project = copy_project(tmp_path_factory.mktemp("diverse") / "foley", "diverse.yaml")
    write_clips(project.path("clips"))
    write_fsd50k(project.path("tree"), tmp_path_factory.mktemp("fsd50k"))
    write_encoder(project.path("mn01.pt"))
    project.make()
    return project


@pytest.fixture
def diverse(diverse_run: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run, to change at will."""
    yield diverse_run.copy_to(tmp_path / "foley")
    shutil.rmtree(tmp_path / "foley")


def scores(project: Project, dataset: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(method, variant, metric) -> the row over seeds, in the one split that was run."""
    return {
        (row["method"], row["variant"], row["metric"]): row
        for row in project.table("results/scores.parquet").to_pylist()
        if row["study"] == "diverse_embeddings" and row["dataset"] == dataset and row["seed"] is None
    }


@pytest.mark.parametrize("dataset", METRIC)
def test_every_subset_is_scored(diverse_run: Project, dataset: str) -> None:
    _, metric = METRIC[dataset]
    found = scores(diverse_run, dataset)
    for variant, names in SETS.items():
        systems = ["+".join(part) for part in subsets(names)] + ["joint", "end_to_end", "probe"]
        assert {m for m, v, q in found if v == variant and q == metric} == set(systems)
        whole = "+".join(names)
        for name in names:
            rest = "+".join(other for other in names if other != name)
            gain = found[name, variant, "contribution"]
            wanted = found[whole, variant, metric]["value"] - found[rest, variant, metric]["value"]
            assert gain["value"] == pytest.approx(wanted) and gain["low"] <= gain["value"] <= gain["high"]
            assert (whole, variant, f"above_{name}") in found
            own = found[whole, variant, f"above_own_head_{name}"]["value"]
            alone = found[name, "own_head", metric]["value"]
            assert own == pytest.approx(found[whole, variant, metric]["value"] - alone)
        for baseline in ("end_to_end", "probe"):
            gain = found["joint", variant, f"above_{baseline}"]["value"]
            below = found[baseline, variant, metric]["value"]
            assert gain == pytest.approx(found["joint", variant, metric]["value"] - below)
    assert len([1 for m, v, q in found if v == "all" and q == metric]) == 15 + 3
    values = [row for (_, _, q), row in found.items() if q == metric]
    assert all(0 <= row["value"] <= 1 for row in values)


@pytest.mark.parametrize("dataset", METRIC)
def test_networks_are_compared_pair_by_pair(diverse_run: Project, dataset: str) -> None:
    found = scores(diverse_run, dataset)
    for one in NETWORKS[:4]:
        for other in NETWORKS[:4]:
            if one != other:
                cka = found[one, "own_head", f"cka_with_{other}"]["value"]
                assert -1e-9 <= cka <= 1 + 1e-9
                assert cka == pytest.approx(found[other, "own_head", f"cka_with_{one}"]["value"])
                debiased = found[one, "own_head", f"debiased_cka_with_{other}"]
                assert debiased["value"] <= 1 + 1e-9
                if dataset == "fsd50k":  # four test clips: three are too few to leave one out
                    assert debiased["low"] is debiased["high"] is None
                else:
                    assert debiased["low"] <= debiased["value"] <= debiased["high"]
    assert 0 <= found["pitch", "own_head", "agreement_with_end_to_end"]["value"] <= 1


def trained_weight(name: str) -> bool:
    """Whether a tensor of a file of weights is trained, and no statistic of the batches or frames seen."""
    kept = ("running_mean", "running_var", "num_batches_tracked", "mean", "deviation")
    return name.rpartition(".")[2] not in kept


@pytest.mark.parametrize("dataset", METRIC)
def test_baselines_have_as_many_parameters_as_the_largest_set(diverse_run: Project, dataset: str) -> None:
    found = scores(diverse_run, dataset)
    sizes = {(m, v): row["value"] for (m, v, q), row in found.items() if q == "parameters"}
    largest = max(sizes["+".join(names), variant] for variant, names in SETS.items())
    assert sizes["joint", "all"] == sizes["+".join(SETS["all"]), "all"]
    for dataset_split in diverse_run.path(f"results/diverse/dataset={dataset}").glob("split=*"):
        behind = load_file(dataset_split / "neuralogram=own_activations/seed=0/network.safetensors")
        joint = load_file(dataset_split / "set=all/seed=0/joint.safetensors")
        trained = [v.size for n, v in behind.items() if trained_weight(n) and not n.startswith("head.")]
        trained += [v.size for n, v in joint.items() if trained_weight(n)]
        assert sum(trained) == largest
    for baseline in ("end_to_end", "probe"):
        assert largest <= sizes[baseline, "own_head"] <= 1.5 * largest
    assert sizes["waveform", "own_head"] < largest


def test_fsd50k_is_taken_as_published(diverse_run: Project) -> None:
    place = "results/diverse/dataset=fsd50k/split=official"
    labelled = tables.read(diverse_run.path(f"{place}/labelled.parquet"), LABELLED_CLIPS).to_pylist()
    clips, vocabulary = {clip.clip_id: clip for clip in fsd50k_clips()}, fsd50k_vocabulary()
    assert {row["clip_id"]: row["role"] for row in labelled} == {n: clip.split for n, clip in clips.items()}
    for row in labelled:
        assert {vocabulary[c] for c in row["class_ids"]} == set(clips[row["clip_id"]].labels or ())
    # mAP over the classes that a test clip has, from the scores that were kept.
    table = tables.read(diverse_run.path(f"{place}/network=pitch/seed=0/clip_scores.parquet"), CLIP_SCORES)
    classes = sorted({c for row in labelled for c in row["class_ids"]})
    truth = np.array(
        [
            [c in row["class_ids"] for c in classes]
            for row in sorted(labelled, key=lambda row: row["clip_id"])
            if row["role"] == "test"
        ]
    )
    said = tables.to_matrix(table["vector"])
    assert said.shape == truth.shape
    found = scores(diverse_run, "fsd50k")["pitch", "own_head", "map"]["value"]
    assert found == pytest.approx(mean_average_precision(truth, said))
    # Clips of any length: as many chunks as they have seconds begun, and one score.
    assert table["clip_id"].to_pylist() == sorted(
        name for name, clip in clips.items() if clip.split == "test"
    )
    for network in NETWORKS:
        embeddings = diverse_run.path(f"{place}/network={network}/seed=0/embeddings.parquet")
        counts = Counter(tables.read(embeddings, CHUNK_EMBEDDINGS)["clip_id"].to_pylist())
        assert counts == {name: math.ceil(seconds) for name, seconds in FSD50K_SECONDS.items()}


def test_the_page_shows_the_study(diverse_run: Project) -> None:
    page = diverse_run.path("results/report/index.html").read_text(encoding="utf-8")
    for word in (
        "</html>",
        "Diverse embeddings",
        "leave-one-out",
        "CKA",
        "own_activations",
        "end_to_end",
        "mAP",
    ):
        assert word in page


def test_every_rule_has_a_log(diverse_run: Project) -> None:
    logged = {
        path.relative_to(diverse_run.path("results/logs")).parts[0]
        for path in diverse_run.path("results/logs").rglob("*.log")
    }
    assert logged >= DIVERSE_RULES


LATER = ["collect_scores", "write_report"]


def test_what_reruns_when_something_changes(diverse: Project) -> None:
    keys = ("dataset", "network", "combination", "representation")

    def planned(study: dict[str, Any]) -> set[str]:
        return set(diverse.planned(*keys, changes={"diverse_embeddings": study}))

    both = ("mine", "fsd50k")
    compared = {*(f"compare_representations {d}" for d in both), *LATER}
    heads = {f"{rule} {d} {s}" for rule in ("train_heads", "train_jointly") for d in both for s in SETS}
    assert planned({"heads": {"epochs": 4}, "joint": {"options": {"epochs": 1}}}) == heads | compared
    # One representation's options concern its network, its sets and what is as large as they are.
    changed = planned({"representations": {"activations": {"options": {"epochs": 1}}}})
    networks = {f"train_network {d} {n}" for d in both for n in ("activations", "end_to_end", "probe")}
    of_set = {f"{rule} {d} all" for d in both for rule in ("train_heads", "train_jointly")}
    assert changed == networks | of_set | compared
    diverse.append("workflow/foley/encoders/neuralogram.py", "\nEDITED = True\n")
    edited = set(diverse.planned(*keys))
    assert {f"extract_neuralogram {d} activations" for d in both} <= edited
    assert not {job for job in edited if job.startswith("extract_features")}


def test_classes_of_the_folder_are_all_there(diverse_run: Project) -> None:
    labelled = diverse_run.table("results/diverse/dataset=mine/split=fold1/labelled.parquet").to_pylist()
    assert {c for row in labelled for c in row["class_ids"]} == set(range(len(LABELS)))
    assert {row["role"] for row in labelled} == {"train", "validation", "test"}


def test_the_preset_of_fsd50k_runs(tmp_path: Path) -> None:
    """On a tiny tree, and as it is but for schedules, seeds, shards and the weights of the pretrained encoder."""
    project = copy_project(tmp_path / "foley", "diverse.yaml")
    shutil.copytree(REPOSITORY / "experiments", project.path("experiments"))
    write_fsd50k(project.path("fsd50k"), tmp_path / "fsd50k")
    write_encoder(project.path("mn01.pt"))
    once = {"epochs": 1, "validate_every": 1}
    changes = {
        "datasets": {"fsd50k": {"path": "fsd50k", "shards": 1, "duplicates": "keep"}},
        "embeddings": {"mn04": {"weights": "mn01.pt"}},
        "diverse_embeddings": {
            "seeds": 1,
            "bootstrap": 100,
            "classifier": {"options": once},
            "heads": {"epochs": 1},
            "joint": {"options": once},
            "representations": {"own_neuralogram": {"network": {"options": once}}},
            "baselines": {"pretrained_probe": {"options": {"epochs": 1}}},
        },
    }
    preset = Project(project.folder, "experiments/diverse_embeddings_fsd50k.yaml")
    preset.make(changes=changes)
    rows = preset.table("results/diverse_embeddings_fsd50k/scores.parquet").to_pylist()
    value = {(r["method"], r["variant"], r["metric"]): r["value"] for r in rows if r["seed"] is None}
    sizes = {}
    for variant, last in (("pretrained", "neuralogram"), ("scratch", "own_neuralogram")):
        names = ["pitch", "timbre", "waveform", last]
        systems = {"+".join(part) for part in subsets(names)} | {"joint", "end_to_end", "pretrained_probe"}
        assert {m for m, v, q in value if (v, q) == (variant, "map")} == systems
        assert all(0 <= value[name, variant, "map"] <= 1 for name in systems)
        sizes[variant] = value["+".join(names), variant, "parameters"]
    for baseline in ("end_to_end", "pretrained_probe"):
        assert value[baseline, "own_head", "parameters"] >= max(sizes.values())


PRESETS = {
    "diverse_embeddings_esc50": "esc50",
    "diverse_embeddings_fsd50k": "fsd50k",
    "diverse_embeddings_urbansound8k": "urbansound8k",
    "diverse_embeddings_soundbox": "soundbox",
    "own_folder": "mine",
}


@pytest.fixture(scope="module")
def planned_presets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What dry runs of the presets plan for tiny trees in the published layouts and a folder of clips."""
    folder = tmp_path_factory.mktemp("presets")
    project = copy_project(folder / "foley", "diverse.yaml")
    shutil.copytree(REPOSITORY / "experiments", project.path("experiments"))
    builders = {"esc50": build_esc50, "fsd50k": build_fsd50k, "urbansound8k": build_urbansound8k}
    for kind, build in builders.items():
        shutil.copytree(build(folder / kind).root, project.path(kind))
    write_clips(project.path("clips"))
    write_encoder(project.path("mn01.pt"))

    def plan(name: str) -> list[str]:
        dataset = PRESETS[name]
        where = {"mine": {"folder": "clips"}, "soundbox": {}}.get(dataset, {"path": dataset})
        here = {"shards": 1} | where
        # Of the own folder's studies the others have tests of their own.
        changes: dict[str, Any] = dict.fromkeys(("zero_shot", "diffusion", "interpolation"))
        changes |= {"datasets": {dataset: here}, "diverse_embeddings": {"seeds": 1}}
        if "path" in where:
            changes["embeddings"] = {"mn04": {"weights": "mn01.pt"}}
        own = project.path(f"{name}.changes.yaml")
        own.write_text(yaml.safe_dump(changes))
        preset = Project(project.folder, f"experiments/{name}.yaml")
        done = run([*preset.options(), str(own), "--dry-run"], project.folder)
        assert done.returncode == 0, done.stdout
        return [job.named("split", "network", "combination") for job in parse_dry_run(done.stdout)]

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PRESETS, pool.map(plan, PRESETS), strict=True))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_planned(planned_presets: dict[str, list[str]], name: str) -> None:
    """Every training of the preset is planned, once per split (and seed, of which the test leaves one)."""
    study = yaml.safe_load((REPOSITORY / "experiments" / f"{name}.yaml").read_text())["diverse_embeddings"]
    assert study["datasets"] == [PRESETS[name]]
    planned = planned_presets[name]
    networks = {r for names in study["sets"].values() for r in names} | set(study["baselines"])
    assert sorted(job for job in planned if job.startswith("train_network")) == sorted(
        f"train_network {split} {network}" for split in study["splits"] for network in networks
    )
    for rule in ("train_heads", "train_jointly"):
        assert sorted(job for job in planned if job.startswith(rule)) == sorted(
            f"{rule} {split} {chosen}" for split in study["splits"] for chosen in study["sets"]
        )
    assert planned.count("compare_representations") == 1
