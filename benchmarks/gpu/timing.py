"""Times of steps, with the device's work in them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from inputs import Batches
from steps import Step

__all__ = ["Reading", "alternate", "copies", "made", "steps"]


@dataclass
class Reading:
    """What one way needed: seconds for a step (or a copy) in each round."""

    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """The slowest round, divided by the fastest."""
        return max(self.rounds) / min(self.rounds)


def steps(batches: Batches, step: Step, count: int) -> float:
    """Seconds for a step, over `count` of them after half as many that warm up.

    These also use up what was made while the step was compiled.
    """
    for _ in range(max(2, count // 2)):
        result = step(*next(batches))
    float(result)  # waits for the device: calls return before their work is done
    start = time.perf_counter()
    for _ in range(count):
        result = step(*next(batches))
    float(result)
    return (time.perf_counter() - start) / count


def copies(dataset: tf.data.Dataset, device: str, count: int) -> float:
    """Seconds for the copy of one batch's images to the device, alone."""
    on_host = next(iter(dataset))[0]

    def copy() -> tf.Tensor:
        with tf.device("/cpu:0"):
            # The same bytes under another handle: TensorFlow keeps the copy of one that has been on the device.
            fresh = tf.identity(on_host)
        with tf.device(device):
            return tf.identity(fresh)

    float(tf.cast(copy()[0, 0, 0, 0], tf.float32))
    start = time.perf_counter()
    for _ in range(count):
        on_device = copy()
    float(tf.cast(on_device[0, 0, 0, 0], tf.float32))
    return (time.perf_counter() - start) / count


def made(dataset: tf.data.Dataset, count: int) -> float:
    """Seconds for a batch that nobody does anything with: what the source and the host can do."""
    batches = iter(dataset)
    for _ in range(max(2, count // 5)):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return (time.perf_counter() - start) / count


def alternate(
    ways: Mapping[str, Callable[[], float]], rounds: int, advance: Callable[[str], Any]
) -> dict[str, Reading]:
    """Measures all ways in turn, round after round, forwards and backwards."""
    readings = {name: Reading() for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 == 0 else reversed(list(ways)):
            advance(name)
            readings[name].rounds.append(ways[name]())
    return readings
