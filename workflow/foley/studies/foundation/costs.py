"""What the clips of a source cost: time of the jobs that made them, tokens of the language model that wrote prompts.

Prompted generators measure themselves. The time of one that was trained here is Snakemake's own benchmark of its jobs.
Those are no inputs: a lost benchmark is not worth the clips again, so the time is then missing, and a job that was
continued after a stop says what its last run took.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foley import tables
from foley.tables.audio_studies import GENERATION_COST, SYNTHETIC_CLIPS
from foley.tables.foundation import COSTS
from foley.tables.prompts import LLM_REQUESTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expense:
    """What one source of one dataset (and split) was made with.

    measured: GENERATION_COST of the clips' shards, of a prompted generator.
    benchmarks: of the jobs that trained any other generator and made its clips.
    requests: LLM_REQUESTS of its prompts; none for prompts that no model wrote.
    """

    dataset: str
    split: str | None
    source: str
    generator: str
    prompts: str | None
    clips: Sequence[Path]
    measured: Sequence[Path] = ()
    benchmarks: Sequence[Path] = ()
    requests: Path | None = None


def write_costs(
    output: Path, expenses: Sequence[Expense], provenance: Mapping[str, Any] | None = None
) -> None:
    """Write COSTS.

    Raises:
        ValueError: a benchmark that is none.
    """
    rows = []
    for expense in expenses:
        lengths = tables.read(list(expense.clips), SYNTHETIC_CLIPS, columns=["duration_s"])["duration_s"]
        row: dict[str, Any] = {
            "dataset": expense.dataset,
            "split": expense.split,
            "source": expense.source,
            "generator": expense.generator,
            "prompts": expense.prompts,
            "clips": len(lengths),
            "audio_h": sum(lengths.to_pylist()) / 3600,
            "compute_s": None,
            "device": None,
            "requests": None,
            "input_tokens": None,
            "output_tokens": None,
        }
        if expense.measured:
            spent = tables.read(list(expense.measured), GENERATION_COST, columns=["device", "seconds"])
            row["compute_s"] = sum(spent["seconds"].to_pylist())
            row["device"] = ", ".join(sorted(set(spent["device"].to_pylist())))
        else:
            row["compute_s"] = _total_seconds(expense.benchmarks)
        if expense.requests is not None:
            asked = tables.read(expense.requests, LLM_REQUESTS)
            row["requests"] = sum(max(1, attempts or 1) for attempts in asked["attempts"].to_pylist())
            for name in ("input_tokens", "output_tokens"):
                row[name] = sum(value or 0 for value in asked[name].to_pylist())
        rows.append(row)
    tables.write(output, COSTS, rows, provenance)


def _total_seconds(benchmarks: Sequence[Path]) -> float | None:
    lost = [path for path in benchmarks if not path.is_file()]
    if lost:
        log.warning("%s is gone: the time that these clips took is not known", lost[0])
        return None
    return sum(map(seconds, benchmarks))


def seconds(benchmark: Path) -> float:
    """The time that Snakemake's benchmark of a job says, mean of its repeats.

    Raises:
        ValueError: the file has no column ``s``.
    """
    with benchmark.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        times = [float(row["s"]) for row in rows]
        return sum(times) / len(times)
    except (KeyError, ValueError, ZeroDivisionError):
        raise ValueError(f"{benchmark} is no benchmark of a job (no column `s`); delete it") from None
