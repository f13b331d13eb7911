"""Reading ahead: how many elements are made before they are asked for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import model_pb2

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

    def reaches(self, number: int, within_s: float = PATIENCE_S) -> bool:
        with self.condition:
            return self.condition.wait_for(lambda: self.number >= number, within_s)


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


MEGABYTE = 2**20
LARGE = tf.TensorSpec((MEGABYTE,), tf.uint8)


def large_elements(pulled: Pulled) -> Callable[[], Iterator[Any]]:
    """A source of elements of one megabyte each."""
    element = np.zeros(MEGABYTE, np.uint8)

    def source() -> Iterator[Any]:
        for _ in pulled.source():
            yield element

    return source


def read_large(pulled: Pulled, **arguments: Any) -> Iterator[Any]:
    dataset = fastgen.from_generator(large_elements(pulled), output_signature=LARGE, **arguments)
    return iter(without_injected_prefetch(dataset))


class TestBytes:
    """`buffer_bytes` bounds what the elements hold that were made before they were asked for."""

    @pytest.mark.parametrize("size", [100, fastgen.AUTOTUNE])
    def test_are_bounded(self, size: int) -> None:
        pulled = Pulled()
        iterator = read_large(pulled, buffer_size=size, buffer_bytes=2 * MEGABYTE)
        for consumed in range(1, 60):
            next(iterator)
            # The element that oversteps the limit, being the third that waits, is the last one.
            assert pulled.number <= consumed + 3
            assert pulled.reaches(consumed + 1)

    @pytest.mark.parametrize("size", [1, 100, fastgen.AUTOTUNE])
    def test_one_element_may_wait_whatever_it_holds(self, size: int) -> None:
        pulled = Pulled()
        iterator = read_large(pulled, buffer_size=size, buffer_bytes=1)
        for consumed in range(1, 60):
            next(iterator)
            assert pulled.number <= consumed + 1
            assert pulled.reaches(consumed + 1)

    def test_do_not_bound_the_number_of_small_elements(self) -> None:
        pulled = Pulled()
        iterator = read(pulled.source, buffer_size=64, buffer_bytes=MEGABYTE)
        next(iterator)
        assert pulled.reaches(64)

    def test_are_not_bounded_when_only_a_number_is_given(self) -> None:
        pulled = Pulled()
        iterator = read_large(pulled, buffer_size=80)
        next(iterator)
        assert pulled.reaches(80)

    def test_are_64_megabytes_by_default(self) -> None:
        pulled = Pulled()
        element = np.zeros(33 * MEGABYTE, np.uint8)

        def source() -> Iterator[Any]:
            for _ in pulled.source():
                yield element

        spec = tf.TensorSpec(element.shape, tf.uint8)
        dataset = fastgen.from_generator(source, output_signature=spec)
        iterator = iter(without_injected_prefetch(dataset))
        next(iterator)
        assert pulled.reaches(3)
        # Two of them are more than that. A third would be let through at once if it were.
        assert not pulled.reaches(4, within_s=1)

    def test_may_be_more_than_there_ever_will_be(self) -> None:
        dataset = fastgen.from_generator(
            lambda: range(10), output_signature=INT, buffer_bytes=10**30
        )
        assert [int(value) for value in dataset] == list(range(10))

    def test_of_0_elements(self) -> None:
        pulled = Pulled()
        iterator = read(pulled.source, buffer_size=0, buffer_bytes=1)
        for consumed in range(1, 20):
            next(iterator)
            assert pulled.number == consumed


def node_of_source(iterator: Any) -> Any:
    """What TensorFlow's autotuning knows of the source."""
    nodes = tf.data.experimental.get_model_proto(iterator).nodes.values()
    (node,) = (node for node in nodes if node.name == "Fastgen")
    return node


class TestAutotuningModel:
    """TensorFlow's model of a pipeline knows that the source reads ahead, and how far."""

    def test_knows_that_the_source_is_asynchronous(self) -> None:
        iterator = read(lambda: itertools.count())
        next(iterator)
        asynchronous = model_pb2.NodeClass.ASYNC_KNOWN_RATIO
        assert node_of_source(iterator).node_class == asynchronous

    @pytest.mark.parametrize("size", [1, 8, 100])
    def test_knows_the_buffer_size_and_leaves_it_alone(self, size: int) -> None:
        iterator = read(lambda: itertools.count(), buffer_size=size)
        next(iterator)
        (parameter,) = node_of_source(iterator).parameters
        assert parameter.name == "buffer_size"
        assert parameter.value == parameter.state_value == size
        assert not parameter.tunable

    def test_follows_the_buffer_size_that_fastgen_chooses(self) -> None:
        def source() -> Iterator[int]:
            for number in itertools.count():
                # Whoever consumes has to wait; how often is all the same.
                time.sleep(0.001)
                yield number

        iterator = read(source)
        sizes = []
        while not sizes or sizes[-1] < 64:
            next(iterator)
            (parameter,) = node_of_source(iterator).parameters
            assert parameter.value == parameter.state_value
            sizes.append(parameter.value)
        assert sizes[0] == 4
        assert sizes == sorted(sizes)

    def test_counts_what_waits(self) -> None:
        pulled = Pulled()
        iterator = read_large(pulled, buffer_size=8)
        most = 0
        for consumed in range(1, 50):
            next(iterator)
            node = node_of_source(iterator)
            assert 0 <= node.buffered_elements <= 8
            assert node.buffered_bytes == node.buffered_elements * MEGABYTE
            most = max(most, node.buffered_elements)
            # One that is being made has not come to wait yet.
            assert pulled.reaches(consumed + 4)
        assert most >= 3

    @pytest.mark.parametrize("length", range(10, 18))
    def test_counts_nothing_after_the_end(self, length: int) -> None:
        iterator = read(lambda: range(length), buffer_size=8)
        for _ in range(length):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)
        node = node_of_source(iterator)
        assert node.buffered_elements == 0
        assert node.buffered_bytes == 0
