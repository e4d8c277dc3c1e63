"""Physical and signal models of twelve everyday sounds, the sources of the `soundbox` dataset.

Every model has the same signature, `model(source, performance, samples) -> [T] float64` at `SAMPLE_RATE_HZ`:

* `source` draws what the sound *is* (which bell, which bird, which floor). How often it is drawn from
  does not depend on the performance, so all takes of one recording share the source;
* `performance` draws how it is played this time (onset, tempo, strength, every noise sample).

What a model gives back is neither normalised nor placed in a room: `render` does that, alike for all classes.

The recipes follow the sound-design literature: Farnell, *Designing Sound* (MIT Press, 2010) for rain, wind,
engine, footsteps, bird and helicopter; Hibbert, *The Quantification of Strike Pitch and Pitch Shifts in
Church Bells* (2008) for bell partials; Gaver, *How do we hear in the world?* (1993) for impacts and for
breaking as a cascade of impacts; van den Doel, *Physically based models for liquid sounds* (2005) for
bubbles.
"""

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from numpy.random import Generator
from scipy import fft, ndimage, signal
from scipy.interpolate import PchipInterpolator

from foley.datasets.soundbox import SAMPLE_RATE_HZ

Model = Callable[[Generator, Generator, int], np.ndarray]
# A spectrum as corner points: (frequency in Hz, level in dB), joined by straight lines over log-frequency.
Spectrum = Sequence[tuple[float, float]]


# --- building blocks ---


def seconds(duration_s: float) -> int:
    """Number of samples in `duration_s`, at least one."""
    return max(1, round(duration_s * SAMPLE_RATE_HZ))


def time_axis(samples: int) -> np.ndarray:
    """Sample times in seconds, [T]."""
    return np.arange(samples) / SAMPLE_RATE_HZ


@overload
def log_uniform(rng: Generator, low: float, high: float) -> float: ...
@overload
def log_uniform(rng: Generator, low: float, high: float, size: int) -> np.ndarray: ...
def log_uniform(rng: Generator, low: float, high: float, size: int | None = None) -> Any:
    """Draws spread evenly over octaves instead of over hertz or seconds."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def add_at(track: np.ndarray, onset: int, grain: np.ndarray) -> None:
    """Add `grain` to `track` in place from sample `onset` on; what lies outside the track is cut off."""
    start, stop = max(onset, 0), min(onset + len(grain), len(track))
    if start < stop:
        track[start:stop] += grain[start - onset : stop - onset]


def shaped_noise(rng: Generator, samples: int, spectrum: Spectrum) -> np.ndarray:
    """Stationary Gaussian noise with the given spectrum, [T], unit RMS."""
    size = fft.next_fast_len(max(samples, 256), real=True)
    bins = np.fft.rfft(rng.standard_normal(size))
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    corner_hz, corner_db = np.array(spectrum).T
    level_db = np.interp(np.log(np.maximum(hz, 1.0)), np.log(corner_hz), corner_db)
    noise = np.fft.irfft(bins * 10 ** (level_db / 20), size)[:samples]
    return noise / (np.sqrt(np.mean(noise**2)) + 1e-12)


def moving_noise(
    rng: Generator, samples: int, gain: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Noise through a filter that moves in time, [T].

    `gain(hz [F, 1], time_s [1, N])` returns the filter's linear magnitude [F, N] at every frame.
    """
    frame, overlap = 512, 384
    noise = rng.standard_normal(samples)
    hz, time_s, bins = signal.stft(noise, SAMPLE_RATE_HZ, nperseg=frame, noverlap=overlap)
    bins *= gain(hz[:, None], time_s[None, :])
    return signal.istft(bins, SAMPLE_RATE_HZ, nperseg=frame, noverlap=overlap)[1][:samples]


def wander(rng: Generator, samples: int, rate_hz: float) -> np.ndarray:
    """A smooth random curve, [T], that turns about `rate_hz` times a second; mean about 0, deviation 1."""
    knots = int(np.ceil(samples / SAMPLE_RATE_HZ * rate_hz)) + 4
    position = np.arange(knots) / rate_hz - rng.uniform(1, 2) / rate_hz
    return PchipInterpolator(position, rng.standard_normal(knots))(time_axis(samples))


def damped_modes(
    frequency_hz: np.ndarray, amplitude: np.ndarray, t60_s: np.ndarray, samples: int
) -> np.ndarray:
    """Free vibration of a struck body: exponentially decaying sines that start at phase 0, [T].

    `frequency_hz`, `amplitude` and `t60_s` (time to fall by 60 dB) are [M]. Modes above Nyquist are left out.
    """
    blow = np.zeros(samples)
    blow[0] = 1.0
    modes = zip(frequency_hz, amplitude, t60_s, strict=True)
    return sum((level * ring(blow, hz, decay_s) for hz, level, decay_s in modes), np.zeros(samples))


def ring(blows: np.ndarray, frequency_hz: float, t60_s: float) -> np.ndarray:
    """One damped mode driven by a train of blows, [T] -> [T]; a unit blow rings with unit amplitude."""
    if frequency_hz > 0.49 * SAMPLE_RATE_HZ:
        return np.zeros_like(blows)
    pole = np.exp((-6.908 / t60_s + 2j * np.pi * frequency_hz) / SAMPLE_RATE_HZ)
    return signal.lfilter([0.0, pole.imag], [1.0, -2 * pole.real, abs(pole) ** 2], blows)


