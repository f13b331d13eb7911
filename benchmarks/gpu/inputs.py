"""Where the batches of a step come from."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import fastgen

__all__ = ["COPY", "INPUTS", "MADE", "ON_DEVICE", "Batches", "Images"]

Batches = Iterator[Any]

ON_DEVICE = "on device"
COPY = "copy alone"
MADE = "batch made"


class Images:
    """Batches of images and labels, out of a source that is as fast as a generator can be.

    The images lie in memory, and the generator yields one after the other; so each is copied into its
    batch, as images are that were just decoded. With `untouched` fastgen's source writes in place,
    and writes nothing: such batches cost the host nothing, and the bus and the device as much.
    """

    POOL = 256

    def __init__(
        self,
        batch_size: int,
        shape: tuple[int, ...],
        dtype: str,
        classes: int,
        *,
        untouched: bool = False,
    ) -> None:
        """Makes the images that the source goes through again and again."""
        self.untouched = untouched
        random = np.random.default_rng(0)
        self.batch_size = batch_size
        self.images = random.integers(0, 256, (self.POOL, *shape), np.uint8).astype(dtype)
        self.labels = random.integers(0, classes, self.POOL, np.int32)
        self.signature = (tf.TensorSpec(shape, dtype), tf.TensorSpec((), tf.int32))

    def __call__(self) -> Iterator[tuple[Any, Any]]:
        """The source, without an end."""
        while True:
            yield from zip(self.images, self.labels, strict=True)

    def _slots(self, slots: Iterator[Any]) -> Iterator[Any]:
        for image, label in slots:
            label[...] = 0
            yield image, label

    @property
    def batch_bytes(self) -> int:
        """Of the images in a batch."""
        return int(self.images[0].nbytes) * self.batch_size

    def by_fastgen(self, *, pinned: bool | None) -> Any:
        """Batches that fastgen collates."""
        dataset = fastgen.from_generator(
            self._slots if self.untouched else self,
            output_signature=self.signature,
            pinned=pinned,
            in_place=self.untouched,
            buffer_size=4 * self.batch_size,  # few, so that they are used up while a step warms up
        )
        return dataset.batch(self.batch_size, drop_remainder=True)

    def by_stock(self) -> tf.data.Dataset:
        """TensorFlow's own."""
        dataset = tf.data.Dataset.from_generator(self, output_signature=self.signature)
        return dataset.batch(self.batch_size, drop_remainder=True)


def _on_device(images: Images, device: str) -> Batches:
    """One batch that is there already: what no input can beat."""
    with tf.device(device):
        batch = tuple(tf.identity(part) for part in next(iter(images.by_fastgen(pinned=False))))
    while True:
        yield batch


def _to_device(dataset: tf.data.Dataset, device: str) -> Batches:
    return iter(dataset.apply(tf.data.experimental.prefetch_to_device(device, 2)))


INPUTS: dict[str, Callable[[Images, str], Batches]] = {
    ON_DEVICE: _on_device,
    "fastgen, to device": lambda i, d: iter(i.by_fastgen(pinned=None).prefetch_to_device(d, 2)),
    "fastgen, not pinned": lambda i, d: iter(i.by_fastgen(pinned=False).prefetch_to_device(d, 2)),
    "tf.data, to device": lambda i, d: _to_device(i.by_stock(), d),
    "tf.data, prefetch": lambda i, d: iter(i.by_stock().prefetch(2)),
}
"""Each way of feeding a device: the images and the device's name, to an iterator over batches."""
