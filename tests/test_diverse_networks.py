"""Networks of chunks: padding and the order of chunks change nothing, heads in a batch are heads alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from foley import tables
from foley.classifiers import chunk_network
from foley.classifiers.chunk_efficientat import ChunkEfficientAT, ChunkEfficientATOptions
from foley.classifiers.chunk_network import (
    ChunkNetwork,
    ChunkTraining,
    Examples,
    Measure,
    OneChunkPerClip,
    Targets,
    clip_means,
    clip_scores,
    initialise,
    run_in_batches,
    standardise,
    train,
)
from foley.classifiers.chunk_yamnet import ChunkYAMNet, ChunkYAMNetOptions
from foley.classifiers.diverse_transformer import DiverseTransformer, DiverseTransformerOptions
from foley.classifiers.frame_probe import FrameProbe, FrameProbeOptions
from foley.classifiers.subset_heads import SubsetHeads, SubsetHeadsOptions, subsets
from foley.encoders.efficientat import MobileNet
from foley.encoders.neuralogram import Neuralogram, NeuralogramOptions, frame_count, network_neuralogram
from foley.features.chunks import Chunks, FrameFacts, read_chunks
from foley.features.extract import chunk_rows
from foley.features.frames import frame_facts, pack
from foley.studies.diverse.heads import Branch, joint_network, trainable
from foley.studies.diverse.networks import train_neuralogram
from foley.tables.diverse import LABELLED_CLIPS
from foley.tables.features import FRAMES
from foley.training.checkpoint import Checkpoint
from foley.training.loop import History

CPU = torch.device("cpu")
TINY = DiverseTransformerOptions(
    layers=2, width=8, heads=3, head_dim=4, feed_forward=8, epochs=3, batch_size=4, precision="float32"
)
ACCURACY = Measure("accuracy", lambda truth, scores: float((scores.argmax(axis=1) == truth).mean()))


def networks() -> list[ChunkNetwork]:
    torch.manual_seed(0)
    return [
        DiverseTransformer(6, 30, 3, TINY),
        DiverseTransformer(6, 30, 3, replace(TINY, front_end=5)),
        FrameProbe(6, 30, 3, FrameProbeOptions()),
        FrameProbe(6, 30, 3, FrameProbeOptions(hidden=7)),
        ChunkYAMNet(6, 30, 3, ChunkYAMNetOptions(dim=4, window_frames=32)),
        ChunkEfficientAT(6, 30, 3, ChunkEfficientATOptions(width=0.1, window_frames=40)),
    ]


def make_chunks(clips: int = 9, dim: int = 6, longest: int = 30, seed: int = 0) -> Chunks:
    """Clips of one to three chunks, the last one with fewer frames; classes differ in their mean."""
    rng = np.random.default_rng(seed)
    ids, windows, frames, packed = [], [], [], []
    for clip in range(clips):
        for window in range(count := 1 + clip % 3):
            own = longest if window < count - 1 else 3 + clip
            values = np.zeros((longest, dim), dtype=np.float32)
            values[:own] = rng.normal(size=(own, dim)) + (clip % 3) * np.arange(dim) / 2
            ids.append(f"clip{clip}")
            windows.append(window)
            frames.append(own)
            packed.append(pack(values, "float16"))
    facts = FrameFacts(dim, longest, "float16", True)
    return Chunks(np.array(ids, dtype=object), np.array(windows), np.array(frames), np.stack(packed), facts)


def targets(multi_label: bool = False, clips: int = 9) -> Targets:
    classes_of = {f"clip{n}": ([n % 3, 2] if multi_label and n % 3 != 2 else [n % 3]) for n in range(clips)}
    return Targets(classes_of, 3, multi_label)


@pytest.mark.parametrize("number", range(6))
def test_padding_changes_no_score(number: int) -> None:
    network = networks()[number].eval()
    x, lengths = torch.randn(4, 20, 6), torch.tensor([20, 1, 13, 7])
    valid = torch.arange(20) < lengths[:, None]
    with torch.no_grad():
        alone = torch.cat([network(x[i : i + 1, :n], valid[i : i + 1, :n]) for i, n in enumerate(lengths)])
        together = network(x, valid)
        # Whatever stands where nothing is, also what is no number, and more of it.
        filled = x.masked_fill(~valid.unsqueeze(2), float("nan"))
        more = torch.cat([filled, torch.full((4, 10, 6), 1e9)], dim=1)
        longer = network(more, torch.cat([valid, torch.zeros(4, 10, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(longer, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", range(6))
def test_order_and_company_of_chunks_change_no_score(number: int) -> None:
    network, chunks, said = networks()[number].eval(), make_chunks(), targets()
    rows = np.arange(len(chunks))
    names, wanted = clip_scores(network, Examples.of(chunks, CPU), said, rows)
    shuffled = np.random.default_rng(1).permutation(rows)
    names_again, again = clip_scores(network, Examples.of(chunks, CPU), said, shuffled)
    assert names.tolist() == names_again.tolist() == sorted(set(chunks.clip_ids))
    np.testing.assert_allclose(again, wanted, rtol=1e-5, atol=1e-6)
    for clip, expected in zip(names, wanted, strict=True):
        _, alone = clip_scores(network, Examples.of(chunks, CPU), said, chunks.of_clips([clip]))
        np.testing.assert_allclose(alone[0], expected, rtol=1e-5, atol=1e-6)


def test_a_clips_score_is_the_mean_of_its_real_frames() -> None:
    network, chunks = networks()[0].eval(), make_chunks()
    for said in (targets(), targets(multi_label=True)):
        _, scores = clip_scores(network, Examples.of(chunks, CPU), said, chunks.of_clips(["clip2"]))
        x, valid = chunks.take(chunks.of_clips(["clip2"]), CPU)
        with torch.no_grad():
            each = network(x, valid)
        probabilities = each.sigmoid() if said.multi_label else each.softmax(1)
        # Two whole chunks, and one of 5 frames of 30.
        wanted = (30 * probabilities[0] + 30 * probabilities[1] + 5 * probabilities[2]) / 65
        np.testing.assert_allclose(scores[0], wanted, rtol=1e-5)


def test_a_tail_counts_no_more_than_its_frames() -> None:
    clips = 4000
    clip_ids = np.repeat([f"clip{n:04d}" for n in range(clips)], 2).astype(object)
    rows = np.arange(2 * clips)
    # Of every other clip the second chunk is a hundredth.
    tails = np.array([1.0, 1.0, 1.0, 0.01] * (clips // 2))
    weighted, plain = (
        np.concatenate(list(OneChunkPerClip(clip_ids, rows, 64, 5, shares).epoch(2)))
        for shares in (tails, None)
    )
    assert [row // 2 for row in weighted] == [row // 2 for row in plain]
    whole = plain // 2 % 2 == 0
    # Clips of whole chunks are drawn from as ever.
    assert np.array_equal(weighted[whole], plain[whole])
    assert plain[~whole].tolist() != weighted[~whole].tolist()
    assert (plain[~whole] % 2).mean() == pytest.approx(0.5, abs=0.05)
    assert 2 <= (weighted[~whole] % 2).sum() <= 40  # 20 are expected of 2000
    _, means = clip_means(clip_ids[:4], np.array([[0.0], [1.0], [0.0], [1.0]]), tails[:4])
    np.testing.assert_allclose(means[:, 0], [0.5, 0.01 / 1.01], rtol=1e-6)


def test_heads_draw_and_score_by_real_shares() -> None:
    """A chunk of no share teaches nothing and says nothing."""
    rng = np.random.default_rng(0)
    said, clip_ids = targets(clips=12), np.repeat([f"clip{n}" for n in range(12)], 2).astype(object)
    x = torch.from_numpy(rng.normal(size=(24, 4)).astype(np.float32))
    shares = np.array([1.0, 1e-9] * 12)
    options = SubsetHeadsOptions(epochs=4, batch_size=5, learning_rate=0.05)

    def fit(
        values: torch.Tensor, rows: np.ndarray, own: np.ndarray | None
    ) -> tuple[np.ndarray, torch.Tensor]:
        heads = SubsetHeads(options, {"a": 4}, said, 0)
        heads.fit(
            values,
            clip_ids,
            training=rows[rows < 16],
            validation=rows[rows >= 16],
            measure=ACCURACY,
            shares=own,
        )
        return heads.clip_scores(values, clip_ids, rows, own)[1], heads.model.weight

    every = np.arange(24)
    # The scaling is that of all training chunks: tails with the values of their clip's first chunk change it not.
    doubled = x[::2].repeat_interleave(2, dim=0)
    wanted, weight = fit(doubled, every, None)
    made, own = fit(doubled, every, shares)
    np.testing.assert_allclose(made, wanted, rtol=1e-5)
    torch.testing.assert_close(own, weight)
    other, _ = fit(x, every, shares)
    scores, _ = fit(x, every, None)
    assert not np.allclose(other, scores, atol=1e-3)


def test_convolutions_average_over_what_is_real() -> None:
    """A whole chunk has the plain mean, whatever is in its batch; a short one's leaves out the rest."""
    network = networks()[4].eval()
    network.neck = nn.Identity()
    x, lengths = torch.randn(4, 32, 6), torch.tensor([32, 17, 16, 3])
    valid = torch.arange(32) < lengths[:, None]
    with torch.no_grad():
        filled = x.masked_fill(~valid.unsqueeze(2), 0.0)
        maps = network.body(filled.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        assert maps.shape[2] == 2
        made = network.embed(x, valid)
    # Two cells of 16 frames: seventeen frames begin the second one.
    whole, first = maps.mean(dim=(2, 3)), maps[:, :, 0].mean(dim=2)
    assert torch.equal(made[:2], whole[:2])
    torch.testing.assert_close(made[2:], first[2:], rtol=1e-5, atol=0)
    assert not torch.allclose(made[3], whole[3], rtol=1e-3, atol=0)


def reference_layer(network: DiverseTransformer, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The same embedding from PyTorch's own attention, head by head, in float64."""
    o = network.options
    x = network.project(x) + network.position[: x.shape[1]]
    for layer in network.layers:
        h = layer.attention_norm(x)
        parts = layer.attention.read(h).split(o.heads * o.head_dim, dim=2)
        heads = []
        for number in range(o.heads):
            q, k, v = (part[..., number * o.head_dim : (number + 1) * o.head_dim] for part in parts)
            weights = (q @ k.transpose(1, 2) / o.head_dim**0.5).masked_fill(~valid[:, None, :], -torch.inf)
            heads.append(weights.softmax(2) @ v)
        x = x + layer.attention.write(torch.cat(heads, dim=2))
        x = x + layer.dense(layer.dense_norm(x))
    x = network.norm(x)
    return torch.stack([own[keep].mean(0) for own, keep in zip(x, valid, strict=True)])


def test_transformer_is_its_formula() -> None:
    torch.manual_seed(1)
    network = DiverseTransformer(5, 12, 2, TINY).double().eval()
    x, valid = torch.randn(3, 12, 5).double(), torch.arange(12) < torch.tensor([12, 4, 9])[:, None]
    with torch.no_grad():
        torch.testing.assert_close(network.embed(x, valid), reference_layer(network, x, valid))


def test_published_size_has_twelve_heads_of_a_size_of_their_own() -> None:
    network = DiverseTransformer(12, 100, 200)
    assert len(network.layers) == 6 and network.head.in_features == 64
    assert network.layers[0].attention.read.out_features == 3 * 12 * 64


@pytest.mark.parametrize("least", [1, 5_000, 60_000])
def test_a_baseline_is_as_small_as_it_may_be(least: int) -> None:
    for kind, options in ((DiverseTransformer, TINY), (FrameProbe, FrameProbeOptions())):
        wide = kind.with_parameters(least, 6, 30, 3, options)  # type: ignore[attr-defined, arg-type]
        count = sum(p.numel() for p in kind(6, 30, 3, wide).parameters())  # type: ignore[arg-type]
        assert count >= least
        smaller = (
            replace(wide, width=wide.width - 2, feed_forward=wide.feed_forward - 2)
            if isinstance(wide, DiverseTransformerOptions)
            else replace(wide, hidden=wide.hidden - 1)
        )
        if least > 1:
            assert sum(p.numel() for p in kind(6, 30, 3, smaller).parameters()) < least  # type: ignore[arg-type]


def test_input_is_scaled_by_real_frames_of_training_chunks() -> None:
    chunks = make_chunks()
    rows = chunks.of_clips(["clip1", "clip4"])
    x, valid = chunks.take(rows, CPU)
    network = networks()[0]
    standardise(network, chunks, rows)
    real = x[valid].double()
    torch.testing.assert_close(network.mean.double(), real.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network.deviation.double(), real.std(0, correction=0), rtol=1e-4, atol=1e-6)


def test_an_epoch_has_one_chunk_of_each_clip() -> None:
    chunks = make_chunks(clips=9)
    rows = np.arange(len(chunks))
    draws = OneChunkPerClip(chunks.clip_ids, rows, 4, seed=3)
    seen: dict[str, set[int]] = {}
    for epoch in range(30):
        batches = list(draws.epoch(epoch))
        # Nine clips in batches of four: the last clip alone joins the batch before it.
        assert [len(batch) for batch in batches] == [4, 5] and len(draws) == 2
        names = chunks.clip_ids[np.concatenate(batches)]
        assert sorted(names) == sorted(set(chunks.clip_ids))
        for row in np.concatenate(batches).tolist():
            seen.setdefault(chunks.clip_ids[row], set()).add(int(chunks.windows[row]))
    assert {clip: len(windows) for clip, windows in seen.items()} == {f"clip{n}": 1 + n % 3 for n in range(9)}
    again = [batch.tolist() for batch in OneChunkPerClip(chunks.clip_ids, rows, 4, seed=3).epoch(5)]
    assert again == [batch.tolist() for batch in draws.epoch(5)]


@pytest.mark.parametrize("multi_label", [False, True])
def test_training_learns_and_keeps_the_best_epoch(multi_label: bool) -> None:
    chunks, said = make_chunks(clips=24), targets(multi_label, clips=24)
    measure = (
        ACCURACY
        if not multi_label
        else Measure("error", lambda truth, scores: -float(np.abs(truth - scores).mean()))
    )
    training = chunks.of_clips([f"clip{n}" for n in range(15)])
    validation = chunks.of_clips([f"clip{n}" for n in range(15, 24)])
    initialise(0)
    network = DiverseTransformer(6, 30, 3, TINY)
    options = replace(TINY, epochs=25, learning_rate=5e-3)
    examples = Examples.of(chunks, CPU)
    standardise(network, chunks, training)
    history = train(
        network, options, examples, said, training=training, validation=validation, measure=measure, seed=0
    )
    values = [value for _, name, value in history.rows if name == f"validation_{measure.name}"]
    assert len(values) == 25 and values.index(max(values)) + 1 == history.best_epoch
    names, scores = clip_scores(network, examples, said, validation)
    assert measure.of(said.rows(names).numpy(), scores) == pytest.approx(max(values))
    assert max(values) > (0.8 if not multi_label else -0.25)


def test_training_goes_on_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A checkpoint is written after each epoch.
    monkeypatch.setattr(chunk_network, "fit", partial(chunk_network.fit, checkpoint_every_s=0.0))
    chunks, said = make_chunks(), targets()
    rows = np.arange(len(chunks))
    options = replace(TINY, dropout=0.3, schedule="constant")

    def run(epochs: int, keep: Checkpoint | None) -> torch.Tensor:
        initialise(0)
        network = DiverseTransformer(6, 30, 3, options)
        train(
            network, replace(options, epochs=epochs), Examples.of(chunks, CPU), said, training=rows,
            validation=rows, measure=ACCURACY, seed=0, checkpoint=keep,
        )  # fmt: skip
        return network.position.detach()

    whole = run(4, None)
    checkpoint = Checkpoint(tmp_path, ["x"])
    run(2, checkpoint)
    assert torch.equal(run(4, checkpoint), whole)


def test_validation_clips_are_looked_at_now_and_then() -> None:
    chunks, said = make_chunks(), targets()
    rows = np.arange(len(chunks))

    def run(**more: int) -> History:
        initialise(0)
        options = replace(TINY, epochs=7, **more)
        return train(
            DiverseTransformer(6, 30, 3, options), options, Examples.of(chunks, CPU), said, training=rows,
            validation=rows, measure=ACCURACY, seed=0,
        )  # fmt: skip

    each, third = run(), run(validate_every=3)
    every = {e: value for e, name, value in each.rows if name == "validation_accuracy"}
    seen = {e: value for e, name, value in third.rows if name == "validation_accuracy"}
    # Looking changes no number, and the last epoch is always looked at.
    assert len(every) == 7 and seen == {e: every[e] for e in (3, 6, 7)}
    assert third.best_epoch in seen and seen[third.best_epoch] == max(seen.values())


@pytest.mark.parametrize("epochs", [9, 10, 11, 12])
def test_few_steps_can_be_scheduled(epochs: int) -> None:
    chunks, said = make_chunks(), targets()
    rows, options = np.arange(len(chunks)), FrameProbeOptions(epochs=epochs)
    history = train(
        FrameProbe(6, 30, 3, options), options, Examples.of(chunks, CPU), said, training=rows,
        validation=rows[:0], measure=ACCURACY, seed=0,
    )  # fmt: skip
    assert [name for _, name, _ in history.rows] == ["loss"] * epochs


def test_mixed_precision_changes_scores_little() -> None:
    network, x = networks()[0].eval(), torch.randn(4, 20, 6)
    valid = torch.arange(20) < torch.tensor([20, 1, 13, 7])[:, None]
    with torch.no_grad():
        wanted = network(x, valid)
        with torch.autocast("cpu", torch.bfloat16):
            made = network(x, valid)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), wanted, rtol=0.05, atol=0.05)


