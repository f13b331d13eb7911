"""Memory that a GPU reads by itself: how much there is, and how much there may be."""

import operator
import sys
from dataclasses import dataclass

from fastgen import _native

__all__ = ["PinnedMemoryInfo", "pinned_memory_info", "set_pinned_memory_limit"]


@dataclass(frozen=True)
class PinnedMemoryInfo:
    """What fastgen holds of the memory that a GPU reads by itself.

    Attributes:
      limit_bytes: How many bytes it takes from TensorFlow at most.
      taken_bytes: How many it has taken now: in elements that are on their way, and kept for reuse.
      free_bytes: How many of these are kept for reuse.
      slabs: How many pieces of such memory elements have been put into so far, recycled ones
        counted each time.
      fallbacks: How many pieces had to come from plain memory instead, because of the limit or
        because TensorFlow had no more.
    """

    limit_bytes: int
    taken_bytes: int
    free_bytes: int
    slabs: int
    fallbacks: int


def pinned_memory_info() -> PinnedMemoryInfo:
    """What this process holds of pinned memory; nothing is pinned where TensorFlow has no GPU.

    >>> import fastgen
    >>> info = fastgen.pinned_memory_info()
    >>> info.taken_bytes <= info.limit_bytes
    True
    """
    return PinnedMemoryInfo(**_native.pinned_memory_figures())


def set_pinned_memory_limit(limit_bytes: int) -> None:
    """Limits the memory that fastgen pins, for the whole process, from now on.

    What is in use stays so until it comes back. Elements that find no room lie in plain memory, from
    which a copy to a GPU is slower and does not overlap with its work; a warning says so once for
    each limit that is set. TensorFlow has a limit of its own, 64 GiB for all that it pins
    (`TF_GPU_HOST_MEM_LIMIT_IN_MB`), and takes from the system in larger pieces than it hands out.

    Args:
      limit_bytes: A number of bytes; 0 pins nothing. Without a call it is a sixteenth of the memory
        that the process may use.

    Raises:
      TypeError: `limit_bytes` is no integer.
      ValueError: It is negative.
    """
    try:
        if isinstance(limit_bytes, bool):
            raise TypeError
        limit = operator.index(limit_bytes)
    except TypeError:
        raise TypeError(
            f"`limit_bytes` must be a number of bytes, got {limit_bytes!r:.200}."
        ) from None
    if limit < 0:
        raise ValueError(f"`limit_bytes` must not be negative, got {limit}.")
    _native.set_pinned_memory_limit(min(limit, sys.maxsize))
