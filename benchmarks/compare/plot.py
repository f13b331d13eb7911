"""The plot: for each row a group of bars, microseconds for an element on a logarithmic scale."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from measuring import Measured
from names import FASTGEN, RAW, SLICES, STOCK
from report import number

matplotlib.use("Agg")
from matplotlib import pyplot

__all__ = ["save_plot"]

# Read on white and on black pages alike: nothing lies behind the bars, and the words are grey.
INK = "#808080"
COLOURS = {RAW: "#9a9a9a", FASTGEN: "#f08c00", SLICES: "#4c9a52", STOCK: "#3b82c4"}
LABELS = {
    RAW: "the generator alone",
    FASTGEN: "fastgen",
    SLICES: "from_tensor_slices",
    STOCK: "tf.data",
}
THICKNESS = 0.2


def save_plot(rows: Mapping[str, Measured], path: Path) -> bool:
    """Draw the rows that belong in the plot; returns whether there were any."""
    drawn = [each for each in rows.values() if each.row.plotted and each.readings]
    if not drawn:
        return False
    with matplotlib.rc_context({"svg.hashsalt": "fastgen", "font.size": 9}):
        figure, axes = pyplot.subplots(
            figsize=(9, 1 + 0.56 * len(drawn)), layout="constrained", facecolor="none"
        )
        axes.set_facecolor("none")
        draw(axes, drawn)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a date the same figures make the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, transparent=True, dpi=150, metadata=metadata)
        pyplot.close(figure)
    return True


def draw(axes: Axes, rows: list[Measured]) -> None:
    """A group of bars for each row, the first row on top."""
    for system, colour in COLOURS.items():
        places, values = [], []
        for middle, each in enumerate(rows):
            present = [name for name in COLOURS if name in each.readings]
            if system in present:
                above = present.index(system) - (len(present) - 1) / 2
                places.append(middle + above * THICKNESS)
                values.append(each.readings[system].median)
        if values:
            axes.barh(places, values, THICKNESS * 0.9, color=colour, label=LABELS[system])
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                number(value), (value, place), (3, 0), textcoords="offset points",
                va="center", fontsize=7, color=INK,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.01)
    axes.invert_yaxis()
    axes.set_yticks(range(len(rows)), [each.row.name for each in rows])
    axes.set_xlabel("microseconds for an element (logarithmic; shorter is faster)", color=INK)
    axes.tick_params(colors=INK, which="both")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, labelcolor=INK)
