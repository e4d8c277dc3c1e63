"""The YAMNet-like encoder: its architecture, and training that sees the seen classes alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from foley import tables
from foley.encoders.embed import train_and_embed
from foley.encoders.yamnet import BLOCKS, YAMNet, YAMNetEncoder, YAMNetOptions
from foley.tables.features import EMBEDDINGS, FEATURES, HISTORY
from foley.tables.zero_shot import PARTITION

FRAMES, MELS = 24, 16
TINY = YAMNetOptions(dim=8, epochs=4, batch_size=8, precision="float32")
ROLES = ["seen_train"] * 16 + ["seen_validation"] * 4 + ["seen_test"] * 4 + ["unseen"] * 6


@pytest.fixture(scope="module")
def clips() -> tuple[np.ndarray, np.ndarray]:
    """Features [30, frames, mels] and classes: two seen ones (3 and 5) with loud bands of their own, and 4, unseen."""
    generator = np.random.default_rng(0)
    classes = np.array([3, 5] * 12 + [4] * 6)
    features = generator.normal(-3, 1, size=(30, FRAMES, MELS)).astype(np.float32)
    for row, class_id in enumerate(classes):
        features[row, :, 2 * class_id - 4 : 2 * class_id] += 2
    return features, classes


# The network


@pytest.mark.parametrize(
    ("frames", "mels", "out"), [(480, 64, (30, 4)), (97, 64, (7, 4)), (24, 16, (2, 1)), (1, 1, (1, 1))]
)
def test_four_strides_halve_the_spectrogram_upwards(frames: int, mels: int, out: tuple[int, int]) -> None:
    # SAME padding: each of the four strides of two gives ceil(n / 2).
    model = YAMNet(3).eval()
    assert model.body(torch.zeros(1, 1, frames, mels)).shape == (1, 512, *out)


def test_outputs() -> None:
    model = YAMNet(7, YAMNetOptions(dim=20)).eval()
    features = torch.randn(2, 480, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = model.embed(features)
        assert embeddings.shape == (2, 20)
        assert (embeddings >= 0).all()
        assert model(features).shape == (2, 7)
        # Batch norm at rest: a clip's embedding does not depend on its companions.
        torch.testing.assert_close(model.embed(features[:1]), embeddings[:1], atol=1e-5, rtol=1e-5)


def test_number_of_parameters() -> None:
    # YAMNet's first seven layers: a 3x3 convolution to 32 channels, then depthwise 3x3 and pointwise pairs, each with
    # a batch norm of two numbers per channel; then 512 -> dim with batch norm, and the class layer.
    wanted, channels = 9 * 32 + 2 * 32, 32
    for outputs, _ in BLOCKS:
        wanted += 9 * channels + 2 * channels + channels * outputs + 2 * outputs
        channels = outputs
    wanted += (channels + 1) * 128 + 2 * 128 + (128 + 1) * 40
    assert sum(p.numel() for p in YAMNet(40).parameters()) == wanted == 339_624


# Training


def test_training_learns_and_can_be_repeated(clips: tuple[np.ndarray, np.ndarray]) -> None:
    features, classes = clips
    labels = (classes == 5).astype(np.int64)
    runs = []
    for seed in (0, 0, 1):
        encoder = YAMNetEncoder(TINY, seed)
        history = encoder.fit(features, labels, np.arange(16), np.arange(16, 20), classes=2)
        runs.append((history, encoder.embed(features)))
    losses = [value for _, quantity, value in runs[0][0].rows if quantity == "loss"]
    assert len(losses) == 4
    assert losses[-1] < 0.7 * losses[0]
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][1], runs[2][1])
    assert runs[0][1].shape == (30, 8)
    assert runs[0][1].dtype == np.float32
    assert (runs[0][1] >= 0).all()


def test_too_few_clips_are_an_error(clips: tuple[np.ndarray, np.ndarray]) -> None:
    features, classes = clips
    encoder = YAMNetEncoder(TINY, 0)
    with pytest.raises(RuntimeError, match="fit"):
        encoder.embed(features)
    for train, validation in ((np.arange(1), np.arange(1, 3)), (np.arange(4), np.arange(0))):
        with pytest.raises(
            ValueError, match=f"{len(train)} training and {len(validation)} validation clips: too few"
        ):
            encoder.fit(features, classes, train, validation, classes=2)
    with pytest.raises(ValueError, match="patience must be at least 1"):
        YAMNetOptions(patience=0)


@pytest.mark.parametrize("options", [{"schedule": "one_cycle"}, {"spec_masks": 2}, {"batch_size": 5}])
def test_other_ways_to_train(clips: tuple[np.ndarray, np.ndarray], options: dict) -> None:
    features, classes = clips
    encoder = YAMNetEncoder(YAMNetOptions(dim=8, epochs=2, precision="float32", **options), 0)
    encoder.fit(features, (classes == 5).astype(np.int64), np.arange(16), np.arange(16, 20), classes=2)
    assert np.isfinite(encoder.embed(features)).all()


# Training and embedding by tables


def run(
    folder: Path,
    features: np.ndarray,
    classes: np.ndarray,
    *,
    shards: int = 1,
    known: int = 30,
    **options: object,
) -> dict[str, Path]:
    """Train on the clips' tables; ``known`` clips stand in the partition."""
    paths = {name: folder / f"{name}.parquet" for name in ("embeddings", "history", "partition")}
    paths["weights"] = folder / "weights.safetensors"
    names = [f"clip-{number:02d}" for number in range(len(features))]
    shard_paths = []
    for shard in range(shards):
        rows = np.arange(shard, len(features), shards)
        shard_paths.append(folder / f"features-{shard}.parquet")
        tables.write(
            shard_paths[-1],
            FEATURES.with_vectors(vector=FRAMES * MELS),
            pa.table(
                {
                    "clip_id": [names[row] for row in rows],
                    "window": pa.array(np.zeros(len(rows)), pa.int32()),
                    "vector": tables.from_matrix(features[rows].reshape(len(rows), -1)),
                }
            ),
            {"shape": [FRAMES, MELS]},
        )
    tables.write(
        paths["partition"],
        PARTITION,
        [
            {"clip_id": name, "class_id": int(class_id), "recording_id": name, "role": role}
            for name, class_id, role in list(zip(names, classes, ROLES, strict=True))[:known]
        ],
    )
    train_and_embed(
        paths["embeddings"], paths["weights"], paths["history"], features=shard_paths,
        partition=paths["partition"], encoder=YAMNetEncoder(TINY, 0), **options,
    )  # fmt: skip
    return paths


