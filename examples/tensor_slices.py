"""The same data through `from_tensor_slices` and through fastgen.

`from_tensor_slices` needs all the data in memory before it starts. A source does not, and what it
costs to read one is printed here beside it.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen


def drain(dataset: tf.data.Dataset) -> tuple[int, float]:
    """Return the sum over all batches and the seconds that it took to read them."""
    total = 0
    started = time.perf_counter()
    for batch in dataset:
        total += int(tf.reduce_sum(batch))
    return total, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=100_000)
    elements = parser.parse_args().elements

    def numbers() -> Iterator[int]:
        yield from range(elements)

    datasets = {
        "from_tensor_slices": tf.data.Dataset.from_tensor_slices(
            np.arange(elements, dtype=np.int64)
        ),
        "fastgen": fastgen.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int64)),
    }
    for name, dataset in datasets.items():
        batched = dataset.batch(256).prefetch(tf.data.AUTOTUNE)
        drain(batched.take(1))  # The first use of a dataset is slower, whichever it is.
        total, seconds = drain(batched)
        print(f"{name:18}  sum {total}  {elements / seconds:>12,.0f} elements/s")


if __name__ == "__main__":
    main()
