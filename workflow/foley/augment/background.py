"""Recorded (or generated) backgrounds mixed under speech at a drawn signal-to-noise ratio, in dB.

Speech and background are measured over active speech alone: the samples of frames whose power lies within
``active_range_db`` of the loudest frame's, without the digital silence before the first active sample and behind the
last one, which would count a stretch of background under no speech. That is a simple stand-in for the active speech
level of ITU-T P.56, whose envelope has a hangover of 0.2 s; a pause inside a word is left out here and counted there.
Where a sum leaves [-1, 1], both parts are scaled down by one gain, which changes no ratio and clips nothing.

A recording's mean is taken off: a constant offset has energy that nobody hears.

A recording at least as long as the speech gives a stretch of itself from a drawn place. A shorter one is repeated, and
its end fades into its beginning with equal power (weights of which the squares add up to 1): two stretches of a
background are uncorrelated, so their powers add, and a linear fade would dip by 3 dB at every seam.

Recordings have pauses. One that is all but silent under the speech would need an enormous gain, so another start is
drawn, from the clip's own stream; after ``ATTEMPTS`` of them the recording's loudest sample is laid under active
speech.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foley.augment.protocol import Draws, check_probability

# Starts that are drawn for one clip before its recording's loudest sample is laid under its speech.
ATTEMPTS = 8
# How far below its own active level a background may lie under the speech.
LULL_DB = 20.0
# Peak of what counts as silence, of full scale: 16 dB below the smallest step of 24 bits.
SILENCE = 2e-8
# Squares that are added up in float32 before float64 takes over.
SUM_SAMPLES = 512
# Clips or recordings that an error names.
NAMED = 8


@dataclass(frozen=True)
class BackgroundOptions:
    """``snr_min_db`` to ``snr_max_db``: bounds of the ratio, uniform in dB. ``probability``: that a clip gets a
    background at all.

    ``active_range_db``: a frame of ``frame_samples`` is active when its power lies at most this far below the
    loudest frame's. ``crossfade_s``: of the seam of a repeated recording; at most half of the recording.
    ``silent_speech``: whether a silent clip is refused or stays as it is: no background has a ratio to it.
    """

    snr_min_db: float = 3.0
    snr_max_db: float = 30.0
    probability: float = 1.0
    active_range_db: float = 40.0
    frame_samples: int = 512
    crossfade_s: float = 0.01
    silent_speech: Literal["refuse", "keep"] = "refuse"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.snr_min_db) and math.isfinite(self.snr_max_db)):
            raise ValueError("snr_min_db and snr_max_db must be finite")
        if self.snr_min_db > self.snr_max_db:
            raise ValueError(f"snr_min_db {self.snr_min_db} exceeds snr_max_db {self.snr_max_db}")
        if self.frame_samples < 1 or self.active_range_db <= 0:
            raise ValueError("frame_samples and active_range_db must be positive")
        if not 0 <= self.crossfade_s < math.inf:
            raise ValueError(f"crossfade_s must not be negative, got {self.crossfade_s}")
        check_probability(self.probability)


@dataclass(frozen=True)
class Mixed:
    """What a mix gave: ``waveforms`` [B, T]; ``snr_db`` [B], measured on the two scaled parts over active speech (inf
    for a clip without background); ``scale`` [B], the gain of both parts, 1 where the sum was within full scale.
    """

    waveforms: Tensor
    snr_db: Tensor
    scale: Tensor


class Background:
    """See the module.

    Args:
        options: see there.
        recordings: each 1-D float32 of any length, at ``sample_rate_hz``, which is the model's rate.
        names: of the recordings, for errors; their numbers where left out.

    Raises:
        ValueError: no recordings, or one that is silent, empty, has samples that are no finite numbers, or another
            shape or type; it is named.
    """

    Options = BackgroundOptions

    def __init__(
        self,
        options: BackgroundOptions | None,
        recordings: Sequence[Tensor],
        sample_rate_hz: int,
        names: Sequence[str] | None = None,
    ) -> None:
        self.options = options if options is not None else BackgroundOptions()
        if not len(recordings):
            raise ValueError("no background recordings: give one at least")
        if sample_rate_hz < 1:
            raise ValueError(f"sample_rate_hz must be positive, got {sample_rate_hz}")
        self.names = [str(n) for n in (range(len(recordings)) if names is None else names)]
        if len(self.names) != len(recordings):
            raise ValueError(f"{len(recordings)} background recordings, but {len(self.names)} names")
        recordings = [_checked(name, one) for name, one in zip(self.names, recordings, strict=True)]
        o = self.options
        fade = round(o.crossfade_s * sample_rate_hz)
        self.lengths = torch.tensor([len(r) for r in recordings])
        self.fades = torch.minimum(torch.tensor(fade), self.lengths // 2)
        # One row of samples: every recording, then the seam that stands for its beginning when it is repeated.
        parts = [
            part
            for recording, seam in zip(recordings, self.fades.tolist(), strict=True)
            for part in (recording, _seam(recording, seam))
        ]
        self.bank = torch.cat([part.detach().cpu() for part in parts])
        self.offsets = torch.cumsum(self.lengths + self.fades, 0) - (self.lengths + self.fades)
        # Mean power over a recording's own active frames [K].
        self.levels = torch.tensor(
            [_active_level(recording, o.frame_samples, o.active_range_db) for recording in recordings],
            dtype=torch.float64,
        )

    def reach(self, samples: int) -> int:
        """Ratio and scale are measured on what is given; beyond that a sample depends on no later one."""
        return samples

    def recording_of(self, draws: Draws) -> list[str | None]:
        """The recording's name for each clip; None for one that gets no background."""
        rows, _, which, _ = self._draw(draws)
        found: list[str | None] = [None] * len(draws)
        for row, number in zip(rows.tolist(), which.tolist(), strict=True):
            found[row] = self.names[number]
        return found

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T].

        Raises:
            ValueError: a clip is silent and ``silent_speech`` is ``refuse``; it is named.
        """
        return self.mix(waveforms, draws).waveforms

    def mix(self, waveforms: Tensor, draws: Draws) -> Mixed:
        """As ``change_waveforms``, with what was done.

        Raises:
            ValueError: as there.
        """
        o = self.options
        if len(waveforms) != len(draws):
            raise ValueError(f"{len(waveforms)} clips, but draws for {len(draws)}")
        device, samples = waveforms.device, waveforms.shape[1]
        active = _Active.of(waveforms, o.frame_samples, o.active_range_db)
        heard = active.frames.any(dim=1).cpu()
        if o.silent_speech == "refuse" and not bool(heard.all()):
            silent = [draws.clip_ids[row] for row in (~heard).nonzero().squeeze(1).tolist()]
            raise ValueError(
                f"silent speech has no signal-to-noise ratio: {_named(silent)}; leave these clips out, or set "
                "`silent_speech: keep`"
            )
        rows, snr_db, which, starts = self._draw(draws)
        kept = heard[rows]
        rows, snr_db, which, starts = rows[kept], snr_db[kept], which[kept], starts[kept]
        count = len(waveforms)
        if not len(rows):
            ones = waveforms.new_ones(count)
            return Mixed(waveforms.clone(), torch.full_like(ones, math.inf), ones)
        everyone = len(rows) == count
        at = rows.to(device)
        speech, own = (waveforms, active) if everyone else (waveforms[at], active.rows(at))
        background, noise = self._under(own, which, starts, samples)
        mixed = _mix(speech, background, noise, snr_db.to(device), own)
        if everyone:
            return mixed
        out = Mixed(
            waveforms.clone(),
            torch.full((count,), math.inf, dtype=mixed.snr_db.dtype, device=device),
            torch.ones(count, dtype=mixed.scale.dtype, device=device),
        )
        out.waveforms[at], out.snr_db[at], out.scale[at] = mixed.waveforms, mixed.snr_db, mixed.scale
        return out

    def _draw(self, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows with a background [R], and for each: ratio in dB, recording, places in it of ``ATTEMPTS`` starts [R, A]
        as parts of the possible ones."""
        o = self.options
        u = draws.streams("background").uniform(3 + ATTEMPTS).double()
        rows = (u[:, 0] < o.probability).nonzero().squeeze(1)
        u = u[rows]
        snr_db = o.snr_min_db + (o.snr_max_db - o.snr_min_db) * u[:, 1]
        return rows, snr_db, (u[:, 2] * len(self.lengths)).long(), u[:, 3:]

    def _under(self, active: _Active, which: Tensor, starts: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """A background [R, T] for each clip that is not silent where its speech is ``active``, and its energy there
        [R]."""
        device = active.frames.device
        enough = (self.levels[which] * 10 ** (-LULL_DB / 10)).to(device) * active.samples()
        background = self.cut(which, starts[:, 0], samples, device)
        energy = active.energy(background)
        left = (energy < enough).nonzero().squeeze(1)
        for attempt in range(1, ATTEMPTS):
            if not len(left):
                return background, energy
            here = left.cpu()
            background[left] = self.cut(which[here], starts[here, attempt], samples, device)
            energy[left] = active.rows(left).energy(background[left])
            left = left[energy[left] < enough[left]]
        for row in left.tolist():
            one = active.rows(torch.tensor([row], device=device))
            background[row] = self._loudest_under(int(which[row]), one.mask()[0])
            energy[row] = one.energy(background[row : row + 1])[0]
        return background, energy

    def _loudest_under(self, number: int, active: Tensor) -> Tensor:
        """The recording, repeated, with its loudest sample in the middle of the active ones."""
        places = active.nonzero().squeeze(1)
        period = int(self.lengths[number] - self.fades[number])
        one = self._repeated(torch.tensor([number]), torch.zeros(1, dtype=torch.int64), period, active.device)
        start = (int(one[0].abs().argmax()) - int(places[len(places) // 2])) % period
        return self._repeated(torch.tensor([number]), torch.tensor([start]), len(active), active.device)[0]

    def cut(self, which: Tensor, part: Tensor, samples: int, device: torch.device) -> Tensor:
        """Background [R, samples] of recordings ``which`` [R], from ``part`` [R] in [0, 1) of the possible starts."""
        lengths = self.lengths[which]
        long = lengths >= samples
        if bool(long.all()):
            return self._stretch(which, (part * (lengths - samples + 1)).long(), samples, device)
        out = torch.empty(len(which), samples, dtype=self.bank.dtype, device=device)
        for take, chosen in ((self._stretch, long), (self._repeated, ~long)):
            rows = chosen.nonzero().squeeze(1)
            if len(rows):
                own = which[rows]
                room = lengths[rows] - samples + 1
                if take == self._repeated:
                    room = lengths[rows] - self.fades[own]
                out[rows.to(device)] = take(own, (part[rows] * room).long(), samples, device)
        return out

    def _stretch(self, which: Tensor, starts: Tensor, samples: int, device: torch.device) -> Tensor:
        bank = self._bank_on(device)
        # Whole rows of a view in which each begins one sample later: no index for every sample.
        windows = bank.as_strided((len(bank) - samples + 1, samples), (1, 1))
        return windows.index_select(0, (self.offsets[which] + starts).to(device))

    def _repeated(self, which: Tensor, starts: Tensor, samples: int, device: torch.device) -> Tensor:
        bank = self._bank_on(device)
        lengths, fades, offsets = (
            x[which].to(device).unsqueeze(1) for x in (self.lengths, self.fades, self.offsets)
        )
        places = (starts.to(device).unsqueeze(1) + torch.arange(samples, device=device)) % (lengths - fades)
        # The first samples of a round are those of the seam, behind the recording.
        return bank[offsets + torch.where(places < fades, places + lengths, places)]

    def _bank_on(self, device: torch.device) -> Tensor:
        if self.bank.device != device:
            self.bank = self.bank.to(device)
        return self.bank


def mix_background(speech: Tensor, background: Tensor, snr_db: Tensor, active: Tensor) -> Mixed:
    """Speech [B, T] plus background [B, T], with ratios ``snr_db`` [B] over the samples where speech is ``active``
    [B, T]; scaled down together where the sum exceeds full scale.

    Raises:
        ValueError: speech or background of some row is silent over all active samples, or none is active.
    """
    where = _Active(active, 1, active.shape[1])
    return _mix(speech, background.clone(), where.energy(background), snr_db, where)


def _mix(speech: Tensor, background: Tensor, noise: Tensor, snr_db: Tensor, active: _Active) -> Mixed:
    """As ``mix_background``, with the background's energy ``noise`` [B] where speech is ``active``; ``background`` is
    overwritten."""
    signal = active.energy(speech)
    possible = (signal > 0) & (noise > SILENCE**2)
    if not bool(possible.all()):
        rows = (~possible).nonzero().squeeze(1).tolist()
        raise ValueError(
            f"rows {', '.join(map(str, rows[:NAMED]))}: speech or background is silent over the whole of the active "
            "speech, so they have no ratio; leave such clips out"
        )
    wanted = 10 ** (snr_db.double() / 10)
    gain = (signal / (noise * wanted)).sqrt().to(background.dtype)
    added = background.mul_(gain.unsqueeze(1))
    out = speech + added
    peak = torch.maximum(out.amax(dim=1), -out.amin(dim=1)).clamp(min=1.0)
    noise = active.energy(added)
    over = (peak > 1).nonzero().squeeze(1)
    if len(over):
        scale = peak[over].unsqueeze(1)
        parts = speech[over] / scale, added[over] / scale
        # By rounding, two parts may reach full scale and a last digit more.
        out[over] = (parts[0] + parts[1]).clamp_(-1, 1)
        theirs = active.rows(over)
        signal[over], noise[over] = (theirs.energy(part) for part in parts)
    return Mixed(out, (10 * (signal / noise).log10()).to(speech.dtype), 1 / peak)


@dataclass(frozen=True)
class _Active:
    """Where clips of ``length`` samples are active: whole ``frames`` [B, F] of ``frame_samples``, but for the samples
    ``outside`` [B, E] (places in the clip, and whether each counts) at the silent edges of the first and the last."""

    frames: Tensor
    frame_samples: int
    length: int
    outside: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, waveforms: Tensor, frame_samples: int, range_db: float) -> _Active:
        """Active samples of clips [B, T]; none in a silent one."""
        length = waveforms.shape[1]
        lengths = _frame_lengths(length, frame_samples, waveforms.device)
        power = _frame_energies(waveforms, frame_samples) / lengths
        frames = (power >= power.amax(1, keepdim=True) * 10 ** (-range_db / 10)) & (power > 0)
        number = torch.arange(frames.shape[1], device=waveforms.device)
        within = torch.arange(frame_samples, device=waveforms.device)
        places: list[Tensor] = []
        counts: list[Tensor] = []
        for edge in (frames * (len(number) - number), frames * (number + 1)):  # its first frame, its last one
            place = edge.argmax(1, keepdim=True) * frame_samples + within
            there = place < length
            place = place.clamp(max=length - 1)
            sounds = (waveforms.gather(1, place) != 0) & there
            # Samples before the first that sounds, or behind the last.
            silent = (sounds if not places else sounds.flip(1)).int().cumsum(1) == 0
            silent = silent if not places else silent.flip(1)
            places.append(place)
            counts.append(silent & there & frames.any(1, keepdim=True))
        return cls(frames, frame_samples, length, (torch.cat(places, 1), torch.cat(counts, 1)))

    def rows(self, at: Tensor) -> _Active:
        """Those of some clips."""
        outside = None if self.outside is None else (self.outside[0][at], self.outside[1][at])
        return _Active(self.frames[at], self.frame_samples, self.length, outside)

    def energy(self, waveforms: Tensor) -> Tensor:
        """Sum of squares [B] float64 of clips [B, T] over the active samples."""
        if self.frame_samples == 1:
            return _frame_energies(torch.where(self.frames, waveforms, 0.0), SUM_SAMPLES).sum(dim=1)
        whole = (_frame_energies(waveforms, self.frame_samples) * self.frames).sum(dim=1)
        if self.outside is None:
            return whole
        place, counts = self.outside
        return (whole - (waveforms.gather(1, place).double().square() * counts).sum(dim=1)).clamp(min=0)

    def samples(self) -> Tensor:
        """How many samples are active [B]."""
        lengths = _frame_lengths(self.length, self.frame_samples, self.frames.device)
        whole = (self.frames * lengths).sum(dim=1)
        return whole if self.outside is None else whole - self.outside[1].sum(dim=1)

    def mask(self) -> Tensor:
        """Bool [B, T]."""
        active = self.frames.repeat_interleave(self.frame_samples, dim=1)[:, : self.length]
        if self.outside is not None:
            place, counts = self.outside
            silent = torch.zeros(active.shape, dtype=torch.int32, device=active.device)
            active = active & (silent.scatter_add(1, place, counts.int()) == 0)
        return active


def active_samples(waveforms: Tensor, frame_samples: int, range_db: float) -> Tensor:
    """Where clips are active: [B, T] -> bool [B, T]; nowhere in a silent one."""
    return _Active.of(waveforms, frame_samples, range_db).mask()


def _frame_lengths(samples: int, frame_samples: int, device: torch.device) -> Tensor:
    """[F]."""
    frames = -(-samples // frame_samples)
    lengths = torch.full((frames,), frame_samples, device=device)
    lengths[-1] = samples - (frames - 1) * frame_samples
    return lengths


def _frame_energies(waveforms: Tensor, frame_samples: int) -> Tensor:
    """Sum of squares of each frame: [B, T] -> [B, F] float64; the last frame may be shorter."""
    whole = waveforms.shape[1] // frame_samples
    parts = [
        torch.linalg.vector_norm(
            waveforms[:, : whole * frame_samples].unflatten(1, (whole, frame_samples)), dim=2
        )
    ]
    if waveforms.shape[1] > whole * frame_samples:
        parts.append(torch.linalg.vector_norm(waveforms[:, whole * frame_samples :], dim=1, keepdim=True))
    return torch.cat(parts, dim=1).double().square()


def _seam(recording: Tensor, samples: int) -> Tensor:
    """What stands for the first ``samples`` of a repeated recording: its last ones fade out, these fade in."""
    if not samples:
        return recording[:0]
    angle = torch.arange(samples, dtype=torch.float64) / samples * (math.pi / 2)
    return (angle.cos() * recording[-samples:] + angle.sin() * recording[:samples]).to(recording.dtype)


def _active_level(recording: Tensor, frame_samples: int, range_db: float) -> float:
    """Mean power over active samples."""
    active = _Active.of(recording.unsqueeze(0), frame_samples, range_db)
    return float(active.energy(recording.unsqueeze(0)) / active.samples())


def _checked(name: str, recording: Tensor) -> Tensor:
    """The recording without its mean.

    Raises:
        ValueError: see :class:`Background`.
    """
    problem, centred = None, recording
    if recording.dim() != 1 or recording.dtype != torch.float32:
        problem = f"has shape {list(recording.shape)} and type {recording.dtype}; 1-D float32 is needed"
    elif not len(recording):
        problem = "is empty"
    elif not bool(recording.isfinite().all()):
        problem = "has samples that are no finite numbers"
    elif float((centred := (recording - recording.double().mean()).float()).abs().max()) <= SILENCE:
        problem = "is silent, so it has no level to set"
    if problem is not None:
        raise ValueError(f"background recording `{name}` {problem}; leave it out")
    return centred


def _named(clip_ids: Sequence[str]) -> str:
    """The first ids for an error message."""
    more = f" and {len(clip_ids) - NAMED} more" if len(clip_ids) > NAMED else ""
    return ", ".join(f"`{clip}`" for clip in clip_ids[:NAMED]) + more
