"""Class vectors: what a zero-shot method knows of a class whose audio it has never heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from foley.classes.sentence_vectors import embed_sentences
from foley.classes.table import ClassInfo, ClassTable
from foley.classes.word_vectors import load_word_vectors


@dataclass
class ClassVectors:
    """One vector a class: row i of `vectors` (float32 [C, D]) belongs to `class_ids[i]`.

    `missing` lists (class_id, word) for every word that had no vector and so doesn't count.
    """

    class_ids: list[int]
    vectors: np.ndarray
    missing: list[tuple[int, str]] = field(default_factory=list)


def class_vectors(
    table: ClassTable,
    kind: Literal["words", "attributes", "sentence"],
    *,
    synonyms: bool,
    path: str | Path | None = None,
    model: str | None = None,
    revision: str | None = None,
    template: str = "the sound of {label}",
) -> ClassVectors:
    """Make the class vectors of all classes of `table`, in its order.

    Args:
        table: The classes.
        kind: `words`: mean of the vectors of a class's words, the first counted twice (arXiv 2412.03771).
            `attributes`: the attribute vectors of the table as they are.
            `sentence`: the embedding of the filled `template`.
        synonyms: Average over the synonyms too. For `sentence`, each synonym fills the template once and the
            label twice, and the mean is scaled to length 1 again. No effect on `attributes`.
        path: The word2vec file (`words`).
        model: Directory or hub id of the sentence encoder (`sentence`), with its `revision`.
        template: Sentence with the placeholder {label} (`sentence`).

    Raises:
        ValueError: A class ends up without a vector, or the argument that `kind` needs is missing.
    """
    if kind == "words":
        if path is None:
            raise ValueError("class vectors of kind 'words' need `path`, a word2vec file")
        return _from_words(table, synonyms, Path(path))
    if kind == "attributes":
        return _from_attributes(table)
    if kind == "sentence":
        if model is None:
            raise ValueError("class vectors of kind 'sentence' need `model`, a directory or hub id")
        return _from_sentences(table, synonyms, model, revision, template)
    raise ValueError(f"unknown kind of class vectors {kind!r}; known are words, attributes, sentence")


def _from_words(table: ClassTable, synonyms: bool, path: Path) -> ClassVectors:
    words_of = {info.class_id: info.words + (info.synonyms if synonyms else ()) for info in table.classes}
    known = load_word_vectors(path, {word for words in words_of.values() for word in words})
    rows, missing = [], []
    for info in table.classes:
        words = words_of[info.class_id]
        missing += [(info.class_id, word) for word in words if word not in known]
        weighted = [known[word] for word in (*words, words[0]) if word in known]
        if not weighted:
            raise ValueError(
                f"class {info.class_id} ({info.label}): none of its words ({', '.join(words)}) has a vector "
                f"in {path}. Add common single-word synonyms to the class table"
                + ("" if synonyms else ", and turn synonyms on")
            )
        rows.append(np.mean(weighted, axis=0, dtype=np.float64))
    return ClassVectors(_ids(table), np.array(rows, np.float32), missing)


def _from_attributes(table: ClassTable) -> ClassVectors:
    rows = []
    for info in table.classes:
        if info.attributes is None:
            raise ValueError(
                f"class {info.class_id} ({info.label}) has no attributes; add them to the class table or use "
                "class vectors of another kind"
            )
        rows.append(info.attributes)
    return ClassVectors(_ids(table), np.array(rows, np.float32))


def _from_sentences(
    table: ClassTable, synonyms: bool, model: str, revision: str | None, template: str
) -> ClassVectors:
    if "{label}" not in template:
        raise ValueError(f"template {template!r} lacks the placeholder {{label}}; all classes would be alike")
    sentences = [
        [template.replace("{label}", name) for name in _names(info, synonyms)] for info in table.classes
    ]
    distinct = list(dict.fromkeys(sentence for group in sentences for sentence in group))
    vector_of = dict(zip(distinct, embed_sentences(distinct, model, revision), strict=True))
    means = np.array([np.mean([vector_of[s] for s in (*group, group[0])], axis=0) for group in sentences])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return ClassVectors(_ids(table), means.astype(np.float32))


def _names(info: ClassInfo, synonyms: bool) -> list[str]:
    return [info.label.replace("_", " "), *(info.synonyms if synonyms else ())]


def _ids(table: ClassTable) -> list[int]:
    return [info.class_id for info in table.classes]
