"""Every dataset from its publisher's archives to a card, through the real rules, and what happens when that fails."""

from __future__ import annotations

import functools
import http.server
import importlib
import json
import shutil
import threading
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import soundfile
from project import Project, copy_project, run

from foley.datasets.protocol import RawClip
from foley.datasets.registry import KINDS
from foley.runtime.code import load
from trees import Tree

pytestmark = pytest.mark.workflow

# Where the builder `build_<kind>` of each dataset is, and for some what it is built from (`<kind>_clips`).
BUILDERS = {
    "trees.sound": ("esc50", "urbansound8k", "fsd50k", "arca23k_fsd", "fsc22", "tau2019"),
    "trees.speech": ("gtzan", "ucf101", "activitynet", "iemocap", "speech_commands", "emodb", "ravdess"),
    "trees.huggingface": ("huggingface",),
}
ALL = [(module, kind) for module, kinds in BUILDERS.items() for kind in kinds]
# What nobody publishes is tested elsewhere.
WITHOUT_PUBLISHER = {"folder", "soundbox", "voicebox"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    """A tiny tree of each dataset."""
    folder = tmp_path_factory.mktemp("trees")
    return {
        kind: getattr(importlib.import_module(module), f"build_{kind}")(folder / kind) for module, kind in ALL
    }


@pytest.fixture(scope="module")
def publisher(trees: dict[str, Tree], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that holds everybody's archives: `<url>/<kind>/<file>`."""
    folder = tmp_path_factory.mktemp("publisher")
    for kind, tree in trees.items():
        if tree.served.is_dir():
            shutil.copytree(tree.served, folder / kind)
    # ARCA23K-FSD fetches the audio of FSD50K once more only where that is not there already.
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def entry(tree: Tree, publisher: str) -> dict[str, Any]:
    """The config of a dataset: fetched where it can be, else from the folder that a user has fetched by hand."""
    # Two shards of one that is fetched and of one that lies here, or of a kind of its own; for the others one will do.
    shards = 2 if tree.kind in ("fsd50k", "iemocap", "huggingface") else 1
    found: dict[str, Any] = {"shards": shards, "max_rejected": 0.5, "options": tree.options}
    if load(KINDS[tree.kind])().sources():  # type: ignore[attr-defined]
        return found | {"mirror": f"{publisher}/{tree.kind}", "downloads": tree.overrides}
    return found | {"path": str(tree.root)}


def configure(project: Project, entries: dict[str, Any]) -> None:
    project.path("datasets.yaml").write_text(
        json.dumps(
            {
                **dict.fromkeys(["zero_shot", "diffusion", "interpolation"]),
                "datasets": entries,
                "report": {"datasets": list(entries)},
            }
        )
    )


@pytest.fixture(scope="module")
def taken_in(
    trees: dict[str, Tree], publisher: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, str]:
    """A run that has taken in every dataset, and what it said. Don't change it: copy it."""
    project = copy_project(tmp_path_factory.mktemp("datasets") / "foley", "soundbox.yaml")
    project = Project(project.folder, "datasets.yaml")
    configure(project, {kind: entry(tree, publisher) for kind, tree in trees.items()})
    return project, project.make()


def test_every_kind_is_tested() -> None:
    assert {kind for _, kind in ALL} | WITHOUT_PUBLISHER == set(KINDS)


def facts_of(clips: Iterable[RawClip]) -> dict[str, tuple[Any, ...]]:
    """What a dataset says of each clip, by its id."""
    return {
        clip.clip_id: (
            *(clip.label, list(clip.labels or (clip.label,)), clip.split, clip.fold),
            *(clip.recording_id, clip.speaker_id),
        )
        for clip in clips
    }


@pytest.mark.parametrize(("module", "kind"), ALL, ids=[kind for _, kind in ALL])
def test_each_clip_keeps_what_its_dataset_says(
    taken_in: tuple[Project, str], trees: dict[str, Tree], module: str, kind: str
) -> None:
    project, tree = taken_in[0], trees[kind]
    columns = ("label", "labels", "split", "fold", "recording_id", "speaker_id")
    taken = {
        row["clip_id"]: tuple(row[column] for column in columns)
        for row in project.table(f"results/clips/dataset={kind}/clips.parquet").to_pylist()
    }
    refused = {
        row["clip_id"]: row["label"]
        for row in project.table(f"results/clips/dataset={kind}/rejected.parquet").to_pylist()
    }
    # The tree as it was before it was packed, served, fetched and unpacked.
    cls: Any = load(KINDS[kind])
    listed = facts_of(cls(cls.Options(**tree.options)).scan(tree.root))
    assert len(listed) == tree.clips and not taken.keys() & refused.keys()
    assert taken == {clip_id: facts for clip_id, facts in listed.items() if clip_id not in refused}
    assert refused == {clip_id: facts[0] for clip_id, facts in listed.items() if clip_id not in taken}
    builder = importlib.import_module(module)
    if hasattr(builder, f"{kind}_clips"):
        assert listed == facts_of(getattr(builder, f"{kind}_clips")())
    else:
        assert module != "trees.sound"


@pytest.mark.parametrize("kind", [kind for _, kind in ALL])
def test_from_the_archives_to_the_card(
    taken_in: tuple[Project, str], trees: dict[str, Tree], kind: str
) -> None:
    project, tree = taken_in[0], trees[kind]
    clips = project.table(f"results/clips/dataset={kind}/clips.parquet")
    rejected = project.table(f"results/clips/dataset={kind}/rejected.parquet")
    classes = project.table(f"results/clips/dataset={kind}/classes.parquet")
    assert clips.num_rows + rejected.num_rows == tree.clips
    refused = set(rejected["reason"].to_pylist())
    assert refused <= {"no_sound_track", "missing"}, rejected.to_pylist()
    assert ("no_sound_track" in refused) == (kind in ("ucf101", "activitynet"))
    heard = set(pc.unique(pc.list_flatten(clips["labels"])).to_pylist())
    assert heard == set(classes["label"].to_pylist())
    assert heard <= tree.labels
    assert clips["class_id"].null_count == 0
    # Leaks would have stopped the run where the dataset claims that there are none.
    assert not [
        row
        for row in project.table(f"results/clips/dataset={kind}/leaks.parquet").to_pylist()
        if row["claimed"]
    ]
    card = project.path(f"results/report/cards/{kind}.md").read_text()
    cls = load(KINDS[kind])
    assert cls.title in card and cls.licence in card  # type: ignore[attr-defined]
    assert f"{clips.num_rows} clips accepted of {tree.clips} listed" in card


def test_the_run_says_what_it_fetches(taken_in: tuple[Project, str], trees: dict[str, Tree]) -> None:
    said = taken_in[1]
    assert "foley: to download: " in said
    for kind, tree in trees.items():
        for name in list(tree.overrides)[:1]:
            assert name in said, kind


def test_nothing_is_fetched_twice(taken_in: tuple[Project, str], trees: dict[str, Tree]) -> None:
    project = taken_in[0]
    assert project.planned() == []
    # Archives go once they are unpacked.
    left = {path.name for path in project.path("data/archives").rglob("*") if path.is_file()}
    assert not left & {name for tree in trees.values() for name in tree.overrides}


def test_other_files_are_fetched_but_not_the_same_ones_from_elsewhere(taken_in: tuple[Project, str]) -> None:
    project = taken_in[0]
    moved = {"mirror": "http://127.0.0.1:9/elsewhere"}
    assert project.planned(changes={"datasets": {"emodb": moved}, "offline": True}) == []
    other = {"downloads": {"download.zip": {"checksum": f"md5:{0:032x}"}}}
    again = project.planned("dataset", "storage", changes={"datasets": {"emodb": other}})
    assert {"download_dataset emodb", "index_dataset emodb"} <= set(again)
    assert {job.rpartition(" ")[2] for job in again} == {"emodb", "write_report"}


def test_the_page_shows_every_dataset(taken_in: tuple[Project, str], trees: dict[str, Tree]) -> None:
    page = taken_in[0].path("results/report/index.html").read_text()
    assert page.count('<details class="dataset"') == len(trees)
    for kind in trees:
        assert f"results/clips/dataset={kind}/leaks.parquet" in page
        assert escape(load(KINDS[kind]).title) in page  # type: ignore[attr-defined]


def test_a_users_copy_needs_no_download(trees: dict[str, Tree], tmp_path: Path) -> None:
    """One config key points at the unpacked tree; no server is there."""
    project = Project(copy_project(tmp_path / "foley", "soundbox.yaml").folder, "datasets.yaml")
    tree = trees["urbansound8k"]
    configure(project, {"mine": {"kind": "urbansound8k", "path": str(tree.root), "shards": 1}})
    jobs = project.planned()
    assert "index_dataset" in jobs and "download_dataset" not in jobs


def test_offline_names_files_sizes_and_places(trees: dict[str, Tree], publisher: str, tmp_path: Path) -> None:
    project = Project(copy_project(tmp_path / "foley", "soundbox.yaml").folder, "datasets.yaml")
    configure(project, {"urbansound8k": {"shards": 1}, "iemocap": {"shards": 1, "optional": True}})
    done = project.snakemake(changes={"offline": True})
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert (
        "UrbanSound8K.tar.gz" in done.stdout
        and "data/archives/urbansound8k/UrbanSound8K.tar.gz" in done.stdout
    )
    assert "GB" in done.stdout and "datasets.urbansound8k.path" in done.stdout
    # What only a person can fetch is left out where the config allows it, and an error where it does not.
    done = project.snakemake(
        changes={"datasets": {"iemocap": {"optional": False}}, "report": {"datasets": ["iemocap"]}}
    )
    assert done.returncode != 0 and "IEMOCAP" in done.stdout and "datasets.iemocap.path" in done.stdout


def test_a_wrong_checksum_stops_before_anything_is_unpacked(
    trees: dict[str, Tree], publisher: str, tmp_path: Path
) -> None:
    project = Project(copy_project(tmp_path / "foley", "soundbox.yaml").folder, "datasets.yaml")
    wrong = entry(trees["emodb"], publisher)
    name = next(iter(wrong["downloads"]))
    wrong["downloads"] = {name: wrong["downloads"][name] | {"checksum": f"md5:{0:032x}"}}
    configure(project, {"emodb": wrong})
    done = project.snakemake()
    assert done.returncode != 0
    assert name in done.stdout and f"{0:032x}" in done.stdout
    assert not list(project.path("data").rglob("*.wav"))


def test_a_leak_that_the_dataset_excludes_is_an_error(tmp_path: Path) -> None:
    """A recording in a second fold of ESC-10, which claims that none is."""
    from trees.sound import build_esc50

    tree = build_esc50(tmp_path / "esc10", subset="esc10")
    table = tree.root / "meta" / "esc50.csv"
    header, *rows = table.read_text().splitlines()
    cells = next(
        row
        for line in rows
        if (row := dict(zip(header.split(","), line.split(","), strict=True)))["esc10"] == "True"
    )
    samples, rate = soundfile.read(tree.root / "audio" / cells["filename"])
    fold = str(int(cells["fold"]) % 5 + 1)
    name = f"{fold}-{cells['src_file']}-Z-{cells['target']}.wav"
    soundfile.write(tree.root / "audio" / name, np.flip(samples, axis=0) * 0.5, rate)
    row = cells | {"filename": name, "fold": fold, "take": "Z"}
    table.write_text("\n".join([header, *rows, ",".join(row.values())]) + "\n")
    project = Project(copy_project(tmp_path / "foley", "soundbox.yaml").folder, "datasets.yaml")
    entry = {"kind": "esc50", "path": str(tree.root), "shards": 1, "options": tree.options}
    configure(project, {"esc10": entry})
    done = project.snakemake()
    assert done.returncode != 0
    assert cells["src_file"] in done.stdout and "recording" in done.stdout
    assert "datasets.esc10.leaks" in done.stdout
    project.make(changes={"datasets": {"esc10": {"leaks": "report"}}})
    leaks = project.table("results/clips/dataset=esc10/leaks.parquet").to_pylist()
    found = [(row["between"], row["key"], row["claimed"]) for row in leaks if row["what"] == "recording"]
    assert found == [("fold", cells["src_file"], True)]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    project = copy_project(tmp_path_factory.mktemp("paper") / "foley", "soundbox.yaml")
    shutil.copytree(Path(__file__).resolve().parents[2] / "experiments", project.path("experiments"))
    project = Project(project.folder, "experiments/paper.yaml")
    done = run(project.options("--dry-run", "--quiet", "rules"), project.folder)
    assert done.returncode == 0, done.stdout
    return project, done.stdout


def test_paper_preset_plans_all_datasets(paper: tuple[Project, str]) -> None:
    said = paper[1]
    assert "to download" in said and "GB" in said
    for title in ("ESC-50", "UrbanSound8K", "FSD50K", "GTZAN", "word2vec-google-news-300.gz"):
        assert title in said
    for dataset in ("fsc22", "activitynet", "iemocap"):
        assert f"left out: {dataset}: " in said
