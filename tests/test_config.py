"""The config: defaults, and errors that name the key and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from foley import config
from foley.config import ConfigError
from foley.generators.embedding.cada_vae import CADAVAEOptions
from foley.options import parse_options
from foley.runtime.code import load

REPOSITORY = Path(__file__).resolve().parents[1]

# Presets of the zero-shot study that name no dataset: theirs is another's.
LAID_OVER_ANOTHER = {"zero_shot_ablation": "zero_shot_esc50", "zero_shot_esc50_published": "zero_shot_esc50"}

MINIMAL = {
    "datasets": {"mine": {"folder": "clips/"}},
    "features": {"logmel": {}},
    "embeddings": {"scratch": {"encoder": "yamnet", "feature": "logmel"}},
    "class_vectors": {"attributes": {"kind": "attributes"}},
    "methods": {"ale": {}, "zerodiffusion": {"generator": "zerodiffusion"}},
    "zero_shot": {
        "datasets": ["mine"],
        "embeddings": ["scratch"],
        "class_vectors": ["attributes"],
        "methods": ["ale", "zerodiffusion"],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """``MINIMAL`` with one key, at a dotted path, set."""
    raw = json.loads(json.dumps(MINIMAL))
    *parents, last = path.split(".")
    part = raw
    for key in parents:
        part = part.setdefault(key, {})
    part[last] = value
    return raw


def test_defaults() -> None:
    empty = config.load({})
    assert (empty.results, empty.cache, empty.zero_shot) == ("results", ".foley", None)
    checked = config.load(MINIMAL)
    mine = checked.datasets["mine"]
    assert (mine.shards, mine.sample_rate_hz, mine.max_rejected, mine.duplicates) == (
        8,
        16_000,
        0.05,
        "reject",
    )
    assert checked.zero_shot is not None
    assert (checked.zero_shot.seeds, checked.zero_shot.baseline) == (10, "ale")
    assert checked.methods["ale"].generator is None


def test_the_projects_own_configs_are_right() -> None:
    from snakemake.utils import update_config

    base = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config.load(base)
    for path in sorted((REPOSITORY / "experiments").glob("*.yaml")):
        merged = json.loads(json.dumps(base))  # a preset is laid over config.yaml
        below = LAID_OVER_ANOTHER.get(path.stem)
        for layer in [path.with_stem(below), path] if below else [path]:
            update_config(merged, yaml.safe_load(layer.read_text()))
        checked = config.load(merged)
        # What the demo trains for minutes judges nothing of a real study.
        for study in (checked.diffusion, checked.interpolation):
            assert "short_cnn" not in str(study) and "small_diffusion" not in str(study), path.name
        if checked.zero_shot is not None:
            for dataset in checked.zero_shot.datasets:
                assert checked.features["logmel"].options_on(dataset) == {}, path.name
                ale = checked.methods["ale"].on(dataset).classifier_options
                assert (ale["epochs"], ale["batch_size"]) == (50, 1), path.name
                cada_vae = checked.methods["cada_vae"].on(dataset)
                draws = cada_vae.generator_options.get("seen_draws", CADAVAEOptions().seen_draws)
                assert draws == cada_vae.samples_per_class // 2, (path.name, dataset)
                lisgan = checked.methods["lisgan"].on(dataset)
                schedule = {"epochs": 50, "batch_size": 2 * lisgan.samples_per_class}
                assert lisgan.classifier_options == schedule | {"scaling": "min_max"}
                assert checked.methods["zerodiffusion_second"].classifier_options == {"batch_size": 64}
            assert checked.embeddings["scratch"].options != config.load(base).embeddings["scratch"].options


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("resultz", "unknown key `resultz`; did you mean `results`?"),
        ("datasets.mine.shrads", "unknown key `datasets.mine.shrads`; did you mean `shards`?"),
        ("zero_shot.bootstarp", "unknown key `zero_shot.bootstarp`; did you mean `bootstrap`?"),
        (
            "zero_shot.random_splits.cuont",
            "unknown key `zero_shot.random_splits.cuont`; did you mean `count`?",
        ),
        ("methods.ale.qqqq", "unknown key `methods.ale.qqqq`; known: `classifier`, `classifier_options`,"),
    ],
)
def test_unknown_keys_bring_a_suggestion(path: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(changed(path, 1))
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("datasets.mine.shards", "many", "`datasets.mine.shards`: Input should be a valid integer"),
        (
            "datasets.mine.shards",
            0,
            "`datasets.mine.shards`: Input should be greater than or equal to 1 (got 0)",
        ),
        (
            "datasets.mine.max_rejected",
            5,
            "`datasets.mine.max_rejected`: Input should be less than or equal to 1",
        ),
        (
            "datasets.mine.duplicates",
            "drop",
            "`datasets.mine.duplicates`: Input should be 'reject' or 'keep'",
        ),
        ("datasets", None, "`datasets`: Input should be a valid dictionary"),
        ("datasets.mine", "clips/", "`datasets.mine`: Input should be a valid dictionary"),
        ("datasets.mine.kind", "esc50", "give either `folder` or `path` and `kind`, not both"),
        ("embeddings.scratch", {}, "`embeddings.scratch.encoder`: Field required"),
        ("class_vectors.words", {"kind": "words"}, "class vectors of kind `words` need `path`"),
        ("class_vectors.text", {"kind": "sentence"}, "class vectors of kind `sentence` need `model`"),
        ("zero_shot.test_fraction", 0.5, "`zero_shot.test_fraction`: Input should be less than 0.5"),
    ],
)
def test_wrong_values_name_the_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(changed(path, value))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "zero_shot.datasets",
            ["mein"],
            "zero_shot.datasets names `mein`, which is not configured; did you mean",
        ),
        (
            "zero_shot.methods",
            ["xyz"],
            "zero_shot.methods names `xyz`, which is not configured; known: `ale`,",
        ),
        ("zero_shot.embeddings", [], "zero_shot.embeddings is empty"),
        ("zero_shot.class_vectors", ["attributes"] * 2, "zero_shot.class_vectors names one twice"),
        ("embeddings.scratch.feature", "logmal", "embeddings.scratch.feature names `logmal`"),
    ],
)
def test_names_must_exist(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(changed(path, value))
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["a/b", "../up", "", "a b", ".hidden", "a=b", "a\nb"])
@pytest.mark.parametrize("section", ["datasets", "methods", "features"])
def test_ids_must_fit_in_paths(section: str, name: str) -> None:
    with pytest.raises(ConfigError, match=section):
        config.load({section: {name: {}}})


def test_several_errors_come_at_once() -> None:
    raw = changed("datasets.mine.shards", 0)
    raw["reprot"] = {}
    with pytest.raises(ConfigError) as error:
        config.load(raw)
    assert "datasets.mine.shards" in str(error.value)
    assert "reprot" in str(error.value)


@dataclass(frozen=True)
class Options:
    size: int = 3
    form: Literal["round", "square"] = "round"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size must be at least 1")


def test_options_of_a_component() -> None:
    assert parse_options(Options, {}, "methods.x.options") == Options()
    assert parse_options(Options, {"form": "square"}, "o") == Options(form="square")
    for given, message in (
        ({"szie": 1}, "unknown key `methods.x.options.szie`; did you mean `size`?"),
        ({"size": "big"}, "`methods.x.options.size`: Input should be a valid integer"),
        ({"form": "oval"}, "`methods.x.options.form`: Input should be 'round' or 'square' (got 'oval')"),
        ({"size": 0}, "`methods.x.options`: size must be at least 1"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_options(Options, given, "methods.x.options")
        assert message in str(error.value)
    with pytest.raises(TypeError, match="not a dataclass"):
        parse_options(dict, {}, "o")


def test_every_component_has_options_with_defaults() -> None:
    from foley.classifiers.registry import ZERO_SHOT_KINDS
    from foley.datasets.registry import KINDS as DATASETS
    from foley.encoders.registry import TRAINED_KINDS
    from foley.features.registry import KINDS as FEATURES
    from foley.generators.registry import EMBEDDING_KINDS

    for kinds in (DATASETS, FEATURES, TRAINED_KINDS, EMBEDDING_KINDS, ZERO_SHOT_KINDS):
        for target in kinds.values():
            options = load(target).Options  # type: ignore[attr-defined]
            assert parse_options(options, {}, target) == options()


@pytest.mark.parametrize(
    ("path", "made"),
    [("workflow/schemas/config.schema.json", config.json_schema), ("docs/config.md", config.describe)],
)
def test_schema_and_docs_are_up_to_date(path: str, made: Callable[[], str]) -> None:
    assert (REPOSITORY / path).read_text() == made(), "run `make docs`"
