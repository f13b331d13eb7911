"""`kwargs=` hands named arguments to the source, `buffer_size=` says how far it may run ahead."""

import argparse
import time
from collections.abc import Iterator

import tensorflow as tf

import fastgen


class Countdown:
    """A source that counts down and remembers how many elements it has made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, start: int, *, step: int = 1, unit: str = "") -> Iterator[str]:
        """Yield `start` and every `step`-th number below it, down to 0."""
        for number in range(start, -1, -step):
            self.made += 1
            yield f"{number}{unit}"


def nothing_else_ahead() -> tf.data.Options:
    """Return options that keep TensorFlow from adding a `prefetch` of its own to the dataset."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def settled(source: Countdown) -> int:
    """Wait until the source has stopped making elements and return how many there are."""
    before = -1
    while before != source.made:
        before = source.made
        time.sleep(0.1)
    return before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1_000)
    elements = parser.parse_args().elements

    for buffer_size in (0, 8, fastgen.AUTOTUNE):
        source = Countdown()
        dataset = fastgen.from_generator(
            source,
            args=(3 * elements - 3,),
            kwargs={"step": 3, "unit": " s"},
            output_signature=tf.TensorSpec((), tf.string),
            buffer_size=buffer_size,
        )
        iterator = dataset.with_options(nothing_else_ahead()).as_numpy_iterator()
        first = next(iterator).decode()
        made = settled(source)
        last = [first, *(element.decode() for element in iterator)][-1]
        name = "AUTOTUNE" if buffer_size == fastgen.AUTOTUNE else buffer_size
        print(f"buffer_size={name}: {first} ... {last}; {made} made when one had been read")


if __name__ == "__main__":
    main()
