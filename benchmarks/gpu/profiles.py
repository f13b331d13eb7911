"""A profile of TensorFlow's, and how much of the copying in it was hidden behind computing."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Overlap", "measure_overlap", "overlap_in"]

Interval = tuple[int, int]


@dataclass(frozen=True)
class Overlap:
    """What the device's streams did, in picoseconds.

    Attributes:
      copying: How long a copy from the host ran.
      computing: How long some kernel ran.
      both: How long both did.
    """

    copying: int
    computing: int
    both: int

    @property
    def share(self) -> float:
        """The part of the copying during which the device computed."""
        return self.both / self.copying if self.copying else 0.0


def overlap_in(folder: Path) -> Overlap:
    """The newest profile below a folder.

    Raises:
      FileNotFoundError: There is none.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    files = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"no profile below {folder}")
    space = xplane_pb2.XSpace()
    space.ParseFromString(files[-1].read_bytes())
    return measure_overlap(space)


def measure_overlap(space: Any) -> Overlap:
    """Of an XSpace: the planes of GPUs, and in them the lines that are streams.

    The other lines of such a plane (steps, ops) repeat the same work in other words.
    """
    copies: list[Interval] = []
    kernels: list[Interval] = []
    for plane in space.planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                start = line.timestamp_ns * 1000 + event.offset_ps
                interval = (start, start + event.duration_ps)
                if name.startswith("MemcpyH2D"):
                    copies.append(interval)
                elif not name.startswith(("Memcpy", "Memset")):
                    kernels.append(interval)
    copying, computing = _union(copies), _union(kernels)
    return Overlap(_length(copying), _length(computing), _length(_common(copying, computing)))


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time in intervals that do not touch, in order."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _common(first: list[Interval], second: list[Interval]) -> list[Interval]:
    """The time that is in both; each in order and apart."""
    shared: list[Interval] = []
    i = j = 0
    while i < len(first) and j < len(second):
        start, end = max(first[i][0], second[j][0]), min(first[i][1], second[j][1])
        if start < end:
            shared.append((start, end))
        if first[i][1] < second[j][1]:
            i += 1
        else:
            j += 1
    return shared


def _length(intervals: Iterable[Interval]) -> int:
    return sum(end - start for start, end in intervals)
