"""Batches of every kind of element: structures, shapes, layouts, dtypes, values and strings."""

from __future__ import annotations

import collections
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from batching import assert_same_batches, fused
from conversion_values import TEXT, VALUES, HasArray
from differential import STOCK, assert_same, observe, shape_of, values, yielding
from test_conversion import DTYPES, EXACT_DTYPES, EXPERIMENTAL

INT = tf.TensorSpec((), tf.int64)
STRING = tf.TensorSpec((), tf.string)


class Point(NamedTuple):
    x: Any
    name: Any


class Sample(dict[str, Any]):
    """A dict by another name."""


STRUCTURES: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "scalar": (INT, lambda n: n),
    "tuple of one": ((INT,), lambda n: (n,)),
    "pair": ((INT, STRING), lambda n: (n, str(n))),
    "dict": ({"b": INT, "a": STRING}, lambda n: {"a": str(n), "b": n}),
    "namedtuple": (Point(INT, STRING), lambda n: Point(n, str(n))),
    "a dict's subclass": (Sample(a=INT), lambda n: Sample(a=n)),
    "OrderedDict": (
        collections.OrderedDict([("b", INT), ("a", STRING)]),
        lambda n: collections.OrderedDict([("b", n), ("a", str(n))]),
    ),
    "nested": (
        ({"p": Point(INT, (STRING, INT))}, (INT, {"q": STRING})),
        lambda n: ({"p": Point(n, (str(n), -n))}, (2 * n, {"q": "é" * n})),
    ),
    "other types than the signature's": (
        {"p": Point(INT, STRING)},
        lambda n: collections.OrderedDict(p=Point(n, str(n))),
    ),
    "many": ({f"k{i}": INT for i in range(40)}, lambda n: {f"k{i}": n * i for i in range(40)}),
    "a name in the signature": (tf.TensorSpec((2,), tf.int64, "named"), lambda n: [n, n]),
}

SHAPES: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "vector": ((3,), lambda n: [n] * 3),
    "of any length": ((None,), lambda n: [n] * 4),
    "of unknown rank": (None, lambda n: [[n, n]]),
    "scalar of unknown rank": (None, lambda n: n),
    "empty": ((0,), lambda _: []),
    "empty in one axis": ((None, 0, 3), lambda _: np.zeros((2, 0, 3), np.int32)),
    "of rank 5": ((1, None, 1, 2, 1), lambda n: np.full((1, 3, 1, 2, 1), n)),
    "of rank 20": (None, lambda n: np.full((1,) * 20, n)),
    "C order": ((3, 4), lambda n: np.arange(12).reshape(3, 4) * n),
    "Fortran order": ((3, 4), lambda n: np.asfortranarray(np.arange(12).reshape(3, 4) * n)),
    "transposed": ((4, 3), lambda n: (np.arange(12).reshape(3, 4) * n).T),
    "strided": ((2,), lambda n: np.arange(n, n + 6)[::3]),
    "reversed": ((3, 2), lambda n: np.arange(n, n + 6).reshape(3, 2)[::-1, ::-1]),
    "broadcast": ((2, 3), lambda n: np.broadcast_to(np.int32(n), (2, 3))),
    "byte-swapped": ((2,), lambda n: np.array([n, 2**20 + n], ">i4")),
    "cast": ((2,), lambda n: np.array([n + 0.7, -n - 0.7])),
    "cast and strided": ((3,), lambda n: np.arange(n, n + 9, dtype=np.float64)[::3]),
    "tensors": ((2,), lambda n: tf.constant([n, -n], tf.int32)),
    "objects with arrays": ((2,), lambda n: HasArray([n, n + 1])),
    "scalars of NumPy": ((), lambda n: np.int16(n)),
    "all kinds in turn": (
        (1,),
        lambda n: [[n], np.array([n]), np.float32([n]), HasArray([n]), (n,), tf.constant([n])][
            n % 6
        ],
    ),
}