def resonate(excitation: np.ndarray, frequency_hz: float, bandwidth_hz: float) -> np.ndarray:
    """Two-pole resonator with unit gain at its centre, [T] -> [T]."""
    radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    angle = 2 * np.pi * frequency_hz / SAMPLE_RATE_HZ
    denominator = [1.0, -2 * radius * np.cos(angle), radius**2]
    gain = abs(np.polyval(denominator[::-1], np.exp(-1j * angle)))
    return signal.lfilter([gain], denominator, excitation)


def band(noise: np.ndarray, low_hz: float, high_hz: float, order: int = 2) -> np.ndarray:
    """Butterworth band-pass, [T] -> [T]."""
    high_hz = min(high_hz, 0.49 * SAMPLE_RATE_HZ)
    sos = signal.butter(order, (low_hz, high_hz), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, noise)


def unit(track: np.ndarray) -> np.ndarray:
    """Scale to RMS 1; silence stays silence."""
    return track / (np.sqrt(np.mean(track**2)) + 1e-12)


def burst(samples: int, attack_s: float, t60_s: float) -> np.ndarray:
    """Envelope of an impact: linear attack, exponential decay, [T], peak about 1."""
    t = time_axis(samples)
    return np.minimum(t / max(attack_s, 1e-4), 1.0) * np.exp(-6.908 * np.maximum(t - attack_s, 0) / t60_s)


def poisson_impulses(rng: Generator, samples: int, rate_hz: float, spread: float) -> np.ndarray:
    """Impulses of random sign at Poisson times, [T]; `spread` is the deviation of their log strength."""
    count = rng.poisson(rate_hz * samples / SAMPLE_RATE_HZ)
    track = np.zeros(samples)
    strength = rng.lognormal(0.0, spread, count) * rng.choice([-1.0, 1.0], count)
    np.add.at(track, rng.integers(0, samples, count), strength)
    return track


# --- the twelve sources ---


