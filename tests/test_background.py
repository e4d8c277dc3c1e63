"""Backgrounds under speech: exact ratios, no clicks, no clipping, nothing silent, and a clip's own draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foley.augment.background import (
    ATTEMPTS,
    LULL_DB,
    Background,
    BackgroundOptions,
    _Active,
    active_samples,
    mix_background,
)
from foley.augment.protocol import Draws, WaveformAugmentation

RATE = 8_000


def draws(count: int, seed: int = 0, visit: int = 0) -> Draws:
    return Draws(seed, [f"clip-{number}" for number in range(count)], [visit] * count)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ratio_db(speech: Tensor, background: Tensor, active: Tensor) -> Tensor:
    """Of two parts [B, T], in float64."""
    powers = [(part.double().square() * active).sum(1) for part in (speech, background)]
    return 10 * (powers[0] / powers[1]).log10()


def parts_of(mixed: Tensor, speech: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts whose sum is ``mixed`` [B, T], by least squares; nothing else must be in it."""
    found = []
    for y, x, n in zip(mixed.double(), speech.double(), background.double(), strict=True):
        columns = torch.stack([x, n], dim=1)
        scale = columns.norm(dim=0)
        gains = torch.linalg.lstsq(columns / scale, y.unsqueeze(1)).solution[:, 0] / scale
        assert float((columns @ gains - y).abs().max()) < 1e-5
        found.append((gains[0] * x, gains[1] * n))
    return torch.stack([x for x, _ in found]), torch.stack([n for _, n in found])


def speech_of(kind: str, seed: int, level: float) -> Tensor:
    """[3, 3000]: noise of changing level; the same between silent edges; or the same clipped hard."""
    speech = normal(3, 3000, seed=seed) * (1 + torch.sin(torch.arange(3000) / 200))
    if kind == "silent edges":
        speech[:, :700] = 0
        speech[:, 2100:] = 0
    if kind == "clipped":
        return (5 * speech).clamp(-1, 1)
    return level * speech / speech.abs().max()


# The mix


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["random", "silent edges", "clipped"]),
    st.floats(-60, 60),
    st.floats(-6, 0),
    st.floats(-6, 0),
    st.integers(0, 10**6),
)
def test_the_ratio_is_the_wanted_one_and_nothing_clips(
    kind: str, snr_db: float, speech_level: float, background_level: float, seed: int
) -> None:
    speech = speech_of(kind, seed, 10**speech_level)
    background = 10**background_level * normal(3, 3000, seed=seed + 1)
    active = active_samples(speech, 200, 40)
    mixed = mix_background(speech, background, torch.full((3,), snr_db), active)
    assert (mixed.snr_db - snr_db).abs().max() <= 0.05
    # One gain for the speech, and what is left over is the background at the wanted ratio.
    part = mixed.scale.double().unsqueeze(1) * speech
    if abs(snr_db) < 40:  # beyond, the sum itself has too few digits to take apart
        torch.testing.assert_close(
            ratio_db(part, mixed.waveforms - part, active),
            torch.full((3,), snr_db).double(),
            atol=0.05,
            rtol=0,
        )
    peak = mixed.waveforms.abs().amax(1)
    assert (peak <= 1).all() and (mixed.scale <= 1).all()
    scaled = mixed.scale < 1
    torch.testing.assert_close(peak[scaled], torch.ones(int(scaled.sum())))


def test_silence_outside_the_speech_counts_for_nothing() -> None:
    speech, background = 0.01 * normal(4, 4000), 7 * normal(4, 4000, seed=1)
    background[:, 2000:] *= 30
    active = torch.zeros(4, 4000, dtype=torch.bool)
    active[:, :2000] = True
    wanted = torch.tensor([-5.0, 0.0, 12.5, 30.0])
    mixed = mix_background(speech, background, wanted, active)
    x, n = parts_of(mixed.waveforms, speech, background)
    torch.testing.assert_close(ratio_db(x, n, active), wanted.double(), atol=0.05, rtol=0)


@pytest.mark.parametrize("silent", ["speech", "background"])
def test_what_has_no_ratio_is_refused(silent: str) -> None:
    speech, background = normal(3, 1000), normal(3, 1000, seed=1)
    active = torch.ones(3, 1000, dtype=torch.bool)
    active[:, 500:] = False
    (speech if silent == "speech" else background)[1, :500] = 0
    with pytest.raises(ValueError, match=r"rows 1: .*silent"):
        mix_background(speech, background, torch.zeros(3), active)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 3000), (1, 1400), (777, 1), (777, 40), (800, 1536), (1999, 900)]
)
def test_digital_silence_around_the_speech_is_none_of_it(first: int, count: int) -> None:
    """The ratio holds over the samples that truly sound, wherever in a frame they begin and end."""
    speech = torch.zeros(2, 3000)
    speech[:, first : first + count] = 0.1 * normal(2, count, seed=3)
    truly = torch.zeros(2, 3000, dtype=torch.bool)
    truly[:, first : first + count] = True
    assert torch.equal(active_samples(speech, 512, 40), truly)
    options = BackgroundOptions(snr_min_db=5, snr_max_db=5)
    recording = normal(9000, seed=4)
    mixed = Background(options, [recording], RATE).mix(speech, draws(2))
    x = mixed.scale.double().unsqueeze(1) * speech
    torch.testing.assert_close(
        ratio_db(x, mixed.waveforms - x, truly), torch.full((2,), 5.0).double(), atol=0.05, rtol=0
    )


