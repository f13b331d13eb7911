"""Measures how well a GPU is fed: copies, their overlap with the step, and a training step.

    python benchmarks/gpu [--only bandwidth overlap training] [--quick] [--profile FOLDER]

All ways of feeding it take turns in one run. The longest of three stations is the limit: the step with
its data on the device, the copy alone, and the source. What an input adds to that is given in per cent.
"""

import argparse
import datetime
import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when TensorFlow is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.append(str(Path(__file__).resolve().parents[1] / "compare"))

import tensorflow as tf
from inputs import COPY, INPUTS, MADE, ON_DEVICE, Batches, Images
from machine import commit, machine, versions
from profiles import overlap_in
from steps import Step, matmuls, resnet
from tables import print_bandwidths, print_steps, save_plot
from timing import Reading, alternate, copies, made, steps
from tqdm import tqdm

import fastgen

BUILD = Path(__file__).resolve().parents[2] / "build" / "bench-gpu"
PARTS = ("bandwidth", "overlap", "training")
CLASSES = 1000
MOST_MATMULS = 500


@dataclass(frozen=True)
class Effort:
    """How much of everything.

    Attributes:
      rounds: Rounds for each way.
      steps: Steps in a round.
      image: The shape of an image.
      batch_sizes: Of the training step; the second is that of the other parts.
      matrix: The side of the matrices that the adjustable step multiplies.
      blocks: Of the residual network.
    """

    rounds: int
    steps: int
    image: tuple[int, int, int]
    batch_sizes: tuple[int, ...]
    matrix: int
    blocks: tuple[int, ...]


