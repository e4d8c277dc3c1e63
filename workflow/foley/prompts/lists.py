"""Tables of words or captions for each class, read from a file and matched to a dataset's classes.

JSON and YAML: `{class: [text, text]}`. CSV: two columns with a header, the class and a text, one row a text. A class
may be spelt otherwise than the dataset spells it, see `match_classes`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foley.options import did_you_mean
from foley.prompts.protocol import spoken
from foley.prompts.similarity import stem, stems

_MAX_BYTES = 20_000_000
_MAX_TEXTS = 10_000  # of one class
# Words that a name may have more of than another of the same action.
_WEAK = frozenset(stem(word) for word in ("playing", "performing", "doing", "using", "having"))


def read_lists(path: Path) -> dict[str, list[str]]:
    """Texts by class, as the file spells and orders them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a table; names file, class or line.
    """
    path = Path(path).expanduser()
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"{path} has {size:,} bytes; a list of words or captions has {_MAX_BYTES:,} at most")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None
    form = path.suffix.lower()
    if form == ".csv":
        lists: Any = _from_csv(text, path)
    elif form in (".json", ".yaml", ".yml"):
        try:
            if form == ".json":
                lists = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
            else:
                lists = yaml.safe_load(text)
        except (json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"{path} is not valid {form[1:].upper()}: {error}") from None
    else:
        raise ValueError(f"{path}: lists are read from .json, .yaml and .csv files")
    if not isinstance(lists, dict) or not lists:
        raise ValueError(f"{path} must map each class to its texts, such as {{dog: [barking, growling]}}")
    return {str(label): _texts(texts, str(label), path) for label, texts in lists.items()}


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{path}: {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def _texts(texts: Any, label: str, path: Path) -> list[str]:
    listed = [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list) or not listed or not all(isinstance(text, str) for text in listed):
        raise ValueError(f"{path}: class {label!r} must hold a list of texts, got {str(texts)[:80]!r}")
    if len(listed) > _MAX_TEXTS:
        raise ValueError(
            f"{path}: class {label!r} has {len(listed):,} texts; at most {_MAX_TEXTS:,} are read"
        )
    return listed


def _from_csv(text: str, path: Path) -> dict[str, list[str]]:
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or len(rows[0]) != 2:
        raise ValueError(f"{path}: line 1 must be a header of two columns, the class and a text")
    found: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2 or not row[0].strip():
            raise ValueError(f"{path}, row {number}: expected a class and a text, got {row}")
        found.setdefault(row[0].strip(), []).append(row[1])
    return found


def match_classes(labels: Sequence[str], names: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Label -> the list's name of it, for every label that has one.

    An alias counts first. Then names match that are equal but for case, blanks, `_`, `-`, `+` and commas; then those
    that are so without `playing` and the like (`StillRings` is `playing stillrings`); then those with the same words in
    any order and inflection (`HammerThrow` is `throwing hammer`).

    Raises:
        ValueError: an alias names nothing, or two classes would share one name.
    """
    for label, name in aliases.items():
        if label not in labels:
            raise ValueError(f"`aliases` names the class `{label}`; {did_you_mean(label, labels)}")
        if name not in names:
            raise ValueError(
                f"`aliases.{label}` is `{name}`, which the list lacks; {did_you_mean(name, names)}"
            )
    found = dict(aliases)
    for key in (_letters, _strong_letters, _words):
        free = [name for name in names if name not in found.values()]
        by_key: dict[Any, list[str]] = {}
        for name in free:
            by_key.setdefault(key(name), []).append(name)
        taken: dict[str, str] = {}
        for label in labels:
            fitting = by_key.get(key(label), [])
            if label in found or not fitting:
                continue
            if len(fitting) > 1:
                raise ValueError(f"class `{label}` fits {fitting}: say in `aliases` which one is meant")
            other = next((one for one, name in taken.items() if name == fitting[0]), None)
            if other is not None:
                raise ValueError(f"`{fitting[0]}` fits the classes `{other}` and `{label}`: use `aliases`")
            taken[label] = fitting[0]
        found |= taken
    return found


def _letters(name: str) -> str:
    return "".join(letter for letter in spoken(name) if letter.isalnum())


def _strong_letters(name: str) -> str:
    words = spoken(name).split()
    return _letters(" ".join(word for word in words if stem(word) not in _WEAK) or name)


def _words(name: str) -> tuple[str, ...]:
    words = stems(spoken(name))
    return tuple(sorted(word for word in words if word not in _WEAK) or words)
