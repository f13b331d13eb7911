"""What a source may return: whatever `iter()` takes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from differential import assert_same, values

INT = tf.TensorSpec((), tf.int64)


class GetItem:
    """Iterable by the old protocol alone."""

    def __getitem__(self, place: int) -> int:
        return [5, 6, 7][place]


class HasIter:
    def __iter__(self) -> Iterator[int]:
        return iter([5, 6])


RESULTS: dict[str, Callable[[], Iterable[Any]]] = {
    "generator": lambda: (n for n in range(3)),
    "list": lambda: [1, 2, 3],
    "tuple": lambda: (1, 2, 3),
    "empty tuple": lambda: (),
    "range": lambda: range(5),
    "set of one": lambda: {7},
    "dict": lambda: {1: "a", 2: "b"},
    "dict values": lambda: {"a": 1, "b": 2}.values(),
    "array": lambda: np.arange(4),
    "array of another dtype": lambda: np.arange(4, dtype=np.int16),
    "empty array": lambda: np.zeros(0),
    "bytes": lambda: b"ab",
    "tensor": lambda: tf.constant([1, 2, 3], tf.int64),
    "dataset": lambda: tf.data.Dataset.range(4),
    "ragged tensor": lambda: tf.ragged.constant([[1], [2, 3]]),
    "getitem": GetItem,
    "iterable": HasIter,
    "map": lambda: map(len, ["a", "bc"]),
    "chain": lambda: itertools.chain([1], (2,)),
    "islice of count": lambda: itertools.islice(itertools.count(), 3),
    "iter of a callable": lambda: iter(iter([1, 2, 0]).__next__, 0),
    "memoryview": lambda: memoryview(b"abc"),
    "string": lambda: "12",
}


class TestResults:
    """Whatever `iter()` takes is taken."""

    @pytest.mark.parametrize("name", RESULTS)
    def test_of_one_kind(self, name: str) -> None:
        assert_same(RESULTS[name], output_signature=INT)

    @pytest.mark.parametrize("name", ["array", "tensor", "dataset", "list"])
    def test_in_every_pass(self, name: str) -> None:
        steps = assert_same(RESULTS[name], output_signature=INT, via=lambda ds: ds.repeat(2))
        elements = values(steps)
        assert elements[: len(elements) // 2] == elements[len(elements) // 2 :]

    def test_rows_of_an_array(self) -> None:
        grid = np.arange(12.0).reshape(4, 3)
        assert_same(lambda: grid, output_signature=tf.TensorSpec((3,), tf.float32))

    def test_callables_of_every_kind(self, from_generator: Any) -> None:
        class Called:
            def __call__(self) -> Iterator[int]:
                yield 1

            def method(self) -> Iterator[int]:
                yield 1

            @staticmethod
            def static() -> Iterator[int]:
                yield 1

        called = Called()
        partial = functools.partial(itertools.repeat, 1, 1)
        for source in (called, called.method, Called.static, partial, functools.cache(lambda: [1])):
            assert [int(n) for n in from_generator(source, output_signature=INT)] == [1]

    def test_a_generator_made_once_is_empty_the_second_time(self, from_generator: Any) -> None:
        generator = (n for n in range(2))
        dataset = from_generator(lambda: generator, output_signature=INT)
        assert [int(value) for value in dataset] == [0, 1]
        assert list(dataset) == []
