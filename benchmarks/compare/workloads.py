"""What is measured: the same elements, made by each of the systems that are compared."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

import fastgen

__all__ = ["WORKLOADS", "Workload"]

SCALAR = tf.TensorSpec((), tf.int64)
IMAGE = (tf.TensorSpec((224, 224, 3), tf.float32), SCALAR)
FEATURES = {f"feature{i}": SCALAR for i in range(10)}

MakeDataset = Callable[[int], tf.data.Dataset]


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
      what: The row's words.
      elements: How many elements each system makes in one measurement; the slow ones make fewer.
      systems: A function from a number of elements to a dataset, for each system.
      repeats: How many datasets are made and drained in one measurement; when more than one, the
        figure is for a dataset instead of an element.
    """

    what: str
    elements: dict[str, int]
    systems: dict[str, MakeDataset]
    repeats: int = 1


def _both(source: Callable[[int], Iterator[Any]], spec: Any, batch: int) -> dict[str, MakeDataset]:
    def make(from_generator: Callable[..., tf.data.Dataset]) -> MakeDataset:
        def dataset(n: int) -> tf.data.Dataset:
            ds = from_generator(lambda: source(n), output_signature=spec)
            return ds.batch(batch) if batch else ds

        return dataset

    return {
        "tf.data": make(tf.data.Dataset.from_generator),
        "fastgen": make(fastgen.from_generator),
    }


def _numbers(n: int) -> Iterator[int]:
    yield from range(n)


def _images(n: int) -> Iterator[Any]:
    for i in range(n):
        yield np.full((224, 224, 3), i, np.float32), i


def _features(n: int) -> Iterator[dict[str, int]]:
    for i in range(n):
        yield dict.fromkeys(FEATURES, i)


def _slices(batch: int) -> MakeDataset:
    def dataset(n: int) -> tf.data.Dataset:
        ds = tf.data.Dataset.from_tensor_slices(np.arange(n))
        return ds.batch(batch) if batch else ds

    return dataset


WORKLOADS = {
    "scalar": Workload(
        "int64 scalars, batch(256)",
        {"tf.data": 2_000, "fastgen": 400_000, "from_tensor_slices": 400_000},
        {**_both(_numbers, SCALAR, 256), "from_tensor_slices": _slices(256)},
    ),
    "dict10": Workload(
        "dicts of 10 int64 scalars, batch(256)",
        {"tf.data": 1_000, "fastgen": 50_000},
        _both(_features, FEATURES, 256),
    ),
    "images": Workload(
        "fresh float32[224,224,3] and label, batch(32)",
        {"tf.data": 320, "fastgen": 1_280},
        _both(_images, IMAGE, 32),
    ),
    "create": Workload(
        "a dataset of 3 scalars, made and drained (per dataset)",
        {"tf.data": 3, "fastgen": 3, "from_tensor_slices": 3},
        {**_both(_numbers, SCALAR, 0), "from_tensor_slices": _slices(0)},
        repeats=20,
    ),
}
