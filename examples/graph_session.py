"""Graph mode: a fastgen dataset in a TF1 graph, read through a session.

Programs that were written for TensorFlow 1 build a graph first and run it later. The same
dataset is read here twice: through a one-shot iterator, and through an initializable iterator
that is started anew for a second pass.
"""

import argparse
from collections.abc import Iterator

import tensorflow as tf

import fastgen

v1 = tf.compat.v1


def squares(count: int) -> Iterator[int]:
    """Yield the first `count` square numbers."""
    for number in range(count):
        yield number * number


def batches(count: int) -> tf.data.Dataset:
    """Return the squares in batches of 32."""
    dataset = fastgen.from_generator(
        squares, args=(count,), output_signature=tf.TensorSpec((), tf.int64)
    )
    return dataset.batch(32)


def drain(session: tf.compat.v1.Session, total: tf.Tensor) -> int:
    """Run `total` until its iterator is at its end and return the sum over all batches."""
    result = 0
    while True:
        try:
            result += int(session.run(total))
        except tf.errors.OutOfRangeError:
            return result


def one_shot(count: int) -> int:
    """Sum the squares with an iterator that needs no initializer."""
    with tf.Graph().as_default(), v1.Session() as session:
        batch = v1.data.make_one_shot_iterator(batches(count)).get_next()
        return drain(session, tf.reduce_sum(batch))


def initializable(count: int, passes: int) -> list[int]:
    """Sum the squares several times; each run of the initializer calls the source again."""
    with tf.Graph().as_default(), v1.Session() as session:
        iterator = v1.data.make_initializable_iterator(batches(count))
        total = tf.reduce_sum(iterator.get_next())
        sums = []
        for _ in range(passes):
            session.run(iterator.initializer)
            sums.append(drain(session, total))
        return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=10_000)
    elements = parser.parse_args().elements

    print(f"one-shot iterator:      sum {one_shot(elements)}")
    for number, total in enumerate(initializable(elements, passes=2), start=1):
        print(f"initializable, pass {number}: sum {total}")


if __name__ == "__main__":
    main()
