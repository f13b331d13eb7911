"""Images that are made where they will stand in the batch: no array for each, and no copy."""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (224, 224, 3)
SIGNATURE = (tf.TensorSpec(SHAPE, tf.float32), tf.TensorSpec((), tf.int64))
TEXTURE = np.random.default_rng(0).random(SHAPE, np.float32)


def copied(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield an array of its own for each image; fastgen copies it into the batch."""
    for number in range(count):
        yield TEXTURE * np.float32(number), number


def in_place(count: int, slots: Iterator[Any]) -> Iterator[Any]:
    """Fill the views that `slots` gives, and yield them."""
    for number, (image, label) in zip(range(count), slots, strict=False):
        np.multiply(TEXTURE, np.float32(number), out=image)
        label[...] = number
        yield image, label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=2_000)
    elements = parser.parse_args().elements
    for name, source, options in (
        ("copied", copied, {}),
        ("in place", in_place, {"in_place": True}),
    ):
        dataset = fastgen.from_generator(
            source, args=(elements,), output_signature=SIGNATURE, **options
        ).batch(32)
        total = 0
        started = time.perf_counter()
        for _images, labels in dataset:
            total += int(tf.reduce_sum(labels))
        microseconds = (time.perf_counter() - started) * 1e6 / max(elements, 1)
        print(f"{name:9} {elements} images, labels add up to {total}, {microseconds:.0f} us each")


if __name__ == "__main__":
    main()
