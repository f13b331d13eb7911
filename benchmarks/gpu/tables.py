"""The tables and the plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from inputs import COPY, INPUTS, MADE, ON_DEVICE
from timing import Reading

matplotlib.use("Agg")
from matplotlib import pyplot

__all__ = ["excess", "print_bandwidths", "print_steps", "save_plot"]

AIM = 0.03
"""A step that is fed takes at most so much longer than the longest of its stations."""

STATIONS = (ON_DEVICE, COPY, MADE)

Readings = Mapping[str, Reading]

INK = "#808080"
COLOURS = dict(zip(INPUTS, ("#9a9a9a", "#f08c00", "#f5c070", "#3b82c4", "#9cc3e4"), strict=True))


def excess(readings: Readings, name: str) -> float:
    """How much longer a step takes than the longest of its stations alone; 0.03 for three per cent.

    Where the source and the copy are fast enough, that is the step with its data on the device.
    """
    return readings[name].median / max(readings[station].median for station in STATIONS) - 1


def print_bandwidths(found: Mapping[str, Readings]) -> None:
    """One line for each size, in gigabytes a second."""
    names = list(next(iter(found.values())))
    rows = [["copy of one batch (GB/s)", *names, "spread"]]
    for size, readings in found.items():
        speeds = [f"{int(size) / readings[name].median / 1e9:.1f}" for name in names]
        widest = max(reading.spread for reading in readings.values())
        rows.append([f"{int(size) / 1e6:.1f} MB", *speeds, f"{widest:.2f}"])
    _print(rows)


def print_steps(title: str, found: Mapping[str, Readings]) -> None:
    """One line for each step: the milliseconds of each station, and what each input adds to the longest."""
    others = [name for name in INPUTS if name != ON_DEVICE]
    rows = [[title, *(f"{station} (ms)" for station in STATIONS), *others, "spread", "aim"]]
    for label, readings in found.items():
        reached = "reached" if excess(readings, others[0]) <= AIM else "missed"
        rows.append(
            [
                label,
                *(f"{readings[station].median * 1e3:.2f}" for station in STATIONS),
                *(f"{excess(readings, name):+.1%}" for name in others),
                f"{max(reading.spread for reading in readings.values()):.2f}",
                reached,
            ]
        )
    _print(rows)


def save_plot(found: Mapping[str, Readings], path: Path) -> None:
    """A group of bars for each step: milliseconds, by where its batches come from."""
    with matplotlib.rc_context({"svg.hashsalt": "fastgen", "font.size": 9}):
        figure, axes = pyplot.subplots(
            figsize=(9, 1 + 0.8 * len(found)), layout="constrained", facecolor="none"
        )
        axes.set_facecolor("none")
        for number, name in enumerate(INPUTS):
            places = [row + (number - 2) * 0.16 for row in range(len(found))]
            values = [readings[name].median * 1e3 for readings in found.values()]
            axes.barh(places, values, 0.15, color=COLOURS[name], label=name)
        axes.set_yticks(range(len(found)), list(found), color=INK)
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds for a step", color=INK)
        axes.tick_params(colors=INK)
        axes.legend(frameon=False, labelcolor=INK, ncols=len(INPUTS), loc="lower center",
                    bbox_to_anchor=(0.5, 1))  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(
            path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else None
        )
        pyplot.close(figure)


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]))
    print()
