"""Audio classifiers: the published architecture, equal steps for all arms, resuming, and that they learn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchaudio.functional import melscale_fbanks

from foley.augment.mixup import Mixup
from foley.augment.noise import Noise
from foley.augment.pitch_time import TimeStretch, TimeStretchOptions
from foley.augment.protocol import Augmentations
from foley.augment.spec_augment import SpecAugment, SpecAugmentOptions
from foley.classifiers import audio_protocol
from foley.classifiers.audio_protocol import (
    AudioClassifier,
    EndlessShuffle,
    LabelledClips,
    TrainingOptions,
    _schedule,
    steps_of_epochs,
)
from foley.classifiers.cnn import (
    LogMelCNN,
    LogMelCNNNetwork,
    LogMelCNNOptions,
    SmallCNN,
    SmallCNNNetwork,
    SmallCNNOptions,
    multiply_adds,
)
from foley.options import ConfigError, parse_options
from foley.training.checkpoint import Checkpoint
from foley.training.loop import NonFiniteLoss

RATE = 4_000
TINY: dict[str, Any] = {
    "steps": 12, "batch_size": 8, "validate_every_steps": 5, "sample_rate_hz": RATE, "window_s": 0.25,
    "n_fft": 128, "hop_length": 64, "n_mels": 16, "channels": (4, 6), "hidden": 8,
}  # fmt: skip
SMALL = {**TINY, "kernel": 3}
BASELINE = {**TINY, "f_max_hz": 2000.0, "block_dropout": 0.1, "head_dropout": 0.1}
KINDS = [(SmallCNN, SMALL), (LogMelCNN, BASELINE)]


def make(kind: type[AudioClassifier], given: dict[str, Any], seed: int = 0, **more: Any) -> AudioClassifier:
    return kind(kind.Options(**{**given, **more}), 3, seed)


def clips(count: int, seed: int = 0, *, samples: int = 1400) -> LabelledClips:
    """Tones, noise and clicks, each of any pitch or pace and loudness: what convolutions can tell apart."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    time = np.arange(samples) / RATE
    tones = np.sin(2 * np.pi * generator.uniform(200, 1600, (count, 1)) * time)
    hiss = 0.7 * generator.normal(size=(count, samples))
    clicks = 2.0 * (np.arange(samples) % generator.integers(200, 400, (count, 1)) < 3)
    kinds = np.stack([tones, hiss, clicks])[labels, np.arange(count)]
    waveforms = generator.uniform(0.1, 0.4, (count, 1)) * kinds + 0.01 * generator.normal(size=kinds.shape)
    return LabelledClips(
        torch.from_numpy(waveforms.astype(np.float32)), torch.from_numpy(labels),
        [f"{seed}-{number}" for number in range(count)], RATE,
    )  # fmt: skip


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Optimiser steps that are taken meanwhile, by any optimiser."""
    taken = [0]

    def count(*_: Any) -> None:
        taken[0] += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        yield taken
    finally:
        hook.remove()


def weights(classifier: AudioClassifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in classifier.trained.state_dict().items()}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


# Architecture


def test_the_small_cnn_is_the_published_one() -> None:
    options = SmallCNNOptions()
    published = {
        "steps": 3100, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant",
        "label_smoothing": 0.0, "sample_rate_hz": 22_050, "window_s": 1.0, "n_fft": 1024, "hop_length": 512,
        "n_mels": 64, "channels": (64, 128, 256), "kernel": 5, "hidden": 256,
    }  # fmt: skip
    assert {name: getattr(options, name) for name in published} == published
    assert steps_of_epochs(50, 8732 - 873, 128) == options.steps == 50 * options.validate_every_steps
    network = SmallCNNNetwork(10, options)
    # 1->64, 64->128, 128->256 with 5x5 kernels and biases; 256->256; 256->10.
    by_hand = (25 * 64 + 64) + (25 * 64 * 128 + 128) + (25 * 128 * 256 + 256) + (256 * 257) + (10 * 257)
    assert sum(p.numel() for p in network.parameters()) == by_hand == 1_094_410
    assert not [part for part in network.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    assert network.window_samples == 22_050
    features = network.features(torch.zeros(2, 22_050))
    assert features.shape == (2, 44, 64)
    # 44 x 64 -> 40 x 60 -> 36 x 56 -> 32 x 52.
    cells = [40 * 60 * 64 * 25, 36 * 56 * 128 * 64 * 25, 32 * 52 * 256 * 128 * 25]
    assert multiply_adds(network, 44, 64) == sum(cells) + 256 * 256 + 2560


def test_the_baseline_is_cnn10_without_the_norm_of_its_input() -> None:
    options = LogMelCNNOptions()
    network = LogMelCNNNetwork(527, options)
    channels = [1, 64, 128, 256, 512]
    by_hand = sum(
        9 * (before * after + after * after) + 4 * after for before, after in itertools.pairwise(channels)
    )
    by_hand += 512 * 513 + 527 * 513
    # PANNs states 5.2 million for CNN10; its norm of 64 mel bands has 128 of them.
    assert sum(p.numel() for p in network.parameters()) == by_hand == 5_219_279 - 128
    assert network.features(torch.zeros(1, 22_050)).shape == (1, 172, 64)


def test_small_cnn_sees_mel_power_of_the_first_second() -> None:
    network = SmallCNNNetwork(3, SmallCNNOptions(**SMALL))
    clip = clips(2).waveforms
    features = network.features(clip)
    assert torch.equal(network.features(clip[:, :1000]), features)
    x = clip[:, :1000].double().numpy()
    framed = np.pad(x, ((0, 0), (64, 64)), mode="reflect")
    frames = np.stack([framed[:, start : start + 128] for start in range(0, 1000 + 1, 64)], axis=1)
    power = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(128) / 128)))) ** 2
    expected = power @ melscale_fbanks(65, 0.0, RATE / 2, 16, RATE).double().numpy()
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(network.features(clip[:, :700])[:, :9], network.features(clip)[:, :9])


@pytest.mark.parametrize(("kind", "given"), KINDS)
@pytest.mark.parametrize("samples", [500, 1400])
def test_scores_are_log_probabilities_of_each_clip(
    kind: type[AudioClassifier], given: dict[str, Any], samples: int
) -> None:
    classifier = make(kind, given, steps=2)
    classifier.fit(clips(20, samples=samples))
    waveforms = clips(9, seed=1, samples=samples).waveforms
    scores = classifier.score(waveforms, RATE)
    assert scores.shape == (9, 3) and scores.dtype == torch.float32
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(9))
    torch.testing.assert_close(classifier.score(waveforms, RATE, batch_size=2), scores, rtol=0, atol=1e-5)
    assert classifier.score(waveforms[:0], RATE).shape == (0, 3)


# Training


def test_the_order_is_shuffled_epochs_in_full_batches() -> None:
    shuffle = EndlessShuffle(5, 10, 4)
    rows, visits = zip(*(shuffle.batch(step) for step in range(5)), strict=True)
    assert {len(part) for part in rows} == {4}
    together = torch.cat(rows).tolist()
    assert sorted(together[:10]) == sorted(together[10:]) == list(range(10)) != together[:10] != together[10:]
    assert [*itertools.chain(*visits)] == [0] * 10 + [1] * 10
    assert torch.equal(EndlessShuffle(5, 10, 4).batch(3)[0], rows[3])  # of any step, on its own
    assert torch.cat([EndlessShuffle(6, 10, 4).batch(step)[0] for step in range(5)]).tolist() != together
    rows_of_few, visits_of_few = EndlessShuffle(5, 3, 8).batch(1)
    assert visits_of_few == [2, 3, 3, 3, 4, 4, 4, 5] and rows_of_few[1:4].unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [5, 24, 60])
def test_arms_of_different_size_take_equal_steps(count: int) -> None:
    with counted_steps() as taken:
        history = make(SmallCNN, SMALL).fit(clips(count), validation=clips(6, 1))
    assert taken == [12]
    # Rounds of 5, 5 and 2 steps.
    assert [(e, q) for e, q, _ in history.rows] == [
        (e, q) for e in (1, 2, 3) for q in ("loss", "validation_loss", "validation_accuracy")
    ]


CHANGES = Augmentations.of(
    [
        TimeStretch(TimeStretchOptions(n_fft=128, hop_length=32)),
        Noise(),
        SpecAugment(SpecAugmentOptions(frequency_width=2)),
        Mixup(),
    ]
)


class Interrupted(Exception):
    """Stands for the end of a machine."""


@pytest.mark.parametrize(
    ("kind", "given", "keep"), [(SmallCNN, SMALL, "best"), (LogMelCNN, BASELINE, "last")]
)
def test_an_interrupted_training_goes_on_to_equal_weights(
    kind: type[AudioClassifier],
    given: dict[str, Any],
    keep: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, validation = clips(20), clips(9, 1)

    def train(checkpoint: Checkpoint | None = None) -> tuple[AudioClassifier, Any]:
        classifier = make(kind, given, keep=keep, schedule="one_cycle")
        history = classifier.fit(data, augmentations=CHANGES, validation=validation, checkpoint=checkpoint)
        return classifier, history

    whole, history = train()
    real_fit, batch = audio_protocol.fit, EndlessShuffle.batch
    # Checkpoints after each round, not every half a minute.
    monkeypatch.setattr(audio_protocol, "fit", lambda *a, **k: real_fit(*a, checkpoint_every_s=0, **k))
    checkpoint = Checkpoint(tmp_path, {}, data.waveforms.numpy())

    def dies(self: EndlessShuffle, step: int) -> Any:
        if step == 8:
            raise Interrupted
        return batch(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(EndlessShuffle, "batch", dies)
        with pytest.raises(Interrupted):
            train(checkpoint)
    assert checkpoint.path.exists()
    with counted_steps() as taken:
        resumed, resumed_history = train(checkpoint)
    assert taken == [7]  # of 12, the first round's five are not taken again
    assert_equal(weights(resumed), weights(whole))
    assert resumed_history == history


def test_a_seed_decides_everything() -> None:
    data = clips(20)
    trained = []
    for seed, changes in ((0, CHANGES), (0, CHANGES), (1, CHANGES), (0, None)):
        torch.manual_seed(len(trained))  # what others did to the global stream has no influence
        classifier = make(LogMelCNN, BASELINE, seed)
        classifier.fit(data, augmentations=changes)
        trained.append(weights(classifier))
    assert_equal(trained[0], trained[1])
    for other in trained[2:]:
        assert not torch.equal(trained[0]["head.1.weight"], other["head.1.weight"])


@pytest.mark.parametrize(("kind", "given"), KINDS)
@pytest.mark.parametrize("changes", [None, CHANGES], ids=["plain", "augmented"])
def test_it_learns_a_toy_problem(
    kind: type[AudioClassifier], given: dict[str, Any], changes: Augmentations | None
) -> None:
    classifier = make(
        kind, given, steps=50, batch_size=16, learning_rate=0.01, hidden=16, validate_every_steps=25
    )
    history = classifier.fit(clips(90), augmentations=changes, validation=clips(60, 1))
    test = clips(90, 2)
    accuracy = (classifier.score(test.waveforms, RATE).argmax(1) == test.labels).float().mean().item()
    assert accuracy > 0.8  # chance is a third
    assert history.rows[-1][1] == "validation_accuracy" and history.rows[-1][2] > 0.6


def test_mel_bands_are_scaled_by_the_training_clips_alone() -> None:
    data = clips(30)
    classifier = make(LogMelCNN, BASELINE, steps=2)
    classifier.fit(data, validation=LabelledClips(100 * clips(6, 1).waveforms, *_rest(clips(6, 1))))
    features = classifier.trained.features(data.waveforms).double()
    torch.testing.assert_close(features.mean((0, 1)), torch.zeros(16).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(features.std((0, 1), correction=0), torch.ones(16).double(), rtol=0, atol=1e-4)
    small = make(SmallCNN, SMALL, steps=2)
    small.fit(data)
    assert torch.equal(small.trained.deviation, torch.ones(16)) and not small.trained.mean.any()


def _rest(data: LabelledClips) -> tuple[Tensor, Any, int]:
    return data.labels, data.clip_ids, data.sample_rate_hz


def test_best_keeps_the_weights_of_the_best_round_and_takes_all_steps() -> None:
    data, validation = clips(20), clips(30, 1)
    with counted_steps() as taken:
        best = make(SmallCNN, SMALL, keep="best", steps=40, learning_rate=0.03)
        history = best.fit(data, validation=validation)
    assert taken == [40]
    measured = [value for _, quantity, value in history.rows if quantity == "validation_accuracy"]
    assert history.best_epoch == measured.index(max(measured)) + 1
    got = (best.score(validation.waveforms, RATE).argmax(1) == validation.labels).float().mean().item()
    assert got == pytest.approx(max(measured))
    with pytest.raises(ValueError, match="give validation clips"):
        make(SmallCNN, SMALL, keep="best").fit(data)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_schedules_end_where_they_should(schedule: Any) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = _schedule(
        optimiser, TrainingOptions(steps=50, batch_size=2, learning_rate=0.5, schedule=schedule)
    )
    assert (scheduler is None) == (schedule == "constant")
    rates = []
    for _ in range(50):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if scheduler is not None:
            scheduler.step()
    last = optimiser.param_groups[0]["lr"]
    assert {"constant": last == 0.5, "cosine": last < 1e-6, "one_cycle": last < 0.05}[schedule]
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates.index(max(rates)) == (9 if schedule == "one_cycle" else 0)


@pytest.mark.parametrize(("kind", "given"), KINDS)
def test_saved_weights_recognise_alike(
    kind: type[AudioClassifier], given: dict[str, Any], tmp_path: Path
) -> None:
    classifier, waveforms = make(kind, given), clips(7, 1).waveforms
    with pytest.raises(RuntimeError, match=r"fit\(\) or load\(\) first"):
        classifier.score(waveforms, RATE)
    classifier.fit(clips(20))
    path = tmp_path / "model.safetensors"
    classifier.save(path)
    other = make(kind, given, seed=9)
    other.load(path)
    assert torch.equal(other.score(waveforms, RATE), classifier.score(waveforms, RATE))
    wider = make(kind, given, hidden=9)
    with pytest.raises(ValueError, match=r"model\.safetensors holds no `(?s:.*)size mismatch"):
        wider.load(path)


# Bad input


def test_broken_clips_are_named() -> None:
    data = clips(6)
    waveforms = data.waveforms.clone()
    waveforms[2, 5], waveforms[4, 0] = float("nan"), float("inf")
    with pytest.raises(ValueError, match="no finite numbers: `0-2`, `0-4`; leave them out"):
        LabelledClips(waveforms, *_rest(data))
    with pytest.raises(ValueError, match="clip `a` is there twice"):
        LabelledClips(data.waveforms[:2], data.labels[:2], ["a", "a"], RATE)
    with pytest.raises(ValueError, match="one clip at least"):
        LabelledClips(data.waveforms[:0], data.labels[:0], [], RATE)
    with pytest.raises(ValueError, match="one of each"):
        LabelledClips(data.waveforms, data.labels[:2], data.clip_ids, RATE)
    with pytest.raises(ValueError, match=r"\[N, T\] float32"):
        LabelledClips(data.waveforms.double(), *_rest(data))


def test_wrong_rates_and_labels_are_refused() -> None:
    data = clips(6)
    classifier = make(SmallCNN, SMALL)
    with pytest.raises(ValueError, match="expects audio at 4000 Hz, not 8000 Hz: resample it"):
        classifier.fit(LabelledClips(data.waveforms, data.labels, data.clip_ids, 8000))
    with pytest.raises(ValueError, match="labels from 0 to 3, but 3 classes"):
        classifier.fit(LabelledClips(data.waveforms, data.labels + data.labels // 2, data.clip_ids, RATE))
    classifier.fit(data)
    with pytest.raises(ValueError, match="resample it"):
        classifier.score(data.waveforms, 8000)
    with pytest.raises(ValueError, match="two at least"):
        SmallCNN(SmallCNNOptions(), 1, 0)


def test_a_loss_that_is_not_finite_names_the_clips() -> None:
    data = clips(20)
    waveforms = data.waveforms.clone()
    waveforms[7] = 1e30  # finite, but its power is not
    with pytest.raises(NonFiniteLoss, match=r"small_cnn: the loss is .* with clips .*`0-7`"):
        make(SmallCNN, SMALL, batch_size=20).fit(LabelledClips(waveforms, *_rest(data)))


def test_memory_that_is_too_small_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, waveforms = make(SmallCNN, SMALL), clips(11, 1).waveforms
    classifier.fit(clips(20))
    whole = classifier.score(waveforms, RATE)
    forward, sizes = SmallCNNNetwork.forward, []

    def limited(self: SmallCNNNetwork, features: Tensor) -> Tensor:
        if len(features) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        sizes.append(len(features))
        return forward(self, features)

    monkeypatch.setattr(SmallCNNNetwork, "forward", limited)
    torch.testing.assert_close(classifier.score(waveforms, RATE, batch_size=8), whole, rtol=0, atol=1e-5)
    assert sizes == [2, 2, 2, 2, 2, 1]
    with pytest.raises(RuntimeError, match="lower `batch_size` for all arms"):
        make(SmallCNN, SMALL).fit(clips(20))


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        (SmallCNNOptions, {"step": 3}, "did you mean `steps`"),
        (SmallCNNOptions, {"batch_size": 1}, "batch norm"),
        (SmallCNNOptions, {"window_s": 0.02}, "raise window_s"),
        (SmallCNNOptions, {"n_mels": 12}, "44 frames x 12 mels"),
        (SmallCNNOptions, {"channels": []}, "at least 1"),
        (SmallCNNOptions, {"schedule": "warm"}, "classifier.schedule"),
        (LogMelCNNOptions, {"head_dropout": 1.0}, "head_dropout"),
        (LogMelCNNOptions, {"f_max_hz": 20_000}, "do not fit 22050 Hz"),
        (LogMelCNNOptions, {"label_smoothing": 1.0}, "label_smoothing"),
        (LogMelCNNOptions, {"steps": 0}, "steps must be at least 1"),
    ],
)
def test_bad_options_are_refused(options: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options(options, given, "classifier")


def test_options_come_from_the_config() -> None:
    parsed = parse_options(LogMelCNNOptions, {"channels": [8, 16], "steps": 7}, "classifier")
    assert parsed == LogMelCNNOptions(channels=(8, 16), steps=7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("kind", "given"), KINDS)
def test_a_gpu_learns_it_too(kind: type[AudioClassifier], given: dict[str, Any]) -> None:
    classifier = make(kind, given, steps=120, batch_size=16, learning_rate=0.01, hidden=16)
    assert classifier.device.type == "cuda"
    classifier.fit(clips(90), augmentations=CHANGES, validation=clips(60, 1))
    test = clips(90, 2)
    assert (classifier.score(test.waveforms, RATE).argmax(1) == test.labels).float().mean() > 0.6
