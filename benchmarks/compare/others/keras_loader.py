"""Keras's PyDataset, by the way that `fit` reads it: a batch by index, with its worker threads."""

import time
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from others.work import WORK

__all__ = ["measure"]


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of a row, by index."""

    def __init__(self, row: str, n: int, workers: int) -> None:
        super().__init__(workers=workers)
        self.work = WORK[row]
        self.n = n

    def __len__(self) -> int:
        return self.n // self.work.batch

    def __getitem__(self, index: int) -> Any:
        size = self.work.batch
        elements = [self.work.element(index * size + i) for i in range(size)]
        if isinstance(elements[0], tuple):
            return tuple(np.stack(column) for column in zip(*elements, strict=True))
        return np.array(elements)


def measure(way: str, row: str, n: int) -> float:
    """Microseconds for an element."""
    adapter = PyDatasetAdapter(Batches(row, n, int(way.partition("/")[2])))
    adapter.on_epoch_begin()
    batches = iter(adapter.get_tf_dataset())
    start = time.perf_counter()
    for _ in batches:
        pass
    microseconds = (time.perf_counter() - start) * 1e6 / n
    adapter.on_epoch_end()
    return microseconds
