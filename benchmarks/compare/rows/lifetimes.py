"""Many short datasets, and work that goes on beside the source."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import sources
import tensorflow as tf
from aims import AtLeast, AtMost
from names import RAW, SLICES, STOCK
from pipelines import FROM_GENERATOR, drain
from row import Measure, Row

__all__ = ["ROWS"]

SCALAR = tf.TensorSpec((), tf.int64)
SOURCES = 200
LENGTH = 3


def create(make: Callable[[], tf.data.Dataset]) -> Measure:
    """Microseconds for making and draining one dataset."""

    def measure(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            for _ in make():
                pass
        return (time.perf_counter() - start) * 1e6 / n

    return measure


def three_numbers(from_generator: Callable[..., tf.data.Dataset]) -> tf.data.Dataset:
    return from_generator(lambda: sources.numbers(LENGTH), output_signature=SCALAR)


def interleave(from_generator: Callable[..., tf.data.Dataset], n: int) -> tf.data.Dataset:
    def chunk(number: tf.Tensor) -> tf.data.Dataset:
        return from_generator(
            lambda start: (start + i for i in range(LENGTH)),
            args=(number,),
            output_signature=SCALAR,
        )

    return tf.data.Dataset.range(n).interleave(chunk, cycle_length=8)


def interleave_slices(n: int) -> tf.data.Dataset:
    def chunk(number: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(number + tf.range(LENGTH, dtype=tf.int64))

    return tf.data.Dataset.range(n).interleave(chunk, cycle_length=8)


def steps(from_generator: Callable[..., tf.data.Dataset]) -> Measure:
    """Microseconds for a step, with a source that is as slow as the step's own work."""

    def measure(n: int) -> float:
        ds = from_generator(partial(sources.slow, n), output_signature=SCALAR)
        start = time.perf_counter()
        for _ in ds:
            time.sleep(sources.PAUSE)
        return (time.perf_counter() - start) * 1e6 / n

    return measure


def slower_of_the_two(n: int) -> float:
    def work() -> float:
        start = time.perf_counter()
        for _ in range(n):
            time.sleep(sources.PAUSE)
        return (time.perf_counter() - start) * 1e6 / n

    return max(drain(sources.slow)(n), work())


ROWS = (
    Row(
        name="create",
        what=f"a dataset of {LENGTH} scalars, made and drained; for a dataset",
        systems={
            name: create(partial(three_numbers, each)) for name, each in FROM_GENERATOR.items()
        }
        | {SLICES: create(lambda: tf.data.Dataset.from_tensor_slices(np.arange(LENGTH)))},
        aims=(AtMost(1.3, (SLICES,)),),
    ),
    Row(
        name="interleave",
        what=f"interleave of {SOURCES} sources of {LENGTH} scalars, cycle 8; for a source",
        systems={name: drain(partial(interleave, each)) for name, each in FROM_GENERATOR.items()}
        | {SLICES: drain(interleave_slices)},
        aims=(AtLeast(8, STOCK),),
        elements=SOURCES,
    ),
    Row(
        name="overlap",
        what="2 ms in the source, 2 ms in the step (raw: the slower of the two); for a step",
        systems={name: steps(each) for name, each in FROM_GENERATOR.items()}
        | {RAW: slower_of_the_two},
        aims=(AtMost(1.08, (RAW,)),),
    ),
)
