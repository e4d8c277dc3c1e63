"""Reading the tables that datasets bring along, with errors that name the file, the line and the column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


def read_table(
    path: Path, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table with a header, each with its place (`<path>, line <n>`) for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: columns are missing (names those that are there), a row is too short, or it is no UTF-8 text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, delimiter=delimiter)
            found = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = found
            lacking = [name for name in columns if name not in found]
            if lacking:
                raise ValueError(f"{path} lacks the columns {lacking}; it has {found}")
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                short = [name for name in columns if row[name] is None]
                if short:
                    raise ValueError(f"{place}: no value for {short}")
                yield place, row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from None


def whole_number(text: str, place: str, column: str) -> int:
    """``text`` as an int.

    Raises:
        ValueError: it is none; names the place and the column.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{place}: {column} must be a whole number, got {text!r}") from None


def known_class(label: str, known: Sequence[str], place: str) -> int:
    """The number of a class, its place in ``known``.

    Raises:
        ValueError: the dataset defines no such class.
    """
    try:
        return known.index(label)
    except ValueError:
        raise ValueError(
            f"{place}: class {label!r} is not one of the {len(known)} that the dataset defines; "
            "the file was changed or belongs to another release"
        ) from None