def test_a_constant_offset_is_no_background() -> None:
    """Nobody hears it, so it must not take the place of what is heard in the ratio."""
    speech, recording = 0.1 * normal(4, 2000), 0.01 * normal(6000, seed=1)
    options = BackgroundOptions(snr_min_db=0, snr_max_db=0)
    plain, offset = (
        Background(options, [one], RATE).mix(speech, draws(4)).waveforms
        for one in (recording, recording + 0.3)
    )
    torch.testing.assert_close(offset, plain, atol=1e-4, rtol=0)


# Background


def test_drawn_ratios_fill_their_range_and_some_clips_stay_clean() -> None:
    speech = 0.01 * normal(300, 600)
    options = BackgroundOptions(5, 15, probability=0.6, frame_samples=600)
    changes = Background(options, [normal(900, seed=1), normal(5000, seed=2)], RATE, ["fan", "street"])
    assert isinstance(changes, WaveformAugmentation) and changes.reach(600) == 600
    mixed = changes.mix(speech, draws(300))
    clean = mixed.snr_db.isinf()
    assert torch.equal(mixed.waveforms[clean], speech[clean]) and bool((mixed.scale[clean] == 1).all())
    assert 150 < int((~clean).sum()) < 210
    added = mixed.waveforms - mixed.scale.unsqueeze(1) * speech
    active = torch.ones_like(speech)
    measured = ratio_db(mixed.scale.unsqueeze(1) * speech, added, active)[~clean]
    torch.testing.assert_close(measured, mixed.snr_db[~clean].double(), atol=0.05, rtol=0)
    assert 4.95 < measured.min() < 5.5 and 14.5 < measured.max() < 15.05
    names = changes.recording_of(draws(300))
    assert [name is None for name in names] == clean.tolist()
    assert names.count("fan") > 50 and names.count("street") > 50


def test_a_long_recording_starts_anywhere_and_loses_its_mean_alone() -> None:
    offsets = 7.0, 100.0
    centred = [torch.arange(40.0) - 19.5, torch.arange(60.0) - 29.5]
    recordings = [one + offset for one, offset in zip(centred, offsets, strict=True)]
    changes = Background(BackgroundOptions(crossfade_s=0.001), recordings, RATE)
    u = torch.linspace(0, 0.9999, 50, dtype=torch.float64)
    for which in (0, 1):
        rows = changes.cut(torch.full((50,), which), u, 30, torch.device("cpu"))
        windows = centred[which].unfold(0, 30, 1)
        starts = (rows[:, 0] - centred[which][0]).long()
        assert torch.equal(rows, windows[starts])
        assert set(starts.tolist()) == set(range(len(windows)))


