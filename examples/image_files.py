"""Images from files: the source opens, decodes and resizes them with Pillow.

A folder of small JPEG files of different sizes is made first, each filled with one colour that
its label names, and thrown away at the end.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

import fastgen

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 210))
SIZE = (96, 96)


def make_files(folder: Path, count: int) -> list[tuple[Path, int]]:
    """Write `count` images and return their paths, each with the number of its colour."""
    sizes = random.Random(11)
    files = []
    for number in range(count):
        label = number % len(COLOURS)
        size = (sizes.randint(60, 240), sizes.randint(60, 240))
        path = folder / f"{number:04}.jpg"
        Image.new("RGB", size, COLOURS[label]).save(path)
        files.append((path, label))
    return files


def images(files: list[tuple[Path, int]]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield every file as an array of one common size, and its label."""
    for path, label in files:
        with Image.open(path) as image:
            yield np.asarray(image.resize(SIZE, Image.Resampling.BILINEAR)), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=600, help="number of image files")
    elements = parser.parse_args().elements

    signature = (tf.TensorSpec((*SIZE, 3), tf.uint8), tf.TensorSpec((), tf.int32))
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), elements)
        # TensorFlow would make a tensor of a list in `args`; what is in `kwargs` stays as it is.
        dataset = fastgen.from_generator(
            images, kwargs={"files": files}, output_signature=signature
        )

        count = matching = 0
        for batch, labels in dataset.batch(16).prefetch(tf.data.AUTOTUNE):
            means = tf.reduce_mean(tf.cast(batch, tf.float32), axis=(1, 2))
            brightest = tf.argmax(means, axis=1, output_type=tf.int32)
            matching += int(tf.reduce_sum(tf.cast(brightest == labels, tf.int32)))
            count += len(batch)
    print(f"{count} images of {signature[0].shape}, {matching} with the colour of their label")


if __name__ == "__main__":
    main()
