"""The demo: one training, once with TensorFlow's `from_generator` and once with fastgen's.

    python examples/demo [--quick]

A plain Python generator reads crops of two photographs from JPEG files. A small network learns
to tell which photograph a crop is from. Everything but the one call is the same for both, so
they learn the same; what differs is how long each step waits for its input.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf
from photographs import Crop, crops, load, make_crops
from report import complaints, save_plot, table
from training import BATCH, SIGNATURE, Run, train

import fastgen

BUILD = Path(__file__).resolve().parents[2] / "build" / "demo"
SEED = 20
WARM_UP = 10

FROM_GENERATOR: dict[str, Callable[..., tf.data.Dataset]] = {
    "tf.data": tf.data.Dataset.from_generator,
    "fastgen": fastgen.from_generator,
}


def arguments() -> argparse.Namespace:
    """Read the command line; `--quick` only changes the defaults."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run, within half a minute")
    parser.add_argument("--crops", type=int, help="crops to train with")
    parser.add_argument("--epochs", type=int, help="how often each crop is trained with")
    parser.add_argument("--rounds", type=int, help="trainings with each pipeline, alternating")
    parser.add_argument("--folder", type=Path, default=BUILD / "crops", help="where crops are kept")
    parser.add_argument("--plot", type=Path, default=BUILD / "demo.png", help="the plot to save")
    options = parser.parse_args()
    quick = {"crops": 960, "epochs": 3, "rounds": 1}
    full = {"crops": 4_000, "epochs": 5, "rounds": 3}
    for name, default in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    if options.crops * options.epochs // BATCH < 2 * WARM_UP or options.rounds < 1:
        parser.error("too little to measure: more crops, epochs or rounds are needed")
    return options


def speed_of_source(files: list[Crop]) -> float:
    """Return elements per second of the generator alone: no pipeline can be faster."""
    count = min(len(files), 1_000)
    started = time.perf_counter()
    for _ in islice(crops(files, 1, SEED), count):
        pass
    return count / (time.perf_counter() - started)


def main() -> int:
    options = arguments()
    training = make_crops(options.folder, "training", options.crops, SEED)
    testing = make_crops(options.folder, "testing", max(200, options.crops // 5), SEED)
    held_out = (np.stack([load(crop) for crop in testing]), np.array([c.label for c in testing]))
    alone = speed_of_source(training)

    source = partial(crops, training, options.epochs, SEED)
    steps = len(training) * options.epochs // BATCH
    runs: dict[str, list[Run]] = {name: [] for name in FROM_GENERATOR}
    for name, from_generator in FROM_GENERATOR.items():  # The first use of anything is slow.
        dataset = from_generator(source, output_signature=SIGNATURE)
        train(dataset, held_out, WARM_UP, SEED, f"{name}, warming up")
    for number in range(options.rounds):
        for name, from_generator in FROM_GENERATOR.items():
            dataset = from_generator(source, output_signature=SIGNATURE)
            title = f"{name}, training {number + 1} of {options.rounds}"
            runs[name].append(train(dataset, held_out, steps, SEED, title))

    print(f"\n{table(runs)}\n\nThe generator alone makes {alone:,.0f} elements/s on one core.")
    save_plot(runs, options.plot)
    print(f"Plot: {options.plot}")
    found = complaints(runs)
    for complaint in found:
        print(f"FAILED: {complaint}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
