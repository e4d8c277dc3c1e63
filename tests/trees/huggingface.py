"""A tiny dataset in the Parquet form of Hugging Face `datasets`, written by that library itself."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import soundfile

from trees import Tree, tone

# Not in the order of the alphabet: a class's number is its place here.
NAMES = ("rain", "dog", "church bell")
# Rows of each file, as the hub lays files out.
FILES = {
    "data/train-00000-of-00002.parquet": 5,
    "data/train-00001-of-00002.parquet": 3,
    "data/validation-00000-of-00001.parquet": 2,
    "data/test-00000-of-00001.parquet": 2,
}


def flac(seed: int, seconds: float = 0.3, rate: int = 22_050) -> bytes:
    """A noisy tone as FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seed, seconds, rate), rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def rows_of(first: int, count: int) -> dict[str, list[Any]]:
    """The columns of ``count`` rows; speakers make two clips each, and three rows a take."""
    numbers = range(first, first + count)
    return {
        "audio": [{"bytes": flac(number), "path": f"{number}.flac"} for number in numbers],
        "label": [number % len(NAMES) for number in numbers],
        "speaker": [f"s{number // 2}" for number in numbers],
        "take": [number // 3 for number in numbers],
        "fold": [number % 5 + 1 for number in numbers],
    }


def write_parquet(path: Path, columns: dict[str, list[Any]], label: Any = None, **options: Any) -> None:
    """Write rows as `Dataset.to_parquet` does; ``label`` is the feature of the label column (a `ClassLabel`)."""
    from datasets import Audio, ClassLabel, Dataset, DatasetInfo, Features, List, Value

    guessed: dict[type, Any] = {str: Value("string"), int: Value("int64"), list: List(Value("string"))}
    features = Features(
        {name: Audio() if name == "audio" else guessed[type(values[0])] for name, values in columns.items()}
    )
    if "label" in columns:
        features["label"] = label if label is not None else ClassLabel(names=list(NAMES))
    path.parent.mkdir(parents=True, exist_ok=True)
    # From Arrow: `Dataset.from_dict` would want torchcodec, even for audio that is encoded already.
    table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    Dataset(table, info=DatasetInfo(features=features)).to_parquet(path, **options)


def build_huggingface(folder: Path) -> Tree:
    """Four files with three splits; nothing is packed, as the hub serves files as they are."""
    first = 0
    for name, count in FILES.items():
        write_parquet(folder / "tree" / name, rows_of(first, count))
        first += count
    shutil.copytree(folder / "tree", folder / "served")
    return Tree(
        kind="huggingface",
        root=folder / "tree",
        served=folder / "served",
        overrides={},
        clips=first,
        labels=set(NAMES),
        options={"recording_column": "take", "speaker_column": "speaker", "fold_column": "fold"},
    )
