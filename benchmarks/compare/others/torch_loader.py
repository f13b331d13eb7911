"""PyTorch's DataLoader over an IterableDataset, in this process or with worker processes."""

import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from others.work import WORK

__all__ = ["measure"]


class Elements(IterableDataset):  # type: ignore[misc]
    """The source of a row, of a length that can change from pass to pass."""

    def __init__(self, row: str) -> None:
        self.row = row
        # Shared, so that the same workers serve passes of all lengths.
        self.length = get_context("spawn").Value("q", 0)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        count = self.length.value // (info.num_workers if info else 1)
        return iter(WORK[self.row].source(count))


_loaders: dict[tuple[str, str], Any] = {}


def loader_for(way: str, row: str) -> Any:
    """The loader, kept with its workers while a row is measured."""
    if any(key[1] != row for key in _loaders):
        _loaders.clear()
    if (way, row) not in _loaders:
        workers = int(way.partition("/")[2] or 0)
        _loaders[way, row] = DataLoader(
            Elements(row),
            batch_size=WORK[row].batch,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
        )
    return _loaders[way, row]


def measure(way: str, row: str, n: int) -> float:
    """Microseconds for an element; the workers' start is not counted."""
    fresh = (way, row) not in _loaders
    loader = loader_for(way, row)
    loader.dataset.length.value = n
    if fresh:
        for _ in loader:
            pass
    batches = iter(loader)
    start = time.perf_counter()
    for _ in batches:
        pass
    return (time.perf_counter() - start) * 1e6 / n
