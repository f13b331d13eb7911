"""A slow source beside a training step: fastgen reads ahead while the step works.

Waiting for a disk or a network costs no processor time, so the source can wait while the reader
works. One after the other they would take the sum of both; together little more than the slower.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (10, 10)


def slow_reads(count: int, pause: float) -> Iterator[tuple[np.ndarray, int]]:
    """Yield a matrix and a number, after the time that a slow disk might take."""
    random = np.random.default_rng(1)
    for number in range(count):
        time.sleep(pause)
        yield random.random(SHAPE), number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.005, help="seconds a read or a step takes")
    options = parser.parse_args()

    dataset = fastgen.from_generator(
        slow_reads,
        args=(options.elements,),
        kwargs={"pause": options.pause},
        output_signature=(tf.TensorSpec(SHAPE, tf.float64), tf.TensorSpec((), tf.int32)),
    )

    count = 0
    reading = working = 0.0
    started = mark = time.perf_counter()
    for _matrix, _number in dataset:
        reading += time.perf_counter() - mark
        mark = time.perf_counter()
        time.sleep(options.pause)  # Stands for the training step.
        working += time.perf_counter() - mark
        mark = time.perf_counter()
        count += 1
    whole = time.perf_counter() - started

    print(f"{count} elements, {options.pause * 1e3:.1f} ms to read one, the same for a step")
    print(f"one after the other: {2 * options.pause * count:.2f} s at least")
    print(f"with read-ahead:     {whole:.2f} s ({working:.2f} s in steps, {reading:.2f} s waiting)")


if __name__ == "__main__":
    main()
