"""What several test files share: real data where it lies, and small folders of synthetic clips."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from clip_writer import WriteClip

# The same examples in every run, and no time limit on one: machines are busy.
settings.register_profile("foley", deadline=None, derandomize=True)
settings.load_profile("foley")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and weights, which are not part of the project."""
    path = Path(os.environ.get("FOLEY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set FOLEY_SHARED_DATA)")
    return path


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs from all tests but those marked so (`pytest -m gpu`): the others compare numbers to the bit."""
    if config.getoption("markexpr").strip() != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The processes that share out the tests share the cores, too.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share out the tests, runs of the workflow come first: they are the longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(scope="session")
def write_clip() -> WriteClip:
    """A function that writes half a second of a noisy tone, another one for each seed, and returns its samples."""

    def write(path: Path, seed: int, *, seconds: float = 0.5, rate: int = 16_000, **form: str) -> np.ndarray:
        generator = np.random.default_rng(seed)
        time = np.arange(round(seconds * rate)) / rate
        samples = 0.3 * np.sin(2 * np.pi * (200 + 50 * seed) * time) + 0.01 * generator.normal(size=len(time))
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **form)
        return samples

    return write


@pytest.fixture
def clip_folder(tmp_path: Path, write_clip: WriteClip) -> Path:
    """A folder dataset: three classes of four clips of half a second."""
    root = tmp_path / "clips"
    for number, label in enumerate(("bell", "dog", "rain")):
        for clip in range(4):
            write_clip(root / label / f"{label}-{clip}.wav", 10 * number + clip)
    return root
