"""One dataset: the spread of accuracy over seeds, split into embedding network, generator and classifier.

Apart from the training of the grid: what is measured of it may change without training it again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.metrics.variance_components import Component, mean_component, nested_components
from foley.studies.zero_shot.score import score_row
from foley.tables.scores import SCORES
from foley.tables.variance import SEED_GRID

# The largest standard deviation of what lies between 0 and 1 (Popoviciu's inequality).
LARGEST_SPREAD = 0.5

Grid = dict[Any, dict[Any, list[float]]]  # embedding seed -> generator seed -> accuracies


def split_variance(
    output: Path, *, grids: Sequence[Path], provenance: Mapping[str, Any] | None = None
) -> None:
    """Rows ``spread_embedding``, ``spread_generator``, ``spread_classifier`` and ``spread_total``.

    They are standard deviations: square roots of the variance components of accuracy in the nested design classifier
    in generator in embedding network. A negative estimate is zero; what can't be told has no row (see
    ``NestedVariance``), so that a pretrained embedding has no ``spread_embedding``, and its total is that of generator
    and classifier. ``split = mean`` is the square root of the mean component over all splits of the grids, negative
    estimates included; the networks of the splits are trained apart.

    ``n`` is how many units of a level there were in all, in the mean over all splits. ``low`` and ``high`` are a 95 %
    interval over seeds, for normal effects (``Component.interval``), not a bootstrap interval over recordings: the
    clips are the same for all seeds. With few units it is wide, most of all upwards: three networks tell little. It
    ends at 0.5, beyond which no spread of an accuracy can lie.

    Args:
        grids: tables of seed grids, of any splits, methods and variants; those that share these are of other networks
            of one embedding.

    Raises:
        ValueError: a grid isn't balanced; names it.
    """
    found: dict[tuple[str, str, str, str], Grid] = {}
    for row in tables.read(list(grids), SEED_GRID).to_pylist():
        grid = found.setdefault(
            (row["dataset"], row["method"], row["variant"], row["split"]),
            defaultdict(lambda: defaultdict(list)),
        )
        grid[row["embedding_seed"]][row["generator_seed"]].append(row["accuracy"])
    splits = {(dataset, split) for dataset, _, _, split in found}
    rows: list[dict[str, Any]] = []
    over_splits: dict[tuple[str, str, str], dict[str, list[tuple[Component, int]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for (dataset, method, variant, split), grid in found.items():
        labels = {"dataset": dataset, "split": split, "method": method, "variant": variant}
        for name, (component, units) in _components(grid, labels).items():
            rows.append(_row(labels, name, component, units))
            over_splits[dataset, method, variant][name].append((component, units))
    for (dataset, method, variant), of_names in over_splits.items():
        labels = {"dataset": dataset, "split": "mean", "method": method, "variant": variant}
        expected = sum(one == dataset for one, _ in splits)
        for name, parts in of_names.items():
            if 1 < expected == len(parts):
                component = mean_component([part for part, _ in parts])
                rows.append(_row(labels, name, component, sum(units for _, units in parts)))
    tables.write(output, SCORES, rows, provenance)


def _components(grid: Grid, labels: Mapping[str, str]) -> dict[str, tuple[Component, int]]:
    """What can be told of one grid: the component of each level and of all, and the units of the level."""
    generators = {len(of_network) for of_network in grid.values()}
    classifiers = {len(values) for of_network in grid.values() for values in of_network.values()}
    without = {seed is None for of_network in grid.values() for seed in of_network}
    if len(generators) > 1 or len(classifiers) > 1 or len(without) > 1:
        sizes = {
            network: {seed: len(values) for seed, values in of_network.items()}
            for network, of_network in grid.items()
        }
        raise ValueError(
            f"the seed grid of {labels} isn't balanced (embedding seed: generator seed: classifiers): {sizes}; "
            "remove the tables that an earlier configuration left"
        )
    accuracies = np.array([list(of_network.values()) for of_network in grid.values()])
    names = ["spread_embedding", "spread_generator", "spread_classifier"]
    if without == {True}:
        # A method without a generator has no such level.
        accuracies = accuracies[:, 0]
        names.remove("spread_generator")
    nested = nested_components(accuracies)
    units = np.cumprod(accuracies.shape).tolist()
    found = {
        name: (component, count)
        for name, component, count in zip(names, nested.levels, units, strict=True)
        if component is not None
    }
    if nested.total is not None:
        found["spread_total"] = (nested.total, units[-1])
    return found


def _row(labels: Mapping[str, str], name: str, component: Component, units: int) -> dict[str, Any]:
    low, high = (min(math.sqrt(end), LARGEST_SPREAD) for end in component.interval())
    return score_row(labels, name, math.sqrt(component.variance), units, low=low, high=high)
