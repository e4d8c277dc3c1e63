"""Augmentation: what it changes, by how much, and that a clip's changes are its own."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal, stats
from torch import Tensor
from torchaudio.functional import phase_vocoder

from foley.augment import pitch_time
from foley.augment.background import Background, BackgroundOptions, active_samples
from foley.augment.mixup import Mixup, MixupOptions
from foley.augment.noise import Noise, NoiseOptions
from foley.augment.pitch_time import (
    PitchShift,
    PitchShiftOptions,
    TimeStretch,
    TimeStretchOptions,
    pitch_ratio,
    time_stretch,
)
from foley.augment.protocol import Augmentations, Draws
from foley.augment.registry import KINDS
from foley.augment.spec_augment import SpecAugment, SpecAugmentOptions, _masks, _warp

RATE = 8_000


def draws(count: int, seed: int = 0, visit: int = 0) -> Draws:
    return Draws(seed, [f"clip-{number}" for number in range(count)], [visit] * count)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tones(count: int, samples: int, rate: int = RATE) -> Tensor:
    """[count, samples] of 400, 500, ... Hz."""
    time = torch.arange(samples, dtype=torch.float64) / rate
    pitch = 400 + 100 * torch.arange(count, dtype=torch.float64).unsqueeze(1)
    return (0.3 * torch.sin(2 * math.pi * pitch * time)).float()


def frequency(waveform: Tensor, rate: int = RATE) -> float:
    """The loudest frequency in Hz, by a parabola through the peak of a padded spectrum."""
    x = waveform.double().numpy()
    spectrum = np.log(np.abs(np.fft.rfft(x * np.hanning(len(x)), 8 * len(x))) + 1e-12)
    peak = int(spectrum.argmax())
    left, middle, right = spectrum[peak - 1 : peak + 2]
    return (peak + (left - right) / (2 * (left - 2 * middle + right))) * rate / (8 * len(x))


# All of them

EVERY: list[Any] = [
    SpecAugment(),
    Mixup(),
    Noise(NoiseOptions(probability=0.7)),
    Noise(NoiseOptions(probability=0.7, colour="pink")),
    Background(BackgroundOptions(probability=0.7), list(normal(3, 700, seed=5)), RATE),
    Background(None, list(0.1 * normal(2, 9000, seed=6)), RATE),
    TimeStretch(TimeStretchOptions(n_fft=256, hop_length=64, probability=0.7)),
    PitchShift(PitchShiftOptions(n_fft=256, hop_length=64, probability=0.7)),
]


def change(part: Any, data: Tensor, of: Draws) -> Tensor:
    changes = Augmentations.of([part])
    if changes.waveform:
        return changes.change_waveforms(data, of)
    return changes.change_batch(changes.change_features(data, of), torch.eye(len(data)), of)[0]


def data_for(part: Any) -> Tensor:
    return 0.2 * normal(12, 2000) if not isinstance(part, SpecAugment | Mixup) else normal(12, 60, 40)


@pytest.mark.parametrize("part", EVERY, ids=lambda part: type(part).__name__)
def test_a_clips_changes_are_its_own(part: Any) -> None:
    data, of = data_for(part), draws(12)
    before = data.clone()
    whole = change(part, data, of)
    assert torch.equal(data, before)
    assert whole.shape == data.shape and whole.dtype == data.dtype and not torch.equal(whole, data)
    assert torch.equal(change(part, data, of), whole)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = change(part, data[order], of.of(order.tolist()))
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=1e-6)
    if not isinstance(part, Mixup):  # which needs the others
        alone = torch.cat([change(part, data[row : row + 1], of.of([row])) for row in range(12)])
        torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    for other in (draws(12, visit=1), draws(12, seed=1)):
        assert not torch.equal(change(part, data, other), whole)


def test_the_registry_names_augmentations() -> None:
    assert set(KINDS) == {"mixup", "noise", "pitch_shift", "reverb", "spec_augment", "time_stretch"}
    for place in KINDS.values():
        module, name = place.split(":")
        kind = getattr(importlib.import_module(module), name)
        stages = Augmentations.of([kind(kind.Options())])
        assert len(stages.waveform) + len(stages.feature) + len(stages.batch) == 1


def test_what_is_no_augmentation_is_refused() -> None:
    with pytest.raises(TypeError, match="int is no augmentation"):
        Augmentations.of([SpecAugment(), 3])
    with pytest.raises(ValueError, match="2 clips, but visits of 1"):
        Draws(0, ["a", "b"], [0])


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (SpecAugmentOptions, {"time_masks": -1}), (SpecAugmentOptions, {"max_time_fraction": 1.1}),
        (MixupOptions, {"alpha": 0}), (NoiseOptions, {"snr_min_db": 40}), (NoiseOptions, {"frame_samples": 0}),
        (NoiseOptions, {"probability": 2}), (TimeStretchOptions, {"rates": (1.1, 0)}),
        (TimeStretchOptions, {"hop_length": 1024}), (PitchShiftOptions, {"semitones": ()}),
        (PitchShiftOptions, {"semitones": (13,)}),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options: type, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given)).split("_")[0]):
        options(**given)


# Noise


@pytest.mark.parametrize("colour", ["white", "pink"])
def test_the_ratio_is_exact_where_the_clip_is_active_and_nothing_clips(colour: Any) -> None:
    clean = torch.zeros(8, 6000)
    clean[:, 1024:3072] = 0.9 * torch.sin(torch.arange(2048) * 0.2)
    part = slice(1024, 3072)
    for ratio in (-5.0, 3.0, 30.0):
        noise = Noise(NoiseOptions(ratio, ratio, colour, probability=1.0, frame_samples=256))
        noisy = noise.change_waveforms(clean, draws(8)).double().numpy()
        drawn = noise._draw(draws(8), 6000).double().numpy()
        peaks = np.abs(noisy).max(axis=1)
        for x, n, y in zip(clean.double().numpy(), drawn, noisy, strict=True):
            # What is there is one scale of the clip and one of the noise, and nothing else: no sample is clipped.
            (of_clip, of_noise), residual, *_ = np.linalg.lstsq(np.stack([x, n], axis=1), y)
            assert residual[0] < 1e-9
            power = np.square(of_clip * x[part]).sum() / np.square(of_noise * n[part]).sum()
            assert 10 * np.log10(power) == pytest.approx(ratio, abs=0.05)
        assert peaks.max() <= 1
        assert ratio == 30 or peaks.min() == pytest.approx(1)  # it was scaled down, not more than needed


def test_drawn_ratios_fill_their_range_and_some_clips_stay_clean() -> None:
    clean = 0.01 * normal(300, 600)
    noisy = Noise(NoiseOptions(5, 15, probability=0.6, frame_samples=600)).change_waveforms(clean, draws(300))
    added = (noisy - clean).double()
    changed = added.abs().amax(1) > 0
    assert 150 < int(changed.sum()) < 210
    power = clean.double().square().sum(1) / added.square().sum(1)
    ratios = 10 * power[changed].log10()
    assert 4.95 < ratios.min() < 5.5 and 14.5 < ratios.max() < 15.05
    assert stats.kstest((ratios.numpy() - 5) / 10, "uniform").pvalue > 0.01


def test_silence_stays_silent() -> None:
    silent = torch.zeros(3, 1000)
    assert not active_samples(silent, 256, 40).any()
    assert torch.equal(Noise(NoiseOptions(probability=1)).change_waveforms(silent, draws(3)), silent)


def test_active_frames_lie_within_the_range_of_the_loudest() -> None:
    clip = torch.cat([torch.full((100,), level) for level in (1.0, 0.011, 0.009, 0.0, 0.5)])[None, :450]
    active = active_samples(clip, 100, 40)
    assert active.shape == (1, 450)
    assert active[0].view(9, 50).all(1).tolist() == [True] * 4 + [False] * 4 + [True]


def test_pink_noise_falls_by_3_db_an_octave() -> None:
    noise = Noise(NoiseOptions(0, 0, "pink", probability=1))._draw(draws(16), 16384).double().numpy()
    bins, power = signal.welch(noise, nperseg=1024)
    power = power.mean(0)
    low, high = ((bins > 0.01) & (bins < 0.02)), ((bins > 0.16) & (bins < 0.32))
    assert 10 * np.log10(power[low].mean() / power[high].mean()) == pytest.approx(12.04, abs=0.7)


# Mixup


def test_mixup_mixes_features_and_targets_alike() -> None:
    features, of = normal(200, 3, 4), draws(200)
    targets = torch.nn.functional.one_hot(torch.arange(200) % 5, 5).float()
    # Where the identity is mixed, it shows who was mixed with whom.
    shares, _ = Mixup(MixupOptions(0.4)).change_batch(torch.eye(200), targets, of)
    mixed, wanted = Mixup(MixupOptions(0.4)).change_batch(features, targets, of)
    torch.testing.assert_close(shares.sum(1), torch.ones(200))
    assert int((shares > 0).sum(1).max()) == 2
    torch.testing.assert_close(mixed, torch.einsum("ij,jfm->ifm", shares, features))
    torch.testing.assert_close(wanted, shares @ targets)
    # Nobody is partner twice, and the weights are of the beta distribution.
    partners = shares.clone().fill_diagonal_(0).argmax(1)[shares.diagonal() < 1]
    assert len(set(partners.tolist())) == len(partners)
    assert stats.kstest(shares.diagonal().double().numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 0.01


def test_mixup_of_one_clip_is_the_clip() -> None:
    features, targets = normal(1, 3, 4), torch.tensor([[0.0, 1.0]])
    mixed, wanted = Mixup().change_batch(features, targets, draws(1))
    torch.testing.assert_close(mixed, features)
    torch.testing.assert_close(wanted, targets)


# SpecAugment


def test_masks_blank_whole_bands_within_their_bounds() -> None:
    features = torch.full((400, 100, 64), 2.0)
    options = SpecAugmentOptions(0, 15, 1, 70, 0.2, 1)
    blank = SpecAugment(options).change_features(features, draws(400)) == 0
    over_mels, over_frames = blank.all(dim=1), blank.all(dim=2)
    assert torch.equal(blank, over_mels.unsqueeze(1) | over_frames.unsqueeze(2))
    for cells, most in ((over_mels, 15), (over_frames, 20)):
        widths = cells.sum(1)
        assert (int(widths.min()), int(widths.max())) == (0, most)
        assert set(widths.tolist()) == set(range(most + 1))
        edges = (cells[:, 1:] != cells[:, :-1]).sum(1)
        assert int(edges.max()) <= 2  # one band
        assert bool(cells[:, 0].any()) and bool(cells[:, -1].any())  # the edges, too


def test_a_mask_follows_its_numbers() -> None:
    # Width floor(0.5 * 5) = 2, start floor(0.9 * (10 - 2 + 1)) = 8; width 0; width 4 (the most), start 0.
    u = torch.tensor([[[0.5, 0.9]], [[0.1, 0.5]], [[0.99, 0.0]]])
    cells = _masks(u, 10, 4)
    assert [row.nonzero().flatten().tolist() for row in cells] == [[8, 9], [], [0, 1, 2, 3]]


def test_the_warp_moves_one_frame_and_keeps_the_ends() -> None:
    frames, most = 41, 8
    ramp = torch.arange(frames, dtype=torch.float32).view(1, -1, 1).expand(6, -1, 3)
    where, by = torch.tensor([0.0, 0.3, 0.5, 0.99, 0.7, 0.2]), torch.tensor([0.0, 0.99, 0.5, 0.2, 0.9, 0.6])
    warped = _warp(ramp, where, by, most)
    for row in range(6):
        source = most + 1 + math.floor(float(where[row]) * (frames - 2 * most - 2))
        target = source + math.floor(float(by[row]) * (2 * most + 1)) - most
        expected = np.interp(np.arange(frames), [0, target, frames - 1], [0, source, frames - 1])
        np.testing.assert_allclose(warped[row, :, 1].numpy(), expected, atol=1e-4)
    # Too few frames to warp.
    assert torch.equal(_warp(ramp, where, by, 20), ramp)


def test_no_masks_and_no_warp_change_nothing() -> None:
    features = normal(3, 5, 4)
    off = SpecAugment(SpecAugmentOptions(0, 0, 0, 0, 0, 0))
    assert torch.equal(off.change_features(features, draws(3)), features)


# Pitch and time


@pytest.mark.parametrize("rate", [0.81, 1.0, 1.23, 2.0])
def test_the_phase_vocoder_is_torchaudios(rate: float) -> None:
    n_fft, hop, samples = 256, 64, 3000
    waveforms = tones(3, samples).double() + 0.1 * normal(3, samples).double()
    window = torch.hann_window(n_fft, dtype=torch.float64)
    spectrum = torch.stft(waveforms, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1, dtype=torch.float64).unsqueeze(1)
    reference = torch.istft(phase_vocoder(spectrum, rate, advance), n_fft, hop, window=window)
    kept = int(0.95 * samples / rate)  # the last frames are cut differently
    got = time_stretch(waveforms, torch.full((3,), rate), kept, n_fft, hop)
    torch.testing.assert_close(got[:, : kept - n_fft], reference[:, : kept - n_fft], rtol=0, atol=1e-5)
    single = time_stretch(waveforms.float(), torch.full((3,), rate), kept, n_fft, hop)
    torch.testing.assert_close(single, got.float(), rtol=0, atol=2e-3)


def test_rates_of_one_batch_are_each_clips_own() -> None:
    waveforms, rates = tones(3, 3000), torch.tensor([0.81, 1.0, 1.23])
    whole = time_stretch(waveforms, rates, 3000, 256, 64)
    for row in range(3):
        alone = time_stretch(waveforms[row : row + 1], rates[row : row + 1], 3000, 256, 64)
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole[1], waveforms[1], rtol=0, atol=1e-4)  # a rate of 1 changes nothing


def test_stretching_changes_length_and_keeps_pitch() -> None:
    waveform = tones(1, RATE)
    for rate in (0.5, 1.6):
        got = time_stretch(waveform, torch.tensor([rate]), 2 * RATE, 512, 128)[0]
        sounding = (got.abs() > 0.02).nonzero().max().item() / RATE
        assert sounding == pytest.approx(1 / rate, abs=0.05)
        assert frequency(got[: int(RATE / rate)]) == pytest.approx(400, rel=0.003)


@pytest.mark.parametrize("semitones", [-2.0, -0.5, 1.0, 2.0, 12.0])
def test_shifting_changes_pitch_and_keeps_length(semitones: float) -> None:
    waveform = tones(1, RATE)
    waveform[:, 6000:] = 0
    got = pitch_time.pitch_shift(waveform, semitones, 512, 128)
    assert got.shape == waveform.shape
    assert frequency(got[0, :5500]) == pytest.approx(400 * 2 ** (semitones / 12), rel=0.003)
    assert (got[0].abs() > 0.02).nonzero().max().item() == pytest.approx(6000, abs=300)
    assert abs(1200 * math.log2(pitch_ratio(semitones)) - 100 * semitones) < 1  # cents
    assert torch.equal(pitch_time.pitch_shift(waveform, 0.0, 512, 128), waveform)


def test_every_choice_is_drawn_and_some_clips_stay() -> None:
    waveforms = tones(1, 4000).expand(60, -1)
    shifted = PitchShift(PitchShiftOptions((-2, 2), 256, 64, 0.7)).change_waveforms(waveforms, draws(60))
    steps = [round(12 * math.log2(frequency(clip) / 400)) for clip in shifted]
    assert set(steps) == {-2, 0, 2} and 8 <= steps.count(0) <= 28
    stretched = TimeStretch(TimeStretchOptions((2.0,), 256, 64, 0.7)).change_waveforms(waveforms, draws(60))
    short = [(clip.abs() > 0.02).nonzero().max().item() < 2300 for clip in stretched]
    assert 32 <= sum(short) <= 52


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_reach_is_enough_input_for_the_window(order: tuple[int, int]) -> None:
    parts = [
        TimeStretch(TimeStretchOptions((1.23,), 256, 64, 1.0)),
        PitchShift(PitchShiftOptions((-2.0, 2.0), 256, 64, 1.0)),
    ]
    changes = Augmentations.of([parts[number] for number in order] + [SpecAugment()])
    waveforms, window = 0.1 * normal(4, 9000), 2000
    need = changes.reach(window)
    assert window < need < 9000
    of = draws(4)
    whole = changes.change_waveforms(waveforms, of)[:, :window]
    part = changes.change_waveforms(waveforms[:, :need], of)[:, :window]
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)
