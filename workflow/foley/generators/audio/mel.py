"""Mel spectrograms as images for a diffusion model, and back to audio, by one set of parameters.

The defaults are the study's (PROTOCOLS.md, section 3): 22,050 Hz, n_fft 2048, hop 1024, 64 x 64 power mel, 80 dB
below the clip's loudest cell, Griffin-Lim with 32 iterations, 2.93 s. Mel bands are librosa's (Slaney scale and
norm), as in the audio-diffusion library that the study builds on; its rounding to 8 bits is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.functional import melscale_fbanks

from foley.audio.decode import resample
from foley.runtime.seeds import SeedStreams

# Below any power that float32 audio has; keeps logarithms and divisions finite.
TINY = 1e-20


@dataclass(frozen=True)
class MelOptions:
    """Parameters of a mel image, the same both ways; frequencies in Hz.

    Args:
        frames: the image's width; its audio lasts ``(frames - 1) * hop_length`` samples.
        f_max_hz: None means half the sample rate.
        power: of the magnitude before the mel bands: 2 (published) or 1 (what HiFi-GAN vocoders take).
        top_db: range below the reference; what is quieter is cut off there.
        reference: what 0 dB is. ``clip_max`` is the clip's loudest cell (published; the level is lost, see
            :meth:`MelTransform.audio`). ``full_scale`` is the loudest cell of a sine of amplitude 1 and keeps levels.
        normalise: cells in [-1, 1], which is what diffusion assumes; else in [0, 1].
        griffin_lim_momentum: 0 is Griffin & Lim 1984; above it the fast version of Perraudin et al. 2013, of which
            0.99 is librosa's default.
    """

    sample_rate_hz: int = 22_050
    n_fft: int = 2048
    hop_length: int = 1024
    n_mels: int = 64
    frames: int = 64
    f_min_hz: float = 0.0
    f_max_hz: float | None = None
    power: Literal[1, 2] = 2
    top_db: float = 80.0
    reference: Literal["clip_max", "full_scale"] = "clip_max"
    normalise: bool = True
    griffin_lim_iterations: int = 32
    griffin_lim_momentum: float = 0.99

    def __post_init__(self) -> None:
        if self.n_fft < 4 or not 0 < self.hop_length <= self.n_fft // 2:
            raise ValueError(
                f"hop_length {self.hop_length} must lie between 1 and half of n_fft {self.n_fft}"
            )
        if not 0 <= self.f_min_hz < self.highest_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"mel bands from {self.f_min_hz} to {self.highest_hz} Hz do not fit {self.sample_rate_hz} Hz audio"
            )
        if self.frames < 2 or self.n_mels < 1 or self.top_db <= 0:
            raise ValueError("frames must be at least 2, n_mels at least 1, top_db positive")
        if self.samples < self.n_fft:
            raise ValueError(
                f"{self.frames} frames every {self.hop_length} samples are shorter than one frame of {self.n_fft}"
            )
        if self.power not in (1, 2) or self.reference not in ("clip_max", "full_scale"):
            raise ValueError("power must be 1 or 2, reference `clip_max` or `full_scale`")
        if self.griffin_lim_iterations < 1 or not 0 <= self.griffin_lim_momentum <= 1:
            raise ValueError("griffin_lim_iterations must be at least 1, griffin_lim_momentum in [0, 1]")

    @property
    def highest_hz(self) -> float:
        return self.sample_rate_hz / 2 if self.f_max_hz is None else self.f_max_hz

    @property
    def samples(self) -> int:
        """Samples of one clip."""
        return (self.frames - 1) * self.hop_length


class Vocoder(Protocol):
    """Mel -> audio; ``name`` is what tables call it."""

    name: str

    def __call__(self, mel: Tensor, seeds: Sequence[int]) -> Tensor:
        """Mel in linear units [N, n_mels, frames] -> audio [N, samples]; a clip depends on its mel and seed alone."""


class MelTransform(nn.Module):
    """Audio -> images -> audio.

    Raises:
        ValueError: a mel band lies between two frequencies of the spectrum and would always be empty.
    """

    window: Tensor
    banks: Tensor

    def __init__(self, options: MelOptions) -> None:
        super().__init__()
        self.options = o = options
        self.register_buffer("window", torch.hann_window(o.n_fft))
        banks = melscale_fbanks(
            o.n_fft // 2 + 1,
            o.f_min_hz,
            o.highest_hz,
            o.n_mels,
            o.sample_rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )
        empty = int((banks.sum(0) == 0).sum())
        if empty:
            raise ValueError(
                f"{empty} of {o.n_mels} mel bands are narrower than the spectrum's resolution of "
                f"{o.sample_rate_hz / o.n_fft:.1f} Hz; take fewer n_mels or a larger n_fft"
            )
        self.register_buffer("banks", banks)
        # A sine at the centre of a bin is half as strong in the two bins beside it (Hann window), so a band has all
        # three: the cell that it makes in the band that responds most.
        lobe = torch.tensor([0.5, 1.0, 0.5]) ** o.power
        beside = functional.conv1d(banks.T[:, None], lobe[None, None], padding=1)
        self.full_scale = float((self.window.sum() / 2) ** o.power * beside.max())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, mel bands, frames) of one image."""
        return 1, self.options.n_mels, self.options.frames

    @property
    def limits(self) -> tuple[float, float]:
        """Between what values the cells of an image lie."""
        return (-1.0, 1.0) if self.options.normalise else (0.0, 1.0)

    def cut(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int, names: Sequence[str] = ()) -> Tensor:
        """Clips [T_i] at any rate -> their first ``samples`` at ours [N, samples]; short ones end in silence.

        Args:
            names: clip ids for messages; numbers when left out.

        Raises:
            ValueError: a clip is shorter than one frame, is not one channel, or has a sample that is not finite.
        """
        o = self.options
        out = torch.zeros(len(waveforms), o.samples)
        for number, samples in enumerate(waveforms):
            name = names[number] if names else str(number)
            samples = np.asarray(samples, dtype=np.float32)
            if samples.ndim != 1:
                raise ValueError(f"clip {name} has shape {samples.shape}; mix it down to one channel first")
            if not np.isfinite(samples).all():
                raise ValueError(f"clip {name} has samples that are NaN or infinite; reject it at the ingest")
            if sample_rate_hz != o.sample_rate_hz:
                samples = resample(samples, sample_rate_hz, o.sample_rate_hz)
            if len(samples) < o.n_fft:
                raise ValueError(
                    f"clip {name} has {len(samples)} samples at {o.sample_rate_hz} Hz, less than one frame of "
                    f"{o.n_fft}; leave it out or take a smaller n_fft"
                )
            part = torch.from_numpy(np.ascontiguousarray(samples[: o.samples]))
            out[number, : len(part)] = part
        return out

    def spectrum(self, audio: Tensor) -> Tensor:
        """[N, samples] -> complex [N, n_fft // 2 + 1, frames]."""
        o = self.options
        return torch.stft(audio, o.n_fft, o.hop_length, window=self.window, return_complex=True)

    def mel(self, audio: Tensor) -> Tensor:
        """Audio [N, samples] -> mel in linear units [N, n_mels, frames]."""
        magnitude = self.spectrum(audio).abs() ** self.options.power
        return (magnitude.transpose(1, 2) @ self.banks).transpose(1, 2)

    @torch.no_grad()
    def images(self, audio: Tensor) -> Tensor:
        """Audio [N, samples] -> images [N, 1, n_mels, frames].

        Raises:
            ValueError: the audio has another length (see :meth:`cut`), or is not finite.
        """
        o = self.options
        if audio.dim() != 2 or audio.shape[1] != o.samples:
            raise ValueError(
                f"audio of shape {tuple(audio.shape)}, expected [N, {o.samples}]: cut the clips first"
            )
        if not torch.isfinite(audio).all():
            bad = (~torch.isfinite(audio)).any(1).nonzero().flatten().tolist()
            raise ValueError(f"audio rows {bad} have samples that are NaN or infinite; leave them out")
        mel = self.mel(audio)
        if o.reference == "clip_max":
            reference = mel.amax(dim=(1, 2), keepdim=True).clamp_min(TINY)
        else:
            reference = torch.full_like(mel[:, :1, :1], self.full_scale)
        decibels = 20 / o.power * torch.log10((mel / reference).clamp_min(TINY))
        unit = (decibels.clamp(-o.top_db, 0) / o.top_db + 1).unsqueeze(1)
        return unit * 2 - 1 if o.normalise else unit

    def decibels(self, images: Tensor) -> Tensor:
        """Images [N, 1, n_mels, frames] -> decibels below the reference, in [-top_db, 0], of the same shape.

        Raises:
            ValueError: other shape, or a cell that is not finite.
        """
        o = self.options
        if images.dim() != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"images of shape {tuple(images.shape)}, expected [N, {', '.join(map(str, self.shape))}]"
            )
        if not torch.isfinite(images).all():
            raise ValueError("images with cells that are NaN or infinite; the generator has diverged")
        unit = (images + 1) / 2 if o.normalise else images
        return (unit.clamp(0, 1) - 1) * o.top_db

    def linear(self, images: Tensor) -> Tensor:
        """Images -> mel in linear units [N, n_mels, frames], full-scale, whatever the reference was.

        What lies at the lower end of the range is silence.
        """
        o = self.options
        decibels = self.decibels(images).squeeze(1)
        mel = self.full_scale * 10 ** (decibels * o.power / 20)
        return torch.where(decibels > -o.top_db, mel, torch.zeros_like(mel))

    @torch.no_grad()
    def audio(
        self,
        images: Tensor,
        seeds: Sequence[int],
        *,
        vocoder: Vocoder | None = None,
        levels: Tensor | None = None,
    ) -> Tensor:
        """Images [N, 1, n_mels, frames] -> audio [N, samples].

        With ``full_scale`` the images say how loud the clips are. With ``clip_max`` they don't: each clip gets its
        root mean square of ``levels`` [N], or the peak 0.95 without. No clip exceeds a peak of 1.

        Args:
            seeds: of the phases, one a clip.
            vocoder: Griffin-Lim when left out.
        """
        if len(seeds) != len(images):
            raise ValueError(f"{len(images)} images and {len(seeds)} seeds: give one seed for each")
        audio = (vocoder or GriffinLim(self))(self.linear(images), seeds)
        peak = audio.abs().amax(dim=1, keepdim=True).clamp_min(TINY)
        if self.options.reference == "clip_max":
            if levels is None:
                return audio * torch.where(peak > TINY, 0.95 / peak, 0)
            audio = audio * (levels.to(audio)[:, None] / root_mean_square(audio).clamp_min(TINY)[:, None])
            peak = audio.abs().amax(dim=1, keepdim=True).clamp_min(TINY)
        return audio / peak.clamp_min(1)


