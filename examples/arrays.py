"""NumPy arrays of 100x100 float32, one for each element, and what that moves in a second."""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (100, 100)


def fields(count: int) -> Iterator[np.ndarray]:
    """Yield arrays in which every value is the number of the element."""
    for number in range(count):
        yield np.full(SHAPE, number, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=20_000)
    elements = parser.parse_args().elements

    dataset = fastgen.from_generator(
        fields, args=(elements,), output_signature=tf.TensorSpec(SHAPE, tf.float32)
    )

    count = 0
    last = None
    started = time.perf_counter()
    for batch in dataset.batch(32).prefetch(tf.data.AUTOTUNE):
        count += len(batch)
        last = batch[-1]
    seconds = time.perf_counter() - started
    if last is None:
        print("no arrays")
        return
    megabytes = count * last.numpy().nbytes / 1e6
    print(f"{count} arrays of {last.shape} {last.dtype.name}, last mean {np.mean(last):.1f}")
    print(f"{count / seconds:,.0f} elements/s, {megabytes / seconds:,.0f} MB/s")


if __name__ == "__main__":
    main()
