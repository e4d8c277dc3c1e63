"""The score table as the page asks for it: values by study, dataset, split, system, metric and class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from foley import tables
from foley.tables.scores import SCORES

MEAN = "mean"  # the split under which a study stores its mean over splits
REFERENCES = ("chance", "majority")  # need no training; shown below the methods


@dataclass(frozen=True)
class Score:
    """One measured value with the ends of its 95 % interval, if it has one."""

    value: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class System:
    """A method in one variant: one row of a leaderboard."""

    method: str
    variant: str


class ScoreBook:
    """All values over seeds of a score table, or none. Orders follow what the caller says, then the alphabet."""

    def __init__(self, path: Path | None, methods: Sequence[str] = (), datasets: Sequence[str] = ()) -> None:
        table = SCORES.schema.empty_table() if path is None else tables.read(path, SCORES)
        seeds = table.filter(pc.is_valid(table["seed"]))
        self._seeds: dict[tuple[str, str, System], set[int]] = {}
        distinct = seeds.group_by(["study", "dataset", "method", "variant", "seed"]).aggregate([])
        for row in distinct.to_pylist():
            key = (row["study"], row["dataset"], System(row["method"], row["variant"] or ""))
            self._seeds.setdefault(key, set()).add(row["seed"])
        # A value per fold is a part of the value over folds, which is what a reader compares.
        over = table.filter(pc.and_(pc.is_null(table["seed"]), pc.is_null(table["fold"])))
        self._scores: dict[tuple[str, str, str, System, str, int | None], Score] = {}
        for row in over.to_pylist():
            if row["value"] is None or not math.isfinite(row["value"]):
                continue
            system = System(row["method"], row["variant"] or "")
            key_of = (
                row["study"],
                row["dataset"],
                row["split"] or "",
                system,
                row["metric"],
                row["class_id"],
            )
            self._scores[key_of] = Score(row["value"], _finite(row["low"]), _finite(row["high"]), row["n"])
        self._method_order = list(methods)
        self._dataset_order = list(datasets)

    def __bool__(self) -> bool:
        return bool(self._scores)

    def studies(self) -> list[str]:
        return sorted({key[0] for key in self._scores})

    def datasets(self, study: str) -> list[str]:
        found = {key[1] for key in self._scores if key[0] == study}
        return _ordered(found, self._dataset_order)

    def splits(self, study: str, dataset: str) -> list[str]:
        """Splits with values, the mean over splits last."""
        found = {key[2] for key in self._scores if key[:2] == (study, dataset)}
        return sorted(found - {MEAN}) + sorted(found & {MEAN})

    def systems(self, study: str, dataset: str, metrics: Iterable[str] | None = None) -> list[System]:
        """Methods and variants that have values of ``metrics`` (any metric when None); references last."""
        wanted = None if metrics is None else set(metrics)
        found = {
            key[3]
            for key in self._scores
            if key[:2] == (study, dataset) and (wanted is None or key[4] in wanted)
        }
        methods = _ordered({system.method for system in found}, self._method_order)
        methods = [m for m in methods if m not in REFERENCES] + [m for m in REFERENCES if m in methods]
        return sorted(found, key=lambda system: (methods.index(system.method), system.variant))

    def metrics(self, study: str, dataset: str) -> list[str]:
        """Metrics over all classes, in the alphabet's order."""
        return sorted({k[4] for k in self._scores if k[:2] == (study, dataset) and k[5] is None})

    def class_ids(self, study: str, dataset: str, split: str) -> list[int]:
        found = {k[5] for k in self._scores if k[:3] == (study, dataset, split) and k[5] is not None}
        return sorted(c for c in found if c is not None)

    def get(
        self, study: str, dataset: str, split: str, system: System, metric: str, class_id: int | None = None
    ) -> Score | None:
        return self._scores.get((study, dataset, split, system, metric, class_id))

    def seed_count(self, study: str, dataset: str, system: System) -> int:
        return len(self._seeds.get((study, dataset, system), ()))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ordered(found: Iterable[str], order: Sequence[str]) -> list[str]:
    """``found`` in the order of ``order``; names that it lacks come after, sorted."""
    place = {name: number for number, name in enumerate(order)}
    return sorted(found, key=lambda name: (place.get(name, len(place)), name))
