"""`output_types` and `output_shapes`, the older way to describe an element, here of a pair."""

import argparse
from collections.abc import Iterator

import tensorflow as tf

import fastgen


def doubles(count: int) -> Iterator[tuple[int, int]]:
    """Yield every number together with its double."""
    for number in range(count):
        yield number, 2 * number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=10_000)
    elements = parser.parse_args().elements

    dataset = fastgen.from_generator(
        doubles,
        output_types=(tf.int32, tf.int32),
        output_shapes=(tf.TensorShape([]), tf.TensorShape([])),
        args=(elements,),
    )
    print(f"element_spec: {dataset.element_spec}")

    count = 0
    all_double = True
    for numbers, twice in dataset.batch(10).prefetch(tf.data.AUTOTUNE):
        count += len(numbers)
        all_double = all_double and bool(tf.reduce_all(twice == 2 * numbers))
    print(f"{count} pairs, second is double of first: {all_double}")


if __name__ == "__main__":
    main()