def test_one_step_settles_the_batch_norms() -> None:
    torch.manual_seed(0)
    network = ChunkYAMNet(16, 40, 3, ChunkYAMNetOptions(dim=4, window_frames=40, dropout=0.0))
    x, valid = torch.randn(64, 40, 16), torch.ones(64, 40, dtype=torch.bool)
    trained = network.train().embed(x, valid).detach()
    with torch.no_grad():
        first = network.norms[0].running_mean.clone()
        torch.testing.assert_close(first, network.body[0][0](x[:, None]).mean(dim=(0, 2, 3)))
        # What the network says of these clips is what it said in training, but for the variance's correction.
        said = network.eval().embed(x, valid)
    assert said.std(0).max() > 0.1
    torch.testing.assert_close(said, trained, rtol=0.3, atol=0.3)
    network.train().embed(x + 1, valid)
    network.train().embed(x, valid)
    assert network.norms[0].momentum == pytest.approx(1 / 3)


class Mute(ChunkYAMNet):
    """Says the same of everything."""

    def pool(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return 0 * super().pool(x, valid) + 7


def test_the_network_from_scratch_is_the_pretrained_one() -> None:
    with torch.device("meta"):
        published, ours = MobileNet(0.4), ChunkEfficientAT(128, 100, 5, ChunkEfficientATOptions(width=0.4))
    assert {n: v.shape for n, v in ours.body.state_dict().items()} == {
        n: v.shape for n, v in published.features.state_dict().items()
    }
    assert ours.head.in_features == ChunkEfficientATOptions(width=0.4).dim == published.dim == 384
    # The same maps, averaged: mels lie where the encoder has them.
    torch.manual_seed(0)
    network = ChunkEfficientAT(128, 100, 5, ChunkEfficientATOptions(width=0.1)).eval()
    x, whole = torch.randn(2, 96, 128), torch.ones(2, 96, dtype=torch.bool)
    with torch.no_grad():
        wanted = network.body(x.transpose(1, 2).unsqueeze(1)).mean((2, 3))
        torch.testing.assert_close(network.embed(x, whole), wanted)
        # Of 40 real frames two cells of 32 have begun, of three.
        maps = network.body(x.transpose(1, 2).unsqueeze(1).masked_fill(torch.arange(96) >= 40, 0.0))
        short = network.embed(x, whole & (torch.arange(96) < 40))
        assert maps.shape[3] == 3
        torch.testing.assert_close(short, maps[:, :, :, :2].mean((2, 3)))


def test_the_network_from_scratch_learns() -> None:
    chunks, said = make_chunks(clips=24, longest=40), targets(clips=24)
    training = chunks.of_clips([f"clip{n}" for n in range(18)])
    options = ChunkEfficientATOptions(
        width=0.1, window_frames=32, epochs=40, batch_size=6, learning_rate=0.003, precision="float32"
    )
    initialise(0)
    network = ChunkEfficientAT(6, 40, 3, options)
    standardise(network, chunks, training)
    before = [v.clone() for v in network.body.parameters()]
    history = train(
        network, options, Examples.of(chunks, CPU), said, training=training,
        validation=chunks.of_clips([f"clip{n}" for n in range(18, 24)]), measure=ACCURACY, seed=0,
    )  # fmt: skip
    assert all(not torch.equal(a, b) for a, b in zip(before, network.body.parameters(), strict=True))
    losses = [value for _, name, value in history.rows if name == "loss"]
    # A single epoch's loss of so few clips depends on how a CPU rounds.
    assert np.mean(losses[-10:]) < 0.8 * losses[0]


@pytest.mark.parametrize("kind", [ChunkYAMNet, Mute])
def test_a_neuralogram_that_tells_nothing_is_refused(tmp_path: Path, kind: type[ChunkNetwork]) -> None:
    rng = np.random.default_rng(0)
    ids = [f"clip{n}" for n in range(9)]
    with tables.writer(tmp_path / "frames.parquet", FRAMES, frame_facts(16, 25, "float16", True)) as out:
        frames = [pack(rng.normal(size=(25 + 5 * n, 16)).astype(np.float32), "float16") for n in range(9)]
        out.write(chunk_rows(ids, frames, 25))
    labelled = [
        {"clip_id": name, "class_ids": [n % 3], "recording_id": name, "role": ["train", "validation", "test"][n // 3]}
        for n, name in enumerate(ids)
    ]  # fmt: skip
    tables.write(tmp_path / "labelled.parquet", LABELLED_CLIPS, labelled)

    def run() -> None:
        train_neuralogram(
            tmp_path / "out.parquet", tmp_path / "history.parquet", tmp_path / "network.safetensors",
            frames=[tmp_path / "frames.parquet"], labelled=tmp_path / "labelled.parquet", kind=kind,
            options=ChunkYAMNetOptions(dim=4, window_frames=24, epochs=1),
            neuralogram=NeuralogramOptions(frames_per_second=2), multi_label=False, seed=0,
        )  # fmt: skip

    if kind is Mute:
        with pytest.raises(ValueError, match="epoch 1 says the same of all clips"):
            run()
        assert not (tmp_path / "out.parquet").exists()
        return
    run()
    made = read_chunks([tmp_path / "out.parquet"], ids)
    # A clip of 25 + 5n frames of 40 ms, two windows a second.
    assert np.bincount(
        np.unique(made.clip_ids.astype(str), return_inverse=True)[1], made.frames
    ).tolist() == [int(np.ceil((25 + 5 * n) / 12.5)) for n in range(9)]


def test_a_neuralogram_from_scratch_has_the_pretrained_ones_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"clip{n:02d}" for n in range(60)]
    with tables.writer(tmp_path / "frames.parquet", FRAMES, frame_facts(16, 40, "float16", True)) as out:
        frames = [rng.normal(size=(60, 16)) + np.linspace(0, n % 3, 16) for n in range(60)]
        out.write(chunk_rows(ids, [pack(own.astype(np.float32), "float16") for own in frames], 40))
    labelled = [
        {"clip_id": name, "class_ids": [n % 3], "recording_id": name,
         "role": "train" if n < 40 else "validation" if n < 50 else "test"}
        for n, name in enumerate(ids)
    ]  # fmt: skip
    tables.write(tmp_path / "labelled.parquet", LABELLED_CLIPS, labelled)
    options = ChunkEfficientATOptions(width=0.1, window_frames=32, epochs=3, batch_size=20)
    train_neuralogram(
        tmp_path / "out.parquet", tmp_path / "history.parquet", tmp_path / "network.safetensors",
        frames=[tmp_path / "frames.parquet"], labelled=tmp_path / "labelled.parquet", kind=ChunkEfficientAT,
        options=options, neuralogram=NeuralogramOptions(frames_per_second=4), multi_label=False, seed=0,
    )  # fmt: skip
    made = read_chunks([tmp_path / "out.parquet"], ids)
    # A clip of 60 frames of 25 ms: six windows, four of them a chunk.
    assert made.frames.tolist() == [4, 2] * 60 and made.facts.dim == options.dim == 96
    x, valid = made.take(np.arange(len(made)), CPU)
    assert x[valid].std(0).max() > 0.1


def test_joint_training_moves_every_branch() -> None:
    chunks, other, said = make_chunks(), make_chunks(dim=4, seed=1), targets()
    branches = [Branch(DiverseTransformer, TINY, []), Branch(DiverseTransformer, TINY, [])]
    network = joint_network(branches, [chunks, other], 3, seed=0)
    assert (
        trainable(network)
        == sum(trainable(DiverseTransformer(dim, 30, 3, TINY)) - 9 * 3 for dim in (6, 4)) + (16 + 1) * 3
    )
    before = {name: value.clone() for name, value in network.named_parameters()}
    rows = np.arange(len(chunks))
    examples = Examples(
        chunks.clip_ids, lambda own: tuple(x for part in (chunks, other) for x in part.take(own, CPU))
    )
    train(network, TINY, examples, said, training=rows, validation=rows, measure=ACCURACY, seed=0)
    assert all(not torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_order_and_company_of_chunks_change_no_joint_score() -> None:
    parts, said = [make_chunks(), make_chunks(dim=4, seed=1)], targets()
    kinds = [
        Branch(DiverseTransformer, TINY, []),
        Branch(ChunkYAMNet, ChunkYAMNetOptions(dim=4, window_frames=32), []),
    ]
    network = joint_network(kinds, parts, 3, seed=0).eval()

    def examples(order: np.ndarray) -> Examples:
        """Chunks in an order of their own in the table."""
        return Examples(
            parts[0].clip_ids[order],
            lambda own: tuple(x for part in parts for x in part.take(order[own], CPU)),
            np.min([part.shares for part in parts], axis=0)[order],
        )

    rows = np.arange(len(parts[0]))
    shuffled = np.random.default_rng(1).permutation(rows)
    names, wanted = clip_scores(network, examples(rows), said, rows)
    assert np.ptp(wanted, axis=0).min() > 1e-3
    for table, asked in ((rows, shuffled), (shuffled, rows), (shuffled, shuffled)):
        names_again, again = clip_scores(network, examples(table), said, asked)
        assert names_again.tolist() == names.tolist()
        np.testing.assert_allclose(again, wanted, rtol=1e-5, atol=1e-6)
    for clip, expected in zip(names, wanted, strict=True):
        _, alone = clip_scores(network, examples(rows), said, parts[0].of_clips([clip]))
        np.testing.assert_allclose(alone[0], expected, rtol=1e-5, atol=1e-6)


def test_there_are_fifteen_subsets_of_four() -> None:
    names = subsets(["pitch", "timbre", "waveform", "neural"])
    assert len(names) == len(set(names)) == 15
    assert names[:4] == [("pitch",), ("timbre",), ("waveform",), ("neural",)]
    assert names[-1] == ("pitch", "timbre", "waveform", "neural")


@pytest.mark.parametrize("multi_label", [False, True])
def test_heads_in_a_batch_are_heads_alone(multi_label: bool) -> None:
    rng = np.random.default_rng(0)
    said = targets(multi_label, clips=30)
    clip_ids = np.array([f"clip{n // 2}" for n in range(60)], dtype=object)
    dims = {"a": 3, "b": 2, "c": 4}
    x = torch.from_numpy(rng.normal(size=(60, 9)).astype(np.float32))
    x += torch.tensor([int(c[4:]) % 3 for c in clip_ids])[:, None] * torch.linspace(0, 1, 9)
    training, validation, test = np.arange(0, 36), np.arange(36, 48), np.arange(48, 60)
    measure = ACCURACY if not multi_label else Measure("m", lambda t, s: -float(np.abs(t - s).mean()))
    options = SubsetHeadsOptions(epochs=6, batch_size=5, learning_rate=0.05)

    def fit(chosen: list[tuple[str, ...]] | None) -> SubsetHeads:
        heads = SubsetHeads(options, dims, said, 0, chosen)
        heads.fit(x, clip_ids, training=training, validation=validation, measure=measure)
        return heads

    together = fit(None)
    names, scores = together.clip_scores(x, clip_ids, test)
    assert scores.shape == (7, 6, 3) and names.tolist() == sorted(set(clip_ids[test]))
    for number, own in enumerate(together.subsets):
        alone = fit([own])
        np.testing.assert_allclose(alone.clip_scores(x, clip_ids, test)[1][0], scores[number], atol=2e-5)
        assert int(alone.model.best_epoch[0]) == int(together.model.best_epoch[number])
        # A head takes no notice of what is not in its subset.
        places = np.concatenate([[name] * dim for name, dim in dims.items()])
        other = torch.from_numpy(~np.isin(places, own))
        changed = torch.where(other, x + 100, x)
        assert np.array_equal(together.clip_scores(changed, clip_ids, test)[1][number], scores[number])


def test_heads_are_logistic_regression_in_plain_pytorch() -> None:
    rng = np.random.default_rng(1)
    said = targets(clips=12)
    clip_ids = np.array([f"clip{n}" for n in range(12)], dtype=object)
    x = torch.from_numpy(rng.normal(size=(12, 4)).astype(np.float32))
    rows = np.arange(12)
    options = SubsetHeadsOptions(epochs=5, batch_size=12, learning_rate=0.1, weight_decay=0.0)
    heads = SubsetHeads(options, {"a": 4}, said, 0)
    heads.fit(x, clip_ids, training=rows, validation=rows[:0], measure=ACCURACY)
    plain = nn.Linear(4, 3)
    nn.init.zeros_(plain.weight)
    nn.init.zeros_(plain.bias)
    adam = torch.optim.Adam(plain.parameters(), lr=0.1)
    scaled = (x - x.mean(0)) / x.std(0, correction=0)
    for _ in range(5):
        adam.zero_grad()
        functional.cross_entropy(plain(scaled), said.rows(clip_ids)).backward()
        adam.step()
    torch.testing.assert_close(heads.model.weight[0].T, plain.weight, rtol=1e-4, atol=1e-5)


class FakeEncoder:
    """Says of a window its mean and its greatest sample."""

    name, sample_rate_hz, dim, min_duration_s = "fake", 100, 2, 0.1

    def embed(self, waveforms: torch.Tensor) -> torch.Tensor:
        return torch.stack([waveforms.mean(1), waveforms.amax(1)], dim=1)


def test_neuralogram_frames_are_windows_around_their_time() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.random(n).astype(np.float32) for n in (250, 30, 101)]
    made = Neuralogram(FakeEncoder(), NeuralogramOptions(0.4, 4)).extract(clips, 100)
    assert [part.shape for part in made] == [(10, 2), (2, 2), (5, 2)]
    for x, part in zip(clips, made, strict=True):
        padded = np.concatenate([np.zeros(20), x, np.zeros(60)])
        for number, frame in enumerate(part):
            window = padded[25 * number : 25 * number + 40]
            np.testing.assert_allclose(frame, [window.mean(), window.max()], rtol=1e-5)


def test_neuralogram_of_a_network_sees_its_spectrogram() -> None:
    spectrogram = torch.randn(57, 3)
    made = network_neuralogram(lambda w: w.mean(1), spectrogram, 8, 25.0, torch.full((3,), 2.0))
    assert frame_count(57, 25.0) == 3 and made.shape == (3, 3)
    padded = torch.cat([torch.full((4, 3), 2.0), spectrogram, torch.full((20, 3), 2.0)])
    for number in range(3):
        np.testing.assert_allclose(made[number], padded[25 * number : 25 * number + 8].mean(0), rtol=1e-5)


def test_embeddings_come_chunk_by_chunk() -> None:
    network, chunks = networks()[0].eval(), make_chunks()
    rows = np.arange(len(chunks))
    vectors = run_in_batches(network.embed, Examples.of(chunks, CPU), rows, batch_size=5)
    assert vectors.shape == (len(chunks), 8)
    names, means = clip_means(chunks.clip_ids, vectors)
    first = vectors[chunks.clip_ids == names[0]]
    np.testing.assert_allclose(means[0], first.mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: ChunkTraining(epochs=0), "epochs must be at least 1"),
        (lambda: ChunkTraining(patience=3, validate_every=4), "patience must not be below validate_every"),
        (lambda: DiverseTransformerOptions(heads=0), "heads must be at least 1"),
        (lambda: ChunkTraining(learning_rate=0), "learning_rate and gradient_clip must be positive"),
        (lambda: ChunkYAMNetOptions(window_frames=8), "window_frames at least 16"),
        (lambda: ChunkEfficientATOptions(window_frames=24), "window_frames at least 32"),
        (lambda: ChunkEfficientATOptions(width=0), "width must be positive"),
        (lambda: FrameProbeOptions(hidden=-1), "hidden must not be negative"),
        (lambda: SubsetHeadsOptions(epochs=0), "epochs and batch_size must be at least 1"),
        (lambda: NeuralogramOptions(window_s=0), "window_s must be positive"),
    ],
)
def test_wrong_options(options: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options()
