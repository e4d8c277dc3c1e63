"""Running generators through tables: training, sampling, interpolating, and the probe and prompts on what comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from foley import tables
from foley.audio.decode import decode_flac, encode_flac, resample, to_pcm16
from foley.audio.store import iter_waveforms
from foley.classifiers.cnn import LogMelCNN, LogMelCNNOptions, SmallCNN, SmallCNNOptions
from foley.encoders.clap import ClapEncoder
from foley.generators.audio import mel_diffusion
from foley.generators.audio.interpolation import interpolate
from foley.generators.audio.mel import MelOptions
from foley.generators.audio.mel_diffusion import MelDiffusion, MelDiffusionOptions
from foley.runtime.seeds import derive
from foley.studies.audio import interpolate as interpolate_module
from foley.studies.audio.arms import model_file
from foley.studies.audio.generate import REDRAWS, Origin, Sampling, generate_shard
from foley.studies.audio.interpolate import interpolate_clips
from foley.studies.audio.prompted import prompt_real, prompt_synthetic
from foley.studies.audio.recognise import recognise_clips
from foley.studies.audio.train_generator import labels_of, train_generator
from foley.tables.audio_studies import (
    AUDIO_PARTITION,
    PROBE_EMBEDDINGS,
    PROMPTED,
    RECOGNISED,
    REJECTED_SYNTHETIC,
    SYNTHETIC_CLIPS,
)
from foley.tables.classes import CLASSES
from foley.tables.clips import AUDIO
from foley.tables.features import HISTORY
from foley.training.checkpoint import Checkpoint
from tiny_clap import write_tiny_clap

RATE = 4000
MEL = MelOptions(sample_rate_hz=RATE, n_fft=128, hop_length=64, n_mels=8, frames=8, griffin_lim_iterations=2)
TINY = MelDiffusionOptions(
    mel=MEL,
    channels=(4, 4, 8),
    layers_per_block=1,
    norm_groups=2,
    attention_head_dim=4,
    epochs=4,
    batch_size=4,
    learning_rate=3e-3,
    warm_up_steps=2,
    ema_decay=0.9,
    sampling_steps=3,
    precision="float32",  # what is compared to 1e-5; `auto` is bfloat16 on some CPUs
)
# Class numbers that are neither dense nor in the order of the labels.
LABELS = {7: "dog", 2: "sea_waves"}
ORIGIN = Origin("mel", "foley.generators.audio.mel_diffusion:MelDiffusion")
PER_CLASS = 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tone(number: int, class_id: int, seconds: float = 0.2) -> np.ndarray:
    random = np.random.default_rng([number, class_id])
    time = np.arange(round(seconds * RATE)) / RATE
    loud = 0.3 * np.sin(2 * np.pi * (900 if class_id == 7 else 200) * time)
    return (loud + 0.01 * random.normal(size=len(time))).astype(np.float32)


def audio_row(clip_id: str, label: str, samples: np.ndarray, rate: int = RATE) -> dict[str, Any]:
    return {
        "dataset": "toy", "clip_id": clip_id, "label": label, "recording_id": clip_id,
        "duration_s": len(samples) / rate, "sample_rate_hz": rate, "sha256": "-",
        "audio": {"bytes": encode_flac(to_pcm16(samples), rate), "path": f"{clip_id}.flac"},
    }  # fmt: skip


@dataclasses.dataclass
class Toy:
    """A dataset of two classes on the disk: 4 training clips and 2 test clips of each."""

    folder: Path
    clips: dict[str, np.ndarray]
    partition: Path
    classes: Path

    def shards(self, count: int) -> list[Path]:
        """The clips in so many shards."""
        names = sorted(self.clips)
        paths = []
        for number in range(count):
            path = self.folder / f"audio-{number}-of-{count}.parquet"
            rows = [audio_row(n, "any", self.clips[n]) for n in names[number::count]]
            tables.write(path, AUDIO, rows)
            paths.append(path)
        return paths

    def part(self, recordings: dict[str, str] | None = None) -> Path:
        """The partition; ``recordings`` says which clips share one."""
        rows = []
        for name in self.clips:
            class_id, number = (int(part) for part in name.split("-"))
            role = "train" if number < 4 else "test"
            recording = (recordings or {}).get(name, name)
            rows.append({"clip_id": name, "class_id": class_id, "recording_id": recording, "role": role})
        tables.write(self.partition, AUDIO_PARTITION, rows)
        return self.partition

    @property
    def train(self) -> set[str]:
        return {name for name in self.clips if int(name.split("-")[1]) < 4}


def make_toy(folder: Path) -> Toy:
    clips = {f"{class_id}-{n}": tone(n, class_id) for class_id in LABELS for n in range(PER_CLASS)}
    toy = Toy(folder, clips, folder / "partition.parquet", folder / "classes.parquet")
    rows = [{"class_id": class_id, "label": label} for class_id, label in LABELS.items()]
    tables.write(toy.classes, CLASSES, rows)
    toy.part()
    return toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return make_toy(tmp_path)


def train(toy: Toy, output: Path, *, shards: int = 1, **more: Any) -> MelDiffusion:
    return train_generator(
        output, output.parent / f"{output.name}-history.parquet", generator=MelDiffusion, options=TINY, seed=5,
        audio=toy.shards(shards), partition=toy.partition, classes=toy.classes, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> MelDiffusion:
    folder = tmp_path_factory.mktemp("model")
    return train(make_toy(folder), folder / "model")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


# Training


def test_a_model_learns_from_training_clips_alone_whatever_the_shards(toy: Toy, tmp_path: Path) -> None:
    train(toy, tmp_path / "one")
    for name in toy.clips.keys() - toy.train:
        toy.clips[name] = np.zeros_like(toy.clips[name])
    train(toy, tmp_path / "three", shards=3)
    assert_equal(weights(tmp_path / "one"), weights(tmp_path / "three"))
    loaded = MelDiffusion.load(tmp_path / "one", expected=TINY)
    assert loaded.class_ids == ("dog", "sea_waves")
    history = tables.read(tmp_path / "one-history.parquet", HISTORY)
    assert history["epoch"].to_pylist() == [1, 2, 3, 4] and set(history["quantity"].to_pylist()) == {"loss"}


def test_an_interrupted_training_goes_on_to_equal_weights(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy, tmp_path / "whole")
    monkeypatch.setattr(mel_diffusion, "CHECKPOINT_EVERY_S", 0.0)
    save, saved = Checkpoint.save, []

    def save_twice(self: Checkpoint, state: dict[str, Any]) -> None:
        save(self, state)
        saved.append(state["epochs_done"])
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_twice)
    with pytest.raises(KeyboardInterrupt):
        train(toy, tmp_path / "parts", checkpoints=tmp_path)
    assert not (tmp_path / "parts").exists()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    train(toy, tmp_path / "parts", shards=2, checkpoints=tmp_path)
    assert saved == [1, 2, 3, 4]
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_model_that_cannot_be_saved_leaves_the_former_one(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy, tmp_path / "model")
    before = weights(tmp_path / "model")

    def fail(self: MelDiffusion, folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(MelDiffusion, "save", fail)
        train(toy, tmp_path / "model")
    assert_equal(before, weights(tmp_path / "model"))
    train(toy, tmp_path / "model", checkpoints=tmp_path)
    assert_equal(before, weights(tmp_path / "model"))
    assert not list(tmp_path.glob(".model.*"))


def test_bad_partitions_are_refused(toy: Toy, tmp_path: Path) -> None:
    tables.write(toy.classes, CLASSES, [{"class_id": 7, "label": "dog"}])
    with pytest.raises(ValueError, match=r"classes \[2\] .* have no row"):
        train(toy, tmp_path / "model")
    tables.write(toy.classes, CLASSES, [{"class_id": n, "label": "dog"} for n in (2, 7)])
    with pytest.raises(ValueError, match="2 and 7 are both called `dog`"):
        labels_of(toy.classes)
    tables.write(toy.classes, CLASSES, [{"class_id": n, "label": label} for n, label in LABELS.items()])
    tables.write(toy.partition, AUDIO_PARTITION, [])
    with pytest.raises(ValueError, match="no clips of role train"):
        train(toy, tmp_path / "model")


# Sampling


def shard(output: Path, model: Any, labels: Sequence[str] = ("dog", "sea_waves"), **more: Any) -> pa.Table:
    class_of = {label: class_id for class_id, label in LABELS.items() if label in labels}
    given = {"clips_per_class": 3, "split": "fold1", "seed": 1, **more}
    generate_shard(output, model=model, origin=ORIGIN, class_of=class_of, **given)
    return tables.read(output, SYNTHETIC_CLIPS)


def test_clips_do_not_depend_on_their_shard_and_are_made_again_from_their_seeds(
    model: MelDiffusion, tmp_path: Path
) -> None:
    both = shard(tmp_path / "both", model)
    each = pa.concat_tables([shard(tmp_path / label, model, [label]) for label in ("dog", "sea_waves")])
    assert both.to_pylist() == each.to_pylist()
    rows = both.to_pylist()
    assert [row["class_id"] for row in rows] == [7, 7, 7, 2, 2, 2]
    assert len({row["clip_id"] for row in rows}) == len({row["seed"] for row in rows}) == 6
    again = model.generate(["dog"] * 3, [row["seed"] for row in rows[:3]])
    for row, samples in zip(rows, again.numpy(), strict=False):
        stored = decode_flac(row["audio"]["bytes"])
        assert np.abs(stored).max() > 0.1
        np.testing.assert_array_equal(stored, to_pcm16(samples) / np.float32(32768))
        assert (row["sampler"], row["steps"], row["guidance"], row["sources"]) == ("ddim", 3, 1.0, [])
        assert (row["generator"], row["method"], row["sample_rate_hz"]) == ("mel", "sampled", RATE)
        assert row["duration_s"] == len(samples) / RATE


def test_sampling_settings_are_those_of_the_table(model: MelDiffusion, tmp_path: Path) -> None:
    how = Sampling(sampler="dpm_solver", steps=2, guidance=2.0)
    rows = shard(tmp_path / "clips", model, ["dog"], sampling=how, batch_size=2).to_pylist()
    assert {(row["sampler"], row["steps"], row["guidance"]) for row in rows} == {("dpm_solver", 2, 2.0)}
    seeds = [row["seed"] for row in rows[:2]]
    direct = model.generate(["dog"] * 2, seeds, sampler="dpm_solver", steps=2, guidance=2.0)
    stored = [decode_flac(row["audio"]["bytes"]) for row in rows[:2]]
    np.testing.assert_array_equal(np.stack(stored), to_pcm16(direct.numpy()) / np.float32(32768))


def test_a_shard_can_be_read_back_as_a_store(model: MelDiffusion, tmp_path: Path) -> None:
    table = shard(tmp_path / "clips", model, batch_size=2)
    read = [(ids, rate) for ids, _, rate in iter_waveforms(tmp_path / "clips")]
    assert [name for ids, _ in read for name in ids] == table["clip_id"].to_pylist()
    assert {rate for _, rate in read} == {RATE}


def test_no_clip_of_one_split_is_one_of_another(model: MelDiffusion, tmp_path: Path) -> None:
    of_split = {
        split: shard(tmp_path / split, model, split=split).to_pylist() for split in ("fold1", "fold2")
    }
    seeds = [{row["seed"] for row in rows} for rows in of_split.values()]
    assert len(seeds[0] | seeds[1]) == 12
    # One model: it is the seeds that make the clips differ.
    sounds = [{row["audio"]["bytes"] for row in rows} for rows in of_split.values()]
    assert len(sounds[0] | sounds[1]) == 12


class Louder:
    """A vocoder that makes each mel band's mean a constant."""

    name = "constant"

    def __call__(self, mel: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        return mel.mean(dim=(1, 2))[:, None].expand(-1, MEL.samples)


def test_the_vocoder_is_used_and_named(model: MelDiffusion, tmp_path: Path) -> None:
    plain = shard(tmp_path / "plain", model, ["dog"]).to_pylist()
    other = shard(tmp_path / "other", model, ["dog"], vocoder=Louder()).to_pylist()
    assert {row["vocoder"] for row in plain} == {"griffin_lim"}
    assert {row["vocoder"] for row in other} == {"constant"}
    assert [row["seed"] for row in plain] == [row["seed"] for row in other]
    assert all(np.ptp(decode_flac(row["audio"]["bytes"])) == 0 for row in other)
    loud = between(tmp_path / "clips", make_toy(tmp_path), model, vocoder=Louder())
    assert {row["vocoder"] for row in loud} == {"constant"}
    assert all(np.ptp(decode_flac(row["audio"]["bytes"])) == 0 for row in loud)


class Scripted:
    """A generator that gives what ``sound`` makes of a seed."""

    sample_rate_hz = RATE
    options = SimpleNamespace()

    def __init__(self, sound: Any) -> None:
        self.sound = sound

    def generate(self, classes: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        return torch.stack([torch.as_tensor(self.sound(seed), dtype=torch.float32) for seed in seeds])


def test_a_silent_clip_is_drawn_again_from_its_own_row_of_seeds(tmp_path: Path) -> None:
    first = [derive(1, "fold1", "sampled", "dog", n) for n in range(3)]
    second = derive(1, "fold1", "sampled", "dog", 1, "again", 1)
    loud = 0.5 * np.ones(8)
    quiet = Scripted(lambda seed: 1e-5 * loud if seed in (first[1], second) else loud)
    rows = shard(tmp_path / "clips", quiet, ["dog"]).to_pylist()
    assert [row["seed"] for row in rows] == [
        first[0],
        derive(1, "fold1", "sampled", "dog", 1, "again", 2),
        first[2],
    ]
    assert all(decode_flac(row["audio"]["bytes"]).max() == 0.5 for row in rows)
    assert {row["sampler"] for row in rows} == {None}


def test_broken_generators_are_named_with_class_and_seed(tmp_path: Path) -> None:
    last = derive(1, "fold1", "sampled", "dog", 0, "again", REDRAWS)
    with pytest.raises(ValueError, match=rf"class `dog`, clip 0: silent with 4 seeds .* {last}"):
        shard(tmp_path / "clips", Scripted(lambda seed: np.zeros(8)), ["dog"])
    bad = derive(1, "fold1", "sampled", "dog", 2)
    broken = Scripted(lambda seed: np.full(8, np.nan if seed == bad else 0.5))
    with pytest.raises(ValueError, match=rf"class `dog`, seed {bad}: samples that are NaN"):
        shard(tmp_path / "clips", broken, ["dog"])
    assert not list(tmp_path.iterdir())


def test_a_diverged_network_and_an_unknown_class_are_named(model: MelDiffusion, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"class `cat`, seeds .*has not learnt class `cat`"):
        generate_shard(
            tmp_path / "clips",
            model=model,
            origin=ORIGIN,
            class_of={"cat": 3},
            clips_per_class=1,
            split="fold1",
            seed=0,
        )
    diverged = MelDiffusion(TINY, seed=5)
    network = diverged.begin(model.class_ids)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"class `dog`, seeds \d+ to \d+: .*NaN"):
        shard(tmp_path / "clips", diverged, ["dog"])


# Interpolation


def refused_in(output: Path) -> Path:
    return output.with_name(f"{output.name}-rejected")


def between(output: Path, toy: Toy, model: MelDiffusion, **more: Any) -> list[dict[str, Any]]:
    given = {"clips_per_class": 4, "split": "fold1", "seed": 1, "steps": 3, "batch_size": 3, **more}
    interpolate_clips(
        output, refused_in(output), model=model, origin=ORIGIN, audio=toy.shards(2), partition=toy.partition,
        classes=toy.classes, **given,
    )  # fmt: skip
    return tables.read(output, SYNTHETIC_CLIPS).to_pylist()


def test_interpolated_clips_lie_between_training_clips_of_different_recordings(
    toy: Toy, model: MelDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.part({"7-0": "shared", "7-1": "shared"})
    rows = between(tmp_path / "clips", toy, model)
    assert [row["label"] for row in rows] == ["dog"] * 4 + ["sea_waves"] * 4
    for row in rows:
        one, other = row["sources"]
        assert {one, other} <= toy.train and one != other
        assert one.split("-")[0] == other.split("-")[0] == str(row["class_id"])
        assert {one, other} != {"7-0", "7-1"}
        assert (row["method"], row["sampler"], row["steps"]) == ("interpolated", "ddim", 3)
    assert len({tuple(row["sources"]) for row in rows}) == 8
    # By hand, what the second clip is.
    row = rows[1]
    first, second = (to_pcm16(toy.clips[name]) / np.float32(32768) for name in row["sources"])
    made = interpolate(model, [first], [second], ["dog"], [row["seed"]], sample_rate_hz=RATE, steps=3)
    stored = decode_flac(row["audio"]["bytes"])
    np.testing.assert_allclose(stored, made.audio[0].numpy(), atol=1e-3)
    assert row["round_trip_db"] == pytest.approx(float(made.round_trip_db.mean()), rel=1e-3)
    # Class by class from the shards.
    monkeypatch.setattr(interpolate_module, "CLIPS_IN_MEMORY", 1)
    assert between(tmp_path / "again", toy, model) == rows


class Mute:
    """A vocoder that gives silence for some seeds, else a tone."""

    name = "mute"

    def __init__(self, seeds: set[int]) -> None:
        self.seeds = seeds

    def __call__(self, mel: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        loud = torch.tensor([seed not in self.seeds for seed in seeds], dtype=torch.float32)
        return loud[:, None] * torch.sin(torch.arange(MEL.samples) * 0.3)


def test_a_silent_interpolated_clip_is_refused_and_another_pair_takes_its_place(
    toy: Toy, model: MelDiffusion, tmp_path: Path
) -> None:
    usual = between(tmp_path / "usual", toy, model, vocoder=Mute(set()))
    assert tables.read(refused_in(tmp_path / "usual"), REJECTED_SYNTHETIC).num_rows == 0
    bad = derive(1, "fold1", "interpolated", "dog", 1)
    assert usual[1]["seed"] == bad
    rows = between(tmp_path / "clips", toy, model, vocoder=Mute({bad}))
    assert [row["clip_id"] for row in rows] == [row["clip_id"] for row in usual]
    (refused,) = tables.read(refused_in(tmp_path / "clips"), REJECTED_SYNTHETIC).to_pylist()
    assert (refused["clip_id"], refused["seed"], refused["sources"]) == tuple(
        usual[1][name] for name in ("clip_id", "seed", "sources")
    )
    assert (refused["reason"], refused["label"], refused["method"]) == ("silent", "dog", "interpolated")
    assert rows[1]["seed"] == derive(1, "fold1", "interpolated", "dog", 1, "again", 1)
    assert rows[1]["sources"] != usual[1]["sources"]
    assert [row["sources"] for row in rows[2:]] == [row["sources"] for row in usual[2:]]


def test_many_silent_clips_stop_the_job(
    toy: Toy, model: MelDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two = {derive(1, "fold1", "interpolated", "dog", number) for number in (0, 2)}
    with pytest.raises(
        ValueError, match=r"2 interpolated clips .* `dog`: 2\), and 1 of 8 may; train .*max_rejected"
    ):
        between(tmp_path / "clips", toy, model, vocoder=Mute(two))
    assert not (tmp_path / "clips").exists() and not refused_in(tmp_path / "clips").exists()
    assert "rejected mel:interpolated:dog:00002" in caplog.text
    assert len(between(tmp_path / "clips", toy, model, vocoder=Mute(two), max_rejected=0.25)) == 8
    assert tables.read(refused_in(tmp_path / "clips")).num_rows == 2


def test_a_diverged_network_between_two_clips_is_named(toy: Toy, model: MelDiffusion, tmp_path: Path) -> None:
    diverged = MelDiffusion(TINY, seed=5)
    network = diverged.begin(model.class_ids)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"class `dog`, between `7-\d` and `7-\d`, seed \d+: .*has diverged"):
        between(tmp_path / "clips", toy, diverged)


def test_a_class_without_an_audible_pair_left_stops_the_job(
    toy: Toy, model: MelDiffusion, tmp_path: Path
) -> None:
    # Two recordings of two clips each: four pairs, all of them in use.
    toy.part({"7-0": "a", "7-1": "a", "7-2": "b", "7-3": "b"})
    every = {derive(1, "fold1", "interpolated", "dog", number) for number in range(4)}
    with pytest.raises(ValueError, match=r"`dog`: 4\), and 8 of 8 may"):
        between(tmp_path / "clips", toy, model, vocoder=Mute(every), max_rejected=1.0)


def test_a_class_of_one_recording_has_nothing_to_interpolate(
    toy: Toy, model: MelDiffusion, tmp_path: Path
) -> None:
    toy.part({f"2-{n}": "one" for n in range(PER_CLASS)})
    with pytest.raises(ValueError, match=r"class `sea_waves` has 4 clips of one recording \(one\)"):
        between(tmp_path / "clips", toy, model)
    assert not (tmp_path / "clips").exists()


def test_clips_that_begin_with_silence_are_no_sources(
    toy: Toy, model: MelDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy.clips["7-2"] = np.concatenate([np.zeros(MEL.samples, np.float32), toy.clips["7-2"]])
    rows = between(tmp_path / "clips", toy, model)
    assert len(rows) == 8 and not any("7-2" in row["sources"] for row in rows)
    assert "class `dog`: 1 clips are silent" in caplog.text and "`7-2`" in caplog.text
    for name in toy.train:
        toy.clips[name] = np.zeros(MEL.samples, np.float32)
    with pytest.raises(ValueError, match="class `dog`: all its training clips are silent"):
        between(tmp_path / "clips", toy, model)


def test_a_clip_shorter_than_a_frame_is_named(toy: Toy, model: MelDiffusion, tmp_path: Path) -> None:
    toy.clips["7-2"] = toy.clips["7-2"][:100]
    with pytest.raises(ValueError, match="clip 7-2 has 100 samples"):
        between(tmp_path / "clips", toy, model)


# The probe

FRONT_END: dict[str, Any] = {
    "sample_rate_hz": RATE, "window_s": 0.25, "n_fft": 128, "hop_length": 64, "n_mels": 16, "channels": (4, 6),
    "hidden": 8,
}  # fmt: skip
LOG_MEL = LogMelCNNOptions(**FRONT_END, f_max_hz=2000.0)


@pytest.mark.parametrize("kind", [SmallCNN, LogMelCNN])
def test_the_last_layer_of_an_embedding_gives_the_scores(kind: Any) -> None:
    options = SmallCNNOptions(**FRONT_END, kernel=3) if kind is SmallCNN else LOG_MEL
    classifier = kind(options, 3, 0)
    torch.manual_seed(0)
    classifier.model = classifier.build()
    clips = torch.randn(5, 900)
    vectors = classifier.embed(clips, RATE, batch_size=2)
    assert vectors.shape == (5, 8)
    with torch.inference_mode():
        scores = classifier.trained.head[-1](vectors).log_softmax(1)
    torch.testing.assert_close(scores, classifier.score(clips, RATE))


def classifiers(folder: Path, seeds: Sequence[int] = (0, 3)) -> list[LogMelCNN]:
    folder.mkdir()
    made = []
    for seed in seeds:
        one = LogMelCNN(LOG_MEL, 2, seed)
        torch.manual_seed(seed)
        one.model = one.build()
        one.save(model_file(folder, seed))
        made.append(one)
    return made


def recognise(toy: Toy, folder: Path, synthetic: Sequence[Path], **more: Any) -> tuple[pa.Table, pa.Table]:
    given = {"seeds": [3, 0], "audio": toy.shards(2), **more}
    recognise_clips(
        folder / "recognised", folder / "embeddings", models=folder / "models", kind=LogMelCNN, options=LOG_MEL,
        synthetic=synthetic, partition=toy.partition, batch_size=3, **given,
    )  # fmt: skip
    return tables.read(folder / "recognised", RECOGNISED), tables.read(
        folder / "embeddings", PROBE_EMBEDDINGS
    )


def test_answers_are_those_of_each_classifier(toy: Toy, model: MelDiffusion, tmp_path: Path) -> None:
    by_seed = dict(zip((0, 3), classifiers(tmp_path / "models"), strict=True))
    made = shard(tmp_path / "clips", model).to_pylist()
    answers, vectors = recognise(toy, tmp_path, [tmp_path / "clips"])
    waveforms = {row["clip_id"]: decode_flac(row["audio"]["bytes"]) for row in made}
    waveforms |= {n: to_pcm16(samples) / np.float32(32768) for n, samples in toy.clips.items()}
    kinds = {row["clip_id"]: "synthetic" for row in made}
    kinds |= {name: "train" if name in toy.train else "test" for name in toy.clips}
    assert {(r["clip_id"], r["kind"]) for r in vectors.to_pylist()} == set(kinds.items())
    assert answers.num_rows == 2 * len(kinds)
    for row in answers.to_pylist():
        scores = by_seed[row["seed"]].score(torch.from_numpy(waveforms[row["clip_id"]])[None], RATE)[0]
        own = [2, 7].index(row["class_id"])
        assert row["kind"] == kinds[row["clip_id"]]
        assert row["predicted_class_id"] == [2, 7][int(scores.argmax())]
        assert row["rank"] == 1 + int(scores.argmax() != own)
        assert row["log_probability"] == pytest.approx(float(scores[own]), abs=1e-4)
    for row in vectors.to_pylist():
        direct = by_seed[3].embed(torch.from_numpy(waveforms[row["clip_id"]])[None], RATE)[0]
        np.testing.assert_allclose(row["vector"], direct.numpy(), atol=1e-4)


def test_clips_that_the_probe_cannot_answer_for_are_named(
    toy: Toy, model: MelDiffusion, tmp_path: Path
) -> None:
    classifiers(tmp_path / "models")
    recognise(toy, tmp_path, [])  # the real ones alone
    with pytest.raises(ValueError, match=r"no classifier of seed 9, only of \[0, 3\]"):
        recognise(toy, tmp_path, [], seeds=[9])
    with pytest.raises(ValueError, match="6 clips have no audio"):
        recognise(toy, tmp_path, [], audio=toy.shards(2)[:1])
    generate_shard(
        tmp_path / "other",
        model=model,
        origin=ORIGIN,
        class_of={"dog": 4},
        clips_per_class=1,
        split="fold1",
        seed=0,
    )
    with pytest.raises(ValueError, match="`mel:sampled:dog:00000` is of class 4"):
        recognise(toy, tmp_path, [tmp_path / "other"])
    broken = LogMelCNN(LOG_MEL, 2, 0)
    broken.model = broken.build()
    broken.trained.deviation.fill_(torch.nan)
    broken.save(model_file(tmp_path / "models", 0))
    with pytest.raises(ValueError, match="scores of clip `2-0` are not finite"):
        recognise(toy, tmp_path, [])


# Prompts


def test_ranks_of_prompts_are_those_of_the_cosines(toy: Toy, model: MelDiffusion, tmp_path: Path) -> None:
    clap = write_tiny_clap(tmp_path / "clap")
    made = shard(tmp_path / "clips", model).to_pylist()
    given: dict[str, Any] = {
        "partition": toy.partition, "classes": toy.classes, "model": clap,
        "template": "this is a sound of {label} .", "batch_size": 4,
    }  # fmt: skip
    prompt_synthetic(tmp_path / "prompted", synthetic=[tmp_path / "clips"], **given)
    rows = tables.read(tmp_path / "prompted", PROMPTED).to_pylist()
    encoder = ClapEncoder(clap)
    texts = encoder.embed_text(["this is a sound of sea waves .", "this is a sound of dog ."])
    heard = {
        ids[0]: (audio[0], rate) for ids, audio, rate in iter_waveforms(tmp_path / "clips", batch_size=1)
    }
    assert [row["clip_id"] for row in rows] == [row["clip_id"] for row in made]
    for row in rows:
        samples, rate = heard[row["clip_id"]]
        cosines = (encoder.embed_audio([resample(samples, rate, 48_000)]) @ texts.T)[0]
        rank = 1 + int(cosines.argmax() != [2, 7].index(row["class_id"]))
        assert (row["rank"], row["average_precision"]) == (rank, 1 / rank)
        assert row["similarity"] == pytest.approx(cosines[[2, 7].index(row["class_id"])], abs=1e-5)
        assert row["template"] == given["template"]
    prompt_real(tmp_path / "real", audio=toy.shards(2), **given)
    real = tables.read(tmp_path / "real", PROMPTED).to_pylist()
    assert {row["clip_id"] for row in real} == toy.clips.keys() - toy.train
    with pytest.raises(ValueError, match=r"must contain \{label\}"):
        prompt_real(tmp_path / "real", audio=toy.shards(2), **{**given, "template": "a sound"})
