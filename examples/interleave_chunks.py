"""`interleave` over chunks of the data, with a source of its own for each chunk.

The number of the chunk is a tensor inside `interleave`; it arrives at the source as a NumPy
integer. Several sources are open at the same time, and their elements come in a fixed order.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=4_000)
    parser.add_argument("--chunks", type=int, default=8)
    options = parser.parse_args()

    numbers = np.arange(options.elements, dtype=np.int64)
    chunks = np.array_split(numbers, options.chunks)

    def read(chunk: np.int64) -> Iterator[np.int64]:
        yield from chunks[chunk]

    def open_chunk(chunk: tf.Tensor) -> tf.data.Dataset:
        return fastgen.from_generator(
            read, args=(chunk,), output_signature=tf.TensorSpec((), tf.int64)
        )

    dataset = tf.data.Dataset.range(options.chunks).interleave(
        open_chunk, cycle_length=4, block_length=2, num_parallel_calls=tf.data.AUTOTUNE
    )
    order = np.concatenate([*dataset.batch(256).as_numpy_iterator()])
    print(f"first elements: {' '.join(map(str, order[:10]))}")
    complete = bool(np.array_equal(np.sort(order), numbers))
    print(f"{len(order)} elements from {options.chunks} chunks, each exactly once: {complete}")


if __name__ == "__main__":
    main()
