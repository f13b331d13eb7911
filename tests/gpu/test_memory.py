"""From what memory the device reads: pinned where that was asked for, within the limit, and counted."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from stand_in_library import StandIn

pytestmark = pytest.mark.stand_in

SHAPE = (64, 128)
ROW = 64 * 128 * 4
IMAGE = tf.TensorSpec(SHAPE, tf.float32)


def images(count: int = 40) -> Iterator[np.ndarray[Any, Any]]:
    for i in range(count):
        yield np.full(SHAPE, i, np.float32)


def refilled() -> Iterator[np.ndarray[Any, Any]]:
    buffer = np.empty(SHAPE, np.float32)
    for i in range(40):
        buffer.fill(i)
        yield buffer


def in_slots(slots: Iterator[np.ndarray[Any, Any]]) -> Iterator[np.ndarray[Any, Any]]:
    for i, slot in zip(range(40), slots, strict=False):
        slot.fill(i)
        yield slot


def check(dataset: Any) -> None:
    values = [float(v) for batch in dataset for v in batch.numpy().reshape(-1, 64 * 128)[:, -1]]
    assert values == list(map(float, range(40)))


@pytest.mark.parametrize("batch_size", [0, 1, 8])
@pytest.mark.parametrize("source", [images, refilled])
@pytest.mark.parametrize("pinned", [None, True])
def test_elements_and_batches_are_pinned(
    stand_in: StandIn, source: Any, batch_size: int, pinned: bool | None
) -> None:
    dataset: Any = fastgen.from_generator(source, output_signature=IMAGE, pinned=pinned)
    dataset = dataset.batch(batch_size) if batch_size else dataset
    pinned_bytes, pageable_bytes = stand_in.pinned_bytes, stand_in.pageable_bytes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(dataset.prefetch_to_device("/gpu:0", 2))
    assert stand_in.pinned_bytes - pinned_bytes == 40 * ROW
    assert stand_in.pageable_bytes - pageable_bytes < ROW  # TensorFlow's own strings and handles


def test_what_is_written_in_place_is_pinned(stand_in: StandIn) -> None:
    dataset: Any = fastgen.from_generator(in_slots, output_signature=IMAGE, in_place=True)
    before = stand_in.pinned_bytes
    check(dataset.batch(8).prefetch_to_device("/gpu:0", 2))
    assert stand_in.pinned_bytes - before == 40 * ROW


@pytest.mark.parametrize("batch_size", [0, 8])
def test_nothing_is_pinned_where_that_is_not_wanted(stand_in: StandIn, batch_size: int) -> None:
    dataset: Any = fastgen.from_generator(images, output_signature=IMAGE, pinned=False)
    dataset = dataset.batch(batch_size) if batch_size else dataset
    before, slabs = stand_in.pinned_bytes, fastgen.pinned_memory_info().slabs
    check(dataset.prefetch_to_device("/gpu:0", 2))
    assert stand_in.pinned_bytes == before
    assert fastgen.pinned_memory_info().slabs == slabs


@pytest.mark.parametrize("batch_size", [0, 8])
def test_python_runs_while_memory_is_pinned(
    stand_in: StandIn, pinned_limit: int, batch_size: int
) -> None:
    fastgen.set_pinned_memory_limit(0)  # gives back what is kept
    fastgen.set_pinned_memory_limit(pinned_limit)
    dataset: Any = fastgen.from_generator(refilled, output_signature=IMAGE)
    dataset = dataset.batch(batch_size) if batch_size else dataset
    given_up = stand_in.given_up_holding

    def release() -> None:
        while not stand_in.holding_allocation:
            time.sleep(0.001)
        stand_in.hold_allocations(False)

    stand_in.hold_allocations(True)
    releaser = threading.Thread(target=release)
    releaser.start()
    check(dataset)
    releaser.join()
    assert stand_in.given_up_holding == given_up


def test_arrays_that_become_elements_as_they_lie_are_pinned(stand_in: StandIn) -> None:
    pinned = []

    def image(i: int) -> np.ndarray[Any, Any]:
        made = np.full(SHAPE, i, np.float32)
        pinned.append(stand_in.is_pinned(made.ctypes.data))
        return made

    def source() -> Iterator[np.ndarray[Any, Any]]:
        for i in range(40):
            yield image(i)

    dataset: Any = fastgen.from_generator(source, output_signature=IMAGE, buffer_size=2)
    check(dataset.prefetch_to_device("/gpu:0", 1))
    assert sum(pinned) > 20, "after the first ones, which had to be copied"


@pytest.mark.parametrize("batch_size", [0, 8])
def test_what_the_source_keeps_leaves_room_for_elements(
    stand_in: StandIn, pinned_limit: int, batch_size: int
) -> None:
    def source() -> Iterator[np.ndarray[Any, Any]]:
        table = np.empty((400, *SHAPE), np.float32)  # more than the limit: this is no element
        table[:40] = np.arange(40, dtype=np.float32)[:, None, None]
        kept = [table[i].copy() for i in range(40)]  # almost half of it
        yield from kept

    fastgen.set_pinned_memory_limit(0)
    fastgen.set_pinned_memory_limit(100 * ROW)
    dataset: Any = fastgen.from_generator(source, output_signature=IMAGE, buffer_size=8)
    dataset = dataset.batch(batch_size) if batch_size else dataset
    before, info = stand_in.pinned_bytes, fastgen.pinned_memory_info()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(dataset.prefetch_to_device("/gpu:0", 2))
    assert stand_in.pinned_bytes - before == 40 * ROW
    assert fastgen.pinned_memory_info().fallbacks == info.fallbacks


def test_memory_is_recycled(stand_in: StandIn) -> None:
    dataset: Any = fastgen.from_generator(lambda: images(4000), output_signature=IMAGE).batch(8)
    before = stand_in.host_allocations
    assert sum(1 for _ in dataset.prefetch_to_device("/gpu:0", 2)) == 500
    assert stand_in.host_allocations - before < 200


def test_what_is_taken_is_counted(stand_in: StandIn) -> None:
    dataset: Any = fastgen.from_generator(images, output_signature=IMAGE)
    slabs = fastgen.pinned_memory_info().slabs
    check(dataset.batch(8).prefetch_to_device("/gpu:0", 2))
    info = fastgen.pinned_memory_info()
    assert info.slabs >= slabs + 5
    assert info.taken_bytes == stand_in.host_in_use
    assert 0 < info.free_bytes <= info.taken_bytes <= info.limit_bytes


@pytest.mark.parametrize("batch_size", [0, 8])
def test_the_limit_holds_and_what_finds_no_room_is_told_once(
    stand_in: StandIn, pinned_limit: int, batch_size: int
) -> None:
    limit = 3 * 8 * ROW
    fastgen.set_pinned_memory_limit(limit)
    assert stand_in.host_in_use <= limit
    fallbacks = fastgen.pinned_memory_info().fallbacks
    kept = []
    with pytest.warns(RuntimeWarning, match="not enough pinned memory") as told:
        for _ in range(3):
            dataset: Any = fastgen.from_generator(images, output_signature=IMAGE)
            dataset = dataset.batch(batch_size) if batch_size else dataset
            for batch in dataset:
                kept.append(batch)  # on the host: nothing comes back
                assert stand_in.host_in_use <= limit
    assert len(told) == 1
    assert fastgen.pinned_memory_info().fallbacks > fallbacks
    rows = np.concatenate([batch.numpy().reshape(-1, 64 * 128) for batch in kept])
    assert rows[:, 0].tolist() == rows[:, -1].tolist() == [float(i) for i in range(40)] * 3


def test_tensorflow_running_out_is_no_error(stand_in: StandIn, pinned_limit: int) -> None:
    fastgen.set_pinned_memory_limit(0)  # gives back what is kept
    fastgen.set_pinned_memory_limit(pinned_limit)
    stand_in.set_host_limit(0)
    waits = stand_in.host_waits
    dataset: Any = fastgen.from_generator(images, output_signature=IMAGE).batch(8)
    with pytest.warns(RuntimeWarning, match="TF_GPU_HOST_MEM_LIMIT_IN_MB"):
        check(dataset.prefetch_to_device("/gpu:0", 2))
    assert stand_in.host_waits == waits, "TensorFlow would have been held up for seconds"


def test_a_limit_of_nothing_pins_nothing(stand_in: StandIn, pinned_limit: int) -> None:
    fastgen.set_pinned_memory_limit(0)
    assert stand_in.host_in_use == 0
    dataset: Any = fastgen.from_generator(images, output_signature=IMAGE).batch(8)
    before = stand_in.pinned_bytes
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is what was asked for
        check(dataset.prefetch_to_device("/gpu:0", 2))
    assert stand_in.pinned_bytes == before


def wait_for_starting_threads() -> None:
    """TensorFlow's threads take a lock when they start, and a child would inherit it locked."""
    quiet = 0
    while quiet < 30:
        tasks = [t for t in Path("/proc/self/task").iterdir() if t.name != str(os.getpid())]
        states = {(t / "stat").read_text().rsplit(")", 1)[1].split()[0] for t in tasks}
        quiet = quiet + 1 if states == {"S"} else 0
        time.sleep(0.01)


def test_a_forked_child_does_not_touch_the_parents_memory(
    stand_in: StandIn, tmp_path: Path
) -> None:
    check(fastgen.from_generator(images, output_signature=IMAGE).batch(8))
    inherited = fastgen.pinned_memory_info()
    assert inherited.free_bytes > 0
    report = tmp_path / "report"
    wait_for_starting_threads()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            first = next(iter(fastgen.from_generator(images, output_signature=IMAGE)))
            seen = fastgen.pinned_memory_info()
            report.write_text(f"{float(first[0, 0])} {seen.taken_bytes} {seen.slabs}")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert report.read_text() == "0.0 0 0"
    assert fastgen.pinned_memory_info() == inherited