class TestElements:
    @pytest.mark.parametrize("name", STRUCTURES)
    def test_of_each_structure(self, name: str) -> None:
        spec, element = STRUCTURES[name]
        steps = assert_same_batches(
            lambda: lambda: map(element, range(7)),
            lambda ds, batch: batch(ds.repeat(2), 4),
            output_signature=spec,
        )
        assert shape_of(steps) == "vvvve"

    @pytest.mark.parametrize("name", SHAPES)
    def test_of_each_shape_and_layout(self, name: str) -> None:
        shape, element = SHAPES[name]
        spec = {"a": tf.TensorSpec(shape, tf.int32), "b": tf.TensorSpec(shape, tf.int32)}
        steps = assert_same_batches(
            lambda: lambda: ({"a": element(n), "b": element(-n)} for n in range(7)),
            output_signature=spec,
        )
        assert shape_of(steps) == "vvve"

    @pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "string"])
    def test_of_each_dtype(self, dtype: str) -> None:
        def source() -> Iterator[Any]:
            for n in range(7):
                array = (np.arange(6).reshape(2, 3) + n).astype(DTYPES[dtype].as_numpy_dtype)
                yield array[0, 0], array, array.T[1:]

        shapes: tuple[Any, ...] = ((), None, (None, 2))
        signature = tuple(tf.TensorSpec(shape, DTYPES[dtype]) for shape in shapes)
        if dtype not in NEVER_BATCHED_BY_TENSORFLOW:
            assert_same_batches(lambda: source, output_signature=signature)
            return
        assert "Unhandled data type" in repr(
            observe(STOCK(source, output_signature=signature).batch(3))
        )
        batches = fused(fastgen.from_generator(source, output_signature=signature), 3)
        got = zip(*(batch for batch in batches), strict=True)
        expected = zip(*source(), strict=True)
        for tensors, arrays in zip(got, expected, strict=True):
            rows = np.concatenate([tensor.numpy() for tensor in tensors])
            assert rows.tobytes() == np.stack(arrays).tobytes()

    @pytest.mark.parametrize("dtype", EXACT_DTYPES)
    @pytest.mark.parametrize("shape", [(), (None,), None])
    def test_of_every_value(self, dtype: str, shape: Any) -> None:
        """Each value stands in a batch with itself and with a neighbour that was converted."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of casts that lose something
            steps = assert_same_batches(
                lambda: lambda: ((n, VALUES[name]) for name in VALUES for n in range(2)),
                lambda ds, batch: batch(ds, 2),
                reference="unfused",
                output_signature=(INT, tf.TensorSpec(shape, DTYPES[dtype])),
            )
        assert values(steps)


# Of these it makes single elements, but has no code to put them side by side.
NEVER_BATCHED_BY_TENSORFLOW = {"qint16", "quint16", *EXPERIMENTAL}

LONG = "日本 " * 1000
STRINGS: dict[str, tuple[Any, list[Any]]] = {
    "of every kind": ((), [text for text in TEXT.values() if text != "\udc80"]),
    "short and long in turn": ((), ["", LONG, b"a", LONG.encode(), "é" * 511, b"b" * 1024] * 3),
    "at the limit": ((), ["a" * n for n in range(1020, 1030)]),
    "lists": ((3,), [["a", b"b\0", ""], [LONG, b"", "é"], [b"\xff", LONG * 2, LONG]]),
    "empty lists": ((None,), [np.zeros(0, object)] * 4),
    "arrays of objects": (
        (None, 1),
        [np.array([["a"], [LONG]], object), np.array([[b""], [b"x" * 5000]], object)] * 2,
    ),
    "NumPy's": ((2,), [np.array(["a", "é"]), np.array([b"a\0", b"b"]), ["c", LONG]]),
    "of unknown rank": (None, [["a"], [LONG], [b"b"], np.array(["c"], object)]),
    "tensors": ((2,), [tf.constant(["a", LONG]), tf.constant([b"\xff", b""])] * 2),
}


class TestStrings:
    @pytest.mark.parametrize("name", STRINGS)
    @pytest.mark.parametrize("size", [1, 4])
    def test_of_each_kind(self, name: str, size: int) -> None:
        shape, elements = STRINGS[name]
        steps = assert_same_batches(
            lambda: lambda: [(element, 1) for element in elements],
            lambda ds, batch: batch(ds.repeat(2), size),
            output_signature=(tf.TensorSpec(shape, tf.string), INT),
        )
        assert "f" not in shape_of(steps)

    @pytest.mark.parametrize("texts", [["a", "bc"], [LONG, "a"], [LONG, LONG]])
    def test_before_a_component_that_is_converted_anew(self, texts: list[str]) -> None:
        """They are stored before it is known that the element goes the long way."""

        def source() -> Iterator[Any]:
            for n in range(9):
                other = [n, n] if n % 2 else HasArray([n, n] if n != 4 else [n])
                yield {"a": texts[n % 2], "b": [f"{n}", texts[0]], "c": other}

        spec = {
            "a": STRING,
            "b": tf.TensorSpec((2,), tf.string),
            "c": tf.TensorSpec((2,), tf.int64),
        }
        assert shape_of(assert_same_batches(lambda: source, output_signature=spec)) == "vfvve"

    def test_of_thousands_of_long_ones(self) -> None:
        def source() -> Iterator[str]:
            for n in range(3000):
                yield f"{n} " * 400  # each is held, and dropped again

        dataset = fused(fastgen.from_generator(source, output_signature=STRING), 64)
        places = itertools.count()
        for batch in dataset:
            for text in batch.numpy():
                assert text == b"%d " % (n := next(places)) * 400, n
        assert next(places) == 3000


def test_variants() -> None:
    """A dense component of dtype variant and unknown rank, alone."""

    def source() -> Any:
        for n in range(3):
            yield tf.data.experimental.to_variant(tf.data.Dataset.range(n))

    steps = assert_same(source, output_types=tf.variant, via=lambda ds: ds.batch(2).map(tf.shape))
    assert shape_of(steps) == "vve"


def test_an_object_is_asked_for_its_array_once(from_generator: Any) -> None:
    asked = []

    class Counting(HasArray):
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            asked.append(self.value)
            return super().__array__(dtype, copy)

    source = yielding(*map(Counting, ([1], [1, 2], [3], [4])))  # the second makes its batch ragged
    dataset = from_generator(source, output_signature=tf.TensorSpec((None,), tf.int64))
    assert shape_of(observe(dataset.batch(2))) == "fve"
    assert asked == [[1], [1, 2], [3], [4]]
