"""A source that refills what it yielded: what was yielded is what arrives.

An array that nobody else can reach travels without a copy. So a source that can still reach what it
has yielded, in whatever way, must be seen to; and memory that has been delivered must not be filled
again before the tensor is gone.
"""

from __future__ import annotations

import collections
import ctypes
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen


def aligned(size: int, offset: int) -> np.ndarray:
    """A float32 array whose first byte stands `offset` bytes after a multiple of 64."""
    raw = np.zeros(size * 4 + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    return raw[start : start + size * 4].view(np.float32)


class TestReusedBuffers:
    """A source may refill one array for ever: what was yielded is what arrives.

    TensorFlow shares the memory of an array that is 64-byte aligned, and delivers what stands there
    later.
    """

    @pytest.mark.parametrize("offset", [0, 4, 16, 32])
    @pytest.mark.parametrize("size", [1, 16, 1024, 100_000])
    @pytest.mark.parametrize("buffer_size", [0, 8])
    def test_deliver_what_they_held(self, size: int, offset: int, buffer_size: int) -> None:
        buffer = aligned(size, offset)

        def source() -> Iterator[np.ndarray]:
            for number in range(30):
                buffer[:] = number
                yield buffer
            buffer[:] = -1

        dataset = fastgen.from_generator(
            source,
            output_signature=tf.TensorSpec((size,), tf.float32),
            buffer_size=buffer_size,
        )
        elements = list(dataset)
        assert len(elements) == 30
        for number, element in enumerate(elements):
            np.testing.assert_array_equal(element.numpy(), number)

    def test_in_batches(self) -> None:
        buffer = aligned(1024, 0)

        def source() -> Iterator[np.ndarray]:
            for number in range(30):
                buffer[:] = number
                yield buffer

        dataset = fastgen.from_generator(
            source, output_signature=tf.TensorSpec((1024,), tf.float32)
        ).batch(7)
        rows = np.concatenate([batch.numpy() for batch in dataset])
        np.testing.assert_array_equal(rows, np.repeat(np.arange(30.0)[:, None], 1024, axis=1))

    def test_views_of_one_buffer(self) -> None:
        buffer = aligned(4096, 0)

        def source() -> Iterator[np.ndarray]:
            for number in range(16):
                buffer[:] = number
                yield buffer[:1024]
                yield buffer[1024:].reshape(3, 1024)[1]
                yield buffer[::4]

        elements = list(
            fastgen.from_generator(source, output_signature=tf.TensorSpec((1024,), tf.float32))
        )
        for place, element in enumerate(elements):
            np.testing.assert_array_equal(element.numpy(), place // 3)

    def test_a_reused_dict_and_list(self, from_generator: Any) -> None:
        sample: dict[str, Any] = {"values": [0, 0], "name": ""}

        def source() -> Iterator[dict[str, Any]]:
            for number in range(20):
                sample["values"][0] = number
                sample["name"] = f"sample {number}"
                yield sample

        dataset = from_generator(
            source,
            output_signature={
                "values": tf.TensorSpec((2,), tf.int64),
                "name": tf.TensorSpec((), tf.string),
            },
        )
        for number, element in enumerate(list(dataset)):
            assert int(element["values"][0]) == number
            assert element["name"].numpy() == b"sample %d" % number


class HasInterface:
    """An object that shares an array's memory, as other libraries' tensors do."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def _by_ctypes(array: np.ndarray) -> np.ndarray:
    length = array.size
    return np.ctypeslib.as_array((ctypes.c_float * length).from_buffer(array)).reshape(array.shape)


def keep(value: Any) -> Callable[[], Any]:
    return lambda: value


# How a source reaches an array that it has yielded: each gives what finds the array, or its memory.
KEPT: dict[str, Callable[[np.ndarray], Callable[[], Any]]] = {
    "not at all": lambda array: lambda: None,
    "the array": lambda array: keep(array),
    "a weak reference": lambda array: weakref.ref(array),
    "an iterator over a list": lambda array: iter([array]).__next__,
    "a view": lambda array: keep(array[1:]),
    "a view of other values": lambda array: keep(array.view(np.int32)),
    "a view of records": lambda array: keep(array.view([("x", np.int32)])["x"]),
    "a transposed view": lambda array: keep(array.T),
    "a memoryview": lambda array: keep(np.asarray(memoryview(array))),
    "a cast memoryview": lambda array: keep(np.frombuffer(memoryview(array).cast("B"), np.float32)),
    "frombuffer": lambda array: keep(np.frombuffer(array, np.float32)),
    "ctypes": lambda array: keep(_by_ctypes(array)),
    "dlpack": lambda array: keep(np.from_dlpack(array)),
    "an array's interface": lambda array: keep(np.asarray(HasInterface(array))),
    "an array on its buffer": lambda array: keep(np.ndarray(array.shape, np.float32, array)),
    "an iterator over it": lambda array: keep(array.flat),
    "a method of it": lambda array: lambda method=array.view: method(),
}


class Pair(collections.namedtuple("Pair", "x, y")):
    """A tuple by another name, which a source may keep."""


CONTAINERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "alone": (lambda array: array, lambda spec: spec),
    "tuple": (lambda array: (array, 1), lambda spec: (spec, INT)),
    "dict": (lambda array: {"x": array}, lambda spec: {"x": spec}),
    "namedtuple": (lambda array: Pair(array, 1), lambda spec: Pair(spec, INT)),
    "nested": (lambda array: ({"x": (array,)},), lambda spec: ({"x": (spec,)},)),
    "list": (lambda array: [array], lambda spec: tf.TensorSpec((1, *spec.shape), spec.dtype)),
}
INT = tf.TensorSpec((), tf.int64)
# Copied, in the slabs' smallest size, and in sizes whose copies free the interpreter's lock.
SIZES = [(10, 10), (100, 100), (300, 300)]


def first(element: Any) -> np.ndarray:
    """The values of an element's first component."""
    return np.asarray(tf.nest.flatten(element)[0]).ravel()


class TestArraysThatTheSourceMade:
    """Whatever way a source keeps to reach them, it cannot change what it yielded."""

    @pytest.mark.parametrize("batch", [None, 4])
    @pytest.mark.parametrize("shape", SIZES)
    @pytest.mark.parametrize("way", KEPT)
    def test_which_it_can_reach(self, way: str, shape: tuple[int, int], batch: int | None) -> None:
        def source() -> Iterator[np.ndarray]:
            for number in range(12):
                held = [np.full(shape, number, np.float32)]
                reach = KEPT[way](held[0])
                yield held.pop()
                target = reach()
                if target is not None:
                    target[:] = -1

        self.check(source, tf.TensorSpec(shape, tf.float32), batch)

    @pytest.mark.parametrize("batch", [None, 4])
    @pytest.mark.parametrize("kept", ["the whole", "the array", "nothing"])
    @pytest.mark.parametrize("container", CONTAINERS)
    def test_in_containers(self, container: str, kept: str, batch: int | None) -> None:
        pack, signature = CONTAINERS[container]
        shape = (300, 300)

        def source() -> Iterator[Any]:
            keep: list[Any] = []
            for number in range(12):
                array = [np.full(shape, number, np.float32)]
                element = [pack(array[0])]
                if kept == "the whole":
                    keep.append(element[0])
                elif kept == "the array":
                    keep.append(array[0])
                array.clear()
                yield element.pop()
                for value in keep:
                    for leaf in tf.nest.flatten(value):
                        if isinstance(leaf, np.ndarray):
                            leaf.fill(-1)

        self.check(source, signature(tf.TensorSpec(shape, tf.float32)), batch)

    def check(self, source: Callable[[], Iterator[Any]], spec: Any, batch: int | None) -> None:
        dataset = fastgen.from_generator(source, output_signature=spec, buffer_size=100)
        elements = list(dataset.batch(batch) if batch else dataset)
        rows = np.concatenate([first(element) for element in elements]).reshape(12, -1)
        np.testing.assert_array_equal(rows, np.arange(12.0)[:, None] + 0 * rows)

    def test_through_iterators_that_keep_their_tuples(self) -> None:
        """`zip` and `enumerate` fill one tuple again and again."""

        def arrays() -> Iterator[np.ndarray]:
            for number in range(20):
                yield np.full((200, 200), number, np.float32)

        for source in (
            lambda: enumerate(arrays()),
            lambda: zip(range(20), arrays(), strict=True),
            lambda: zip(range(20), list(arrays()), strict=True),
            lambda: map(lambda pair: pair, enumerate(arrays())),
        ):
            dataset = fastgen.from_generator(
                source, output_signature=(INT, tf.TensorSpec((200, 200), tf.float32))
            )
            for number, (place, array) in enumerate(list(dataset)):
                assert int(place) == number
                np.testing.assert_array_equal(array, number)

    def test_the_same_array_twice_in_one_element(self) -> None:
        def source() -> Iterator[Any]:
            for number in range(20):
                array = np.full((200, 200), number, np.float32)
                yield array, array

        spec = tf.TensorSpec((200, 200), tf.float32)
        for number, pair in enumerate(
            list(fastgen.from_generator(source, output_signature=(spec, spec)))
        ):
            for array in pair:
                np.testing.assert_array_equal(array, number)

    @pytest.mark.parametrize("reference", ["array"])
    def test_which_a_later_component_reaches_when_it_is_converted(self, reference: str) -> None:
        class Element(dict[str, Any]):
            """A dict to which there may be weak references."""

        class Number:
            def __init__(self, find: Callable[[], Any]) -> None:
                self.find = find

            def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
                found = self.find()
                reached.append(found if reference == "array" else found["x"])
                return np.array([1.0])

        reached: list[np.ndarray] = []

        def source() -> Iterator[Any]:
            for number in range(12):
                element = Element(x=np.full((300, 300), number, np.float32))
                find = weakref.ref(element["x"] if reference == "array" else element)
                element["y"] = [Number(find), Number(find)]
                held = [element]
                del element
                yield held.pop()
                for array in reached:
                    array.fill(-1)

        x, y = tf.TensorSpec((300, 300), tf.float32), tf.TensorSpec((2, 1), tf.float32)
        self.check(source, Element(x=x, y=y), None)
        assert reached


def overwrite(tensor: tf.Tensor) -> None:
    """Write where a tensor lies, which no polite way allows."""
    view = np.asarray(memoryview(tensor))
    ctypes.memset(view.ctypes.data, 0xFF, view.nbytes)


class TestDeliveredTensors:
    @pytest.mark.parametrize("batch", [None, 4])
    @pytest.mark.parametrize("shape", SIZES)
    def test_that_are_written_to_change_no_other(
        self, shape: tuple[int, int], batch: int | None
    ) -> None:
        def source() -> Iterator[np.ndarray]:
            for number in range(60):
                yield np.full(shape, number, np.float32)

        dataset = fastgen.from_generator(
            source, output_signature=tf.TensorSpec(shape, tf.float32), buffer_size=8
        )
        seen = 0
        for element in dataset.batch(batch) if batch else dataset:
            for row in np.asarray(memoryview(element)).reshape(-1, *shape):
                np.testing.assert_array_equal(row, seen)
                seen += 1
            overwrite(element)
        assert seen == 60

    @pytest.mark.parametrize("batch", [None, 5])
    def test_keep_their_values_while_memory_is_used_again(self, batch: int | None) -> None:
        def source() -> Iterator[Any]:
            for number in range(2000):
                yield np.full((80, 80), number, np.float32), f"{number} " * 300

        spec = (tf.TensorSpec((80, 80), tf.float32), tf.TensorSpec((), tf.string))
        dataset = fastgen.from_generator(source, output_signature=spec)
        kept = {}
        for place, element in enumerate(dataset.batch(batch) if batch else dataset):
            if place % 37 == 0:
                kept[place] = element
        del element
        gc.collect()
        for place, (array, text) in kept.items():
            for row in range(batch or 1):
                number = place * (batch or 1) + row
                values = array[row] if batch else array
                np.testing.assert_array_equal(values, number)
                assert (text[row] if batch else text).numpy() == b"%d " % number * 300
