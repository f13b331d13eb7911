"""Prints the table of the demo, draws its plot, and judges whether the runs went as they must."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from training import BATCH, Run

matplotlib.use("Agg")
from matplotlib import pyplot

__all__ = ["complaints", "save_plot", "table"]

TOLERANCE = 0.01
"""How far accuracies may differ: sums in parallel threads need not round alike."""

Runs = Mapping[str, Sequence[Run]]


def rates(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Return elements per second, milliseconds for a step (median), and the share of waiting."""
    steps = np.concatenate([run.steps for run in runs])
    waits = np.concatenate([run.waits for run in runs])
    seconds = float(steps.sum())
    return BATCH * len(steps) / seconds, float(np.median(steps)) * 1e3, float(waits.sum()) / seconds


def table(runs: Runs) -> str:
    """Return one line a pipeline: all its runs for the speed, its last run for what was learnt."""
    lines = [
        f"{'pipeline':22}{'elements/s':>12}{'step (ms)':>12}{'waiting':>10}"
        f"{'loss':>10}{'accuracy':>10}"
    ]
    for name, measured in runs.items():
        speed, step, waiting = rates(measured)
        last = measured[-1]
        lines.append(
            f"{name:22}{speed:>12,.0f}{step:>12.1f}{waiting:>10.1%}"
            f"{last.held_out_loss:>10.4f}{last.held_out_accuracy:>10.1%}"
        )
    return "\n".join(lines)


def complaints(runs: Runs) -> list[str]:
    """Return what went wrong: a loss that did not fall, results that are not the same."""
    found = []
    for name, measured in runs.items():
        for run in measured:
            tenth = max(1, len(run.losses) // 10)
            first, last = np.mean(run.losses[:tenth]), np.mean(run.losses[-tenth:])
            if not last < first:
                found.append(f"{name}: the loss did not fall ({first:.4f} to {last:.4f})")
    accuracies = [run.held_out_accuracy for measured in runs.values() for run in measured]
    if not max(accuracies) - min(accuracies) <= TOLERANCE:
        found.append(f"the accuracies differ: {', '.join(f'{each:.3f}' for each in accuracies)}")
    return found


def save_plot(runs: Runs, path: Path) -> None:
    """Draw step times with their waiting, all steps in order of time, and the loss curves."""
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    draw_steps(left, runs)
    draw_distribution(middle, runs)
    draw_losses(right, runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_steps(axes: Axes, runs: Runs) -> None:
    """Bars: the mean step of each pipeline, divided into training and waiting for input."""
    for place, measured in enumerate(runs.values()):
        step = float(np.mean(np.concatenate([run.steps for run in measured]))) * 1e3
        wait = float(np.mean(np.concatenate([run.waits for run in measured]))) * 1e3
        axes.bar(place, step - wait, color="tab:blue", label="training" if not place else None)
        axes.bar(
            place,
            wait,
            bottom=step - wait,
            color="tab:red",
            label="waiting for input" if not place else None,
        )
        axes.text(place, step, f"{wait / step:.0%} waiting", ha="center", va="bottom")
    axes.set_xticks(range(len(runs)), list(runs))
    axes.set_ylabel("mean step (ms)")
    axes.set_title("Where a step's time goes")
    axes.margins(y=0.4)
    axes.legend(loc="upper right", frameon=False)


def draw_distribution(axes: Axes, runs: Runs) -> None:
    """Curves: which share of the steps took at most so many milliseconds."""
    longest = 0.0
    for name, measured in runs.items():
        steps = np.sort(np.concatenate([run.steps for run in measured])) * 1e3
        axes.plot(steps, np.arange(1, len(steps) + 1) / len(steps), label=name)
        longest = max(longest, float(np.quantile(steps, 0.99)))
    axes.set_xlim(0, longest * 1.05)
    axes.set_xlabel("step (ms)")
    axes.set_ylabel("share of the steps")
    axes.set_title("Steps that took at most ...")
    axes.legend(loc="lower right", frameon=False)


def draw_losses(axes: Axes, runs: Runs) -> None:
    """Curves: the training loss, smoothed; equal curves lie on one another."""
    widths = (4.0, 1.2)
    for (name, measured), thickness in zip(runs.items(), widths, strict=True):
        losses = np.array(measured[-1].losses)
        width = max(1, len(losses) // 40)
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, label=name, linewidth=thickness)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.set_title("What was learnt")
    axes.legend(loc="upper right", frameon=False)
