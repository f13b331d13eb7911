"""Python's own limits: a generator in a bare loop, and the copying of its bytes."""

import time
from typing import Any

import numpy as np
import sources

__all__ = ["measure"]


def measure(way: str, row: list[Any], n: int) -> float:
    """Microseconds for an element.

    Args:
      way: The name of a generator of `sources`, or "copy".
      row: The generator's arguments before the number of elements, or the number of bytes.
      n: The number of elements.
    """
    if way == "copy":
        element, place = np.ones(row[0], np.uint8), np.zeros(row[0], np.uint8)
        start = time.perf_counter()
        for _ in range(n):
            np.copyto(place, element)
    else:
        elements = getattr(sources, way)(*row, n)
        start = time.perf_counter()
        for _ in elements:
            pass
    return (time.perf_counter() - start) * 1e6 / n
