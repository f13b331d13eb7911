"""What must not grow or stay behind: memory for each dataset, references to what a source yields."""

import gc
import resource
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen

SPEC = tf.TensorSpec((), tf.int64)


def _resident_peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_datasets_leave_no_memory_behind() -> None:
    def make_and_read(count: int) -> None:
        for _ in range(count):
            next(iter(fastgen.from_generator(lambda: range(3), output_signature=SPEC)))

    make_and_read(200)
    before = _resident_peak_megabytes()
    make_and_read(1000)
    # TensorFlow itself keeps some 3 KB for each dataset; a kernel for each would be 33 KB.
    assert _resident_peak_megabytes() - before < 15


def test_elements_leave_no_memory_behind() -> None:
    def read(count: int) -> None:
        def source() -> Iterator[Any]:
            for _ in range(count):
                yield np.zeros((100, 1000), np.float32), "text", 1

        spec = (tf.TensorSpec((100, 1000), tf.float32), tf.TensorSpec((), tf.string), SPEC)
        for _ in fastgen.from_generator(source, output_signature=spec).batch(10):
            pass

    read(1000)  # 400 MB: more than is ever held
    before = _resident_peak_megabytes()
    read(3000)
    assert _resident_peak_megabytes() - before < 50


def test_a_huge_array_of_zeros_costs_only_what_is_touched() -> None:
    def source() -> Iterator[Any]:
        zeros = np.zeros((400_000, 10_000), np.uint8)  # 4 GB
        zeros[7] = 1
        yield zeros[7]

    before = _resident_peak_megabytes()
    spec = tf.TensorSpec((10_000,), tf.uint8)
    (row,) = fastgen.from_generator(source, output_signature=spec)
    assert int(tf.reduce_sum(tf.cast(row, tf.int32))) == 10_000
    assert _resident_peak_megabytes() - before < 500


class Unreadable:
    """Fails when NumPy asks for its values."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise ValueError("unreadable")


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        (np.zeros((3, 4)), tf.TensorSpec((3, 4), tf.float32)),
        (np.zeros(3), tf.TensorSpec((4,), tf.float32)),
        (np.broadcast_to(np.float32(0), (1 << 44,)), tf.TensorSpec((None,), tf.float32)),
        ("text", tf.TensorSpec((), tf.string)),
        (["text", "more"], tf.TensorSpec((2,), tf.string)),
        ([1, 2, 3], tf.TensorSpec((3,), tf.int64)),
        (Unreadable(), tf.TensorSpec((), tf.int64)),
        ({"a": 1}, {"a": SPEC}),
        (("a", 1), (SPEC, SPEC)),
    ],
    ids=["array", "shape", "too large", "str", "strings", "list", "unreadable", "dict", "mismatch"],
)
def test_no_reference_to_an_element_is_kept(value: Any, spec: Any) -> None:
    before = sys.getrefcount(value)
    iterator = iter(fastgen.from_generator(lambda: [value] * 20, output_signature=spec))
    for _ in range(20):
        try:
            next(iterator)
        except tf.errors.OpError:
            continue
    del iterator
    gc.collect()
    assert sys.getrefcount(value) == before


def test_an_element_too_large_is_an_error_in_its_place() -> None:
    huge = np.broadcast_to(np.float32(0), (1 << 44,))
    ds = fastgen.from_generator(
        lambda: [np.ones(2, np.float32), huge, np.ones(3, np.float32)],
        output_signature=tf.TensorSpec((None,), tf.float32),
    )
    iterator = iter(ds)
    assert next(iterator).shape == (2,)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        next(iterator)
    assert next(iterator).shape == (3,)


def test_an_object_is_asked_for_its_array_once() -> None:
    class Counting:
        asked = 0

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            self.asked += 1
            return np.array(self.asked)

    value = Counting()
    ds = fastgen.from_generator(lambda: [value], output_signature=SPEC)
    assert [int(x) for x in ds] == [1]
    assert value.asked == 1
