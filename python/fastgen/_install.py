"""Replaces `tf.data.Dataset.from_generator` for a whole program, other people's code included."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from fastgen._from_generator import from_generator

__all__ = ["install", "installed", "uninstall"]

_stock: Any = tf.data.Dataset.__dict__["from_generator"]


def install() -> None:
    """Makes every `tf.data.Dataset.from_generator` of this program fastgen's, that of `tf.compat.v1` too.

    Keras's `PyDataset` and other libraries then use fastgen unchanged. Datasets made before stay
    what they are. Installing twice is the same as once.
    """
    tf.data.Dataset.from_generator = staticmethod(from_generator)


def uninstall() -> None:
    """Puts TensorFlow's own `from_generator` back."""
    tf.data.Dataset.from_generator = _stock


@contextmanager
def installed() -> Iterator[None]:
    """`with fastgen.installed():` installs for a block, and leaves afterwards what was there before."""
    before = tf.data.Dataset.__dict__["from_generator"]
    install()
    try:
        yield
    finally:
        tf.data.Dataset.from_generator = before
