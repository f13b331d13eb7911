"""Other loaders, each in a process of its own, which this one's TensorFlow is not loaded into.

Two frameworks in one process would share allocators and thread pools, and blame each other.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

from others.server import Server

__all__ = ["LIBRARIES", "Others", "started"]

LIBRARIES = {
    "torch": ("torch", "torch/1", "torch/2"),
    "grain": ("grain",),
    "keras": ("keras/1", "keras/2"),
}
"""The module that has to be there, and the ways to use it; a number is that of its workers."""


class Others:
    """The loaders' processes; each starts when it is first measured.

    Attributes:
      absent: The libraries that are not installed.
    """

    def __init__(self) -> None:
        self.absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
        self._servers = {name: Server(name) for name in LIBRARIES if name not in self.absent}

    def systems(self, row: str, workers: bool) -> dict[str, Callable[[int], float]]:
        """How each installed loader is measured in a row.

        Args:
          row: The name of the row.
          workers: Whether to measure worker processes too, which take seconds to start.
        """
        return {
            way: partial(server.measure, way, row)
            for library, server in self._servers.items()
            for way in LIBRARIES[library]
            if workers or not way.startswith("torch/")
        }

    def end(self) -> None:
        """End all processes."""
        for server in self._servers.values():
            server.end()


@contextlib.contextmanager
def started() -> Iterator[Others]:
    """The loaders, ended afterwards."""
    others = Others()
    try:
        yield others
    finally:
        others.end()
