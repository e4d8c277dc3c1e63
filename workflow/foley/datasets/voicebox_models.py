"""A small formant synthesiser, the source of the `voicebox` dataset: words of four sounds, speakers, emotions.

Source and filter as in Klatt 1980 ("Software for a cascade/parallel formant synthesizer"): a glottal source goes
through five resonators in cascade, which are the formants; frication and bursts are noise through a resonator of their
own. The glottal source is that of Klatt & Klatt 1990 ("Analysis, synthesis, and perception of voice quality variations
among female and male talkers"): pulses U'(t) = 2at - 3bt² over the open part of a period, a spectral tilt, and noise
that the open glottis lets through; periods and strengths vary at random (jitter, shimmer).

Vowel formants are the men's means of Peterson & Barney 1952, scaled by a speaker's vocal tract; a consonant has the
locus to which the neighbouring vowels' formants bend (Delattre, Liberman & Cooper 1955).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage, signal
from scipy.interpolate import PchipInterpolator

from foley.datasets.soundbox_models import log_uniform, record, shaped_noise
from foley.datasets.voicebox import SAMPLE_RATE_HZ

# Parameters move in steps of 5 ms, as in Klatt's program.
FRAME = SAMPLE_RATE_HZ // 200
# Fourth and fifth formant, and all five bandwidths, in Hz.
HIGH_FORMANTS_HZ = (3500.0, 4500.0)
BANDWIDTHS_HZ = (60.0, 90.0, 150.0, 250.0, 300.0)
# Over which the last vowel fades.
FADE_FRAMES = 12
# A word's clip: its length, and the silence before and after.
WORD_S = (0.42, 0.72)
EDGE_S = (0.04, 0.2)
RMS_DBFS = (-34.0, -26.0)
SNR_DB = (25.0, 45.0)

VOWELS: dict[str, tuple[float, float, float]] = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}


@dataclass(frozen=True)
class Consonant:
    """How a consonant is made.

    locus_hz: of the first three formants. length: of vowels' length. voice: amplitude of voicing in it. noise:
    amplitude of frication, with its resonance ``noise_hz`` and bandwidth ``noise_width_hz``. stop: closed until a burst
    of that noise. nasal: the upper formants are damped.
    """

    locus_hz: tuple[float, float, float]
    length: float
    voice: float = 0.0
    noise: float = 0.0
    noise_hz: float = 4000.0
    noise_width_hz: float = 1500.0
    stop: bool = False
    nasal: bool = False


CONSONANTS: dict[str, Consonant] = {
    "b": Consonant((200, 800, 2150), 0.6, 0.12, 0.5, 900, 1000, stop=True),
    "d": Consonant((200, 1700, 2700), 0.6, 0.12, 0.7, 4000, 1800, stop=True),
    "g": Consonant((200, 2000, 2300), 0.6, 0.12, 0.7, 2000, 700, stop=True),
    "p": Consonant((250, 800, 2150), 0.7, 0.0, 0.7, 900, 1200, stop=True),
    "t": Consonant((250, 1700, 2700), 0.7, 0.0, 1.0, 4300, 1800, stop=True),
    "k": Consonant((250, 2000, 2300), 0.7, 0.0, 1.0, 2000, 800, stop=True),
    "f": Consonant((300, 1000, 2150), 0.8, 0.0, 0.25, 4500, 5000),
    "s": Consonant((300, 1700, 2600), 0.8, 0.0, 0.8, 5500, 1500),
    "ʃ": Consonant((300, 1900, 2500), 0.8, 0.0, 0.9, 2900, 1000),
    "m": Consonant((250, 1000, 2200), 0.6, 0.45, nasal=True),
    "n": Consonant((250, 1600, 2500), 0.6, 0.45, nasal=True),
    "l": Consonant((350, 1200, 2800), 0.5, 0.6),
    "w": Consonant((290, 650, 2200), 0.6, 0.6),
}
# Spelling of the words in `voicebox.WORDS` that is not one letter a sound.
DIGRAPHS = {"sh": "ʃ"}


@dataclass(frozen=True)
class Speaker:
    """pitch_hz: middle of the voice. tract: formants are those of the table times it. tempo: of speech. open_quotient,
    tilt_hz, breath: the voice's quality (part of a period that the glottis is open, corner of the low-pass, amplitude
    of noise). jitter, shimmer: relative deviations of periods and strengths. vowels: factors of the first two formants
    of each vowel."""

    pitch_hz: float
    tract: float
    tempo: float
    open_quotient: float
    tilt_hz: float
    breath: float
    jitter: float
    shimmer: float
    vowels: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Manner:
    """What an emotion does to a voice (directions after Scherer 2003, "Vocal communication of emotion"): factors of
    pitch, of its range, of tempo, open quotient, tilt, breath and jitter; level in dB; slope of the pitch over the
    word in semitones."""

    pitch: float = 1.0
    span: float = 1.0
    tempo: float = 1.0
    open_quotient: float = 1.0
    tilt: float = 1.0
    breath: float = 1.0
    jitter: float = 1.0
    level_db: float = 0.0
    slope: float = -2.0


MANNERS: dict[str, Manner] = {
    "neutral": Manner(),
    "happy": Manner(1.3, 2.2, 1.12, 0.95, 1.4, 0.8, 1.0, 3.0, 2.0),
    "sad": Manner(0.88, 0.5, 0.8, 1.2, 0.45, 2.2, 1.3, -5.0, -3.0),
    "angry": Manner(1.2, 1.6, 1.15, 0.75, 2.2, 0.6, 2.0, 6.0, -5.0),
}


def draw_speaker(rng: Generator, high: bool) -> Speaker:
    """A low or a high voice; high ones have shorter vocal tracts."""
    pitch_hz = log_uniform(rng, 165, 250) if high else log_uniform(rng, 85, 140)
    return Speaker(
        pitch_hz=pitch_hz,
        tract=rng.uniform(1.06, 1.22) if high else rng.uniform(0.92, 1.06),
        tempo=rng.uniform(0.88, 1.14),
        open_quotient=rng.uniform(0.5, 0.75),
        tilt_hz=log_uniform(rng, 1200, 3500),
        breath=log_uniform(rng, 0.02, 0.12),
        jitter=rng.uniform(0.004, 0.015),
        shimmer=rng.uniform(0.02, 0.07),
        vowels={vowel: (rng.normal(1, 0.04), rng.normal(1, 0.04)) for vowel in VOWELS},
    )


def sounds(word: str) -> list[str]:
    """A word's consonants and vowels."""
    for letters, sound in DIGRAPHS.items():
        word = word.replace(letters, sound)
    return list(word)


