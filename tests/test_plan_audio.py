"""What the plan of the audio studies refuses before any job starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foley import config
from foley.config import ConfigError
from foley.plan.audio import AudioPlan
from foley.plan.data import DataPlan

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATASETS = {
    "esc50": {},
    "urbansound8k": {},
    "speech_commands": {},
    "soundbox": {},
    "gtzan": {},
    "filtered": {"kind": "gtzan", "options": {"split": "fault_filtered"}},
    "hub": {"kind": "huggingface", "options": {"repo": "owner/name", "revision": COMMIT}},
}
# AudioLDM's vocoder, of which the plan reads nothing but this.
AUDIOLDM = {"sampling_rate": 16_000, "model_in_dim": 64, "upsample_rates": [5, 4, 2, 2, 2]}
ITS_MEL = {
    "sample_rate_hz": 16_000, "n_fft": 1024, "hop_length": 160, "frames": 1024, "f_max_hz": 8000.0, "power": 1,
    "reference": "full_scale",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("FOLEY_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(key, raising=False)


def plan(tmp_path: Path, generator: dict[str, Any] | None = None, **more: Any) -> AudioPlan:
    study = {"datasets": ["soundbox"], "generators": ["mel"], "probe": "log_mel"}
    raw = {
        "datasets": DATASETS, "data": str(tmp_path / "data"), "cache": str(tmp_path / "cache"),
        "audio_generators": {"mel": generator or {}}, "audio_classifiers": {"log_mel": {}}, "diffusion": study, **more,
    }  # fmt: skip
    loaded = config.load(raw)
    return AudioPlan(loaded, DataPlan(loaded, tmp_path, list(DATASETS), [], trust_cache=False))


def test_what_splits_a_dataset_has_is_known_where_its_kind_tells(tmp_path: Path) -> None:
    known = plan(tmp_path, audio_splits={"folds": 3}).known_splits
    assert known("esc50") == [f"fold{number}" for number in range(1, 6)] + ["random"]
    assert known("urbansound8k") == [f"fold{number}" for number in range(1, 11)] + ["random"]
    assert known("speech_commands") == known("filtered") == ["official", "random"]
    assert known("soundbox") == known("gtzan") == ["fold1", "fold2", "fold3", "random"]
    assert known("hub") is None


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("esc50", "fold6", "`esc50` does not have; did you mean `fold"),
        ("esc50", "official", "known: `fold1`, `fold2`, `fold3`, `fold4`, `fold5`, `random`"),
        ("speech_commands", "fold1", "known: `official`, `random`"),
        ("soundbox", "fold6", "`diffusion.splits` names `fold6`, which the dataset `soundbox`"),
    ],
)
def test_a_split_that_a_dataset_does_not_have(tmp_path: Path, dataset: str, split: str, message: str) -> None:
    study = {"datasets": [dataset], "splits": [split], "generators": ["mel"], "probe": "log_mel"}
    with pytest.raises(ConfigError) as raised:
        plan(tmp_path, diffusion=study)
    assert message in str(raised.value)
    # What only the data can tell is left to the job.
    assert plan(tmp_path, diffusion={**study, "datasets": ["hub"]}).splits("hub") == [split]


@pytest.mark.parametrize(
    ("options", "sampling", "steps", "message"),
    [
        (
            {"class_dropout": 0.0},
            {"guidance": 3.0},
            50,
            "mel.sampling`: guidance 3.0 needs an unconditional model",
        ),
        (
            {},
            {"steps": 5000},
            50,
            "`audio_generators.mel.sampling`: steps 5000 must lie between 1 and train_steps",
        ),
        (
            {"train_steps": 100},
            {},
            200,
            "`interpolation.steps`: steps 200 must lie between 1 and train_steps 100",
        ),
    ],
)
def test_what_a_model_cannot_be_sampled_with_is_refused_before_it_is_trained(
    tmp_path: Path, options: dict[str, Any], sampling: dict[str, Any], steps: int, message: str
) -> None:
    study = {
        "datasets": ["soundbox"], "splits": ["fold1"], "classifiers": ["log_mel"], "generator": "mel",
        "arms": ["real", "interpolated"], "steps": steps,
    }  # fmt: skip
    generator = {"options": options, "sampling": sampling}
    for _ in range(2):  # a refusal is not kept
        with pytest.raises(ConfigError) as raised:
            plan(tmp_path, generator, interpolation=study)
        assert message in str(raised.value)
    fine = {"options": {"class_dropout": 0.1}, "sampling": {"guidance": 3.0, "steps": 30, "sampler": "ddim"}}
    plan(tmp_path, fine, interpolation=study | {"steps": 30})


def vocoder(folder: Path, **facts: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(AUDIOLDM | facts))
    return {"model": str(folder)}


def test_a_vocoder_must_fit_the_generators_mel(tmp_path: Path) -> None:
    given = vocoder(tmp_path / "vocoder")
    fitting = plan(tmp_path, {"vocoder": given, "options": {"mel": ITS_MEL}})
    assert fitting.vocoder("mel") == {
        **given, "revision": None, "subfolder": None, "log": "natural", "floor": 1e-5, "n_fft": 1024,
        "f_min_hz": 0.0, "f_max_hz": 8000.0,
    }  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        plan(tmp_path, {"vocoder": given})
    assert "`audio_generators.mel.vocoder`" in str(raised.value)
    assert "sample_rate_hz: 16000 (not 22050); hop_length: 160 (not 1024); n_fft: 1024 (not 2048)" in str(
        raised.value
    )
    # The answer is kept, but not for another vocoder at the same place.
    vocoder(tmp_path / "vocoder", model_in_dim=80)
    with pytest.raises(ConfigError, match=r"n_mels: 80 \(not 64\)"):
        plan(tmp_path, {"vocoder": given, "options": {"mel": ITS_MEL}})
    (tmp_path / "vocoder" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="describes no HiFi-GAN: KeyError"):
        plan(tmp_path, {"vocoder": given, "options": {"mel": ITS_MEL}})
    with pytest.raises(ConfigError, match=r"no vocoder there, .*sub/config\.json is missing"):
        plan(tmp_path, {"vocoder": {**given, "subfolder": "sub"}})
    with pytest.raises(ConfigError, match="may move"):
        plan(tmp_path, {"vocoder": {"model": "owner/name", "revision": "main"}})
    assert plan(tmp_path, {"vocoder": {"model": "owner/name", "revision": COMMIT}}).vocoder("mel")


def test_a_generator_without_classes_interpolates_and_nothing_else(tmp_path: Path) -> None:
    options = {"model": "teticio/audio-diffusion-ddim-256", "revision": COMMIT}
    theirs = {"kind": "audio_diffusion", "options": options}
    study = {
        "datasets": ["soundbox"], "splits": ["fold1"], "classifiers": ["log_mel"], "generator": "mel",
        "arms": ["real", "interpolated"],
    }  # fmt: skip
    made = plan(tmp_path, theirs, diffusion=None, interpolation=study)
    assert made.pretrained("mel") == options and made.origin("mel") == [options["model"], COMMIT]
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    here = {"kind": "audio_diffusion", "options": {"model": str(folder)}}
    assert plan(tmp_path, here, diffusion=None, interpolation=study).origin("mel") == [str(folder), None]
    own = plan(tmp_path)
    assert own.pretrained("mel") is None and own.origin("mel") == ["mel_diffusion", None]
    with pytest.raises(ConfigError, match=r"`diffusion.generators` names `mel`.*knows no classes"):
        plan(tmp_path, theirs)
    with pytest.raises(ConfigError, match="leave `sampled` out"):
        plan(
            tmp_path,
            theirs,
            diffusion=None,
            interpolation={**study, "arms": ["real", "interpolated", "sampled"]},
        )
    with pytest.raises(ConfigError, match="is no commit"):
        unpinned = {"kind": "audio_diffusion", "options": {**options, "revision": "main"}}
        plan(tmp_path, unpinned, diffusion=None, interpolation=study)
    with pytest.raises(ConfigError, match="has mel images of its own"):
        of_theirs = {**theirs, "vocoder": vocoder(tmp_path / "vocoder")}
        plan(tmp_path, of_theirs, diffusion=None, interpolation=study)
