"""A thread of your own that fills a queue, with the queue passed to the source through `args`.

`tf.data.Dataset.from_generator` makes a tensor of each argument and so refuses a queue. fastgen
hands objects that are no tensors to the source as they are.
"""

import argparse
import queue
import threading
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

SHAPE = (10, 10)
Sample = tuple[np.ndarray, int]


def fill(samples: "queue.Queue[Sample | None]", count: int, pause: float) -> None:
    """Put `count` samples into the queue, one each `pause` seconds, and `None` to end them."""
    for number in range(count):
        time.sleep(pause)
        samples.put((np.full(SHAPE, number, np.float64), number))
    samples.put(None)


def empty(samples: "queue.Queue[Sample | None]") -> Iterator[Sample]:
    """Yield samples out of the queue until their end."""
    while (sample := samples.get()) is not None:
        yield sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=500)
    parser.add_argument("--pause", type=float, default=0.002, help="seconds for each sample")
    options = parser.parse_args()

    samples: queue.Queue[Sample | None] = queue.Queue(maxsize=10)
    signature = (tf.TensorSpec(SHAPE, tf.float64), tf.TensorSpec((), tf.int32))
    dataset = fastgen.from_generator(empty, args=(samples,), output_signature=signature)

    filler = threading.Thread(target=fill, args=(samples, options.elements, options.pause))
    filler.start()
    numbers = [int(number) for _, number in dataset]
    filler.join()
    print(f"{len(numbers)} samples through the queue, in order: {numbers == sorted(numbers)}")


if __name__ == "__main__":
    main()