@dataclass(frozen=True)
class Tracks:
    """How a word moves, one row a frame: formants [F, 5], bandwidths [F, 5], voicing [F], frication [F], its resonance
    [F] and bandwidth [F], aspiration [F]."""

    formants_hz: np.ndarray
    bandwidths_hz: np.ndarray
    voice: np.ndarray
    noise: np.ndarray
    noise_hz: np.ndarray
    noise_width_hz: np.ndarray
    breath: np.ndarray


def articulate(word: str, frames: int, speaker: Speaker, rng: Generator) -> Tracks:
    """The tracks of a word over ``frames`` frames. Sounds share the time by their lengths, so that how long a word
    takes does not say which it is."""
    parts = sounds(word)
    lengths = np.array([CONSONANTS[p].length if p in CONSONANTS else 1.0 for p in parts])
    lengths *= np.exp(rng.normal(0, 0.08, len(parts)))
    edges = np.rint(np.concatenate([[0], np.cumsum(lengths)]) / lengths.sum() * frames).astype(int)
    voice, noise, breath = np.zeros(frames), np.zeros(frames), np.zeros(frames)
    noise_hz, noise_width_hz = np.full(frames, 4000.0), np.full(frames, 1500.0)
    damping = np.ones(frames)
    knots: list[tuple[float, tuple[float, float, float]]] = []
    for part, start, stop in zip(parts, edges, edges[1:], strict=False):
        if part in VOWELS:
            voice[start:stop] = 1.0
            if stop == frames:  # the voice dies away at the word's end
                fall = np.linspace(0, 1, min(FADE_FRAMES, stop - start))
                voice[stop - len(fall) : stop] *= np.cos(fall * np.pi / 2)
            own = speaker.vowels[part]
            f1, f2, f3 = VOWELS[part]
            target = (f1 * own[0], f2 * own[1], f3)
            # Held over the middle; the rest is on its way from and to the neighbours.
            knots += [(start + 0.35 * (stop - start), target), (start + 0.7 * (stop - start), target)]
            continue
        kind = CONSONANTS[part]
        voice[start:stop] = kind.voice
        noise_hz[start:stop], noise_width_hz[start:stop] = kind.noise_hz * speaker.tract, kind.noise_width_hz
        if kind.stop:
            released = max(start, stop - (3 if kind.voice else 6))
            noise[released : released + 3] = kind.noise
            if not kind.voice:
                breath[released:stop] = 0.25
        else:
            noise[start:stop] = kind.noise
        if kind.nasal:
            damping[start:stop] = 3.0
        knots.append((0.5 * (start + stop), kind.locus_hz))
    where = np.array([place for place, _ in knots])
    low = np.array([target for _, target in knots]) * np.exp(rng.normal(0, 0.02, (len(knots), 3)))
    grid = np.clip(np.arange(frames), where[0], where[-1])
    formants = np.concatenate(
        [PchipInterpolator(where, low)(grid), np.tile(HIGH_FORMANTS_HZ, (frames, 1))], axis=1
    )
    bandwidths = np.tile(BANDWIDTHS_HZ, (frames, 1))
    bandwidths[:, 1:] *= damping[:, None]
    smooth = ndimage.gaussian_filter1d
    return Tracks(
        np.minimum(formants * speaker.tract, 0.47 * SAMPLE_RATE_HZ), bandwidths, smooth(voice, 1.2, mode="constant"),
        smooth(noise, 0.7, mode="constant"), noise_hz, noise_width_hz, smooth(breath, 0.7, mode="constant"),
    )  # fmt: skip


