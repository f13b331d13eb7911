"""Elements of different lengths: `None` in the signature, and `padded_batch` to make them even."""

import argparse
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

FEATURES = 5


def tracks(count: int) -> Iterator[np.ndarray]:
    """Yield tracks of 10, 20, 30, 40, 50, 10, ... points; no point has the value -1."""
    random = np.random.default_rng(3)
    for number in range(count):
        length = 10 * (number % 5 + 1)
        yield random.random((length, FEATURES), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=2_000)
    elements = parser.parse_args().elements

    dataset = fastgen.from_generator(
        tracks, args=(elements,), output_signature=tf.TensorSpec((None, FEATURES), tf.float32)
    )
    batches = dataset.padded_batch(2, padding_values=-1.0).prefetch(tf.data.AUTOTUNE)

    points = padding = 0
    for number, batch in enumerate(batches):
        filled = tf.reduce_any(batch != -1.0, axis=-1)
        points += int(tf.math.count_nonzero(filled))
        padding += int(tf.math.count_nonzero(~filled))
        if number < 3:
            print(f"batch {number}: {batch.shape}")
    print(f"{elements} tracks, {points} points, {padding} rows of padding")


if __name__ == "__main__":
    main()