@pytest.mark.parametrize("fade", [0, 1, 80, 10_000])
def test_a_short_recording_goes_round_without_a_click(fade: int) -> None:
    # A tone that does not fit its length: with a hard seam it would jump.
    tone = torch.sin(2 * math.pi * 440 * torch.arange(1013) / RATE + 0.3)
    tone -= tone.double().mean()
    changes = Background(BackgroundOptions(crossfade_s=fade / RATE), [tone], RATE)
    seam = min(fade, 1013 // 2)
    row = changes._repeated(torch.tensor([0]), torch.tensor([17]), 5000, torch.device("cpu"))[0]
    period = 1013 - seam
    assert torch.equal(row[:-period], row[period:])
    # Outside the seam it is the recording.
    torch.testing.assert_close(
        row[max(0, seam - 17) : period - 17], tone[max(17, seam) : period], rtol=0, atol=1e-6
    )
    largest_step = float(row.diff().abs().max()), float(tone.diff().abs().max())
    if fade >= 80:
        assert largest_step[0] < 1.5 * largest_step[1]
    elif not fade:
        assert largest_step[0] > 1.5 * largest_step[1]  # the click that the fade is for


def test_the_seam_keeps_the_power_of_noise() -> None:
    recordings = list(normal(200, 400, seed=3))
    changes = Background(BackgroundOptions(crossfade_s=100 / RATE), recordings, RATE)
    rows = changes._repeated(torch.arange(200), torch.zeros(200, dtype=torch.int64), 600, torch.device("cpu"))
    power = rows.square().mean(0)
    seam, middle = power[300:400].mean(), power[100:300].mean()  # a round is 300 samples
    assert abs(10 * math.log10(seam / middle)) < 0.3


@pytest.mark.parametrize("length", [2, 7, 1200])
def test_any_length_of_recording_does(length: int) -> None:
    changes = Background(BackgroundOptions(snr_min_db=10, snr_max_db=10), [0.5 + normal(length).abs()], RATE)
    speech = 0.1 * normal(5, 1200)
    mixed = changes.mix(speech, draws(5))
    torch.testing.assert_close(mixed.snr_db, torch.full((5,), 10.0), atol=0.05, rtol=0)


def test_a_recording_that_is_silent_under_the_speech_is_moved() -> None:
    # A click in silence, which hardly ever falls where the speech is by itself.
    recording = torch.zeros(20_000)
    recording[15_000:15_040] = normal(40, seed=4)
    speech = torch.zeros(30, 2000)
    speech[:, 600:900] = 0.1 * normal(30, 300)
    changes = Background(BackgroundOptions(snr_min_db=5, snr_max_db=5, frame_samples=100), [recording], RATE)
    mixed = changes.mix(speech, draws(30))
    torch.testing.assert_close(mixed.snr_db, torch.full((30,), 5.0), atol=0.05, rtol=0)
    assert bool(mixed.waveforms.isfinite().all())
    order = torch.arange(29, -1, -1)
    again = changes.mix(speech[order], draws(30).of(order.tolist()))
    torch.testing.assert_close(again.waveforms, mixed.waveforms[order], rtol=0, atol=1e-6)


def test_a_lull_of_the_recording_is_passed_over() -> None:
    # Half of it is 60 dB below the rest; in the few rows whose starts all lie there the loudest part is taken.
    recording = normal(16_000, seed=5)
    recording[:8_000] *= 1e-3
    changes = Background(BackgroundOptions(frame_samples=100), [recording], RATE)
    _, _, which, starts = changes._draw(draws(64))
    everywhere = _Active(torch.ones(64, 10, dtype=torch.bool), 100, 1000)
    rows, _ = changes._under(everywhere, which, starts, 1000)
    level = 10 * (rows.square().mean(1).double() / changes.levels[0]).log10()
    assert float(level.min()) > -LULL_DB
    first = changes.cut(which, starts[:, 0], 1000, torch.device("cpu"))
    quiet = first.square().mean(1) < 1e-4
    assert 10 < int(quiet.sum()) < 54 and torch.equal(rows[~quiet], first[~quiet])
    assert starts.shape == (64, ATTEMPTS)


def test_silent_speech_is_refused_or_kept() -> None:
    speech = 0.1 * normal(3, 1000)
    speech[1] = 0
    recordings = [normal(500, seed=1)]
    with pytest.raises(ValueError, match=r"silent speech .*`clip-1`; leave"):
        Background(None, recordings, RATE).change_waveforms(speech, draws(3))
    kept = Background(BackgroundOptions(silent_speech="keep"), recordings, RATE).mix(speech, draws(3))
    assert not kept.waveforms[1].any() and bool(kept.snr_db[1].isinf())
    assert bool(kept.snr_db[[0, 2]].isfinite().all())


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (torch.zeros(100), "is silent"), (torch.full((100,), 1e-9), "is silent"), (torch.zeros(0), "is empty"),
        (torch.full((100,), 0.1), "is silent"), (torch.ones(1), "is silent"),
        (torch.tensor([0.1, math.nan]), "no finite numbers"), (torch.tensor([0.1, math.inf]), "no finite numbers"),
        (torch.ones(2, 5), "shape"), (torch.ones(5, dtype=torch.float64), "float64"),
    ],
)  # fmt: skip
def test_useless_recordings_are_named_and_refused(recording: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=f"`rain` .*{reason}"):
        Background(None, [normal(50), recording], RATE, ["wind", "rain"])


def test_recordings_and_names_must_be_there() -> None:
    with pytest.raises(ValueError, match="no background recordings"):
        Background(None, [], RATE)
    with pytest.raises(ValueError, match="1 background recordings, but 2 names"):
        Background(None, [normal(50)], RATE, ["a", "b"])
    with pytest.raises(ValueError, match="draws for 2"):
        Background(None, [normal(50)], RATE).change_waveforms(normal(3, 50), draws(2))


@pytest.mark.parametrize(
    "given", [{"snr_min_db": 40}, {"snr_max_db": math.inf}, {"frame_samples": 0}, {"probability": 1.5},
              {"crossfade_s": -1}, {"active_range_db": 0}],
)  # fmt: skip
def test_bad_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        BackgroundOptions(**given)


@pytest.mark.gpu
def test_a_gpu_mixes_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    speech, recordings = 0.1 * normal(8, 4000), [normal(900, seed=1), normal(9000, seed=2)]
    here = Background(None, recordings, RATE).mix(speech, draws(8))
    there = Background(None, recordings, RATE).mix(speech.cuda(), draws(8))
    torch.testing.assert_close(there.waveforms.cpu(), here.waveforms, rtol=0, atol=1e-5)
    torch.testing.assert_close(there.snr_db.cpu(), here.snr_db, rtol=0, atol=1e-3)