def glottis(pitch_hz: np.ndarray, speaker: Speaker, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pitch [T] -> derivative of the flow through the glottis [T], and how far it is open [T], 0 to 1."""
    samples = len(pitch_hz)
    pulses, opening = np.zeros(samples), np.zeros(samples)
    onset = rng.uniform(0, 1) * SAMPLE_RATE_HZ / pitch_hz[0]
    while onset < samples:
        period = SAMPLE_RATE_HZ / pitch_hz[int(onset)] * max(0.7, 1 + speaker.jitter * rng.standard_normal())
        strength = max(0.2, 1 + speaker.shimmer * rng.standard_normal())
        first, last = math.ceil(onset), min(samples, math.ceil(onset + speaker.open_quotient * period))
        # Time from the opening, in open parts: sample times, so that pitch is not bound to whole samples.
        time = (np.arange(first, last) - onset) / (speaker.open_quotient * period)
        pulses[first:last] += strength * (2 * time - 3 * time**2)
        opening[first:last] = 6.75 * time**2 * (1 - time)
        onset += period
    decay = math.exp(-2 * math.pi * speaker.tilt_hz / SAMPLE_RATE_HZ)
    return signal.lfilter([1 - decay], [1, -decay], pulses), opening


def resonate_along(excitation: np.ndarray, centre_hz: np.ndarray, width_hz: np.ndarray) -> np.ndarray:
    """Klatt's resonator, y = A x + B y[-1] + C y[-2] with a gain of 1 at 0 Hz, whose centre and bandwidth [F] change
    from frame to frame; [F * FRAME] -> the same."""
    c = -np.exp(-2 * np.pi * width_hz / SAMPLE_RATE_HZ)
    b = 2 * np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ) * np.cos(2 * np.pi * centre_hz / SAMPLE_RATE_HZ)
    a = 1 - b - c
    out = np.empty_like(excitation)
    before, earlier = 0.0, 0.0
    for frame in range(len(centre_hz)):
        part = slice(frame * FRAME, (frame + 1) * FRAME)
        # The past is that of the output, whatever the coefficients were that made it.
        state = [b[frame] * before + c[frame] * earlier, c[frame] * before]
        out[part], _ = signal.lfilter([a[frame]], [1, -b[frame], -c[frame]], excitation[part], zi=state)
        before, earlier = out[part][-1], out[part][-2]
    return out


def speak(word: str, frames: int, speaker: Speaker, manner: Manner, rng: Generator) -> np.ndarray:
    """A word as a speaker says it in some manner, [frames * FRAME], RMS 1."""
    voice = Speaker(
        speaker.pitch_hz, speaker.tract, speaker.tempo, min(0.9, speaker.open_quotient * manner.open_quotient),
        speaker.tilt_hz * manner.tilt, speaker.breath * manner.breath, speaker.jitter * manner.jitter,
        speaker.shimmer * manner.jitter, speaker.vowels,
    )  # fmt: skip
    samples = frames * FRAME
    tracks = articulate(word, frames, voice, rng)
    along = np.linspace(0, 1, samples)
    # An accent somewhere on the word, over a line.
    peak, height = rng.uniform(0.15, 0.75), rng.uniform(1.0, 3.0) * manner.span
    line = (manner.slope + rng.normal(0, 1)) * (along - 0.5) + rng.normal(0, 0.7)
    semitones = height * np.exp(-(((along - peak) / 0.25) ** 2)) + line
    pulses, opening = glottis(voice.pitch_hz * manner.pitch * 2 ** (semitones / 12), voice, rng)
    spread = np.arange(samples) / FRAME
    frame = np.arange(frames)

    def over_samples(track: np.ndarray) -> np.ndarray:
        return np.interp(spread, frame + 0.5, track)

    breath = rng.standard_normal(samples) * voice.breath
    source = over_samples(tracks.voice) * (pulses + breath * (0.2 + opening))
    source += over_samples(tracks.breath) * 0.4 * rng.standard_normal(samples)
    for number in range(tracks.formants_hz.shape[1]):
        source = resonate_along(source, tracks.formants_hz[:, number], tracks.bandwidths_hz[:, number])
    voiced = source / (np.sqrt(np.mean(source**2)) + 1e-12)
    hiss = resonate_along(rng.standard_normal(samples), tracks.noise_hz, tracks.noise_width_hz)
    hiss = hiss - signal.lfilter([0.1], [1, -0.9], hiss)  # the resonator lets 0 Hz through
    noise = over_samples(tracks.noise) * 0.5 * hiss / (np.sqrt(np.mean(hiss**2)) + 1e-12)
    word_alone = voiced + noise
    return word_alone / (np.sqrt(np.mean(word_alone**2)) + 1e-12)


def render(
    word: str,
    emotion: str,
    speaker: Speaker,
    place: Generator,
    performance: Generator,
    capture: Generator,
) -> np.ndarray:
    """One clip, float32 [T] at `SAMPLE_RATE_HZ`, peak below 1, T at most 1.2 s.

    ``place`` (room and microphone) belongs to a speaker; ``performance`` and ``capture`` (length, noise, level) to a
    take. What ``capture`` draws is alike for all words.
    """
    manner = MANNERS[emotion]
    word_s = capture.uniform(*WORD_S) / (speaker.tempo * manner.tempo)
    frames = round(min(word_s, 0.8) * SAMPLE_RATE_HZ / FRAME)
    before, after = (round(capture.uniform(*EDGE_S) * SAMPLE_RATE_HZ) for _ in range(2))
    clip = np.pad(speak(word, frames, speaker, manner, performance), (before, after))
    clip = record(clip, place)
    clip = clip / (np.sqrt(np.mean(clip**2)) + 1e-12)
    floor = shaped_noise(capture, len(clip), [(50, 0.0), (8000, -20.0)])
    clip = clip + floor * 10 ** (-capture.uniform(*SNR_DB) / 20)
    level_db = capture.uniform(*RMS_DBFS) + manner.level_db
    clip = clip / np.sqrt(np.mean(clip**2)) * 10 ** (level_db / 20)
    return (clip / max(1.0, np.abs(clip).max() / 0.99)).astype(np.float32)
