"""Batches that are ready on the GPU when the step wants them; on the CPU where there is no GPU."""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (128, 128, 3)
# Bytes travel, a quarter of what floats would be; the step casts them on the device.
SIGNATURE = (tf.TensorSpec(SHAPE, tf.uint8), tf.TensorSpec((), tf.int64))


def images(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield images of one brightness each, and that brightness."""
    for number in range(count):
        yield np.full(SHAPE, number % 256, np.uint8), number % 256


def step(batch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Compare the mean brightness of each image with its label."""
    mean = tf.reduce_mean(tf.cast(batch, tf.float32), axis=(1, 2, 3))
    return tf.reduce_max(tf.abs(mean - tf.cast(labels, tf.float32)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=2_000)
    elements = parser.parse_args().elements
    device = "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"
    dataset = fastgen.from_generator(images, output_signature=SIGNATURE, args=(elements,))
    batches = dataset.batch(64).prefetch_to_device(device, buffer_size=2)

    run_step = tf.function(step)
    start = time.perf_counter()
    seen, wrong = 0, 0.0
    for batch, labels in batches:
        wrong = max(wrong, float(run_step(batch, labels)))
        seen += int(labels.shape[0])
    seconds = time.perf_counter() - start
    print(f"{seen} images on {device}, largest error {wrong:.1f}, {seen / seconds:,.0f} images/s")
    info = fastgen.pinned_memory_info()
    print(f"pinned: {info.taken_bytes / 1e6:.1f} MB of at most {info.limit_bytes / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
