"""What the plan of the study `diverse_embeddings` refuses before any job starts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from foley import config
from foley.config import ConfigError
from foley.plan.audio import AudioPlan
from foley.plan.data import DataPlan
from foley.plan.diverse import DiversePlan

# The config of the study's workflow test.
TINY = yaml.safe_load((Path(__file__).parent / "workflow" / "config" / "diverse.yaml").read_text())
DATASETS: dict[str, Any] = {"esc50": {}, "urbansound8k": {}, "fsd50k": {}, "soundbox": {}}


def lay(over: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A config with changes laid over it, as Snakemake does it."""
    out = copy.deepcopy(base)
    for key, value in over.items():
        out[key] = (
            lay(value, out[key]) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
        )
    return out


def plan(tmp_path: Path, study: dict[str, Any]) -> DiversePlan:
    raw = TINY | {"datasets": DATASETS, "data": str(tmp_path / "data"), "cache": str(tmp_path / "cache")}
    raw = lay({"diverse_embeddings": {"datasets": ["esc50"], **study}}, raw)
    loaded = config.load(raw)
    data = DataPlan(loaded, tmp_path, list(DATASETS), [], trust_cache=False)
    return DiversePlan(loaded, data, AudioPlan(loaded, data))


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"sets": {"all": ["pitch", "wavefor"]}}, "did you mean `waveform`?"),
        ({"representations": {"pitch": {"feature": "peak"}}}, "did you mean `peaks`?"),
        ({"splits": ["random"]}, "puts recordings on both sides"),
        ({"splits": ["fold6"]}, "`diverse_embeddings.splits` names `fold6`, which the dataset `esc50`"),
        ({"datasets": ["soundbox"], "splits": ["fold4"]}, "`fold4`, which the dataset `soundbox` does not have"),
        ({"splits": ["official"]}, "known: `fold1`, `fold2`"),
        ({"classifier": {"kind": "transformer"}}, "did you mean `diverse_transformer`?"),
        ({"classifier": {"options": {"layer": 1}}}, "did you mean `layers`?"),
        ({"classifier": {"options": {"patience": 1, "validate_every": 2}}}, "patience must not be below"),
        ({"heads": {"epoch": 1}}, "did you mean `epochs`?"),
        ({"baselines": {"pitch": {"representation": "pitch"}}}, "a representation has that id"),
        ({"representations": {"activations": {"feature": "peaks"}}}, "give either `feature` or `embedding`"),
        ({"sets": {"own_head": ["pitch"]}}, "the report computes rows of that name itself"),
        ({"sets": {"own_head_pitch": ["pitch"]}}, "the report computes rows of that name itself"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_refused_by_name(tmp_path: Path, study: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        plan(tmp_path, study)
    assert message in str(raised.value)


def test_splits_are_those_of_the_dataset(tmp_path: Path) -> None:
    made = plan(tmp_path, {"datasets": ["urbansound8k", "fsd50k"], "splits": ["fold9", "fold10"]})
    assert made.splits("urbansound8k") == ["fold9", "fold10"]
    # Several labels a clip: there is one split, whatever the others have.
    assert made.is_multi_label("fsd50k") and made.splits("fsd50k") == ["official"]
    assert made.networks == [
        "pitch",
        "waveform",
        "activations",
        "own_activations",
        "end_to_end",
        "probe",
    ]
    assert made.read_by("end_to_end") == "waveform" and made.read_by("pitch") == "pitch"
    assert made.behind(made.networks) == {"own_activations": "own_activations"}
