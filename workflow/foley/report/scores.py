"""The score table as the page asks for it: values by study, dataset, split, system, metric and class."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from foley import tables
from foley.report.mixes import as_they_are
from foley.report.study_words import is_leaky, words
from foley.tables.scores import SCORES

MEAN = "mean"  # the split under which a study stores its mean over splits
# How well a class can be told that was heard: how far there is to go.
UPPER_REFERENCES = {
    "oracle": "upper reference: trained on real clips of the unseen classes",
    "clap": "upper reference: has heard such sounds",
}
REFERENCES = ("chance", "majority", *UPPER_REFERENCES)  # no methods of the study; shown below them
ALPHA = 0.05  # of intervals and tests


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
        # Sections ask again and again who has what: answered from sets, not from all values.
        self._systems: dict[tuple[str, str], dict[str, set[System]]] = {}
        self._splits: dict[tuple[str, str], set[str]] = {}
        self._whole: dict[tuple[str, str], set[str]] = {}
        self._classes: dict[tuple[str, str, str], set[int]] = {}
        for study, dataset, split, system, metric, class_id in self._scores:
            self._systems.setdefault((study, dataset), {}).setdefault(metric, set()).add(system)
            self._splits.setdefault((study, dataset), set()).add(split)
            if class_id is None:
                self._whole.setdefault((study, dataset), set()).add(metric)
            else:
                self._classes.setdefault((study, dataset, split), set()).add(class_id)

    def __bool__(self) -> bool:
        return bool(self._scores)

    def studies(self) -> list[str]:
        return sorted({study for study, _ in self._systems})

    def datasets(self, study: str) -> list[str]:
        return _ordered({dataset for its, dataset in self._systems if its == study}, self._dataset_order)

    def splits(self, study: str, dataset: str) -> list[str]:
        """Splits with values, leaky ones after the others, the mean over splits last."""
        found = self._splits.get((study, dataset), set())
        return sorted(found - {MEAN}, key=lambda split: (is_leaky(study, split), split)) + sorted(
            found & {MEAN}
        )

    def splits_shown(self, study: str, dataset: str, metrics: Iterable[str]) -> list[str]:
        """The mean over splits where it has values of the metrics (over all classes), else all that have some; of
        these no leaky ones where there are others.
        """
        wanted = list(metrics)
        systems = self.systems(study, dataset, wanted)
        have = [
            split
            for split in self.splits(study, dataset)
            if any(self.get(study, dataset, split, s, metric) for s in systems for metric in wanted)
        ]
        return [MEAN] if MEAN in have else self.leak_free(study, have) or have

    @staticmethod
    def leak_free(study: str, splits: Iterable[str]) -> list[str]:
        """Those of the splits that keep recordings apart."""
        return [split for split in splits if not is_leaky(study, split)]

    def systems(self, study: str, dataset: str, metrics: Iterable[str] | None = None) -> list[System]:
        """Methods and variants that have values of ``metrics`` (any metric when None); references last."""
        of_metric = self._systems.get((study, dataset), {})
        wanted = of_metric if metrics is None else metrics
        found: set[System] = set().union(*(of_metric.get(metric, set()) for metric in wanted))
        return self._in_order(found)

    def systems_of(self, study: str, metric: str) -> list[System]:
        """Methods and variants that have values of a metric on any dataset of the study, in the same order."""
        found: dict[System, None] = {}
        for dataset in self.datasets(study):
            found.update(dict.fromkeys(self.systems(study, dataset, [metric])))
        return self._in_order(found)

    def _in_order(self, found: Iterable[System]) -> list[System]:
        systems = list(found)
        methods = _ordered({system.method for system in systems}, self._method_order)
        methods = [m for m in methods if m not in REFERENCES] + [m for m in REFERENCES if m in methods]
        return sorted(systems, key=lambda system: (methods.index(system.method), _natural(system.variant)))

    def split_count(self, study: str, dataset: str) -> int:
        """How many splits a mean is over: leaky ones are in none."""
        return len([s for s in self.leak_free(study, self.splits(study, dataset)) if s != MEAN])

    def metrics(self, study: str, dataset: str) -> list[str]:
        """Metrics over all classes, in the alphabet's order."""
        return sorted(self._whole.get((study, dataset), ()))

    def class_ids(self, study: str, dataset: str, split: str) -> list[int]:
        return sorted(self._classes.get((study, dataset, split), ()))

    def colours(self, study: str, dataset: str) -> dict[str, int]:
        """A number for each method that isn't a reference, the same in all figures of a dataset.

        Colours are few: methods that share figures come first where a study has many.
        """
        trained = dict.fromkeys(s.method for s in self.systems(study, dataset, ["accuracy"]))
        its = words(study)
        first = [its.baseline, *its.judged, *as_they_are(trained)] if its.by_source else []
        ordered = dict.fromkeys([*(m for m in first if m in trained), *trained])
        return {m: number for number, m in enumerate(m for m in ordered if m not in REFERENCES)}

    def get(
        self, study: str, dataset: str, split: str, system: System, metric: str, class_id: int | None = None
    ) -> Score | None:
        return self._scores.get((study, dataset, split, system, metric, class_id))

    def seed_count(self, study: str, dataset: str, system: System) -> int:
        return len(self._seeds.get((study, dataset, system), ()))


def _natural(text: str) -> list[tuple[int, str]]:
    """An order in which `real=4%` comes before `real=10%`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ordered(found: Iterable[str], order: Sequence[str]) -> list[str]:
    """``found`` in the order of ``order``; names that it lacks come after, sorted."""
    place = {name: number for number, name in enumerate(order)}
    return sorted(found, key=lambda name: (place.get(name, len(place)), name))
