"""Clips from prompts through the real rules: tiny AudioGen, MusicGen, AudioLDM and Stable Audio Open from local
folders, offline, and noise. AudioLDM 2 is asked in test_foundation_study.py."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from project import LABELS, Project, copy_project, write_clips

from foley import tables
from foley.tables.audio_studies import SYNTHETIC_CLIPS
from tiny_audiocraft import write_tiny_audiocraft
from tiny_audioldm import write_tiny_audioldm, write_tiny_stable_audio

pytestmark = pytest.mark.workflow

HOME = "results/prompted/dataset=mine"
MODELS = {"music": 0, "ldm": 2, "stable": 2}  # and steps of denoising
CARDS = [f"{HOME}/generator={generator}/prompts=label/README.md" for generator in ("tiny", "noise")]


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("prompted") / "foley", "prompted.yaml")
    write_clips(project.path("clips"))
    write_tiny_audiocraft(project.path("model"))
    write_tiny_audiocraft(project.path("musicgen"), channels=2)
    write_tiny_audioldm(project.path("audioldm"))
    write_tiny_stable_audio(project.path("stable"))
    clips = [f"{HOME}/generator={name}/prompts=label/clips/shard=0.parquet" for name in MODELS]
    project.make(*CARDS, *clips)
    return project


def clips_of(project: Project, generator: str, shards: int) -> list[dict[str, Any]]:
    folder = project.path(f"{HOME}/generator={generator}/prompts=label/clips")
    paths = [folder / f"shard={shard}.parquet" for shard in range(shards)]
    return [row for path in paths for row in tables.read(path, SYNTHETIC_CLIPS).to_pylist()]


def test_every_class_gets_its_clips_and_the_set_its_card(prompted: Project) -> None:
    rows = clips_of(prompted, "tiny", 2)
    assert sorted((row["label"], row["prompt"]) for row in rows) == sorted(
        (label, f"{label} sound") for label in LABELS for _ in range(2)
    )
    assert len({row["seed"] for row in rows}) == 10
    assert {(row["method"], row["sample_rate_hz"], row["duration_s"]) for row in rows} == {
        ("prompted", 8000, 0.2)
    }
    noise = clips_of(prompted, "noise", 1)
    # Noise and model start from equal seeds, and noise reads no prompt.
    assert {row["seed"] for row in noise} == {row["seed"] for row in rows}
    heads = [yaml.safe_load(prompted.path(card).read_text().split("---\n")[1]) for card in CARDS]
    assert [head["license"] for head in heads] == ["unknown", "cc0-1.0"]


@pytest.mark.parametrize("generator", MODELS)
def test_models_of_every_sort_make_their_clips(prompted: Project, generator: str) -> None:
    rows = clips_of(prompted, generator, 1)
    assert Counter(row["label"] for row in rows) == dict.fromkeys(LABELS, 2)
    assert {(row["generator"], row["method"], row["prompt"]) for row in rows} == {
        (generator, "prompted", f"{label} sound") for label in LABELS for row in rows
    }
    # Local folders have no commit; what they hold went into the clip's key.
    assert {row["model_revision"] for row in rows} == {None}
    assert {row["steps"] or 0 for row in rows} == {MODELS[generator]}
    assert len({row["audio"]["bytes"] for row in rows}) == 10
    heard = [soundfile.read(io.BytesIO(row["audio"]["bytes"])) for row in rows]
    assert {rate for _, rate in heard} == {row["sample_rate_hz"] for row in rows}
    assert all(len(samples) / rate == pytest.approx(0.2, abs=0.05) for samples, rate in heard)


def test_another_number_of_clips_makes_only_those_that_lack(prompted: Project, tmp_path: Path) -> None:
    before = {row["clip_id"]: row for row in clips_of(prompted, "tiny", 2)}
    project = prompted.copy_to(tmp_path / "foley")
    changes = {"audio_generators": {"tiny": {"clips_per_class": 3}}}
    project.make(CARDS[0], changes=changes)
    after = {row["clip_id"]: row for row in clips_of(project, "tiny", 2)}
    assert len(after) == 15 and before.items() <= after.items()
    # audiocraft, when it is imported, would close them (submitit configures logging).
    logs = [path.read_text() for path in project.path("results/logs/generate_prompted").rglob("shard=*.log")]
    there = [
        int(found[1])
        for text in logs
        for found in re.finditer(r": (\d+) of \d+ clips are in the cache", text)
    ]
    assert sum(there) == 10, logs
