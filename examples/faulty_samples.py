"""Faulty samples: skipped by the source, or raised in their place and passed over there.

Every tenth record is broken. The first source catches what goes wrong and leaves the sample out,
so nobody downstream hears of it. The second yields what it got: the element that does not fit
the signature fails its own turn, the elements around it are intact, and the reader decides to
go on, by hand or with `ignore_errors()`.
"""

import argparse
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

import fastgen

LENGTH = 10
SIGNATURE = tf.TensorSpec((LENGTH,), tf.float64)


def record(number: int) -> str:
    """Return the text of one record; every tenth lacks its last value."""
    length = LENGTH - 1 if number % 10 == 9 else LENGTH
    return " ".join(str(number + position / 10) for position in range(length))


def parse(text: str) -> np.ndarray:
    """Return the values of a record."""
    return np.array([float(word) for word in text.split()])


def skipping(count: int) -> Iterator[np.ndarray]:
    """Yield the records that have all their values."""
    for number in range(count):
        try:
            yield parse(record(number)).reshape(LENGTH)
        except ValueError:
            continue


def unchecked(count: int) -> Iterator[np.ndarray]:
    """Yield every record, complete or not."""
    for number in range(count):
        yield parse(record(number))


def yielded(message: str) -> str:
    """Return the line of an error that says what the source yielded, and what was expected."""
    found = re.search("`generator` yielded.*", message)
    return found.group() if found else message


def count_by_hand(dataset: tf.data.Dataset) -> tuple[int, int, str]:
    """Return how many elements came, how many failed, and what the first error says."""
    good = bad = 0
    complaint = ""
    iterator = iter(dataset)
    while True:
        try:
            next(iterator)
            good += 1
        except StopIteration:
            return good, bad, complaint
        except tf.errors.InvalidArgumentError as error:
            bad += 1
            complaint = complaint or yielded(str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=1_000)
    elements = parser.parse_args().elements

    skipped = fastgen.from_generator(skipping, args=(elements,), output_signature=SIGNATURE)
    count = sum(len(batch) for batch in skipped.batch(32).prefetch(tf.data.AUTOTUNE))
    print(f"source skips:    {count} of {elements} elements")

    faulty = fastgen.from_generator(unchecked, args=(elements,), output_signature=SIGNATURE)
    good, bad, complaint = count_by_hand(faulty)
    print(f"reader goes on:  {good} elements, {bad} errors, the first of them:")
    print(f"    {complaint}")

    count = sum(len(batch) for batch in faulty.ignore_errors().batch(32))
    print(f"ignore_errors(): {count} of {elements} elements")


if __name__ == "__main__":
    main()
