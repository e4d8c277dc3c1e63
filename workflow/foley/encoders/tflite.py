"""The weights of a TFLite model: its convolutions and dense layers in the order of its graph.

Just enough of FlatBuffers (https://flatbuffers.dev/internals) and TFLite's schema (tensorflow/lite/schema/schema.fbs)
to read constants; nothing in the file is run. Quantised weights become float32 again: scale x (number - zero point).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Kind = Literal["conv", "depthwise", "dense"]
_KINDS: dict[int, Kind] = {3: "conv", 4: "depthwise", 9: "dense"}
_DEQUANTIZE = 6
_TYPES = {0: np.float32, 1: np.float16, 9: np.int8}


@dataclass(frozen=True)
class Layer:
    """``weight``: of a convolution [out, height, width, in], of a depthwise one [1, height, width, channels], of a
    dense layer [out, in]; ``bias`` [out] or None."""

    kind: Kind
    weight: np.ndarray
    bias: np.ndarray | None


def read_layers(path: Path) -> list[Layer]:
    """All convolutions and dense layers with constant weights.

    Raises:
        ValueError: it is no TFLite model, is truncated, or its weights have a type that is not read.
    """
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError(f"{path} ({len(data):,} bytes) is no TFLite model")
    try:
        return list(_layers(_Table(data, _follow(data, 0))))
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} ({len(data):,} bytes) is truncated or of an unknown sort: {error}"
        ) from error


def _follow(data: bytes, place: int) -> int:
    return place + struct.unpack_from("<I", data, place)[0]


class _Table:
    """A FlatBuffers table; fields are numbered as in the schema."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place
        self._index = place - struct.unpack_from("<i", data, place)[0]
        self._size = struct.unpack_from("<H", data, self._index)[0]

    def _field(self, number: int) -> int | None:
        offset = 4 + 2 * number
        if offset >= self._size:
            return None
        found = struct.unpack_from("<H", self.data, self._index + offset)[0]
        return self.place + found if found else None

    def integer(self, number: int, form: str = "<i") -> int:
        place = self._field(number)
        return 0 if place is None else struct.unpack_from(form, self.data, place)[0]

    def array(self, number: int, dtype: type = np.int32) -> np.ndarray:
        place = self._field(number)
        if place is None:
            return np.zeros(0, dtype)
        begin = _follow(self.data, place)
        count = struct.unpack_from("<I", self.data, begin)[0]
        return np.frombuffer(self.data, dtype, count, begin + 4)

    def table(self, number: int) -> _Table | None:
        place = self._field(number)
        return None if place is None else _Table(self.data, _follow(self.data, place))

    def tables(self, number: int) -> list[_Table]:
        place = self._field(number)
        if place is None:
            return []
        begin = _follow(self.data, place)
        count = struct.unpack_from("<I", self.data, begin)[0]
        return [_Table(self.data, _follow(self.data, begin + 4 + 4 * k)) for k in range(count)]


def _layers(model: _Table) -> Iterator[Layer]:
    # Old files have the operator's code in a byte (field 0), new ones in an int (field 3).
    codes = [max(code.integer(0, "<b"), code.integer(3)) for code in model.tables(1)]
    graph, buffers = model.tables(2)[0], model.tables(4)
    tensors = graph.tables(0)
    stored_as: dict[int, int] = {}  # a tensor that the graph dequantises -> the constant
    for operator in graph.tables(3):
        code = codes[operator.integer(0, "<I")]
        inputs, outputs = operator.array(1).tolist(), operator.array(2).tolist()
        if code == _DEQUANTIZE:
            stored_as[outputs[0]] = inputs[0]
        elif code in _KINDS:
            weight, *bias = [
                _constant(tensors[stored_as.get(number, number)], buffers)
                for number in inputs[1:3]
                if number >= 0
            ]
            if weight is not None:
                yield Layer(_KINDS[code], weight, bias[0] if bias else None)


def _constant(tensor: _Table, buffers: list[_Table]) -> np.ndarray | None:
    raw = buffers[tensor.integer(2, "<I")].array(0, np.uint8)
    if not len(raw):
        return None  # computed when the model runs
    kind = tensor.integer(1, "<b")
    if kind not in _TYPES:
        raise ValueError(f"weights of type {kind} are not read")
    values = np.frombuffer(raw.tobytes(), _TYPES[kind]).reshape(tensor.array(0)).astype(np.float32)
    quantisation = tensor.table(4)
    scale = quantisation.array(2, np.float32) if quantisation is not None else np.zeros(0, np.float32)
    if quantisation is None or not len(scale):
        return values
    zero = quantisation.array(3, np.int64).astype(np.float32)
    if len(scale) > 1:  # one for each slice along an axis
        along = [1] * values.ndim
        along[quantisation.integer(6)] = -1
        scale, zero = scale.reshape(along), (zero.reshape(along) if len(zero) else zero)
    return scale * (values - zero) if zero.size else scale * values