def rain(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """Drops on a surface: Poisson impacts through short resonances, over the hiss of the far drops."""
    drops_per_s = log_uniform(source, 60, 700)
    surface_hz = log_uniform(source, 900, 6500, 10)
    surface_t60_s = log_uniform(source, 0.002, 0.018, 10)
    hiss_tilt_db = source.uniform(-4, 5)
    hiss_level = source.uniform(0.35, 1.0)
    puddle_per_s = source.choice([0.0, source.uniform(2, 12)])
    thud_level = source.uniform(0.0, 0.5)

    drops = np.zeros(samples)
    for frequency_hz, t60_s in zip(surface_hz, surface_t60_s, strict=True):
        impacts = poisson_impulses(performance, samples, drops_per_s / len(surface_hz), 0.9)
        drops += resonate(impacts, frequency_hz, 2.2 / t60_s)
    thuds = resonate(poisson_impulses(performance, samples, drops_per_s / 8, 0.7), 260, 160)

    # A drop that falls into water traps a bubble, which rings at a rising pitch (Minnaert resonance).
    puddle = np.zeros(samples)
    for _ in range(performance.poisson(puddle_per_s * samples / SAMPLE_RATE_HZ)):
        t = time_axis(seconds(0.05))
        base_hz = log_uniform(performance, 900, 3200)
        ring = np.sin(2 * np.pi * base_hz * (t + 3.0 * t**2)) * burst(
            len(t), 0.002, performance.uniform(0.02, 0.05)
        )
        add_at(puddle, int(performance.integers(0, samples)), ring * performance.lognormal(0, 0.5))

    hiss = shaped_noise(
        performance,
        samples,
        [(60, -32), (300, -20), (900, -8), (2500, 0), (5000, hiss_tilt_db), (8000, hiss_tilt_db - 4)],
    )
    hiss *= 1 + 0.12 * wander(performance, samples, 2.0)
    return unit(drops) + hiss_level * hiss + thud_level * unit(thuds) + 0.4 * puddle


def wind(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """Turbulence: low rumble, leaves and one or two howls whose pitch and strength follow the gusts."""
    howl_hz = log_uniform(source, 260, 700, 2) * np.array([1.0, 1.9])
    howl_width = source.uniform(0.05, 0.14)
    howl_level = source.uniform(1.0, 4.0)
    rumble_hz = source.uniform(250, 600)
    leaves_level = source.uniform(0.002, 0.015)
    gust_rate_hz = source.uniform(1.5, 4.0)
    gust_depth = source.uniform(0.15, 0.4)

    gust_curve = np.exp(gust_depth * wander(performance, samples, gust_rate_hz))
    shiver_curve = wander(performance, samples, 5.0)

    def gain(hz: np.ndarray, time_s: np.ndarray) -> np.ndarray:
        at = np.clip((time_s * SAMPLE_RATE_HZ).astype(int), 0, samples - 1)
        gust, shiver = gust_curve[at], shiver_curve[at]
        rumble = 1 / (1 + (hz / rumble_hz) ** 2)
        howl = np.zeros_like(rumble * gust)
        for centre in howl_hz:
            moving = centre * (0.75 + 0.25 * np.minimum(gust, 2.5) + 0.02 * shiver)
            howl = (
                howl
                + np.exp(-0.5 * (np.log(np.maximum(hz, 20) / moving) / howl_width) ** 2) / centre * howl_hz[0]
            )
        leaves = leaves_level * np.exp(-0.5 * (np.log(np.maximum(hz, 20) / 3000) / 0.8) ** 2)
        return gust * (rumble + 0.1 * howl_level * howl * gust**0.7 + leaves * gust)

    return moving_noise(performance, samples, gain)


def siren(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """An emergency vehicle: swept (wail, yelp) or two-tone horn, rich in harmonics, that drives past."""
    kind = source.choice(["wail", "wail", "yelp", "two_tone"])
    low_hz = source.uniform(480, 700)
    high_hz = low_hz * source.uniform(1.9, 2.5)
    period_s = {"wail": source.uniform(2.2, 4.5), "yelp": source.uniform(0.25, 0.4), "two_tone": 1.1}[kind]
    tone_ratio = source.uniform(1.26, 1.4)
    brightness = source.uniform(0.75, 0.92)
    horn_hz = source.uniform(1000, 1900)
    traffic_level = source.uniform(0.05, 0.2)

    t = time_axis(samples)
    phase = t / period_s + performance.uniform()
    if kind == "two_tone":
        step = signal.sosfiltfilt(
            signal.butter(1, 20, fs=SAMPLE_RATE_HZ, output="sos"), np.sign(np.sin(2 * np.pi * phase))
        )
        pitch_hz = low_hz * np.where(step > 0, 1.0, 1 / tone_ratio)
    else:
        # Charging and discharging of the tone generator: quick rise, slower fall.
        cycle = phase % 1.0
        swing = np.where(cycle < 0.4, cycle / 0.4, (1 - cycle) / 0.6)
        pitch_hz = low_hz * (high_hz / low_hz) ** (0.5 - 0.5 * np.cos(np.pi * swing))
    speed = performance.uniform(0.0, 0.06)
    passing_s = performance.uniform(0.3, 0.9) * t[-1]
    pitch_hz = pitch_hz * (1 - speed * np.tanh((t - passing_s) / 0.5))

    angle = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    # Cosines in phase make the sharp pulses of a driven horn; its own resonance lies on their strength.
    tone = np.zeros(samples)
    for harmonic in range(1, 13):
        hz = harmonic * pitch_hz
        horn = 0.3 + 1 / (1 + ((hz - horn_hz) / 900) ** 2)
        tone += (hz < 7500) * horn * brightness**harmonic * np.cos(harmonic * angle)
    traffic = shaped_noise(performance, samples, [(40, 0), (150, -3), (600, -16), (3000, -30), (8000, -45)])
    return unit(tone) + traffic_level * traffic


def church_bell(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """One to three cast bells: hum, prime, tierce, quint, nominal and more partials, beating in pairs."""
    bells = source.choice([1, 1, 2, 2, 3])
    prime_hz = source.uniform(380, 780) * np.array([1.0, 9 / 8, 5 / 4])
    # Partials of a minor-third bell over its prime up to the nominal; above, ring partials crowd together.
    named = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.51, 2.66, 3.01, 4.17, 5.43, 6.79, 8.21, 9.7])
    level = np.array([0.5, 0.7, 1.0, 0.4, 1.3, 0.6, 0.5, 1.1, 0.9, 0.7, 0.5, 0.4, 0.3])
    ratio = np.concatenate([np.tile(named, (3, 1)), source.uniform(2.2, 14.0, (3, 12))], axis=1)
    strength = np.concatenate([np.tile(level, (3, 1)), 3.0 / np.sqrt(ratio[:, len(named) :])], axis=1)
    ratio *= source.normal(1, 0.008, ratio.shape)
    strength *= source.lognormal(0, 0.4, ratio.shape)
    t60_s = source.uniform(8.0, 16.0) / (0.3 + 1.0 * ratio)
    split = source.uniform(0.0008, 0.004, ratio.shape)
    interval_s = source.uniform(0.3, 0.5) if bells > 2 else source.uniform(0.7, 1.4)
    clapper = source.uniform(0.1, 0.4)
    square_level = source.uniform(0.8, 2.0)
    square_t60_s = source.uniform(1.4, 2.2)
    square_noise = source.standard_normal(seconds(2.0))
    air_level = source.uniform(0.1, 0.4)

    blows = np.zeros((bells, samples))
    # Before the clip began the bells were ringing already.
    blows[:, 0] = performance.uniform(0.1, 0.4, bells)
    onset_s = performance.uniform(0.05, 0.4)
    bell = performance.integers(bells)
    while onset_s < samples / SAMPLE_RATE_HZ:
        blows[bell, min(seconds(onset_s), samples - 1)] = performance.uniform(0.7, 1.0)
        onset_s += interval_s * performance.normal(1, 0.04)
        bell = (bell + 1) % bells

    track = np.zeros(samples)
    for number in range(bells):
        for hz, level, decay_s, apart in zip(
            prime_hz[number] * ratio[number], strength[number], t60_s[number], split[number], strict=True
        ):
            track += level * (
                ring(blows[number], hz, decay_s) + 0.7 * ring(blows[number], hz * (1 + apart), decay_s)
            )
    clang = band(performance.standard_normal(seconds(0.08)), 1200, 7000) * burst(seconds(0.08), 0.0005, 0.06)
    blows[:, 0] = 0
    track += clapper * np.convolve(blows.sum(axis=0), clang)[:samples]
    # A bell is heard across the roofs around its tower: more echo than bell, and the air of the place.
    echo = square_noise * burst(seconds(2.0), 0.01, square_t60_s)
    air = shaped_noise(performance, samples, [(50, 0), (500, -10), (3000, -20), (8000, -30)])
    around = square_level * unit(signal.fftconvolve(track, echo)[:samples]) + air_level * air
    return track + np.std(track) * around


def engine(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """A four-stroke engine: uneven firing pulses through exhaust resonances, valve clatter, intake noise."""
    cylinders = source.choice([4, 4, 6, 8])
    rpm = source.uniform(900, 2100)
    imbalance = source.lognormal(0, 0.5, cylinders)
    exhaust_hz = np.sort(log_uniform(source, 100, 1300, 5))
    exhaust_level = source.uniform(0.4, 1.0, 5) * np.array([1.0, 0.9, 0.7, 0.5, 0.4])
    clatter_hz = source.uniform(1500, 4500, 2)
    clatter_level = source.uniform(0.08, 0.3)
    intake_level = source.uniform(0.1, 0.35)
    rev_depth = source.choice([0.02, 0.05, 0.35])
    road_level = source.uniform(0.2, 0.6)

    # Firing phase counts power strokes: `cylinders` of them every two turns of the crankshaft.
    speed = rpm * np.exp(rev_depth * np.abs(wander(performance, samples, 0.8)))
    strokes = np.cumsum(speed / 60 * cylinders / 2) / SAMPLE_RATE_HZ + performance.uniform()
    fired = np.flatnonzero(np.diff(np.floor(strokes)) > 0)
    jitter = performance.normal(0, 0.012 * SAMPLE_RATE_HZ * 60 * 2 / (rpm * cylinders), len(fired))
    at = np.clip(fired + np.round(jitter).astype(int), 0, samples - 1)
    cylinder = np.floor(strokes[fired]).astype(int) % cylinders
    pulses, valves = np.zeros(samples), np.zeros(samples)
    np.add.at(pulses, at, imbalance[cylinder] * performance.lognormal(0, 0.12, len(at)))
    np.add.at(valves, np.clip(at + seconds(0.006), 0, samples - 1), performance.lognormal(0, 0.4, len(at)))

    # Hot gas leaves turbulently, so every stroke carries noise that dies out within the stroke.
    puff = signal.lfilter([1.0], [1.0, -np.exp(-1 / seconds(0.008))], pulses)
    turbulent = puff * performance.standard_normal(samples)
    drive = signal.lfilter([1.0], [1.0, -0.9], pulses) + 0.5 * turbulent
    exhaust = 0.15 * unit(drive)
    for frequency_hz, level in zip(exhaust_hz, exhaust_level, strict=True):
        exhaust = exhaust + level * unit(resonate(drive, frequency_hz, 40 + 0.15 * frequency_hz))
    clatter = resonate(valves, clatter_hz[0], 300) + resonate(valves, clatter_hz[1], 450)
    intake = band(performance.standard_normal(samples), 300, 3000) * (0.4 + np.minimum(puff, 2))
    road = shaped_noise(performance, samples, [(30, 10), (100, 6), (500, 0), (3000, -12), (8000, -25)])
    return unit(exhaust) + clatter_level * unit(clatter) + intake_level * unit(intake) + road_level * road


def footsteps(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """A walker: heel, then sole rolling off; each is a thump of the floor and a crunch of tiny contacts."""
    surface = source.choice(["wood", "wood", "stone", "gravel"])
    pace_s = source.uniform(0.5, 0.72)
    roll_s = source.uniform(0.06, 0.12)
    # Floor modes (lowest, highest, T60), then level of thump, heel click and crunch, and contacts a second.
    low_hz, high_hz, t60_s, thump_level, click_level, crunch_level, contacts_per_s = {
        "wood": (110, 1400, 0.04, 0.7, 0.7, 0.5, 250),
        "stone": (150, 2500, 0.025, 0.7, 1.0, 0.5, 250),
        "gravel": (100, 1500, 0.03, 0.5, 0.6, 0.8, 400),
    }[surface]
    floor_hz = np.sort(log_uniform(source, low_hz, high_hz, 16))
    floor_t60_s = t60_s * source.lognormal(0, 0.3, 16)
    floor_level = source.lognormal(0, 0.4, 16) * (250 / (floor_hz + 150)) ** 0.6
    crunch_hz = log_uniform(source, 250, 6500, 7)
    crunch_level = crunch_level * source.uniform(0.7, 1.4)
    air_level = source.uniform(0.003, 0.012)

    heels, rustle = np.zeros(samples), np.zeros(samples)
    t = time_axis(samples)
    onset_s = performance.uniform(-0.2, pace_s - 0.2)
    foot = performance.integers(2)
    while onset_s < samples / SAMPLE_RATE_HZ + 0.1:
        force = performance.uniform(0.35, 1.0) * (1.0 if foot else 0.8)
        toe_s = onset_s + roll_s * performance.normal(1, 0.12)
        toe = force * performance.uniform(0.4, 0.9)
        for at_s, strength, width_s in ((onset_s, force, 0.014), (toe_s, toe, 0.04)):
            rustle += strength * (1 + ((t - at_s) / (width_s * performance.uniform(0.8, 1.3))) ** 2) ** -1.5
        soft = np.hanning(seconds(performance.uniform(0.001, 0.004)) + 2)
        add_at(heels, round(onset_s * SAMPLE_RATE_HZ), force * soft / soft.sum())
        soft = np.hanning(seconds(performance.uniform(0.004, 0.01)) + 2)
        add_at(heels, round(toe_s * SAMPLE_RATE_HZ), 0.6 * toe * soft / soft.sum())
        onset_s += pace_s * performance.normal(1, 0.08)
        foot = 1 - foot

    contacts = poisson_impulses(performance, samples, contacts_per_s, 1.0) * rustle
    crunch = np.zeros(samples)
    for hz in crunch_hz:
        crunch += resonate(contacts, hz, 0.6 * hz) * performance.lognormal(0, 0.1)
    crunch += 0.03 * band(performance.standard_normal(samples), 500, 5000) * rustle
    thump = np.zeros(samples)
    for hz, decay_s, level in zip(floor_hz, floor_t60_s, floor_level, strict=True):
        thump += level * ring(heels, hz, decay_s)
    click = band(np.abs(heels) * performance.standard_normal(samples), 1000, 6000)
    track = sum(
        level * part / (np.abs(part).max() + 1e-12)
        for level, part in ((thump_level, thump), (click_level, click), (crunch_level, crunch))
    )
    # Steps are faint, so a recording of them always has some air in it.
    air = shaped_noise(performance, samples, [(50, 0), (300, -6), (2000, -16), (8000, -30)])
    return track + air_level * np.abs(track).max() * air


def door_knock(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """Knuckles on a wooden door: groups of blows on a panel of many strongly damped modes."""
    modes = 128
    panel_hz = np.sort(log_uniform(source, 70, 2600, modes))
    corner_hz = source.uniform(250, 900)
    panel_level = source.lognormal(0, 0.5, modes) / (1 + (panel_hz / corner_hz) ** 1.5)
    panel_t60_s = source.uniform(0.05, 0.12) * (300 / panel_hz) ** 0.35 * source.lognormal(0, 0.3, modes)
    knocks = source.integers(3, 7)
    interval_s = source.uniform(0.18, 0.3)
    knuckle = source.uniform(0.1, 0.4)
    panel = damped_modes(
        panel_hz, panel_level * source.choice([-1.0, 1.0], modes), panel_t60_s, seconds(0.25)
    )
    panel /= np.abs(panel).max()

    track = np.zeros(samples)
    onset_s = performance.uniform(0.05, 0.4)
    while onset_s < samples / SAMPLE_RATE_HZ - 0.2:
        for _ in range(knocks):
            # A knuckle is a soft hammer of changing hardness, and the joints behind it land a moment later.
            hammer = np.zeros(seconds(0.012))
            softness = performance.integers(3, 10)
            hammer[:softness] = np.hanning(softness + 2)[1:-1]
            hammer[softness + performance.integers(20, 160) :][:1] += performance.uniform(0.1, 0.5)
            knock = np.convolve(panel, hammer / hammer.sum())
            click = band(performance.standard_normal(seconds(0.03)), 700, 6000) * burst(
                seconds(0.03), 0.0003, 0.02
            )
            add_at(knock, 0, knuckle * np.abs(knock).max() * click)
            add_at(track, seconds(onset_s), performance.uniform(0.5, 1.0) * knock)
            onset_s += interval_s * performance.normal(1, 0.12)
        onset_s += performance.uniform(0.8, 1.6)
    return track


def bird_song(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """A songbird: phrases of two or three kinds of frequency-modulated whistles (sweep, arch, trill)."""
    kinds = int(source.integers(2, 4))
    centre_hz = log_uniform(source, 2600, 5200, kinds)
    span = source.uniform(0.12, 0.45, kinds) * source.choice([-1.0, 1.0], kinds)
    length_s = log_uniform(source, 0.05, 0.22, kinds)
    arch = source.uniform(-0.25, 0.25, kinds)
    vibrato_hz = source.uniform(18, 50, kinds)
    vibrato = source.choice([0.0, 0.03, 0.07], kinds)
    overtone = source.uniform(0.02, 0.2)
    gap_s = source.uniform(0.03, 0.1)
    order = source.integers(0, kinds, 5)
    repeats = source.integers(1, 5, 5)
    loudness = source.uniform(0.35, 1.0, kinds)
    leaves_level = source.uniform(0.005, 0.02)

    track = leaves_level * shaped_noise(performance, samples, [(50, 0), (400, -8), (2000, -8), (8000, -16)])
    onset_s = performance.uniform(0.0, 0.4)
    while onset_s < samples / SAMPLE_RATE_HZ:
        transpose = performance.normal(1, 0.015)
        for kind, count in zip(order, repeats, strict=True):
            for _ in range(count):
                length = seconds(length_s[kind] * performance.normal(1, 0.06))
                u = np.linspace(0, 1, length)
                pitch_hz = (
                    centre_hz[kind] * transpose * (1 + span[kind] * (u - 0.5) + arch[kind] * 4 * u * (1 - u))
                )
                pitch_hz *= 1 + vibrato[kind] * np.sin(2 * np.pi * vibrato_hz[kind] * time_axis(length))
                angle = 2 * np.pi * np.cumsum(np.clip(pitch_hz, 1200, 7600)) / SAMPLE_RATE_HZ
                voice = np.sin(angle) + overtone * np.sin(2 * angle) * (pitch_hz < 3900)
                voice *= np.sin(np.pi * u) ** 0.7 * loudness[kind] * performance.uniform(0.7, 1.0)
                add_at(track, seconds(onset_s), voice)
                onset_s += length_s[kind] + gap_s * performance.uniform(0.7, 1.4)
        onset_s += performance.uniform(0.2, 0.7)
    return track


def clock_tick(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """A mechanical clock: tick and tock alternate; each is three sharp clicks of the escapement on a case."""
    interval_s = source.choice([0.2, 0.25, 0.4, 0.5, 0.5, 1.0]) * source.uniform(0.96, 1.04)
    case_spectrum = [
        (150, -30),
        (source.uniform(500, 1200), source.uniform(-8, 0)),
        (source.uniform(1800, 3200), 0),
        (source.uniform(4000, 6000), source.uniform(-8, 4)),
        (8000, -8),
    ]
    case_t60_s = source.uniform(0.008, 0.025)
    gear_hz = log_uniform(source, 1200, 6500, 4)
    gear_level = source.uniform(0.05, 0.35)
    gear_t60_s = source.uniform(0.01, 0.03, 4)
    drops_s = np.concatenate([[0.0], np.sort(source.uniform(0.004, 0.035, 2))])
    drop_level = source.uniform(0.25, 1.0, 3)
    limp = source.uniform(-0.04, 0.04)
    air_level = source.uniform(0.002, 0.015)

    # The case answers a click with a burst of modes so dense that it is a fixed piece of noise. Tick and tock
    # are two different pieces, because the pallet strikes from two sides.
    ticks = []
    for _ in range(2):
        tick = np.zeros(seconds(0.12))
        body = shaped_noise(source, 800, case_spectrum) * burst(800, 0.0003, case_t60_s)
        body += gear_level * damped_modes(gear_hz, np.ones(4), gear_t60_s, 800)
        for at_s, level in zip(drops_s, drop_level, strict=True):
            add_at(tick, seconds(at_s), level * body)
        ticks.append(tick)

    track = np.zeros(samples)
    side = performance.integers(2)
    onset_s = performance.uniform(0.0, interval_s)
    while onset_s < samples / SAMPLE_RATE_HZ:
        add_at(track, seconds(onset_s), ticks[side] * performance.uniform(0.85, 1.0))
        onset_s += interval_s * (1 + (limp if side else -limp)) + performance.normal(0, 0.0008)
        side = 1 - side
    # Clocks are faint, so a recording of them always has some air in it.
    air = shaped_noise(performance, samples, [(50, 0), (300, -6), (2000, -12), (8000, -20)])
    return track + air_level * np.abs(track).max() * air


def dog_bark(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """Barks: a rough glottal tone that rises and falls while the mouth opens and shuts, with breath noise."""
    pitch_hz = log_uniform(source, 420, 880)
    # Small dogs have short vocal tracks, so formants go up with pitch.
    tract = (pitch_hz / 600) ** 0.4
    formants_hz = tract * np.array([650, 1250, 2400, 3600]) * source.normal(1, 0.07, 4)
    widths_hz = np.array([130, 180, 220, 280]) * source.uniform(0.8, 1.3)
    length_s = source.uniform(0.12, 0.19)
    roughness = source.uniform(0.05, 0.4)
    breath = source.uniform(0.2, 0.7)
    barks = source.integers(1, 4)
    interval_s = source.uniform(0.3, 0.5)

    def mouth(hz: np.ndarray, opening: np.ndarray) -> np.ndarray:
        gain = np.zeros(np.broadcast_shapes(hz.shape, opening.shape))
        for number, (centre, width) in enumerate(zip(formants_hz, widths_hz, strict=True)):
            moving = centre * (0.5 + 0.5 * opening if number < 2 else 0.9 + 0.1 * opening)
            gain = gain + 0.45**number / (1 + ((hz - moving) / width) ** 2)
        return gain / (1 + (hz / 2200) ** 4)

    def bark() -> np.ndarray:
        length = seconds(length_s * performance.normal(1, 0.12))
        u = np.linspace(0, 1, length)
        opening = np.sin(np.pi * u**0.6) ** 0.6
        contour = pitch_hz * performance.normal(1, 0.05) * (0.5 + 0.6 * np.sin(np.pi * u**0.6))
        contour *= 1 + 0.02 * wander(performance, length, 80)
        angle = 2 * np.pi * np.cumsum(contour) / SAMPLE_RATE_HZ
        voice = np.zeros(length)
        for harmonic in range(1, 16):
            hz = harmonic * contour
            voice += (hz < 7500) * mouth(hz, opening) * harmonic**-0.3 * np.sin(harmonic * angle)
        # Every second glottal pulse is weaker in an excited bark: an octave-down roughness.
        voice *= 1 + roughness * np.sin(angle / 2 + wander(performance, length, 60))
        noise = moving_noise(
            performance, length, lambda hz, time_s: mouth(hz, np.interp(time_s, time_axis(length), opening))
        )
        envelope = np.minimum(u / 0.1, 1) * (1 - u) ** 1.1
        return (unit(voice) + breath * unit(noise)) * envelope

    track = np.zeros(samples)
    onset_s = performance.uniform(0.03, 0.4)
    while onset_s < samples / SAMPLE_RATE_HZ - 0.1:
        for _ in range(barks):
            add_at(track, seconds(onset_s), bark() * performance.uniform(0.7, 1.0))
            onset_s += interval_s * performance.normal(1, 0.08)
        onset_s += performance.uniform(0.2, 0.6)
    return track


def glass_breaking(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """A pane or a bottle: a crack, then a cascade of shards that ring at high inharmonic modes."""
    bins = 24
    lowest_hz = source.uniform(900, 3000)
    modes_hz = log_uniform(source, lowest_hz, 7800, 4 * bins)
    modes_t60_s = source.uniform(0.1, 0.25) * (3500 / modes_hz) ** 0.5 * source.lognormal(0, 0.6, 4 * bins)
    shards_per_s = source.uniform(150, 400)
    cascade_s = source.uniform(0.25, 0.6)
    crash_t60_s = source.uniform(0.4, 1.0)
    crash_level = source.uniform(2.0, 5.0)
    crash_tilt_db = source.uniform(-10, 5)
    pane_hz = source.uniform(180, 900, 6)
    pane_level = source.uniform(0.3, 1.0)
    pause_s = source.uniform(1.4, 2.2)

    track = np.zeros(samples)
    hits = np.zeros((bins, samples))
    onset_s = performance.uniform(0.05, 0.5)
    while onset_s < samples / SAMPLE_RATE_HZ - 0.3:
        onset, force = seconds(onset_s), performance.uniform(0.7, 1.0)
        # Thousands of fractures are too many to ring one by one: together they are noise with a grain.
        crash = shaped_noise(
            performance, seconds(0.9), [(150, -16), (lowest_hz, -2), (3500, 0), (8000, crash_tilt_db)]
        )
        crash *= burst(len(crash), 0.0005, crash_t60_s) * np.exp(0.6 * wander(performance, len(crash), 90))
        add_at(track, onset, force * crash_level * crash)
        pane = damped_modes(pane_hz, performance.lognormal(0, 0.3, 6), np.full(6, 0.07), seconds(0.12))
        add_at(track, onset, force * pane_level * pane)
        hits[:, min(onset, samples - 1)] += force * performance.lognormal(0, 0.4, bins)
        # Shards hit the floor and each other: dense at first, then a few last tinkles of smaller pieces.
        count = performance.poisson(shards_per_s * cascade_s)
        late_s = 0.02 + performance.gamma(1.2, cascade_s / 1.2, count)
        at = onset + (late_s * SAMPLE_RATE_HZ).astype(int)
        strength = force * performance.lognormal(-0.5, 0.8, count) * np.exp(-late_s / 0.7)
        inside = at < samples
        np.add.at(hits, (performance.integers(0, bins, count)[inside], at[inside]), strength[inside])
        onset_s += pause_s * performance.uniform(0.8, 1.3)
    for mode, (hz, t60_s) in enumerate(zip(modes_hz, modes_t60_s, strict=True)):
        track += 0.5 * ring(hits[mode % bins], hz, t60_s)
    return track


def helicopter(source: Generator, performance: Generator, samples: int) -> np.ndarray:
    """Main-rotor blade slaps that chop low noise, a tail-rotor buzz and a faint turbine whine."""
    slap_hz = source.uniform(15, 27)
    slap_t60_s = source.uniform(0.03, 0.07)
    slap_corner_hz = source.uniform(500, 1100)
    tail_hz = slap_hz * source.uniform(4.2, 6.2)
    tail_level = source.uniform(0.01, 0.06)
    whine_hz = source.uniform(2500, 5500)
    whine_level = source.uniform(0.001, 0.006)
    chop = source.uniform(0.5, 0.9)
    wash_level = source.uniform(0.3, 0.8)
    unequal = source.lognormal(0, 0.12, 4)

    wobble = 1 + 0.006 * wander(performance, samples, 0.7)
    turns = np.cumsum(slap_hz * wobble) / SAMPLE_RATE_HZ + performance.uniform()
    at = np.flatnonzero(np.diff(np.floor(turns)) > 0)
    slaps = np.zeros(samples)
    slaps[at] = unequal[np.arange(len(at)) % 4] * performance.lognormal(0, 0.1, len(at))
    # A blade that meets the vortex of the one before it gives a thump of low noise.
    pulse = burst(seconds(0.15), 0.008, slap_t60_s * 2.5)
    envelope = np.convolve(slaps, pulse)[:samples]
    thump = shaped_noise(
        performance,
        samples,
        [(30, 0), (120, 2), (slap_corner_hz, -4), (2.5 * slap_corner_hz, -18), (8000, -48)],
    )
    cycle = 0.5 + 0.5 * np.cos(2 * np.pi * turns - 1.0)
    wash = shaped_noise(performance, samples, [(40, -6), (200, 0), (700, -4), (2500, -12), (8000, -30)])
    wash *= (1 - chop) + chop * cycle**2
    angle = 2 * np.pi * np.cumsum(tail_hz * wobble) / SAMPLE_RATE_HZ
    tail = np.sum([np.sin(k * angle) / k for k in range(1, 7)], axis=0)
    whine_angle = 2 * np.pi * np.cumsum(whine_hz * wobble) / SAMPLE_RATE_HZ
    whine = np.sin(whine_angle) + 0.5 * np.sin(1.31 * whine_angle)
    return unit(thump * envelope) + wash_level * unit(wash) + tail_level * unit(tail) + whine_level * whine


# In the order of `soundbox.CLASSES`.
MODELS: dict[str, Model] = {
    "rain": rain,
    "wind": wind,
    "siren": siren,
    "church_bell": church_bell,
    "engine": engine,
    "footsteps": footsteps,
    "door_knock": door_knock,
    "bird_song": bird_song,
    "clock_tick": clock_tick,
    "dog_bark": dog_bark,
    "glass_breaking": glass_breaking,
    "helicopter": helicopter,
}


# --- the recording: room, microphone, dynamics, level ---

DURATION_S = (2.0, 4.0)
RMS_DBFS = (-34.0, -22.0)
CREST_DB = (13.5, 18.0)  # with the loudest RMS this still leaves 4 dB below full scale
SNR_DB = (10.0, 32.0)


def render(
    class_label: str, source: Generator, place: Generator, performance: Generator, capture: Generator
) -> np.ndarray:
    """One clip of a class, float32 [T], peak below 1.

    `source` and `place` (room and microphone) belong to a recording, `performance` and `capture` (duration,
    noise, level) to a take. Every draw of `capture` and `place` is from distributions that all classes share.
    """
    samples = round(capture.uniform(*DURATION_S) * SAMPLE_RATE_HZ)
    dry = MODELS[class_label](source, performance, samples)
    crest_target_db = capture.uniform(*CREST_DB)
    # Limiting comes before the room (it would lift the reverberation) and once more, gently, at the very end.
    clip = record(set_crest(dry, crest_target_db), place)
    clip = clip / rms(clip) + background(capture, place, samples)
    clip = set_crest(clip, crest_target_db)
    clip = clip / rms(clip) * 10 ** (capture.uniform(*RMS_DBFS) / 20)
    return clip.astype(np.float32)


def rms(clip: np.ndarray) -> float:
    """Root mean square of a clip [T]."""
    return float(np.sqrt(np.mean(np.square(clip))) + 1e-12)


def record(dry: np.ndarray, place: Generator) -> np.ndarray:
    """Put a source [T] into the room and before the microphone that `place` draws, [T]."""
    t60_s = place.uniform(0.1, 0.4)
    wet = place.uniform(0.03, 0.15)
    low_cut_hz, high_cut_hz = place.uniform(35, 90), place.uniform(6500, 7800)
    tilt = place.uniform(-0.15, 0.15)

    t = time_axis(round(t60_s * SAMPLE_RATE_HZ))
    tail = place.standard_normal(len(t)) * np.exp(-6.908 * t / t60_s)
    tail[: round(0.004 * SAMPLE_RATE_HZ)] = 0
    response = wet * tail / np.linalg.norm(tail)
    response[0] = 1.0
    clip = signal.fftconvolve(dry, response)[: len(dry)]
    clip = signal.lfilter([1.0, tilt], [1.0], clip)
    sos = signal.butter(1, (low_cut_hz, high_cut_hz), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, clip)


def background(capture: Generator, place: Generator, samples: int) -> np.ndarray:
    """Room tone below a source of RMS 1, [T]; its colour belongs to the place, its level to the take."""
    slope_db = place.uniform(-9.0, -3.0)  # a decade of frequency spans 3.3 octaves
    tone = shaped_noise(capture, samples, [(50, 0.0), (8000, 7.3 * slope_db)])
    return tone * 10 ** (-capture.uniform(*SNR_DB) / 20)


def set_crest(clip: np.ndarray, target_db: float) -> np.ndarray:
    """Bring the crest factor (peak over RMS) of a clip [T] to `target_db` without clipping it.

    Impulsive clips go through a look-ahead limiter; steady ones swell, as of a source that passes by. The
    strength of either is found by bisection. Without this, crest alone would tell knocks from rain.
    """
    peak, loudest = np.abs(clip).max(), np.abs(clip).argmax()
    if crest_db(clip) > target_db:
        # The maximum over the window lets no peak through; smoothing it keeps the gain from buzzing.
        window = round(0.0015 * SAMPLE_RATE_HZ)
        level = ndimage.maximum_filter1d(np.abs(clip), 2 * window)
        level = ndimage.uniform_filter1d(level, window)

        def shape(strength: float) -> np.ndarray:
            return clip * np.minimum(1.0, peak * 10 ** (-3 * strength) / (level + 1e-9 * peak))

        def too_weak(track: np.ndarray) -> bool:
            return crest_db(track) > target_db
    else:
        # Sound pressure falls with distance. The loudest moment is the nearest, so a slow passage is enough.
        away_s = time_axis(len(clip)) - loudest / SAMPLE_RATE_HZ

        def shape(strength: float) -> np.ndarray:
            nearest_s = 10 ** (1 - 3 * strength)
            return clip / np.sqrt(1 + (away_s / nearest_s) ** 2)

        def too_weak(track: np.ndarray) -> bool:
            return crest_db(track) < target_db

    weak, strong = 0.0, 1.0
    for _ in range(10):
        middle = (weak + strong) / 2
        weak, strong = (middle, strong) if too_weak(shape(middle)) else (weak, middle)
    return shape(strong)


def crest_db(clip: np.ndarray) -> float:
    """Peak over RMS of a clip [T], in dB."""
    return float(20 * np.log10(np.abs(clip).max() / rms(clip)))
