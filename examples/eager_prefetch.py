"""Eager mode: an ordinary loop over batches, with the next batches made in the background."""

import argparse
import time
from collections.abc import Iterator

import tensorflow as tf

import fastgen


def readings(count: int) -> Iterator[float]:
    """Yield a saw-tooth signal, one reading at a time."""
    for number in range(count):
        yield (number % 100) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=20_000)
    elements = parser.parse_args().elements

    dataset = fastgen.from_generator(
        readings, args=(elements,), output_signature=tf.TensorSpec((), tf.float32)
    )
    dataset = dataset.batch(64).prefetch(tf.data.AUTOTUNE)

    count = 0
    highest = float("-inf")
    started = time.perf_counter()
    for batch in dataset:
        count += len(batch)
        highest = max(highest, float(tf.reduce_max(batch)))
    seconds = time.perf_counter() - started
    print(f"{count} readings, highest {highest:.2f}, {count / seconds:,.0f} elements/s")


if __name__ == "__main__":
    main()
