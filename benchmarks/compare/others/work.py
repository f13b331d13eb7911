"""The rows that other loaders are measured in, as iterables and by index."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sources

__all__ = ["WORK", "Work"]


@dataclass(frozen=True)
class Work:
    """One row: its batch size, the source, and element i for loaders that ask by index."""

    batch: int
    source: Callable[[int], Iterable[Any]]
    element: Callable[[int], Any]


WORK = {
    "scalar": Work(256, sources.numbers, sources.number),
    "images": Work(32, sources.images, sources.image),
}
