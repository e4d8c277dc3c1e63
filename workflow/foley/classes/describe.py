"""A dataset's classes as a table, and the vectors made of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from foley import tables
from foley.classes.table import ClassInfo, ClassTable, from_labels, read_class_table
from foley.classes.vectors import class_vectors
from foley.tables.classes import CLASS_VECTORS, CLASSES, MISSING_WORDS
from foley.tables.clips import RAW_CLASSES

log = logging.getLogger(__name__)


def describe_classes(
    output: Path,
    *,
    clips: Path,
    defined: Path,
    class_table: Path | None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write what is known of each class that has clips.

    Args:
        defined: the classes that the dataset defines (`foley.tables.clips.RAW_CLASSES`): their numbers and hierarchy.
        class_table: YAML (see `foley.classes.table`); without it a class's words are those of its label.

    Raises:
        ValueError: labels of clips that the class table does not hold; names them.
    """
    heard = pc.unique(pc.list_flatten(tables.read(clips, columns=["labels"])["labels"])).to_pylist()
    classes = [row for row in tables.read(defined, RAW_CLASSES).to_pylist() if row["label"] in set(heard)]
    labels = [row["label"] for row in classes]
    known = read_class_table(class_table) if class_table is not None else from_labels(labels)
    by_label = _by_label(known, labels, class_table, "take the words of the labels")
    tables.write(
        output,
        CLASSES,
        [
            {
                # The dataset's own number counts; a class table may number its classes otherwise.
                "class_id": row["class_id"],
                "label": row["label"],
                "words": list(by_label[row["label"]].words),
                "synonyms": list(by_label[row["label"]].synonyms),
                "parents": row["parents"] or [],
                "attributes": list(by_label[row["label"]].attributes or ()) or None,
            }
            for row in classes
        ],
        provenance,
    )


def _by_label(
    known: ClassTable, labels: Sequence[str], source: Path | None, without: str
) -> dict[str, ClassInfo]:
    by_label = {info.label: info for info in known.classes}
    lacking = [label for label in labels if label not in by_label]
    if lacking:
        raise ValueError(
            f"{source} lacks the classes {lacking}, which have clips: add them, or leave `classes` out to {without}"
        )
    return by_label


def read_classes(path: Path) -> ClassTable:
    """The classes table back as a class table."""
    return ClassTable(
        tuple(
            ClassInfo(
                row["class_id"],
                row["label"],
                tuple(row["words"]),
                tuple(row["synonyms"]),
                tuple(row["attributes"]) if row["attributes"] is not None else None,
            )
            for row in tables.read(path, CLASSES).to_pylist()
        ),
        (),
    )


def embed_classes(
    vectors_path: Path,
    missing_path: Path,
    *,
    classes: Path,
    options: Mapping[str, Any],
    class_table: Path | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a vector for each class, and the words that had none.

    Args:
        options: keywords of `foley.classes.vectors.class_vectors`.
        class_table: YAML whose words, synonyms and attributes count instead of those in ``classes``, by label.

    Raises:
        ValueError: classes that the class table does not hold; names them.
    """
    table = read_classes(classes)
    if class_table is not None:
        labels = [info.label for info in table.classes]
        other = _by_label(
            read_class_table(class_table), labels, class_table, "have those of the dataset's table"
        )
        described = tuple(replace(other[info.label], class_id=info.class_id) for info in table.classes)
        table = ClassTable(described, table.attribute_names)
    made = class_vectors(table, **options)
    label = {info.class_id: info.label for info in table.classes}
    tables.write(
        vectors_path,
        CLASS_VECTORS.with_vectors(vector=made.vectors.shape[1]),
        pa.table(
            {
                "class_id": pa.array(made.class_ids, pa.int32()),
                "label": pa.array([label[c] for c in made.class_ids], pa.string()),
                "vector": tables.from_matrix(made.vectors),
            }
        ),
        provenance,
    )
    missing = [{"class_id": c, "label": label[c], "word": word} for c, word in dict.fromkeys(made.missing)]
    tables.write(missing_path, MISSING_WORDS, missing, provenance)
    if missing:
        log.warning("%d words have no vector: %s", len(missing), [row["word"] for row in missing])
