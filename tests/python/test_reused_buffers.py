"""A source that refills what it yielded: what was yielded is what arrives."""

from __future__ import annotations

from collections.abc import Iterator
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
