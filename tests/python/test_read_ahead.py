"""Reading ahead: how many elements are made before they are asked for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

import fastgen
from differential import without_injected_prefetch, yielding

INT = tf.TensorSpec((), tf.int64)
# Only a hang is ever waited for this long.
PATIENCE_S = 30


class Pulled:
    """Counts what was taken from a source, and lets a test wait for a count."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.number = 0

    def source(self) -> Iterator[int]:
        for number in itertools.count():
            with self.condition:
                self.number += 1
                self.condition.notify_all()
            yield number

    def reaches(self, number: int) -> bool:
        with self.condition:
            return self.condition.wait_for(lambda: self.number >= number, PATIENCE_S)


def read(source: Callable[[], Iterator[int]], **arguments: Any) -> Iterator[Any]:
    """An iterator that asks fastgen for nothing that it is not asked for itself."""
    dataset = fastgen.from_generator(source, output_signature=INT, **arguments)
    return iter(without_injected_prefetch(dataset))


class TestReadAhead:
    """`buffer_size` bounds what is made before it is asked for."""

    @pytest.mark.parametrize("size", [1, 2, 7, 64])
    def test_is_bounded_by_the_buffer_size(self, size: int) -> None:
        pulled = Pulled()
        iterator = read(pulled.source, buffer_size=size)
        for consumed in range(1, 200):
            assert int(next(iterator)) == consumed - 1
            assert consumed <= pulled.number <= consumed + size

    @pytest.mark.parametrize("size", [2, 4, 32])
    def test_happens(self, size: int) -> None:
        pulled = Pulled()
        iterator = read(pulled.source, buffer_size=size)
        next(iterator)
        assert pulled.reaches(1 + size // 2)

    def test_happens_by_default(self) -> None:
        pulled = Pulled()
        iterator = read(pulled.source)
        next(iterator)
        assert pulled.reaches(2)

    def test_of_0_pulls_only_on_demand(self) -> None:
        pulled = Pulled()
        iterator = read(pulled.source, buffer_size=0)
        assert pulled.number == 0
        for consumed in range(1, 200):
            assert int(next(iterator)) == consumed - 1
            assert pulled.number == consumed

    def test_of_0_sees_what_happened_between_two_elements(self) -> None:
        answers = {"next": 10}

        def source() -> Iterator[int]:
            while True:
                yield answers["next"]

        iterator = read(source, buffer_size=0)
        for answer in (10, 20, 5):
            answers["next"] = answer
            assert int(next(iterator)) == answer

    def test_of_0_with_errors(self) -> None:
        dataset = fastgen.from_generator(
            yielding(1, "x", 2), output_signature=INT, buffer_size=0
        ).ignore_errors()
        assert [int(value) for value in dataset] == [1, 2]

    @pytest.mark.parametrize("size", [0, 1, 3, 1000, fastgen.AUTOTUNE])
    def test_changes_no_element(self, size: int) -> None:
        dataset = fastgen.from_generator(
            lambda: range(1000), output_signature=INT, buffer_size=size
        )
        assert [int(value) for value in dataset] == list(range(1000))