def root_mean_square(audio: Tensor) -> Tensor:
    """[N, T] -> [N]."""
    return audio.square().mean(dim=1).sqrt()


def invert_mel(mel: Tensor, banks: Tensor, iterations: int = 30) -> Tensor:
    """A non-negative spectrum whose mel bands are ``mel``: [N, n_mels, frames] -> [N, bins, frames].

    Multiplicative updates for the Kullback-Leibler divergence with fixed bands ``banks`` [bins, n_mels] (Lee & Seung
    2001, equation 5): unlike least squares they treat a quiet band as carefully as a loud one.
    """
    weights = banks.sum(dim=1).clamp_min(TINY)
    wanted = mel.transpose(1, 2)
    # Each bin starts with the mean of its bands, in proportion to its weight in them.
    spectrum = (wanted / banks.sum(dim=0)) @ banks.T / weights
    for _ in range(iterations):
        ratio = wanted / (spectrum @ banks).clamp_min(TINY)
        spectrum = spectrum * (ratio @ banks.T / weights)
    return spectrum.transpose(1, 2)


class GriffinLim:
    """The vocoder without weights: phases by Griffin & Lim 1984, or its fast version (Perraudin et al. 2013).

    The initial phases are drawn clip by clip, so a clip does not depend on its batch.
    """

    name = "griffin_lim"

    def __init__(self, transform: MelTransform) -> None:
        self.transform = transform

    def __call__(self, mel: Tensor, seeds: Sequence[int]) -> Tensor:
        o = self.transform.options
        magnitude = invert_mel(mel, self.transform.banks) ** (1 / o.power)
        angles = SeedStreams(list(seeds), "griffin_lim").uniform(*magnitude.shape[1:]) * (2 * torch.pi)
        return self.reconstruct(magnitude, torch.polar(torch.ones_like(angles), angles).to(mel.device))

    def reconstruct(self, magnitude: Tensor, phases: Tensor) -> Tensor:
        """Magnitudes [N, bins, frames] and initial phases (complex, of magnitude 1) -> audio [N, samples]."""
        o = self.transform.options
        # As in librosa and torchaudio, which follow algorithm 2 of Perraudin et al. with this form of its momentum.
        momentum = o.griffin_lim_momentum / (1 + o.griffin_lim_momentum)
        previous = torch.zeros_like(phases)
        for _ in range(o.griffin_lim_iterations):
            rebuilt = self.transform.spectrum(self._inverse(magnitude * phases))
            phases = rebuilt - momentum * previous
            phases = phases / (phases.abs() + 1e-16)
            previous = rebuilt
        return self._inverse(magnitude * phases)

    def _inverse(self, spectrum: Tensor) -> Tensor:
        o = self.transform.options
        return torch.istft(spectrum, o.n_fft, o.hop_length, window=self.transform.window, length=o.samples)
