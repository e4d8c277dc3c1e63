"""Looking components up by name, and checking their options without importing them twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foley.config import Config, unknown_name
from foley.options import ConfigError, did_you_mean, parse_options
from foley.runtime.code import code_hash, load, module_file


def target(kinds: Mapping[str, str], name: str, where: str) -> str:
    """`package.module:Class` of the kind that the config names at ``where``.

    Raises:
        ConfigError: there is no such kind.
    """
    if name not in kinds:
        raise ConfigError(
            f"config: `{where}` is `{name}`, which Foley does not know; {did_you_mean(name, kinds)}"
        )
    return kinds[name]


def check_options(component: str, options: Mapping[str, Any], where: str, cache: Path) -> None:
    """Check options against the dataclass in the component's own file, which may import torch.

    The answer is kept below ``cache``, keyed by options and code, so that only a new combination costs that second.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    if options:
        with _checked_once(component, [dict(options)], cache) as new:
            if new:
                parse_options(load(component).Options, options, where)  # type: ignore[attr-defined]


def check_datasets(config: Config, names: Iterable[str], where: str) -> None:
    """Refuse settings for a dataset that the config at ``where`` does not have.

    Raises:
        ConfigError: names the dataset.
    """
    for name in names:
        if name not in config.datasets:
            raise ConfigError(f"config: {unknown_name(where, name, config.datasets)}")


def check_feature(config: Config, feature: str, component: str, cache: Path) -> None:
    """Check the options of a feature, and those that it has on single datasets.

    Raises:
        ConfigError: an unknown option, a wrong value or a dataset that the config does not have.
    """
    entry, where = config.features[feature], f"features.{feature}"
    check_datasets(config, entry.for_dataset, f"{where}.for_dataset")
    check_options(component, entry.options, f"{where}.options", cache)
    for dataset in entry.for_dataset:
        check_options(component, entry.options_on(dataset), f"{where}.for_dataset.{dataset}", cache)


def check_sampling(
    component: str, options: Mapping[str, Any], settings: Sequence[Any], where: str, cache: Path
) -> None:
    """Check how a trained generator is to be sampled (sampler, steps, guidance; None as its options have it) by its
    options' own ``check_sampling``, if they have one, before anything is trained. The answer is kept.

    Raises:
        ConfigError: such a generator cannot sample so; names the key ``where``.
    """
    with _checked_once(component, [dict(options), "sampling", list(settings)], cache) as new:
        if not new:
            return
        found = parse_options(load(component).Options, options, where)  # type: ignore[attr-defined]
        if not hasattr(found, "check_sampling"):
            return
        sampler, steps, guidance = settings
        sampler = sampler or found.sampler
        if steps is None:
            steps = found.train_steps if sampler == "ddpm" else found.sampling_steps
        try:
            found.check_sampling(sampler, steps, found.guidance if guidance is None else guidance)
        except ValueError as error:
            raise ConfigError(f"config: `{where}`: {error}") from None


@contextmanager
def _checked_once(component: str, what: Sequence[Any], cache: Path) -> Iterator[bool]:
    """Whether a check is new; where its body ends well, it is not any more, until the component's code changes."""
    file = module_file(component.partition(":")[0])
    assert file is not None
    facts = json.dumps([component, *what, code_hash(file)], sort_keys=True, default=str)
    mark = cache / "checked" / hashlib.sha256(facts.encode()).hexdigest()[:24]
    if mark.is_file():
        yield False
        return
    yield True
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def need_file(path: str | None, where: str, what: str) -> None:
    """Raise ConfigError where a file that the config names is not there."""
    if path is None or not Path(path).is_file():
        raise ConfigError(f"config: `{where}`: no file at {path}; it should hold {what}")
