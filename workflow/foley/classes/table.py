"""The class table: for every class its id, label, words, synonyms and, if it has them, acoustic attributes.

attributes: [tonal, noisy]      # optional: the names of the attribute vector
classes:
  - id: 0
    label: dog
    words: [dog]                # the label's own words, the most telling one first
    synonyms: [canine, bark]    # optional
    attributes: [0.2, 0.8]      # optional, each in [0, 1], in the order above
    banned_senses:              # optional: other meanings of the name, and words that betray each in a prompt
      hot dog: [sausage, grill*]    # `*` at the end: any ending
"""

# A wrong type in the file is wrong content, not a caller's TypeError.

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class ClassInfo:
    """One class. `attributes` is None, or one number in [0, 1] for each of the table's `attribute_names`.

    banned_senses: other meanings of the class's name, each with the words that betray it in a text.
    """

    class_id: int
    label: str
    words: tuple[str, ...]
    synonyms: tuple[str, ...]
    attributes: tuple[float, ...] | None
    banned_senses: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class ClassTable:
    """All classes of a dataset, in ascending order of their ids."""

    classes: tuple[ClassInfo, ...]
    attribute_names: tuple[str, ...]


def read_class_table(path: str | Path) -> ClassTable:
    """Read and check a class table in YAML (format: see the module's docstring).

    Raises:
        ValueError: The file isn't valid; names the file, the class and what is wrong with it.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    _check_keys(content, str(path), required=("classes",), optional=("attributes",))
    names = _strings(content.get("attributes") or [], f"{path}: attributes")
    _refuse_duplicates(names, f"{path}: attribute")
    entries = content["classes"]
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: classes must be a list with at least one class")
    classes = [_read_class(entry, number, names, path) for number, entry in enumerate(entries, start=1)]
    return _table(classes, names, str(path))


def from_labels(labels: Sequence[str]) -> ClassTable:
    """Make a class table from bare labels: ids by position, words split at `_`, `-`, spaces and capitals.

    `Dog_bark`, `dog-bark` and `DogBark` all have the words (dog, bark).

    Raises:
        ValueError: A label occurs twice or holds no word.
    """
    classes = []
    for class_id, label in enumerate(labels):
        words = _words_in(label)
        if not words:
            raise ValueError(
                f"label {label!r} (class {class_id}) holds no word; give the classes readable labels"
            )
        classes.append(ClassInfo(class_id, label, words, (), None))
    return _table(classes, (), "labels")


def _words_in(label: str) -> tuple[str, ...]:
    # A capital starts a word after a small letter (carHorn) and before one (TVShow).
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    return tuple(word.lower() for word in re.findall(r"[^\W_]+(?:['’][^\W_]+)*", apart))


def _table(classes: Sequence[ClassInfo], names: tuple[str, ...], source: str) -> ClassTable:
    _refuse_duplicates((info.class_id for info in classes), f"{source}: class id")
    _refuse_duplicates((info.label for info in classes), f"{source}: label")
    return ClassTable(tuple(sorted(classes, key=lambda info: info.class_id)), names)


def _read_class(entry: object, number: int, names: tuple[str, ...], path: Path) -> ClassInfo:
    label = entry.get("label") if isinstance(entry, dict) else None
    where = f"{path}: class number {number}" + (f" ({label})" if isinstance(label, str) else "")
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected keys and values such as `id: 0`, got {entry!r}")
    _check_keys(
        entry, where, required=("id", "label", "words"), optional=("synonyms", "attributes", "banned_senses")
    )
    class_id = entry["id"]
    if isinstance(class_id, bool) or not isinstance(class_id, int) or class_id < 0:
        raise ValueError(f"{where}: id must be a whole number from 0 up, got {class_id!r}")
    words = _strings(entry["words"], f"{where}: words")
    if not words:
        raise ValueError(f"{where}: words is empty; give at least one")
    return ClassInfo(
        class_id=class_id,
        label=_strings([label], f"{where}: label")[0],
        words=words,
        synonyms=_strings(entry.get("synonyms") or [], f"{where}: synonyms"),
        attributes=_attributes(entry.get("attributes"), names, where),
        banned_senses=_banned_senses(entry.get("banned_senses"), where),
    )


def _banned_senses(senses: object, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if senses is None:
        return ()
    if not isinstance(senses, dict):
        raise ValueError(f"{where}: banned_senses must name each sense and its words, got {senses!r}")
    found = []
    for sense, words in senses.items():
        name = _strings([sense], f"{where}: banned_senses")[0]
        listed = _strings(words, f"{where}: banned_senses.{name}")
        if not listed or any(not word.rstrip("*").strip() or "*" in word[:-1] for word in listed):
            raise ValueError(
                f"{where}: banned_senses.{name} must list words, with `*` at the end for any ending, "
                f"got {words!r}"
            )
        found.append((name, listed))
    return tuple(found)


def _attributes(values: object, names: tuple[str, ...], where: str) -> tuple[float, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != len(names):
        count = f"{len(values)} values" if isinstance(values, list) else repr(values)
        raise ValueError(
            f"{where}: attributes must list {len(names)} values, one for each name under the file's own "
            f"`attributes` ({', '.join(names) or 'which is missing'}), got {count}"
        )
    for name, value in zip(names, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{where}: attribute {name} must be a number in [0, 1], got {value!r}")
    return tuple(float(value) for value in values)


def _check_keys(entry: object, where: str, required: Sequence[str], optional: Sequence[str]) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected keys and values with {', '.join(required)}, got {entry!r}")
    known = [*required, *optional]
    for key in entry:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {key!r}; {hint}")
    missing = [key for key in required if key not in entry]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}")


def _strings(values: object, where: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{where}: expected a list such as [dog, bark], got {values!r}")
    for value in values:
        if isinstance(value, bool | int | float):
            # YAML reads unquoted yes, no, on and off as truth values.
            raise ValueError(
                f"{where}: {value!r} is no text to YAML; put it in quotes, as it stands in the file"
            )
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: expected text, got {value!r}")
    return tuple(values)


def _refuse_duplicates(values: Iterable[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} occurs twice")
        seen.add(value)
