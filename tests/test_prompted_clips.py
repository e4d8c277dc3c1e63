"""Shards of clips from prompts: seeds, checks, retries, the cache, kills; and levels of clips."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from foley import tables
from foley.audio.decode import decode_flac, to_pcm16
from foley.audio.loudness import k_weighting, loudness_lufs, rms_db
from foley.audio.store import iter_waveforms
from foley.generators.audio.noise import Noise, NoiseOptions
from foley.generators.audio.prompted import PretrainedGenerator, PromptedOptions
from foley.prompts.protocol import Prompt
from foley.runtime.seeds import derive
from foley.studies.audio.generate_prompted import Asked, generate_prompted, wanted_clips
from foley.studies.audio.prompted_clip import fault_of
from foley.tables.audio_studies import GENERATION_COST, REJECTED_SYNTHETIC, SYNTHETIC_CLIPS
from foley.tables.prompts import PROMPTS
from tiny_audiocraft import write_tiny_audiocraft

RATE_HZ = 8000
CLASSES = {"dog": 2, "sea/waves": 7}
TEXTS = {"dog": ["a dog", "a dog barks"], "sea/waves": ["the sea"]}


def write_prompts(path: Path, texts: dict[str, list[str]] = TEXTS) -> Path:
    prompts = [
        Prompt(CLASSES[label], label, position, "words", text)
        for label, own in texts.items()
        for position, text in enumerate(own)
    ]
    rows = [
        {
            "class_id": p.class_id, "position": p.position, "prompt_id": p.prompt_id, "label": p.label,
            "strategy": p.strategy, "text": p.text, "words": [],
        }
        for p in prompts
    ]  # fmt: skip
    tables.write(path, PROMPTS, rows)
    return path


@dataclass(frozen=True, kw_only=True)
class ScriptedOptions(PromptedOptions):
    scale: float = 1.0
    candidates: int = 1


class Scripted(PretrainedGenerator):
    """Tones of 0.5 s at a pitch that follows from prompt and seed, and what ``instead`` makes of a seed."""

    sample_rate_hz = RATE_HZ
    model_id, model_revision = "scripted", None

    def __init__(self, instead: Any = None, channels: int = 1, **options: Any) -> None:
        super().__init__(ScriptedOptions(**{"duration_s": 0.5, "batch_size": 2, **options}))
        self.instead, self.channels = instead or (lambda seed: None), channels
        self.drawn: list[int] = []

    def identity(self) -> dict[str, Any]:
        return {"dtype": "torch.float32"}

    def facts(self) -> dict[str, Any]:
        return {"sampler": "none", "steps": 3, "guidance": 2.0}

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [len(prompt.split()) for prompt in prompts]

    def tone(self, prompt: str, seed: int) -> torch.Tensor:
        found = self.instead(seed)
        if found is not None:
            return torch.as_tensor(found, dtype=torch.float32).expand(self.channels, -1)
        pitch = 200 + derive(seed, prompt) % 2000
        phase = 2 * math.pi * pitch * torch.arange(round(0.5 * RATE_HZ)) / RATE_HZ
        return self.options.scale * torch.stack([torch.sin(phase) / (2 + n) for n in range(self.channels)])

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> torch.Tensor:
        self.drawn += seeds
        return torch.stack([self.tone(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)])


class ScriptedRanking(Scripted):
    def candidates(self) -> int:
        return self.options.candidates

    def scores(self, prompts: Sequence[str], audio: torch.Tensor) -> list[float]:
        """By pitch."""
        spectrum = torch.fft.rfft(audio[:, 0]).abs()
        return (spectrum.argmax(1) / 1000).tolist()


def shard(
    folder: Path, generator: Any, clips_per_class: int = 3, part: slice = slice(None), **more: Any
) -> pa.Table:
    """The rows of a shard; its other tables lie beside."""
    folder.mkdir(exist_ok=True)
    asked = Asked("gen", "words")
    wanted = wanted_clips(write_prompts(folder / "prompts"), CLASSES, asked, clips_per_class, seed=5)
    given: dict[str, Any] = {"cache": folder.parent / "cache", "code": "code", **more}
    generate_prompted(
        folder / "clips", folder / "rejected", folder / "cost", generator=generator, asked=asked, wanted=wanted[part],
        **given,
    )  # fmt: skip
    return tables.read(folder / "clips", SYNTHETIC_CLIPS)


def first_seed(label: str, number: int) -> int:
    return derive(5, "prompted", label, number)


def test_every_clip_is_that_of_its_prompt_and_seed(tmp_path: Path) -> None:
    rows = shard(tmp_path / "a", Scripted()).to_pylist()
    assert [row["clip_id"] for row in rows] == [
        f"gen:words:{label}:{number:05d}" for label in CLASSES for number in range(3)
    ]
    for row in rows:
        number = int(row["clip_id"][-5:])
        text = TEXTS[row["label"]][number % len(TEXTS[row["label"]])]
        seed = first_seed(row["label"], number)
        assert (row["prompt"], row["seed"], row["class_id"]) == (text, seed, CLASSES[row["label"]])
        assert row["prompt_id"] == Prompt(0, row["label"], 0, "words", text).prompt_id
        samples = Scripted().tone(text, seed)[0].numpy()
        np.testing.assert_array_equal(
            decode_flac(row["audio"]["bytes"]), to_pcm16(samples) / np.float32(32768)
        )
        assert "/" not in row["audio"]["path"]
        assert row["peak"] == pytest.approx(np.abs(samples).max())
        assert row["rms_db"] == pytest.approx(20 * math.log10(0.5 / 2**0.5), abs=0.1)
        assert row["loudness_lufs"] == pytest.approx(row["rms_db"], abs=4)
        assert (row["method"], row["attempts"], row["channels"], row["candidates"]) == (
            "prompted",
            1,
            1,
            None,
        )
        assert (row["sampler"], row["steps"], row["guidance"], row["model_id"]) == (
            "none",
            3,
            2.0,
            "scripted",
        )
        assert (row["duration_s"], row["sample_rate_hz"]) == (0.5, RATE_HZ)
    ids = [
        name
        for names, _, rate in iter_waveforms(tmp_path / "a" / "clips")
        for name in names
        if rate == RATE_HZ
    ]
    assert ids == [row["clip_id"] for row in rows]
    cost = tables.read(tmp_path / "a" / "cost", GENERATION_COST).to_pylist()
    assert [(c["device"], c["clips"], c["drawn"], c["rejected"], c["audio_s"]) for c in cost] == [
        ("cpu", 6, 6, 0, 3.0)
    ]
    assert cost[0]["precision"] == "float32" and cost[0]["seconds"] > 0


def test_stereo_is_mixed_and_levels_are_kept(tmp_path: Path) -> None:
    row = shard(tmp_path / "a", Scripted(channels=2, scale=1.5)).to_pylist()[0]
    # The mean of 1/2 and 1/3 of a sine.
    assert (row["channels"], row["peak"]) == (2, pytest.approx(1.5 * 5 / 12, rel=1e-2))
    samples = decode_flac(row["audio"]["bytes"])
    assert samples.ndim == 1 and rms_db(samples) == pytest.approx(row["rms_db"], abs=1e-2)


def test_shards_and_sizes_of_batches_change_no_clip(tmp_path: Path) -> None:
    whole = shard(tmp_path / "a", Scripted()).to_pylist()
    parts = [
        shard(
            tmp_path / f"b{n}", Scripted(batch_size=5), part=slice(n, None, 3), cache=tmp_path / "other"
        ).to_pylist()
        for n in range(3)
    ]
    assert sorted((row for part in parts for row in part), key=lambda row: row["clip_id"]) == whole


# Checks


def test_a_faulty_clip_is_drawn_again_from_its_own_row_of_seeds(tmp_path: Path) -> None:
    first, again = first_seed("dog", 1), derive(first_seed("dog", 1), "again", 1)
    instead = {
        first: np.zeros(4000),
        again: np.full(4000, np.nan),
        first_seed("sea/waves", 0): np.full(4000, 0.4),
    }
    generator = Scripted(instead.get)
    rows = {row["clip_id"]: row for row in shard(tmp_path / "a", generator).to_pylist()}
    assert rows["gen:words:dog:00001"]["attempts"] == 3
    assert rows["gen:words:dog:00001"]["seed"] == derive(first, "again", 2)
    # Nothing but direct current is silent, too.
    assert rows["gen:words:sea/waves:00000"]["attempts"] == 2
    assert sum(row["attempts"] for row in rows.values()) == 9 == len(generator.drawn)
    assert tables.read(tmp_path / "a" / "rejected", REJECTED_SYNTHETIC).num_rows == 0
    assert tables.read(tmp_path / "a" / "cost", GENERATION_COST)["drawn"].to_pylist() == [9]


def test_a_clip_that_fails_all_its_attempts_is_refused_with_the_reason(tmp_path: Path) -> None:
    first = first_seed("dog", 1)
    seeds = [first, *(derive(first, "again", n) for n in range(1, 3))]
    loud = 3 * np.sin(np.arange(4000))
    generator = Scripted(dict.fromkeys(seeds, loud).get, attempts=3)
    rows = shard(tmp_path / "a", generator).to_pylist()
    assert len(rows) == 5 and all(row["clip_id"] != "gen:words:dog:00001" for row in rows)
    (refused,) = tables.read(tmp_path / "a" / "rejected", REJECTED_SYNTHETIC).to_pylist()
    assert (refused["clip_id"], refused["reason"], refused["attempts"]) == (
        "gen:words:dog:00001",
        "clipped",
        3,
    )
    assert (refused["seed"], refused["prompt"]) == (seeds[-1], "a dog barks")
    share = float((np.abs(loud) >= 0.999).mean())
    assert refused["detail"].startswith(f"{share:.1%} of the samples")
    # The cache remembers it: nothing is tried again.
    generator.drawn.clear()
    assert shard(tmp_path / "b", generator).to_pylist() == rows and generator.drawn == []
    relaxed = Scripted(dict.fromkeys(seeds, loud).get, attempts=3, max_clipped=0.95)
    kept = shard(tmp_path / "c", relaxed).to_pylist()
    assert len(kept) == 6 and max(row["peak"] for row in kept) == pytest.approx(3, rel=1e-4)


def test_too_many_refused_clips_fail_the_job_and_write_nothing(tmp_path: Path) -> None:
    silent = Scripted(lambda seed: np.zeros(4000), attempts=2)
    with pytest.raises(
        ValueError, match=r"6 of 6 clips failed 2 attempts each.*`gen:words:dog:00000`, silent"
    ):
        shard(tmp_path / "a", silent)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["prompts"]
    assert len(silent.drawn) == 12
    allowed = Scripted(lambda seed: np.zeros(4000), attempts=2, max_rejected=1.0)
    assert shard(tmp_path / "a", allowed).num_rows == 0 and allowed.drawn == []


def test_faults_are_told_apart() -> None:
    tone = 0.5 * np.sin(np.arange(1000, dtype=np.float32))[None]
    assert fault_of(tone, 0.01) is None
    assert fault_of(tone + np.float32(0.2), 0.01) is None
    for audio, reason in (
        (0 * tone, "silent"),
        (tone * 1e-4, "silent"),
        (tone * 5, "clipped"),
        (tone / 0, "not_finite"),
    ):
        fault = fault_of(audio, 0.01)
        assert fault is not None and fault[0] == reason
    # What two channels cancel out is heard by nobody in the mix.
    assert (fault_of(np.concatenate([tone, -tone]), 0.01) or ("",))[0] == "silent"


def test_a_class_without_prompts_is_named(tmp_path: Path) -> None:
    path = write_prompts(tmp_path / "prompts", {"dog": ["a dog"]})
    with pytest.raises(ValueError, match="has no prompt for class `sea/waves`"):
        wanted_clips(path, CLASSES, Asked("gen", "words"), 1, 0)
    with pytest.raises(ValueError, match="clips_per_class 0"):
        wanted_clips(path, {"dog": 2}, Asked("gen", "words"), 0, 0)


def test_the_best_candidate_stays_and_says_so(tmp_path: Path) -> None:
    generator = ScriptedRanking(candidates=4, batch_size=8)
    rows = shard(tmp_path / "a", generator).to_pylist()
    for row in rows:
        first = first_seed(row["label"], int(row["clip_id"][-5:]))
        seeds = [derive(first, "candidate", n) for n in range(4)]
        pitch = {seed: 200 + derive(seed, row["prompt"]) % 2000 for seed in seeds}
        assert row["seed"] == max(pitch, key=lambda seed: pitch[seed])
        assert (row["candidate_rank"], row["candidates"]) == (0, 4)
        assert row["candidate_score"] == pytest.approx(max(pitch.values()) / 2 / 1000, abs=1e-3)
    # A candidate that will not do is not chosen, and one that will do is enough.
    best = {row["seed"] for row in rows}
    faulty = ScriptedRanking(lambda seed: np.zeros(4000) if seed in best else None, candidates=4, attempts=1)
    others = shard(tmp_path / "b", faulty, code="other").to_pylist()
    assert len(others) == 6 and not best & {row["seed"] for row in others}
    assert tables.read(tmp_path / "b" / "cost", GENERATION_COST)["drawn"].to_pylist() == [24]


# The cache


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    shard(tmp_path / "a", Scripted())
    more = Scripted(batch_size=7, max_rejected=0.5)
    rows = shard(tmp_path / "b", more, clips_per_class=5).to_pylist()
    assert len(rows) == 10 and len(more.drawn) == 4
    assert rows == shard(tmp_path / "c", Scripted(), clips_per_class=5, cache=tmp_path / "d").to_pylist()
    for other, code in (
        (Scripted(scale=0.5), "code"),
        (Scripted(), "new"),
        (Scripted(duration_s=0.25), "code"),
    ):
        shard(tmp_path / "e", other, code=code)
        assert len(other.drawn) == 6


def test_code_that_checks_or_encodes_a_clip_belongs_to_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foley.runtime import code
    from foley.studies.audio import prompted_clip

    library = tmp_path / "foley"
    shutil.copytree(code.LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "LIBRARY", library)
    target = "foley.generators.audio.noise:Noise"
    before = prompted_clip.code_of_clips(target)
    assert prompted_clip.code_of_clips("foley.generators.audio.audioldm:AudioLDM") != before
    for file, old, new in (
        ("studies/audio/prompted_clip.py", "CLIPPED_AT = 0.999", "CLIPPED_AT = 0.9"),
        ("studies/audio/prompted_clip.py", '"candidate", number', '"candidates", number'),
        ("audio/loudness.py", "def rms_db", "def  rms_db"),
        ("audio/decode.py", "def to_pcm16", "def  to_pcm16"),
        ("generators/audio/noise.py", "class Noise", "class  Noise"),
    ):
        text = (library / file).read_text()
        assert old in text
        (library / file).write_text(text.replace(old, new))
        assert prompted_clip.code_of_clips(target) != before, file
        (library / file).write_text(text)
    # What writes the tables changes no clip.
    (library / "studies" / "audio" / "generate_prompted.py").write_text("")
    assert prompted_clip.code_of_clips(target) == before


def test_a_damaged_file_of_the_cache_costs_time_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = shard(tmp_path / "a", Scripted()).to_pylist()
    files = sorted((tmp_path / "cache").rglob("*.parquet"))
    assert len(files) == 4  # two dogs, a dog that barks, two seas, a sea
    files[0].write_bytes(files[0].read_bytes()[:-20])
    again = Scripted()
    assert shard(tmp_path / "b", again).to_pylist() == rows
    assert 1 <= len(again.drawn) <= 2 and "its clips are made again" in caplog.text


def test_killed_ten_times_no_clip_is_lost_doubled_or_changed(tmp_path: Path) -> None:
    from foley.generators.audio.audiogen import AudioGen

    torch.set_num_threads(1)  # threads do not survive a fork
    options = AudioGen.Options(
        model=str(write_tiny_audiocraft(tmp_path / "model")),
        duration_s=0.1,
        batch_size=2,
        precision="bfloat16",
    )
    generator = AudioGen(options)
    expected = shard(tmp_path / "whole", generator, clips_per_class=15, cache=tmp_path / "none").to_pylist()
    cache, dice, kills = tmp_path / "cache", random.Random(0), 0
    while kills < 10:
        before = sum(1 for _ in cache.rglob("*.parquet"))
        child = os.fork()
        if child == 0:
            try:
                shard(tmp_path / "killed", generator, clips_per_class=15)
            finally:
                os._exit(0)
        # In the midst of some batch, after one at least.
        deadline = time.monotonic() + 60
        while sum(1 for _ in cache.rglob("*.parquet")) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), "it was done before it could be killed: give it more clips"
        assert not (tmp_path / "killed" / "clips").exists()
        kills += 1
    survived = sum(tables.read(path)["key"].length() for path in cache.rglob("*.parquet"))
    assert 20 <= survived < 30
    rows = shard(tmp_path / "killed", generator, clips_per_class=15).to_pylist()
    assert rows == expected
    keys = [key for path in cache.rglob("*.parquet") for key in tables.read(path)["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == 30


def test_noise_writes_a_shard_that_no_prompt_matters_to(tmp_path: Path) -> None:
    generator = Noise(NoiseOptions(duration_s=0.5, sample_rate_hz=RATE_HZ))
    rows = shard(tmp_path / "a", generator).to_pylist()
    assert {row["model_id"] for row in rows} == {"noise"}
    assert len({row["audio"]["bytes"] for row in rows}) == 6
    assert np.std([row["rms_db"] for row in rows]) > 1


# Levels


def test_k_weighting_is_that_of_the_standard() -> None:
    # ITU-R BS.1770-4, tables 1 and 2, for 48 kHz.
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(48_000), [shelf, high_pass], atol=1e-10)


@pytest.mark.parametrize("rate", [16_000, 32_000, 48_000])
def test_a_full_scale_sine_has_minus_three_lufs(rate: int) -> None:
    # BS.1770-4: a 0 dB FS sine of 997 Hz on one channel reads -3.01 LKFS.
    sine = np.sin(2 * np.pi * 997 * np.arange(3 * rate) / rate)
    assert loudness_lufs(sine, rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(0.1 * sine, rate) == pytest.approx(-23.01, abs=0.05)
    # Half a clip of silence is gated out, where root mean square counts it.
    half = np.concatenate([sine, np.zeros(3 * rate)])
    assert loudness_lufs(half, rate) == pytest.approx(-3.2, abs=0.3)
    assert rms_db(half) == pytest.approx(-6.02, abs=0.01)


def test_what_has_no_loudness_has_none() -> None:
    assert loudness_lufs(np.ones(1000, np.float32), 16_000) is None
    assert loudness_lufs(np.zeros(16_000, np.float32), 16_000) is None
    assert loudness_lufs(np.ones(4000, np.float32), 2000) is None
    assert rms_db(np.zeros(10, np.float32)) == -math.inf
