"""The values that test_conversion.py puts to both implementations, by name."""

from __future__ import annotations

import array
import datetime
import decimal
import enum
import fractions
import pathlib
import tempfile
from collections import deque
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf


class Subclass(np.ndarray):
    """An ndarray subclass that behaves."""


class HasArray:
    """An object that NumPy converts through `__array__`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)


class HasIndex:
    def __index__(self) -> int:
        return 7


class HasInt:
    def __int__(self) -> int:
        return 7


class HasFloat:
    def __float__(self) -> float:
        return 7.5


class HasLenAndItems:
    """A sequence by its methods alone."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> int:
        return [3, 4][place]


class RefusesArray:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise ValueError("no array today")


class Text(str):
    """A subclass of str."""


class Whole(int):
    """A subclass of int."""


class Colour(enum.IntEnum):
    RED = 1


def _memmap() -> np.ndarray:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fastgen-memmap-"))
    mapped = np.memmap(folder / "numbers", dtype=np.int32, mode="w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    return mapped


def _read_only(values: Any) -> np.ndarray:
    frozen = np.array(values)
    frozen.setflags(write=False)
    return frozen


_GRID = np.arange(12, dtype=np.int32).reshape(3, 4)

PYTHON_SCALARS: dict[str, Any] = {
    "0": 0,
    "1": 1,
    "-1": -1,
    "127": 127,
    "128": 128,
    "255": 255,
    "256": 256,
    "-129": -129,
    "2**31": 2**31,
    "-2**31": -(2**31),
    "2**32 + 5": 2**32 + 5,
    "2**40": 2**40,
    "2**53 + 1": 2**53 + 1,
    "2**63 - 1": 2**63 - 1,
    "2**63": 2**63,
    "-2**63": -(2**63),
    "2**64 - 1": 2**64 - 1,
    "2**64": 2**64,
    "2**70": 2**70,
    "-2**70": -(2**70),
    "10**400": 10**400,
    "True": True,
    "False": False,
    "0.0": 0.0,
    "-0.0": -0.0,
    "1.0": 1.0,
    "0.1": 0.1,
    "1.9": 1.9,
    "-1.9": -1.9,
    "300.7": 300.7,
    "1e10": 1e10,
    "1e19": 1e19,
    "1e40": 1e40,
    "5e-324": 5e-324,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "1j": 1j,
    "1+2j": 1 + 2j,
    "1+0j": 1 + 0j,
    "subclass of int": Whole(5),
    "IntEnum": Colour.RED,
    "Fraction": fractions.Fraction(1, 2),
    "Decimal": decimal.Decimal("1.5"),
}

TEXT: dict[str, Any] = {
    "empty str": "",
    "str": "a",
    "str é": "é",
    "str 日本": "日本🚀",
    "str with NUL": "a\0b",
    "str ending in NUL": "a\0\0",
    "lone surrogate": "\udc80",
    "str of a number": "12",
    "str of a float": "1.5",
    "str of nan": "nan",
    "str of True": "True",
    "subclass of str": Text("sub"),
    "empty bytes": b"",
    "bytes": b"a",
    "bytes with NUL": b"a\0b",
    "bytes ending in NUL": b"a\0\0",
    "bytes not UTF-8": b"\xff\xfe",
    "bytes of a number": b"12",
    "long str": "word " * 1000,
    "long bytes": b"\0\1\2" * 1000,
    "np.str_": np.str_("né"),
    "np.bytes_": np.bytes_(b"a\0b"),
    "np.bytes_ ending in NUL": np.bytes_(b"a\0\0"),
}

NO_NUMBERS: dict[str, Any] = {
    "None": None,
    "object": object,
    "Ellipsis": ...,
    "set": {1},
    "dict": {"a": 1},
    "type": int,
    "datetime": datetime.datetime(2020, 1, 2),
    "timedelta": datetime.timedelta(days=1),
    "np.datetime64": np.datetime64("2020-01-02"),
    "np.timedelta64": np.timedelta64(3, "s"),
    "np.void": np.void(b"ab"),
    "Path": pathlib.PurePosixPath("a/b"),
    "range": range(3),
    "bytearray": bytearray(b"ab\0"),
    "memoryview": memoryview(b"ab\0"),
    "array.array": array.array("i", [1, 2]),
    "deque": deque([1, 2]),
    "generator": (n for n in ()),
    "HasIndex": HasIndex(),
    "HasInt": HasInt(),
    "HasFloat": HasFloat(),
    "HasLenAndItems": HasLenAndItems(),
    "RefusesArray": RefusesArray(),
    "HasArray scalar": HasArray(3),
    "HasArray list": HasArray([1.5, 2.5]),
    "HasArray text": HasArray(["a", "é"]),
}

NUMPY_SCALARS: dict[str, Any] = {
    "np.bool": np.True_,
    "np.int8": np.int8(-5),
    "np.uint8": np.uint8(200),
    "np.int16": np.int16(-300),
    "np.uint16": np.uint16(60000),
    "np.int32": np.int32(-70000),
    "np.uint32": np.uint32(2**32 - 1),
    "np.int64": np.int64(-(2**40)),
    "np.uint64": np.uint64(2**64 - 1),
    "np.float16": np.float16(1.5),
    "np.float32": np.float32(0.1),
    "np.float64": np.float64(0.1),
    "np.longdouble": np.longdouble("0.1"),
    "np.complex64": np.complex64(1 + 2j),
    "np.complex128": np.complex128(1 + 2j),
    "ml bfloat16": ml_dtypes.bfloat16(1.5),
    "ml int4": ml_dtypes.int4(-3),
    "ml float8_e4m3fn": ml_dtypes.float8_e4m3fn(1.5),
}

LISTS: dict[str, Any] = {
    "[]": [],
    "[[]]": [[]],
    "[1, 2]": [1, 2],
    "(1, 2)": (1, 2),
    "[1, 2.5]": [1, 2.5],
    "[True, 2]": [True, 2],
    "[1, 2j]": [1, 2j],
    "[255, 256, -1]": [255, 256, -1],
    "[2**40]": [2**40],
    "[2**63, -1]": [2**63, -1],
    "[2**70]": [2**70],
    "[nan, 1.5]": [float("nan"), 1.5],
    "[1, 'a']": [1, "a"],
    "['a', 'bcd']": ["a", "bcd"],
    "['é', '日本']": ["é", "日本"],
    "[b'a', 'b']": [b"a", "b"],
    "[b'a\\0', b'b']": [b"a\0", b"b"],
    "['', b'']": ["", b""],
    "['1', '2']": ["1", "2"],
    "[[1, 2], [3]]": [[1, 2], [3]],
    "[[1, 2], [3, 4]]": [[1, 2], [3, 4]],
    "[(1, 2), [3, 4]]": [(1, 2), [3, 4]],
    "[['a', 'b'], ['c', 'd']]": [["a", "b"], ["c", "d"]],
    "[['a'], ['b', 'c']]": [["a"], ["b", "c"]],
    "[None]": [None],
    "[1, None]": [1, None],
    "[np.float32, 1]": [np.float32(0.1), 1],
    "[array, array]": [np.array([1, 2]), np.array([3.5, 4.5])],
    "[array, list]": [np.array([1, 2]), [3, 4]],
    "[array, array of another length]": [np.array([1, 2]), np.array([3])],
    "[tensor, tensor]": [tf.constant([1, 2]), tf.constant([3, 4])],
    "[tensor, number]": [tf.constant(1), 2],
    "[np.bytes_, np.str_]": [np.bytes_(b"a"), np.str_("b")],
    "[Fraction]": [fractions.Fraction(1, 2)],
    "[HasArray]": [HasArray(3)],
    "a long list": list(range(1000)),
}

ARRAYS: dict[str, Any] = {
    "C order": _GRID,
    "Fortran order": np.asfortranarray(_GRID),
    "transposed": _GRID.T,
    "strided": _GRID[:, ::2],
    "negative strides": _GRID[::-1, ::-1],
    "negative stride, rank 1": _GRID[0, ::-1],
    "broadcast": np.broadcast_to(np.int32(3), (2, 3)),
    "offset by one byte": np.frombuffer(b"\0" + _GRID.tobytes(), np.uint8)[1:].view(np.int32),
    "big-endian int32": np.array([1, 2, 2**20], dtype=">i4"),
    "big-endian int64 scalar": np.array(2**40 + 1, dtype=">i8"),
    "big-endian float64": np.array([1.5, -2.5], dtype=">f8"),
    "big-endian complex64": np.array([1.5 + 2j], dtype=">c8"),
    "big-endian str": np.array(["é", "ab"], dtype=">U2"),
    "read-only": _read_only([1, 2, 3]),
    "rank 0": np.array(5),
    "rank 0 float": np.array(1.9),
    "rank 0 str": np.array("é"),
    "rank 0 bytes": np.array(b"a\0b"),
    "rank 0 object": np.array(None, dtype=object),
    "size 0": np.zeros((0,), np.float32),
    "size 0, rank 2": np.zeros((3, 0), np.int64),
    "size 0 of str": np.zeros((0,), "U3"),
    "rank 5": np.arange(32, dtype=np.int16).reshape(2, 2, 2, 2, 2),
    "subclass": np.arange(3).view(Subclass),
    "matrix-like subclass": np.ones((2, 2)).view(Subclass).T,
    "memmap": _memmap(),
    "masked": np.ma.masked_array([1, 2], mask=[False, True]),
    "structured": np.zeros((2,), dtype=[("a", np.int32), ("b", np.float32)]),
    "bool": np.array([True, False]),
    "int8": np.array([-128, 127], np.int8),
    "uint8": np.array([0, 255], np.uint8),
    "int32 beyond 8 bits": np.array([256, -1, 70000], np.int32),
    "int64 beyond 32 bits": np.array([2**40, -(2**40) + 1]),
    "uint64": np.array([2**64 - 1], np.uint64),
    "float16": np.array([1.5, 65504], np.float16),
    "float32": np.array([0.1, 1e30, -0.0], np.float32),
    "float64": np.array([0.1, 1e300, 1.9, -1.9]),
    "nan and inf": np.array([np.nan, np.inf, -np.inf]),
    "complex64": np.array([1 + 2j], np.complex64),
    "complex128, real": np.array([1 + 0j]),
    "longdouble": np.array([1.5], np.longdouble),
    "bfloat16": np.array([1.5, -3], ml_dtypes.bfloat16),
    "float8_e5m2": np.array([1.5, 57344], ml_dtypes.float8_e5m2),
    "int4": np.array([-8, 7], ml_dtypes.int4),
    "uint4": np.array([0, 15], ml_dtypes.uint4),
    "datetime64": np.array(["2020-01-02"], "datetime64[D]"),
    "timedelta64": np.array([3], "timedelta64[s]"),
    "S": np.array([b"a", b"bcd", b""]),
    "S with NULs": np.array([b"a\0\0", b"\0b"]),
    "U": np.array(["a", "é日本", ""]),
    "U, strided": np.array(["a", "b", "c", "d"])[::2],
    "S of rank 2": np.array([[b"a", b"b"], [b"c", b"d"]]),
    "objects: str": np.array(["a", "é"], dtype=object),
    "objects: bytes": np.array([b"a\0\0", b"\xff"], dtype=object),
    "objects: str and bytes": np.array(["é", b"\0"], dtype=object),
    "objects: int": np.array([1, 2**40], dtype=object),
    "objects: huge int": np.array([2**70], dtype=object),
    "objects: float": np.array([1.9, 2.0], dtype=object),
    "objects: None": np.array(["a", None], dtype=object),
    "objects: mixed": np.array(["a", 1, 2.5], dtype=object),
    "objects: lists": np.array([[1, 2], [3, 4]], dtype=object),
    "objects: rank 2": np.array([["a", b"b"], ["c", "d"]], dtype=object),
    "objects: strided": np.array(["a", "b", "c"], dtype=object)[::2],
    "objects: of size 0": np.zeros((0, 2), dtype=object),
    "StringDType": np.array(["a", "é" * 40], dtype=np.dtypes.StringDType()),
    "larger than a page": np.arange(5000, dtype=np.int64),
}

TENSORS: dict[str, Any] = {
    "tensor int32": tf.constant(5),
    "tensor int64": tf.constant([1, 2], tf.int64),
    "tensor float32": tf.constant([0.1, 1.9]),
    "tensor float64": tf.constant(0.1, tf.float64),
    "tensor bool": tf.constant([True, False]),
    "tensor complex": tf.constant(1 + 2j),
    "tensor bfloat16": tf.constant([1.5, -3], tf.bfloat16),
    "tensor float16": tf.constant(1.5, tf.float16),
    "tensor string": tf.constant("é"),
    "tensor strings": tf.constant([b"a\0", b"\xff", b""]),
    "tensor of size 0": tf.zeros((0, 3)),
    "tensor of rank 3": tf.reshape(tf.range(8), (2, 2, 2)),
    "tensor uint8": tf.constant([255], tf.uint8),
    "tensor qint8": tf.quantization.quantize([1.0, 2.0], 0, 2, tf.qint8).output,
    "tensor int4": tf.cast(tf.constant([-8, 7]), tf.dtypes.experimental.int4),
    "tensor float8": tf.cast(tf.constant([1.5]), tf.dtypes.experimental.float8_e4m3fn),
    "variable": tf.Variable([1, 2]),
    "variable float": tf.Variable(1.9),
    "ragged": tf.ragged.constant([[1], [2, 3]]),
    "sparse": tf.sparse.from_dense([[0, 1], [2, 0]]),
}

VALUES: dict[str, Any] = {
    **PYTHON_SCALARS,
    **TEXT,
    **NO_NUMBERS,
    **NUMPY_SCALARS,
    **LISTS,
    **ARRAYS,
    **TENSORS,
}
