"""Time stretching and pitch shifting, both by the phase vocoder (Flanagan & Golden 1966; Dolson 1986).

Resampling alone would be neither: it moves pitch and tempo together (speed perturbation, Ko et al. 2015). So a clip's
tempo changes by the phase vocoder, which keeps pitch; its pitch changes by stretching and then resampling back to
the old length, which keeps tempo. Steps and rates are those of Salamon & Bello 2017 ("Deep convolutional neural
networks and data augmentation for environmental sound classification"), who chose them for UrbanSound8K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torchaudio.functional import resample

from foley.augment.protocol import Draws, check_probability

# Ratios of pitch become fractions, so that resampling needs few filter phases; the error stays below a cent.
MAX_DENOMINATOR = 64


@dataclass(frozen=True)
class TimeStretchOptions:
    """``rates``: tempo after over tempo before; one is drawn. ``probability``: that a clip is stretched at all."""

    rates: tuple[float, ...] = (0.81, 0.93, 1.07, 1.23)
    n_fft: int = 1024
    hop_length: int = 256
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0:
            raise ValueError("rates must hold positive numbers")
        _check_transform(self.n_fft, self.hop_length)
        check_probability(self.probability)


@dataclass(frozen=True)
class PitchShiftOptions:
    """``semitones``: by which pitch may move; one is drawn. ``probability``: that a clip is shifted at all."""

    semitones: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    n_fft: int = 1024
    hop_length: int = 256
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not self.semitones or max(map(abs, self.semitones)) > 12:
            raise ValueError("semitones must hold numbers from -12 to 12")
        _check_transform(self.n_fft, self.hop_length)
        check_probability(self.probability)


def _check_transform(n_fft: int, hop_length: int) -> None:
    if hop_length < 1 or hop_length > n_fft // 2:
        raise ValueError("hop_length must lie between 1 and half of n_fft")


class TimeStretch:
    """See the module. A clip that became shorter ends in silence; one that became longer is cut."""

    Options = TimeStretchOptions

    def __init__(self, options: TimeStretchOptions | None = None) -> None:
        self.options = options if options is not None else TimeStretchOptions()

    def reach(self, samples: int) -> int:
        o = self.options
        return max(samples, math.ceil(samples * max(o.rates))) + o.n_fft

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T]."""
        o = self.options
        rows, choice = _choose(draws, "time_stretch", o.probability, len(o.rates))
        out = waveforms.clone()
        if len(rows):
            at = rows.to(waveforms.device)
            rates = torch.tensor(o.rates)[choice].to(waveforms.device)
            out[at] = time_stretch(waveforms[at], rates, waveforms.shape[1], o.n_fft, o.hop_length)
        return out


class PitchShift:
    """See the module."""

    Options = PitchShiftOptions

    def __init__(self, options: PitchShiftOptions | None = None) -> None:
        self.options = options if options is not None else PitchShiftOptions()

    def reach(self, samples: int) -> int:
        return samples + 2 * self.options.n_fft

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T]."""
        o = self.options
        rows, choice = _choose(draws, "pitch_shift", o.probability, len(o.semitones))
        out = waveforms.clone()
        # Clips that move alike are resampled together.
        for number, semitones in enumerate(o.semitones):
            at = rows[choice == number].to(waveforms.device)
            if len(at):
                out[at] = pitch_shift(waveforms[at], semitones, o.n_fft, o.hop_length)
        return out


def _choose(draws: Draws, name: str, probability: float, count: int) -> tuple[Tensor, Tensor]:
    """Rows that change [R], and for each which of ``count`` changes it gets [R]."""
    u = draws.streams(name).uniform(2)
    rows = (u[:, 0] < probability).nonzero().squeeze(1)
    return rows, (u[rows, 1] * count).long()


def time_stretch(waveforms: Tensor, rates: Tensor, samples: int, n_fft: int, hop_length: int) -> Tensor:
    """Play waveforms [B, T] ``rates`` [B] times as fast at the same pitch -> [B, samples], silent past the end.

    Output frames are taken at times that lie ``rates`` input frames apart: magnitudes by linear interpolation, phases
    by adding up what the input's phase does from one frame to the next. Each bin for itself, so transients smear.
    """
    window = torch.hann_window(n_fft, device=waveforms.device, dtype=waveforms.dtype)
    # Zeros rather than reflection at the edges: a clip may be shorter than half a window.
    spectrum = torch.stft(
        waveforms, n_fft, hop_length, window=window, center=True, pad_mode="constant", return_complex=True
    )
    frames = spectrum.shape[2]
    spectrum = torch.nn.functional.pad(spectrum, (0, 2))
    time = torch.arange(samples // hop_length + 1, device=rates.device) * rates.double().unsqueeze(1)
    time = time.clamp(max=frames)
    lower = time.floor()
    part = (time - lower).to(waveforms.dtype).unsqueeze(1)
    index = lower.long().unsqueeze(1).expand(-1, spectrum.shape[1], -1)
    before, after = spectrum.gather(2, index), spectrum.gather(2, index + 1)
    magnitude = torch.lerp(before.abs(), after.abs(), part)
    # Input and output frames lie equally far apart, so the phase advances by the plain difference: unwrapping it
    # around each bin's own advance would add whole turns only.
    advance = after.angle() - before.angle()
    phase = torch.cat([before.angle()[..., :1], advance[..., :-1]], dim=2).cumsum(2)
    return torch.istft(
        torch.polar(magnitude, phase), n_fft, hop_length, window=window, center=True, length=samples
    )


def pitch_ratio(semitones: float) -> Fraction:
    """Frequency after over frequency before, equal temperament, to within a cent."""
    return Fraction(2 ** (semitones / 12)).limit_denominator(MAX_DENOMINATOR)


def pitch_shift(waveforms: Tensor, semitones: float, n_fft: int, hop_length: int) -> Tensor:
    """Move the pitch of waveforms [B, T]; length and tempo stay."""
    ratio = pitch_ratio(semitones)
    if ratio == 1:
        return waveforms.clone()
    samples = waveforms.shape[1]
    longer = math.ceil(samples * ratio) + ratio.denominator
    rates = torch.full((len(waveforms),), float(1 / ratio), dtype=torch.float64, device=waveforms.device)
    stretched = time_stretch(waveforms, rates, longer, n_fft, hop_length)
    return resample(stretched, ratio.numerator, ratio.denominator)[:, :samples]
