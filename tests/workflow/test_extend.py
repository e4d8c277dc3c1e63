"""A new dataset and a new generator: one new file and one line in a registry each, and nothing that stood reruns."""

from __future__ import annotations

import pyarrow.compute as pc
import pytest
from project import Project

pytestmark = pytest.mark.workflow

TWO_TONES = '''"""Two sine tones at once; the class is their interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foley.datasets.protocol import DatasetKind, RawClip, audio_files

INTERVALS = {"third": 5 / 4, "fourth": 4 / 3, "fifth": 3 / 2, "octave": 2.0}


class TwoTones(DatasetKind):
    title = "Two tones"
    licence = "CC0-1.0"
    generated = True

    def scan(self, root: Path) -> list[RawClip]:
        return [
            RawClip(
                path.stem,
                path.relative_to(root).as_posix(),
                path.parent.name,
                path.stem,
                class_id=list(INTERVALS).index(path.parent.name),
            )
            for path in audio_files(root)
        ]

    def generate(self, root: Path, progress: Any) -> None:
        import numpy as np
        import soundfile

        time = np.arange(8_000) / 16_000
        for label, ratio in progress(list(INTERVALS.items())):
            (root / label).mkdir(parents=True)
            for take in range(5):
                low = 200 * 2 ** (take / 12)
                samples = np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * low * ratio * time)
                soundfile.write(root / label / f"{label}-{take}.wav", 0.4 * samples, 16_000)
'''

CLASS_MEAN = '''"""Normal noise around a mean that a ridge regression reads from the class vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams
from foley.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class ClassMeanOptions:
    ridge: float = 1.0


class ClassMean:
    Options = ClassMeanOptions

    def __init__(self, options: ClassMeanOptions, seeds: Sequence[int]) -> None:
        self.options, self.seeds = options, list(seeds)

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        vectors = data.vectors[data.classes]
        gram = vectors.T @ vectors + self.options.ridge * torch.eye(vectors.shape[1])
        self.map = torch.linalg.solve(gram, vectors.T @ data.embeddings)
        self.deviation = (data.embeddings - vectors @ self.map).std(dim=0)

    def sample(self, vectors: Tensor, count: int) -> Tensor:
        streams = [SeedStreams(self.seeds, "class_mean", number) for number in range(len(vectors))]
        noise = torch.stack([stream.normal(count, len(self.deviation)) for stream in streams], dim=1)
        return (vectors @ self.map)[None, :, None, :] + self.deviation * noise
'''

CLASSES = """attributes: [wide, plain]
classes:
  - {id: 0, label: third, words: [third], attributes: [0.1, 0.3]}
  - {id: 1, label: fourth, words: [fourth], attributes: [0.3, 0.5]}
  - {id: 2, label: fifth, words: [fifth], attributes: [0.5, 0.8]}
  - {id: 3, label: octave, words: [octave], attributes: [1.0, 1.0]}
"""


def add_both(project: Project) -> None:
    """One new file and one line in a registry, twice; the class table is data."""
    project.path("workflow/foley/datasets/two_tones.py").write_text(TWO_TONES)
    project.insert(
        "workflow/foley/datasets/registry.py",
        '    "folder":',
        '    "two_tones": "foley.datasets.two_tones:TwoTones",\n',
    )
    project.path("workflow/foley/generators/embedding/class_mean.py").write_text(CLASS_MEAN)
    project.insert(
        "workflow/foley/generators/registry.py",
        '    "ddpm":',
        '    "class_mean": "foley.generators.embedding.class_mean:ClassMean",\n',
    )
    project.path("classes.yaml").write_text(CLASSES)


def test_a_new_dataset_and_a_new_generator(soundbox: Project) -> None:
    add_both(soundbox)
    assert soundbox.planned() == []

    changes = {
        "datasets": {"two_tones": {"shards": 1, "classes": "classes.yaml"}},
        "methods": {
            "class_mean": {
                "generator": "class_mean",
                "generator_options": {"ridge": 0.5},
                "classifier_options": {"epochs": 1},
            }
        },
        "zero_shot": {
            "datasets": ["soundbox", "two_tones"],
            "methods": ["ale", "class_mean"],
            "random_splits": {"count": 1},
        },
    }
    planned = soundbox.planned("dataset", "method", changes=changes)
    # Of the old dataset only the new method and what compares, collects and shows the methods.
    assert [job for job in planned if "two_tones" not in job] == [
        "classify_unseen soundbox class_mean",
        "collect_scores",
        "compare_methods soundbox",
        "generate_embeddings soundbox class_mean",
        "pick_gallery soundbox",
        "project_embeddings soundbox class_mean",
        "score_method soundbox class_mean",
        "write_report",
    ]
    soundbox.make(changes=changes)
    scores = soundbox.table("results/scores.parquet")
    for dataset in ("soundbox", "two_tones"):
        for method in ("ale", "class_mean"):
            rows = scores.filter(
                pc.and_(pc.equal(scores["dataset"], dataset), pc.equal(scores["method"], method))
            )
            assert {"accuracy", "recall"} <= set(rows["metric"].to_pylist()), (dataset, method)
    assert "class_mean" in soundbox.path("results/report/index.html").read_text(encoding="utf-8")
