"""A source whose elements are costly to make: what is its own cost, and what does the way add?

The source is read once with a bare Python loop and once as a dataset. No pipeline can be faster
than its source; the difference between the two is all that a pipeline can be blamed for.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (100, 100)


def costly(count: int, pause: float) -> Iterator[np.ndarray]:
    """Yield arrays of random numbers, each after `pause` seconds that stand for hard work."""
    random = np.random.default_rng(7)
    for _ in range(count):
        time.sleep(pause)
        yield random.random(SHAPE, dtype=np.float32)


def microseconds_each(make: Callable[[], Iterable[object]]) -> tuple[int, float]:
    """Read everything that `make` returns: how many there were, and microseconds for each."""
    started = time.perf_counter()
    count = sum(1 for _ in make())
    return count, (time.perf_counter() - started) / max(count, 1) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=2_000)
    parser.add_argument("--pause", type=float, default=0.0005, help="seconds for each element")
    options = parser.parse_args()

    def source() -> Iterator[np.ndarray]:
        return costly(options.elements, options.pause)

    dataset = fastgen.from_generator(source, output_signature=tf.TensorSpec(SHAPE, tf.float32))

    count, alone = microseconds_each(source)
    print(f"source alone: {count} arrays, {alone:.0f} us each")
    count, through = microseconds_each(lambda: dataset)
    print(f"as a dataset: {count} arrays, {through:.0f} us each ({through - alone:+.0f} us)")


if __name__ == "__main__":
    main()
