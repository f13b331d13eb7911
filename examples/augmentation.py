"""Augmentation with `map`: the source yields images, TensorFlow turns them in parallel."""

import argparse
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (32, 32, 3)
CLASSES = 10


def ramps(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield images that grow brighter from left to right, and a label."""
    ramp = np.linspace(0, 1, SHAPE[1], dtype=np.float32)
    image = np.broadcast_to(ramp[None, :, None], SHAPE)
    for number in range(count):
        yield image, number % CLASSES


def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirror every second image on average, and change its brightness a little."""
    image = tf.image.random_flip_left_right(image, seed=5)
    return tf.image.random_brightness(image, 0.1, seed=6), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=5_000)
    elements = parser.parse_args().elements

    signature = (tf.TensorSpec(SHAPE, tf.float32), tf.TensorSpec((), tf.int32))
    dataset = fastgen.from_generator(ramps, args=(elements,), output_signature=signature)
    dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE)

    count = mirrored = 0
    seen = set()
    for images, labels in dataset.batch(32).prefetch(tf.data.AUTOTUNE):
        count += len(images)
        left, right = images[:, 0, 0, 0], images[:, 0, -1, 0]
        mirrored += int(tf.math.count_nonzero(left > right))
        seen.update(labels.numpy().tolist())
    print(f"{count} images, {mirrored} of them mirrored, {len(seen)} labels")


if __name__ == "__main__":
    main()
