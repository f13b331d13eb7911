"""A source that yields eager tensors instead of NumPy arrays.

Work in the source may be done with TensorFlow's own functions; what they return is yielded as it
is. It is worth it where the value is a tensor already: making one from an array only to yield it
is a step more, and the lines printed here show what that step costs.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (100, 100)


def arrays(count: int) -> Iterator[np.ndarray]:
    """Yield the wave as NumPy arrays."""
    wave = np.sin(np.arange(np.prod(SHAPE), dtype=np.float32)).reshape(SHAPE)
    for _ in range(count):
        yield wave


def tensors(count: int) -> Iterator[tf.Tensor]:
    """Yield the same wave, each time as a tensor made from the array."""
    for array in arrays(count):
        yield tf.constant(array)


def drain(source: Callable[[int], Iterator[object]], count: int) -> tuple[int, float, float]:
    """Return how many elements came, the sum over all of them, and the seconds it took."""
    dataset = fastgen.from_generator(
        source, args=(count,), output_signature=tf.TensorSpec(SHAPE, tf.float32)
    )
    seen, total = 0, 0.0
    started = time.perf_counter()
    for batch in dataset.batch(32).prefetch(tf.data.AUTOTUNE):
        seen += len(batch)
        total += float(tf.reduce_sum(batch))
    return seen, total, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=5_000)
    elements = parser.parse_args().elements

    for name, source in (("arrays", arrays), ("tensors", tensors)):
        seen, total, seconds = drain(source, elements)
        print(f"{name:8} {seen} elements, sum {total:.3f}, {seen / seconds:,.0f} elements/s")


if __name__ == "__main__":
    main()