FULL = Effort(5, 50, (224, 224, 3), (32, 64, 128), 2048, (2, 2, 2, 2))
QUICK = Effort(2, 4, (32, 32, 3), (4, 8), 64, (1, 1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument(
        "--device", help="the first GPU; with a CPU everything runs, and the figures mean nothing"
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="profile a training step too"
    )
    parser.add_argument("--json", type=Path, default=BUILD / "gpu.json", help="where figures go")
    parser.add_argument("--plot", type=Path, default=BUILD / "gpu.svg", help="where the plot goes")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    device = options.device or ("/gpu:0" if tf.config.list_physical_devices("GPU") else None)
    if device is None:
        sys.exit(
            "bench-gpu: TensorFlow sees no GPU, so nothing was measured. `--device /cpu:0 --quick` "
            "shows that the benchmark works; such figures say nothing about a GPU."
        )
    effort = QUICK if options.quick else FULL
    about = describe(device, options)
    print(f"{about['date']}, {about['device']}, TensorFlow {about['versions']['tensorflow']}\n")
    if "CPU" in device.upper():
        print("This is a CPU: the figures say nothing about a GPU.\n")
    readings: dict[str, dict[str, dict[str, Reading]]] = {}
    for part in options.only:
        readings[part] = MEASURE[part](effort, device)
        save(options.json, about, readings)  # each at once: a later one may fail
    both = {**readings.get("overlap", {}), **readings.get("training", {})}
    if both:
        save_plot(both, options.plot)
        print(f"Plot: {options.plot}")
    print(f"Figures: {options.json}")
    print(f"Pinned memory: {fastgen.pinned_memory_info()}\n")
    if options.profile is not None:
        profile(effort, device, options.profile)


def describe(device: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a reader of the figures has to know."""
    details: dict[str, Any] = {}
    for card in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(card)
        break
    build = tf.sysconfig.get_build_info()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "device": device if "CPU" in device.upper() else details.get("device_name", "unknown GPU"),
        "compute_capability": details.get("compute_capability"),
        "cuda": build.get("cuda_version"),
        "cudnn": build.get("cudnn_version"),
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
        "quick": options.quick,
    }


def measured(title: str, ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, Reading]:
    with tqdm(total=rounds * len(ways), desc=title, leave=False, disable=None) as progress:

        def advance(name: str) -> None:
            progress.set_postfix_str(name)
            progress.update()

        return alternate(ways, rounds, advance)


def bandwidth(effort: Effort, device: str) -> dict[str, dict[str, Reading]]:
    """Copies of batches, by their bytes: from pinned memory, plain memory, and TensorFlow's."""
    found = {}
    for batch_size in sorted({2, 8, *effort.batch_sizes, 2 * effort.batch_sizes[-1]}):
        images = Images(batch_size, effort.image, "float32", CLASSES)
        datasets = {
            "pinned": images.by_fastgen(pinned=None),
            "not pinned": images.by_fastgen(pinned=False),
            "tf.data": images.by_stock(),
        }
        ways: dict[str, Callable[[], float]] = {
            name: functools.partial(copies, dataset, device, effort.steps)
            for name, dataset in datasets.items()
        }
        found[str(images.batch_bytes)] = measured("bandwidth", ways, effort.rounds)
    print_bandwidths(found)
    return found


def fed(title: str, images: Images, step: Step, effort: Effort, device: str) -> dict[str, Reading]:
    """A step with each input in turn."""
    ways: dict[str, Callable[[], float]] = {
        name: functools.partial(_fed_by, make, images, step, effort, device)
        for name, make in INPUTS.items()
    }
    dataset = images.by_fastgen(pinned=None)
    ways[COPY] = functools.partial(copies, dataset, device, effort.steps)
    ways[MADE] = functools.partial(made, dataset, effort.steps)
    return measured(title, ways, effort.rounds)


def _fed_by(
    make: Callable[[Images, str], Batches], images: Images, step: Step, effort: Effort, device: str
) -> float:
    return steps(make(images, device), step, effort.steps)


def overlap(effort: Effort, device: str) -> dict[str, dict[str, Reading]]:
    """Steps that take half as long as the copy of their batch, as long, and twice as long."""
    images = Images(effort.batch_sizes[1], effort.image, "float32", CLASSES, untouched=True)
    copy = copies(images.by_fastgen(pinned=None), device, effort.steps)

    def alone(repeats: int) -> float:
        step = matmuls(repeats, effort.matrix, device)
        return steps(INPUTS[ON_DEVICE](images, device), step, effort.steps)

    few, many = alone(1), alone(33)
    each = max((many - few) / 32, 1e-9)
    found = {}
    for factor in (0.5, 1, 2):
        repeats = min(max(1, round(1 + (factor * copy - few) / each)), MOST_MATMULS)
        title = f"{factor:g}x the copy"
        step = matmuls(repeats, effort.matrix, device)
        found[title] = fed(title, images, step, effort, device)
    print_steps("a step beside the copy", found)
    return found


def training(effort: Effort, device: str) -> dict[str, dict[str, Reading]]:
    """Training steps on images of bytes and of floats."""
    found = {}
    for dtype in ("uint8", "float32"):
        for batch_size in effort.batch_sizes:
            images = Images(batch_size, effort.image, dtype, CLASSES)
            step = resnet(effort.image, CLASSES, device, effort.blocks)
            title = f"{dtype}, batch {batch_size}"
            found[title] = fed(title, images, step, effort, device)
    print_steps("training step, residual network", found)
    return found


def profile(effort: Effort, device: str, folder: Path) -> None:
    """Profiles training steps that fastgen feeds, and says how much of the copying was hidden."""
    images = Images(effort.batch_sizes[1], effort.image, "float32", CLASSES)
    batches = INPUTS["fastgen, to device"](images, device)
    step = resnet(effort.image, CLASSES, device, effort.blocks)
    steps(batches, step, effort.steps)
    tf.profiler.experimental.start(str(folder))
    steps(batches, step, 10)
    tf.profiler.experimental.stop()
    seen = overlap_in(folder)
    print(
        f"Profile: {folder} (tensorboard --logdir {folder}). Copies from the host ran for "
        f"{seen.copying / 1e9:.2f} ms; {seen.share:.0%} of that while the device computed.\n"
    )


def save(
    path: Path, about: dict[str, Any], readings: dict[str, dict[str, dict[str, Reading]]]
) -> None:
    """Writes all rounds."""
    figures = {
        part: {
            label: {name: {"seconds": r.rounds, "median": r.median} for name, r in each.items()}
            for label, each in found.items()
        }
        for part, found in readings.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n", encoding="utf-8")


MEASURE = {"bandwidth": bandwidth, "overlap": overlap, "training": training}


if __name__ == "__main__":
    main()
