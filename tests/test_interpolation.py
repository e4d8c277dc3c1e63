"""Interpolation: pairs of different recordings, the arc between two, the way there and back."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from foley.generators.audio.interpolation import DDIMPath, Pair, draw_pairs, interpolate, slerp
from foley.generators.audio.mel import MelOptions, root_mean_square
from foley.generators.audio.mel_diffusion import MelDiffusion, MelDiffusionOptions

MEL = MelOptions(sample_rate_hz=4000, n_fft=128, hop_length=64, n_mels=8, frames=8, griffin_lim_iterations=4)
TINY = MelDiffusionOptions(
    mel=MEL,
    channels=(4, 4, 8),
    layers_per_block=1,
    norm_groups=2,
    attention_head_dim=4,
    epochs=80,
    batch_size=16,
    learning_rate=6e-3,
    warm_up_steps=5,
    ema_decay=0.9,
    precision="float32",  # what is compared to 1e-5; `auto` is bfloat16 on some CPUs
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tones(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    time = np.arange(MEL.samples) / MEL.sample_rate_hz
    return [
        (
            0.3 * np.sin(2 * np.pi * (200 + 900 * (n % 2)) * time) + 0.02 * random.normal(size=len(time))
        ).astype("f4")
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def model(one_thread: None) -> MelDiffusion:
    trained = MelDiffusion(TINY, seed=0)
    images = trained.mel.images(trained.mel.cut(tones(16), MEL.sample_rate_hz))
    trained.fit_images(images, ["low", "high"] * 8, [str(n) for n in range(16)])
    return trained


class Silent(nn.Module):
    """Predicts that there is no noise."""

    def forward(self, x: Tensor, step: int, class_labels: Tensor | None = None) -> SimpleNamespace:
        return SimpleNamespace(sample=torch.zeros_like(x))


# --- pairs ----------------------------------------------------------------------------------------------------------


@given(
    recordings=st.lists(st.sampled_from("abcd"), min_size=2, max_size=9).filter(lambda r: len(set(r)) > 1),
    count=st.integers(1, 60),
    seed=st.integers(0, 5),
)
def test_pairs_are_of_different_recordings_and_drawn_evenly(
    recordings: list[str], count: int, seed: int
) -> None:
    pairs = draw_pairs(["x"] * len(recordings), recordings, count, seed)
    possible = {(i, j) for i in range(len(recordings)) for j in range(i) if recordings[i] != recordings[j]}
    drawn = collections.Counter((pair.second, pair.first) for pair in pairs)
    assert len(pairs) == count
    assert set(drawn) <= possible
    # No pair comes again before all have come.
    assert max(drawn.values()) - min(drawn[pair] for pair in possible) <= 1
    assert pairs == draw_pairs(["x"] * len(recordings), recordings, count, seed)


def test_all_pairs_are_equally_likely() -> None:
    recordings = ["a", "b", "a", "c", "b"]
    drawn = collections.Counter(
        (p.first, p.second) for seed in range(1600) for p in draw_pairs(["x"] * 5, recordings, 1, seed)
    )
    assert len(drawn) == 8
    # Each is binomial with mean 200 and deviation 13.
    assert all(abs(number - 200) < 65 for number in drawn.values())


def test_a_class_draws_alike_beside_others() -> None:
    alone = draw_pairs(["x"] * 4, ["1", "2", "3", "4"], 3, seed=1)
    beside = draw_pairs(["y", "x", "y", "x", "x", "x"], ["7", "1", "8", "2", "3", "4"], 3, seed=1)
    rows = [1, 3, 4, 5]
    assert [p for p in beside if p.class_id == "x"] == [
        Pair("x", rows[p.first], rows[p.second]) for p in alone
    ]
    assert [p.class_id for p in beside] == ["x"] * 3 + ["y"] * 3


def test_a_class_of_one_recording_has_no_pair() -> None:
    with pytest.raises(ValueError, match=r"class `rain` has 3 clips of one recording \(r1\)"):
        draw_pairs(["dog", "dog", "rain", "rain", "rain"], ["d1", "d2", "r1", "r1", "r1"], 5, 0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        draw_pairs(["dog"], ["d1"], 0, 0)
    with pytest.raises(ValueError, match="2 classes and 1 recording ids"):
        draw_pairs(["dog", "dog"], ["d1"], 1, 0)


def test_few_pairs_are_announced(caplog: pytest.LogCaptureFixture) -> None:
    draw_pairs(["x"] * 2, ["a", "b"], 3, 0)
    assert "class `x` has 1 pairs of different recordings, 3 are wanted" in caplog.text


# --- the arc --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), weight=st.floats(0, 1))
def test_slerp_is_its_formula_in_float64(seed: int, weight: float) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, 3, 1, 4, 5))
    found = slerp(torch.from_numpy(a), torch.from_numpy(b), weight).numpy()
    for x, y, z in zip(a, b, found, strict=True):
        # By rotation in the plane of both, for unit vectors; then each end's length, weighted as the formula does.
        u, v = x.ravel() / np.linalg.norm(x), y.ravel() / np.linalg.norm(y)
        angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
        wanted = (np.sin((1 - weight) * angle) * x + np.sin(weight * angle) * y) / np.sin(angle)
        np.testing.assert_allclose(z, wanted, atol=1e-9)


def test_slerp_of_unit_vectors_stays_on_the_sphere_and_walks_evenly() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (unit(torch.randn(1, 50, generator=random, dtype=torch.float64)) for _ in range(2))
    points = torch.cat([slerp(a, b, w / 8) for w in range(9)])
    torch.testing.assert_close(points.norm(dim=1), torch.ones(9, dtype=torch.float64))
    steps = (points[1:] * points[:-1]).sum(1).arccos()
    torch.testing.assert_close(steps, steps[:1].expand(8), rtol=1e-6, atol=0)


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def test_slerp_ends_and_special_cases() -> None:
    a = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    b = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(slerp(a, b, 0.0), a) and torch.equal(slerp(a, b, 1.0), b)
    for weight in (0.0, 0.3, 0.5):
        assert torch.equal(slerp(a, a, weight), a)
    torch.testing.assert_close(slerp(a, -a, 0.25), 0.5 * a)
    assert (
        torch.equal(slerp(a, torch.zeros_like(a), 0.0), a)
        and torch.isfinite(slerp(a, torch.zeros_like(a), 0.4)).all()
    )
    per_item = slerp(a, b, torch.tensor([0.0, 1.0]))
    assert torch.equal(per_item, torch.stack([a[0], b[1]]))
    with pytest.raises(ValueError, match=r"shapes \(2, 6\) and \(2, 5\) differ"):
        slerp(a, b[:, :5], 0.5)


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_inversion_is_exact_where_no_noise_is_predicted(steps: int) -> None:
    model = MelDiffusion(TINY, seed=0)
    model.begin(["low", "high"])
    model.network = Silent()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    path = DDIMPath(model, steps)
    latents = path.invert(x, torch.tensor([0, 1, 0]))
    # Nothing but the schedule's scale: sqrt(alpha_bar of the last step / 1).
    last = np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    torch.testing.assert_close(latents, x * last**0.5, rtol=2e-3, atol=0)
    torch.testing.assert_close(path.decode(latents, torch.tensor([0, 1, 0])), x, rtol=1e-4, atol=1e-6)


def test_one_step_back_is_the_samplers_step_solved_for_its_start(model: MelDiffusion) -> None:
    path = DDIMPath(model, 10)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in path.scheduler.timesteps.tolist():
        scale, shift = path._step_back(step)
        sampled = path.scheduler.step(noise, step, x).prev_sample
        torch.testing.assert_close(scale * x + shift * noise, sampled, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_round_trip_of_a_trained_model(model: MelDiffusion) -> None:
    images = model.mel.images(model.mel.cut(tones(6, seed=9), MEL.sample_rate_hz))
    labels = model.numbers(["low", "high"] * 3)

    def error(steps: int, refinements: int) -> float:
        path = DDIMPath(model, steps, refinements)
        return float((path.decode(path.invert(images, labels), labels) - images).abs().mean())

    few, many, refined = error(5, 0), error(25, 0), error(25, 4)
    assert many < few and refined < many
    # Of a range of 2, which is 80 dB.
    assert many < 1 and refined < 0.01


def test_interpolated_clips(model: MelDiffusion) -> None:
    # Quiet, so that no peak of what is made is held back.
    low, other = ([0.2 * clip for clip in tones(4, seed)[::2]] for seed in (0, 5))
    made = interpolate(
        model, low, other, ["low", "low"], [1, 2], sample_rate_hz=4000, steps=10, refinements=4
    )
    assert made.audio.shape == (2, MEL.samples) and made.images.shape == (2, 1, 8, 8)
    assert made.round_trip_db.shape == (2, 2) and float(made.round_trip_db.max()) < 8
    assert torch.isfinite(made.audio).all() and float(made.audio.abs().max()) <= 1
    # Loudness lies between that of the sources.
    sources = torch.sqrt(
        root_mean_square(model.mel.cut(low, 4000)) * root_mean_square(model.mel.cut(other, 4000))
    )
    torch.testing.assert_close(root_mean_square(made.audio), sources, rtol=1e-2, atol=0)
    # A pair's clip does not depend on its batch.
    alone = interpolate(model, low[1:], other[1:], ["low"], [2], sample_rate_hz=4000, steps=10, refinements=4)
    torch.testing.assert_close(alone.images[0], made.images[1], atol=1e-4, rtol=0)
    split = interpolate(
        model, low, other, ["low"] * 2, [1, 2], sample_rate_hz=4000, steps=10, refinements=4, batch_size=2
    )
    torch.testing.assert_close(split.images, made.images, atol=1e-4, rtol=0)
    torch.testing.assert_close(split.round_trip_db, made.round_trip_db, atol=1e-2, rtol=0)
    nothing = interpolate(model, [], [], [], [], sample_rate_hz=4000)
    assert nothing.audio.shape == (0, MEL.samples) and nothing.round_trip_db.shape == (0, 2)


def test_a_clip_with_itself_is_the_clip(model: MelDiffusion) -> None:
    clips = tones(2)
    settings = {"sample_rate_hz": 4000, "steps": 25, "refinements": 4}
    made = interpolate(model, clips, clips, ["low", "high"], [0, 1], **settings)  # type: ignore[arg-type]
    images = model.mel.images(model.mel.cut(clips, 4000))
    distance = (model.mel.decibels(made.images) - model.mel.decibels(images)).abs().mean(dim=(1, 2, 3))
    # What is reported is what is found.
    torch.testing.assert_close(distance, made.round_trip_db[:, 0], atol=1e-2, rtol=0)
    torch.testing.assert_close(made.round_trip_db[:, 0], made.round_trip_db[:, 1], atol=1e-2, rtol=0)
    assert float(distance.max()) < 0.5


def test_an_unconditional_model_interpolates(model: MelDiffusion) -> None:
    plain = MelDiffusion(dataclasses.replace(TINY, class_dropout=0.0), seed=0)
    plain.network = Silent()
    clips = tones(2)
    made = interpolate(plain, clips[:1], clips[1:], ["any"], [0], sample_rate_hz=4000, steps=5)
    assert float(made.round_trip_db.max()) < 1e-2


def test_bad_input(model: MelDiffusion) -> None:
    a, b = tones(2)
    with pytest.raises(ValueError, match="1 first and 1 second clips, 2 classes, 1 seeds"):
        interpolate(model, [a], [b], ["low", "low"], [0], sample_rate_hz=4000)
    with pytest.raises(ValueError, match="has not learnt class `dog`"):
        interpolate(model, [a], [b], ["dog"], [0], sample_rate_hz=4000)
    with pytest.raises(ValueError, match=r"weight must lie in \[0, 1\]"):
        interpolate(model, [a], [b], ["low"], [0], sample_rate_hz=4000, weight=1.5)
    with pytest.raises(ValueError, match="clip 0 of the second ones has 100 samples"):
        interpolate(model, [a], [b[:100]], ["low"], [0], sample_rate_hz=4000)
    with pytest.raises(ValueError, match="train_steps 1000"):
        DDIMPath(model, 2000)
    with pytest.raises(ValueError, match="refinements must not be negative"):
        DDIMPath(model, 10, -1)
