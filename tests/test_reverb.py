"""Reverberation: responses that have what was drawn, and clips that keep their level, place and length."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal
from torch import Tensor

from foley.augment import reverb
from foley.augment.protocol import Augmentations, Draws
from foley.augment.reverb import Reverb, ReverbOptions, image_source_response, reflection, reverberate

RATE = 8_000


def draws(count: int, seed: int = 0, visit: int = 0) -> Draws:
    return Draws(seed, [f"clip-{number}" for number in range(count)], [visit] * count)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decay_s(response: np.ndarray, rate: int, high_db: float = -5, low_db: float = -25) -> float:
    """Reverberation time by a line through Schroeder's backward integral (ISO 3382)."""
    level = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2) + 1e-30)
    part = (level < high_db) & (level > low_db)
    slope = np.polyfit(np.flatnonzero(part) / rate, level[part], 1)[0]
    return -60 / slope


def folder_of_responses(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, late in (("hall", 37), ("room", 5)):
        response = np.zeros(400)
        response[late] = 0.9
        response[late + 50 :] = 0.05 * rng.standard_normal(350 - late)
        soundfile.write(folder / f"{name}.wav", response, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(params=["stochastic", "image_source", "recorded"])
def part(request: Any, tmp_path: Path) -> Reverb:
    path = str(folder_of_responses(tmp_path)) if request.param == "recorded" else None
    return Reverb(ReverbOptions(request.param, 0.7, RATE, 0.1, 0.3, rooms=3, path=path))


def test_a_clips_room_is_its_own_and_its_level_stays(part: Reverb) -> None:
    clips = 0.2 * normal(12, 2000)
    clips[3] = 0
    before = clips.clone()
    whole = part.change_waveforms(clips, draws(12))
    assert torch.equal(clips, before) and whole.shape == clips.shape and whole.dtype == torch.float32
    assert torch.equal(part.change_waveforms(clips, draws(12)), whole)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = part.change_waveforms(clips[order], draws(12).of(order.tolist()))
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=1e-6)
    alone = torch.cat([part.change_waveforms(clips[r : r + 1], draws(12).of([r])) for r in range(12)])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    for other in (draws(12, visit=1), draws(12, seed=1)):
        assert not torch.equal(part.change_waveforms(clips, other), whole)
    changed = (whole != clips).any(1)
    assert 4 <= int(changed.sum()) < 12 and not whole[3].any()
    torch.testing.assert_close(whole.norm(dim=1), clips.norm(dim=1), rtol=1e-4, atol=0)


def test_the_direct_sound_stays_where_it_was(part: Reverb) -> None:
    clip = torch.zeros(1, 3000)
    clip[0, 1000] = 0.5
    for visit in range(6):
        wet = part.change_waveforms(clip, draws(1, visit=visit))[0]
        assert float(wet[:1000].abs().max()) < 1e-5
        assert float(wet[1000]) > 0.1


def test_output_depends_on_no_later_input(part: Reverb) -> None:
    # Level apart, which is that of what is given: so the later part is scaled away.
    clips = 0.1 * normal(4, 3000)
    need = Augmentations.of([part]).reach(1500)
    assert need == 1500
    whole = part.change_waveforms(clips, draws(4))[:, :1500]
    early = part.change_waveforms(clips[:, :need], draws(4))
    ratio = whole.norm(dim=1, keepdim=True) / early.norm(dim=1, keepdim=True)
    torch.testing.assert_close(whole, early * ratio, rtol=0, atol=1e-5)


def test_convolution_is_scipys() -> None:
    clips, responses = normal(3, 700), normal(3, 300, seed=1)
    wet = reverberate(clips, responses)
    for row in range(3):
        expected = signal.fftconvolve(clips[row].double().numpy(), responses[row].double().numpy())[:700]
        expected *= np.linalg.norm(clips[row]) / np.linalg.norm(expected)
        np.testing.assert_allclose(wet[row].numpy(), expected, atol=1e-4)


def test_stochastic_responses_have_the_drawn_time_and_ratio() -> None:
    rt60_s, drr_db = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([-3.0, 0.0, 12.0])
    responses = reverb.stochastic_response(normal(3, 16_000), rt60_s, drr_db, 16_000).double().numpy()
    for response, time_s, ratio in zip(responses, rt60_s.tolist(), drr_db.tolist(), strict=True):
        assert response[0] == 1 and not response[1 : math.floor(reverb.DIRECT_S * 16_000)].any()
        assert 10 * math.log10(1 / np.sum(response[1:] ** 2)) == pytest.approx(ratio, abs=1e-3)
        assert decay_s(response[40:], 16_000) == pytest.approx(time_s, rel=0.1)


def test_images_are_where_geometry_puts_them() -> None:
    size, source, microphone = np.array([6.0, 5.0, 3.0]), np.array([2.0, 2.0, 1.5]), np.array([4.0, 2.0, 1.5])
    rate, beta = 48_000, 0.8
    response = image_source_response(size, source, microphone, beta, 1200, rate)
    # The direct path; floor and ceiling, which are equally far; the walls at y = 0; x = 0 and x = 6.
    paths = [(2.0, 1, 0), (math.hypot(2, 3), 2, 1), (math.hypot(2, 4), 1, 1), (6.0, 2, 1)]
    sums = {
        round(length / reverb.SPEED_OF_SOUND_M_S * rate): count * beta**met / (4 * math.pi * length)
        for length, count, met in paths
    }
    first = min(sums)
    assert np.flatnonzero(response)[0] == first
    for sample, expected in sums.items():
        assert response[sample] == pytest.approx(expected, rel=1e-6), sample


@pytest.mark.parametrize(("size_m", "within"), [((4.0, 4.0, 4.0), 0.12), ((6.0, 5.0, 3.0), 0.3)])
def test_rooms_ring_as_long_as_drawn(size_m: tuple[float, ...], within: float) -> None:
    # Eyring's formula holds for a diffuse field; a long, low room rings longer.
    size = np.array(size_m)
    for rt60_s in (0.2, 0.4):
        response = image_source_response(
            size, np.array([1.5, 2.1, 1.2]), np.array([3.3, 3.4, 1.7]), reflection(size, rt60_s), 9600, 16_000
        )
        assert decay_s(reverb.high_pass(response, 16_000), 16_000) == pytest.approx(rt60_s, rel=within)


def test_drawn_rooms_begin_with_the_direct_sound() -> None:
    options = ReverbOptions("image_source", 1.0, 16_000, 0.1, 0.2)
    rooms = [reverb.draw_room(options, number) for number in range(4)]
    for room in rooms:
        assert float(room[0]) == pytest.approx(1) and float(room.abs().max()) < 1.5
        assert abs(float(room.sum())) < 0.1 * float(room.abs().sum())
    assert torch.equal(rooms[1], reverb.draw_room(options, 1)) and len({len(room) for room in rooms}) == 4


def test_recorded_responses_are_resampled_and_need_a_folder(tmp_path: Path) -> None:
    part = Reverb(ReverbOptions("recorded", 1.0, 2 * RATE, path=str(folder_of_responses(tmp_path))))
    assert [int(r.abs().argmax()) for r in part._recorded] == [0, 0]
    assert [len(r) for r in part._recorded] == [pytest.approx(2 * (400 - late), abs=2) for late in (37, 5)]
    with pytest.raises(FileNotFoundError, match="no impulse responses"):
        Reverb(ReverbOptions("recorded", path=str(tmp_path / "nothing")))


@pytest.mark.parametrize(
    "given",
    [
        {"rt60_min_s": 0}, {"rt60_min_s": 2}, {"drr_min_db": 13}, {"rooms": 0}, {"probability": -0.1},
        {"room_min_m": (9.0, 3.0, 3.0)}, {"room_min_m": (0.5, 3.0, 2.4)}, {"path": "x"},
        {"method": "recorded"},
    ],
)  # fmt: skip
def test_bad_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ReverbOptions(**given)
