"""What a source does to the rest of the program: its memory, and its main thread."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sources
import tensorflow as tf
from aims import AtMost, Below
from names import RAW, STOCK
from pipelines import FROM_GENERATOR
from row import Measure, Row

__all__ = ["ROWS"]

SCALAR = tf.TensorSpec((), tf.int64)
PROBE = Path(__file__).resolve().parents[1] / "memory_probe.py"
PROBE_TIMEOUT_S = 1_800
STOCK_SHARE = {"scalars": 0.02, "images": 0.1}
"""Stock from_generator is too slow for as many elements as fastgen."""


def growth(system: str, work: str) -> Measure:
    """Megabytes by which a fresh process grew after its first 5% of the elements."""

    def measure(n: int) -> float:
        done = subprocess.run(
            [sys.executable, str(PROBE), system, work, str(n)],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        return float(json.loads(done.stdout)["growth_mb"])

    return measure


def memory(work: str, elements: int) -> Row:
    return Row(
        name=f"memory:{work}",
        what=f"{elements:,} {work}: growth after the first 5% (tf.data: {STOCK_SHARE[work]:.0%} of them)",
        systems={system: growth(system, work) for system in FROM_GENERATOR},
        aims=(Below(10, "MB"),),
        limit=(),
        unit="MB",
        elements=elements,
        shares={STOCK: STOCK_SHARE[work]},
        rounds=1,
        plotted=False,
    )


@contextmanager
def consumed_meanwhile(from_generator: Callable[..., tf.data.Dataset]) -> Iterator[list[int]]:
    """Consume a source of pure Python on another thread; yields a count of its elements."""
    ds = from_generator(sources.working, output_signature=SCALAR)
    begun, stop, count = threading.Event(), threading.Event(), [0]

    def consume() -> None:
        for _ in ds:
            count[0] += 1
            begun.set()
            if stop.is_set():
                break

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        begun.wait()
        yield count
    finally:
        stop.set()
        thread.join()


def turns(n: int) -> float:
    """Microseconds for a thousand turns of a plain Python loop, of which `n` thousand are made."""
    total = 0
    start = time.perf_counter()
    for _ in range(n):
        for i in range(1_000):
            total += i & 1
    return (time.perf_counter() - start) * 1e6 / n


def loop_beside(from_generator: Callable[..., tf.data.Dataset]) -> Measure:
    def measure(n: int) -> float:
        with consumed_meanwhile(from_generator):
            return turns(n)

    return measure


def source_beside(from_generator: Callable[..., tf.data.Dataset]) -> Measure:
    """The other side: microseconds for an element while the main thread is busy."""

    def measure(n: int) -> float:
        with consumed_meanwhile(from_generator) as count:
            before = count[0]
            start = time.perf_counter()
            while count[0] - before < n:
                turns(1)
            return (time.perf_counter() - start) * 1e6 / (count[0] - before)

    return measure


ROWS = (
    memory("scalars", 10_000_000),
    memory("images", 100_000),
    Row(
        name="fairness:loop",
        what="1,000 turns of the main thread's loop, beside a source of pure Python",
        systems={name: loop_beside(each) for name, each in FROM_GENERATOR.items()} | {RAW: turns},
        aims=(AtMost(1.05, (STOCK,)),),
        plotted=False,
    ),
    Row(
        name="fairness:source",
        what="the same from the other side: an element of that source",
        systems={name: source_beside(each) for name, each in FROM_GENERATOR.items()},
        limit=(),
        plotted=False,
    ),
)
