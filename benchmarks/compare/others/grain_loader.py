"""Grain, reading by index with its threads."""

import time
from typing import Any

import grain

from others.work import WORK

__all__ = ["measure"]


class Elements:
    """The elements of a row, by index."""

    def __init__(self, row: str, n: int) -> None:
        self.element = WORK[row].element
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return self.element(index)


def measure(way: str, row: str, n: int) -> float:
    """Microseconds for an element."""
    elements = grain.MapDataset.source(Elements(row, n)).to_iter_dataset()
    batches = iter(elements.batch(WORK[row].batch))
    start = time.perf_counter()
    for _ in batches:
        pass
    return (time.perf_counter() - start) * 1e6 / n
