"""Word vectors in word2vec's formats, text and binary, plain or gzipped, read without holding the vocabulary.

Format: a line `<count> <dimensions>`, then the words. Text: one line a word, `<word> <value> ... <value>`.
Binary: `<word> `, the values as little-endian float32, and in some files a line feed after each
(https://code.google.com/archive/p/word2vec).
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

_BLOCK_BYTES = 1 << 24
_SNIFF_BYTES = 1 << 12
_LONGEST_WORD_BYTES = 4096


def load_word_vectors(path: str | Path, words: Collection[str]) -> dict[str, np.ndarray]:
    """Look up `words` in a word2vec file: {word: float32 [D]} of those that have a vector.

    A word is looked for as it is, then lower-cased, then Capitalised. The file is streamed in big blocks, and
    reading stops once every word was found as it is; so memory doesn't grow with the vocabulary.

    Raises:
        ValueError: The file is truncated or malformed; names the file and the line or byte offset (for a gzip
            file, of what it unpacks to). Only what was read is checked.
    """
    path = Path(path)
    wanted = _Wanted(words)
    try:
        with _opened(path) as stream:
            header = stream.readline(_SNIFF_BYTES)
            count, dimensions = _read_header(header, path)
            binary = _is_binary(stream.read(_SNIFF_BYTES))
        with _opened(path) as stream:
            stream.readline()
            if binary:
                _scan_binary(stream, len(header), count, dimensions, wanted, path)
            else:
                _scan_text(stream, count, dimensions, wanted, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip data ({error}); fetch the file again") from error
    return wanted.vectors()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not gzipped:
            yield file
            return
        with gzip.open(file) as unpacked:
            # gzip reads line by line in Python; behind a buffer it goes at C speed.
            yield io.BufferedReader(cast(io.RawIOBase, unpacked), _BLOCK_BYTES)


class _Wanted:
    """Which spellings to look for, and the best spelling found so far for each word."""

    def __init__(self, words: Collection[str]) -> None:
        self._words = list(dict.fromkeys(words))
        self._found: dict[str, tuple[int, np.ndarray]] = {}
        self._exact = 0
        self.spellings: dict[bytes, list[tuple[int, str]]] = {}
        for word in self._words:
            for rank, spelling in enumerate(dict.fromkeys((word, word.lower(), word.capitalize()))):
                self.spellings.setdefault(spelling.encode(), []).append((rank, word))

    @property
    def complete(self) -> bool:
        return self._exact == len(self._words)

    def add(self, spelling: bytes, vector: np.ndarray) -> None:
        for rank, word in self.spellings[spelling]:
            best = self._found.get(word)
            if best is None or rank < best[0]:
                self._found[word] = (rank, vector)
                self._exact += rank == 0

    def vectors(self) -> dict[str, np.ndarray]:
        return {word: self._found[word][1] for word in self._words if word in self._found}


def _read_header(line: bytes, path: Path) -> tuple[int, int]:
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or not int(fields[1]):
        raise ValueError(
            f"{path}: line 1 must be `<number of words> <dimensions>`, got {line[:60]!r}. "
            "Is it a word2vec file? GloVe's text files become one when that line is put on top"
        )
    return int(fields[0]), int(fields[1])


def _is_binary(sample: bytes) -> bool:
    """Whether `sample` can't be UTF-8 text: float32 values soon hold control or non-UTF-8 bytes."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return True
    return any(character < " " and character not in "\t\r\n" for character in text)


def _scan_binary(
    stream: BinaryIO, offset: int, count: int, dimensions: int, wanted: _Wanted, path: Path
) -> None:
    n_bytes = 4 * dimensions
    spellings = wanted.spellings
    block, at = (
        b"",
        0,
    )  # `offset` is where `block` starts in the file, `at` where the next word starts in `block`
    for number in range(1, count + 1):
        if wanted.complete:
            return
        space = block.find(b" ", at)
        while space < 0 or space + 1 + n_bytes > len(block):
            if space < 0 and len(block) - at > _LONGEST_WORD_BYTES:
                raise ValueError(
                    f"{path}: malformed at byte {offset + at}: no end of word {number} of {count}"
                )
            more = stream.read(_BLOCK_BYTES)
            if not more:
                raise ValueError(
                    f"{path}: truncated at byte {offset + len(block)}, in word {number} of {count}; "
                    "fetch the file again"
                )
            block, offset, at = block[at:] + more, offset + at, 0
            space = block.find(b" ")
        word = block[at:space].lstrip(b"\n")
        if word in spellings:
            vector = np.frombuffer(block, "<f4", dimensions, space + 1).astype(np.float32)
            _check_finite(vector, word, f"{path}: byte {offset + space + 1}")
            wanted.add(word, vector)
        at = space + 1 + n_bytes
    rest = (block[at:] + stream.read(_SNIFF_BYTES)).strip(b"\n")
    if rest:
        raise ValueError(
            f"{path}: malformed: data goes on at byte {offset + at}, after the {count} words of "
            f"{dimensions} values that line 1 announces"
        )


def _scan_text(stream: BinaryIO, count: int, dimensions: int, wanted: _Wanted, path: Path) -> None:
    spellings = wanted.spellings
    line, number = b"", 1
    for number, line in enumerate(stream, start=2):
        if number > count + 1:
            if line.strip():
                raise ValueError(f"{path}: line {number}: more words than the {count} that line 1 announces")
            continue
        word = line[: line.find(b" ")]
        if word in spellings:
            wanted.add(word, _parse_values(line, dimensions, f"{path}: line {number}"))
            if wanted.complete:
                return
        last = line
    if number < count + 1:
        raise ValueError(f"{path}: truncated: ends with line {number}, but line 1 announces {count} words")
    if count:
        _parse_values(
            last, dimensions, f"{path}: line {count + 1}"
        )  # the line that a cut file would end with


def _parse_values(line: bytes, dimensions: int, where: str) -> np.ndarray:
    word, *values = line.split()
    if len(values) != dimensions:
        raise ValueError(f"{where}: truncated or malformed: {len(values)} values, expected {dimensions}")
    try:
        vector = np.array([float(value) for value in values], np.float32)
    except ValueError as error:
        raise ValueError(f"{where}: malformed: {error}") from error
    _check_finite(vector, word, where)
    return vector


def _check_finite(vector: np.ndarray, word: bytes, where: str) -> None:
    if not np.isfinite(vector).all():
        raise ValueError(f"{where}: malformed: the vector of {word.decode(errors='replace')!r} isn't finite")
