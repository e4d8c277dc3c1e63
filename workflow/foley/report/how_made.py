"""How a run was made, as the page's last section says it: settings, versions, and queries to go on with."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from foley import __version__, tables
from foley.report.data_summary import DatasetTables

_PACKAGES = ("numpy", "pyarrow", "scikit-learn", "soundfile", "torch", "snakemake")


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(
        isinstance(inner, Mapping | list | tuple) for inner in value
    ):
        for number, inner in enumerate(value):
            yield from flatten(inner, f"{name}[{number}]")
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value)) or "none"
    elif name:
        yield name, "none" if value is None or value == {} else str(value)


def versions() -> list[tuple[str, str]]:
    found = [("foley", __version__), ("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def _sql(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _lines(items: Iterable[str]) -> str:
    """A list with a line for each item: paths are long, and there may be many."""
    found = list(items)
    return found[0] if len(found) == 1 else "".join(f"\n    {item}," for item in found)[:-1] + "\n"


def data_queries(datasets: Sequence[DatasetTables]) -> list[dict[str, str]]:
    """What a reader of the data alone is likely to ask next."""
    if not datasets:
        return []
    return [
        {
            "title": "Clips and hours per class, in DuckDB",
            "engine": "duckdb",
            "text": "SELECT dataset, label, count(*) AS clips, round(sum(duration_s) / 3600, 2) AS hours\n"
            f"FROM read_parquet([{_lines(_sql(d.clips) for d in datasets)}])\n"
            "GROUP BY ALL ORDER BY ALL;",
        },
        {
            "title": "Rejected clips by reason, in pandas",
            "engine": "pandas",
            "text": "import pandas as pd\n\n"
            f"files = [{_lines(repr(str(d.rejected)) for d in datasets)}]\n"
            "rejected = pd.concat(map(pd.read_parquet, files))\n"
            'print(rejected.groupby(["dataset", "reason"]).size())',
        },
    ]


def _setting(predictions: Path) -> str | None:
    """The setting that confusions count in a table of predictions; None of an empty one."""
    for batch in tables.iter_batches(predictions, ["setting"], batch_size=1):
        return "closed" if batch["setting"][0].as_py() == "closed" else "conventional"
    return None


def queries(scores: Path, predictions: Sequence[Path]) -> list[dict[str, str]]:
    """Three questions that a reader is likely to ask of the tables next."""
    queries = [
        {
            "title": "Leaderboard, in DuckDB",
            "engine": "duckdb",
            "text": "SELECT dataset, split, method, variant,\n"
            "       round(100 * value, 1) AS accuracy,\n"
            "       round(100 * low, 1) AS low, round(100 * high, 1) AS high\n"
            f"FROM {_sql(scores)}\n"
            "WHERE metric = 'accuracy' AND seed IS NULL AND class_id IS NULL\n"
            "ORDER BY dataset, split, accuracy DESC;",
        },
        {
            "title": "Gain per class, in pandas",
            "engine": "pandas",
            "text": "import pandas as pd\n\n"
            f"scores = pd.read_parquet({str(scores)!r})\n"
            'gains = scores[scores.metric.str.startswith("gain_over_") & scores.class_id.notna()]\n'
            'print(gains.pivot_table(index=["dataset", "class_id"], columns="method", values="value"))',
        },
    ]
    setting = _setting(predictions[0]) if predictions else None
    if setting is not None:
        queries.append(
            {
                "title": "Clips that every seed gets wrong, in DuckDB",
                "engine": "duckdb",
                "text": "SELECT clip_id, class_id, mode(predicted_class_id) AS taken_for, count(*) AS seeds\n"
                f"FROM {_sql(predictions[0])}\n"
                f"WHERE setting = '{setting}'\n"
                "GROUP BY clip_id, class_id\n"
                "HAVING bool_and(predicted_class_id <> class_id)\n"
                "ORDER BY class_id, clip_id;",
            }
        )
    else:
        queries.append(
            {
                "title": "Spread over seeds, in DuckDB",
                "engine": "duckdb",
                "text": "SELECT dataset, split, method, variant, count(*) AS seeds,\n"
                "       round(100 * avg(value), 1) AS mean, round(100 * stddev_samp(value), 1) AS sd\n"
                f"FROM {_sql(scores)}\n"
                "WHERE metric = 'accuracy' AND seed IS NOT NULL AND class_id IS NULL\n"
                "GROUP BY ALL ORDER BY ALL;",
            }
        )
    return queries
