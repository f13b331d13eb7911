"""No batch is overwritten while a copy from it is under way.

The stand-in reads pinned memory late, and holds nothing but the reference that TensorFlow's copies to
a GPU hold. The pool is so small that each batch lies where one has just been read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from stand_in_library import StandIn

ROWS = 4
COLUMNS = 2048
BATCH = ROWS * COLUMNS * 8
ROW = tf.TensorSpec((COLUMNS,), tf.int64)
BATCHES = 4000

pytestmark = pytest.mark.timeout(300)


def rows() -> Iterator[np.ndarray[Any, Any]]:
    buffer = np.empty(COLUMNS, np.int64)
    for i in range(ROWS * BATCHES):
        buffer.fill(i)
        yield buffer


def slots_filled(slots: Iterator[np.ndarray[Any, Any]]) -> Iterator[np.ndarray[Any, Any]]:
    for i, slot in zip(range(ROWS * BATCHES), slots, strict=False):
        slot.fill(i)
        yield slot


def batches() -> Iterator[np.ndarray[Any, Any]]:
    for i in range(BATCHES):
        first = np.arange(ROWS, dtype=np.int64) + i * ROWS
        # An array that owns its memory and that nobody else holds; a view would be copied.
        yield np.repeat(first[:, None], COLUMNS, axis=1)


def fused() -> tf.data.Dataset:
    return fastgen.from_generator(rows, output_signature=ROW, buffer_size=2 * ROWS).batch(ROWS)


def in_place() -> tf.data.Dataset:
    source = fastgen.from_generator(
        slots_filled, output_signature=ROW, in_place=True, buffer_size=2 * ROWS
    )
    return source.batch(ROWS)


def taken_as_they_lie() -> tf.data.Dataset:
    spec = tf.TensorSpec((ROWS, COLUMNS), tf.int64)
    return fastgen.from_generator(batches, output_signature=spec, buffer_size=2)


def wrong_batches(dataset: Any, count: int = BATCHES) -> int:
    """How many batches were not on the device what the generator made of them."""
    wrong = 0
    expected = np.repeat(np.arange(ROWS, dtype=np.int64), COLUMNS).reshape(ROWS, COLUMNS)
    # Not take(): that would come behind the copy, and bring the batch back.
    for i, batch in enumerate(itertools.islice(dataset, count)):
        assert "GPU" in batch.device
        wrong += not np.array_equal(batch.numpy(), expected + i * ROWS)
    return wrong


@pytest.fixture
def small_pool(pinned_limit: int) -> Iterator[None]:
    fastgen.set_pinned_memory_limit(0)
    fastgen.set_pinned_memory_limit(6 * BATCH)
    yield


@pytest.mark.filterwarnings("ignore:There is not enough pinned memory")
@pytest.mark.parametrize("source", [fused, in_place, taken_as_they_lie])
def test_each_batch_is_whole(small_pool: None, source: Callable[[], Any]) -> None:
    before = fastgen.pinned_memory_info()
    assert wrong_batches(source().prefetch_to_device("/gpu:0", 4)) == 0
    info = fastgen.pinned_memory_info()
    assert info.slabs - before.slabs >= BATCHES / 2, "most of them should have been pinned"
    assert info.taken_bytes <= 6 * BATCH


@pytest.mark.filterwarnings("ignore:There is not enough pinned memory")
@pytest.mark.stand_in
def test_the_test_sees_a_device_that_reads_what_it_has_let_go(
    small_pool: None, stand_in: StandIn
) -> None:
    stand_in.set_longest_delay(2000)
    stand_in.set_broken(True)
    assert wrong_batches(fused().prefetch_to_device("/gpu:0", 4), 400) > 0


@pytest.mark.stand_in
def test_every_slab_comes_back(stand_in: StandIn, pinned_limit: int) -> None:
    assert wrong_batches(fused().prefetch_to_device("/gpu:0", 4), 100) == 0
    fastgen.set_pinned_memory_limit(0)
    assert fastgen.pinned_memory_info().taken_bytes == stand_in.host_in_use == 0