def test_every_clip_is_embedded_and_the_weights_give_the_same(
    clips: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    features, classes = clips
    paths = run(tmp_path, features, classes, provenance={"rule": "train_encoder"})
    table = tables.read(paths["embeddings"], EMBEDDINGS)
    assert table["clip_id"].to_pylist() == [f"clip-{number:02d}" for number in range(30)]
    assert tables.provenance(paths["embeddings"])["rule"] == "train_encoder"
    history = tables.read(paths["history"], HISTORY)
    assert set(history["quantity"].to_pylist()) == {"loss", "validation_loss", "validation_accuracy"}
    weights = load_file(paths["weights"])
    assert float(weights["input_mean"]) == pytest.approx(features[:16].mean(), rel=1e-5)
    assert float(weights["input_std"]) == pytest.approx(features[:16].std(), rel=1e-5)
    model = YAMNet(2, TINY).eval()
    model.load_state_dict(weights)
    with torch.no_grad():
        again = model.embed(model.standardise(torch.from_numpy(features))).numpy()
    np.testing.assert_allclose(tables.to_matrix(table["vector"]), again, atol=1e-5)


def test_what_is_not_seen_in_training_has_no_influence_on_it(
    clips: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    features, classes = clips
    plain = run(tmp_path / "plain", features, classes)
    other = features.copy()
    other[20:] = 100 * np.random.default_rng(1).normal(size=other[20:].shape)  # seen_test and unseen clips
    changed = run(tmp_path / "changed", other, classes)
    assert plain["weights"].read_bytes() == changed["weights"].read_bytes()
    before, after = (tables.to_matrix(tables.read(p["embeddings"])["vector"]) for p in (plain, changed))
    np.testing.assert_allclose(before[:20], after[:20], atol=1e-6)
    assert not np.allclose(before[20:], after[20:])
    # Seen training clips do have one.
    other = features.copy()
    other[0] += 1
    assert run(tmp_path / "seen", other, classes)["weights"].read_bytes() != plain["weights"].read_bytes()


def test_results_do_not_depend_on_shards(clips: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    one, three = (run(tmp_path / str(shards), *clips, shards=shards) for shards in (1, 3))
    assert one["weights"].read_bytes() == three["weights"].read_bytes()
    assert one["embeddings"].read_bytes() == three["embeddings"].read_bytes()


def test_clips_outside_the_partition_are_left_out(
    clips: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    # Duplicates are refused after ingest: their features exist, they do not.
    paths = run(tmp_path, *clips, known=27, checkpoints=tmp_path / "cache", facts="x")
    assert tables.read(paths["embeddings"]).num_rows == 27
    assert not list((tmp_path / "cache").rglob("*.pt"))  # finished trainings leave no checkpoint
