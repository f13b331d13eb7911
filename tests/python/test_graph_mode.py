"""Datasets in graphs and in eager code alike, with TensorFlow's own test harness."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.python.data.kernel_tests import test_base
from tensorflow.python.framework import combinations

from differential import IMPLEMENTATIONS

# Graphs and eager code, each with both implementations.
BOTH = combinations.combine(implementation=sorted(IMPLEMENTATIONS))
EVERYWHERE = combinations.times(test_base.v2_only_combinations(), BOTH)
# A source that makes tensors makes them eagerly, whatever asks for them.
EAGERLY = combinations.times(test_base.v2_eager_only_combinations(), BOTH)


class FromGeneratorTest(test_base.DatasetTestBase, parameterized.TestCase):
    """What holds in a graph as well as outside."""

    def make(self, implementation: str, source: Any, **arguments: Any) -> tf.data.Dataset:
        return IMPLEMENTATIONS[implementation](source, **arguments)

    @combinations.generate(EVERYWHERE)
    def test_a_generator(self, implementation: str) -> None:
        def source() -> Iterator[int]:
            yield from range(1, 6)

        dataset = self.make(implementation, source, output_types=tf.int64, output_shapes=())
        self.assertDatasetProduces(dataset, [1, 2, 3, 4, 5])

    @combinations.generate(EVERYWHERE)
    def test_a_generator_and_repeat(self, implementation: str) -> None:
        calls = []

        def source() -> Iterator[int]:
            calls.append(1)
            yield from (1, 2)

        spec = tf.TensorSpec((), tf.int64)
        dataset = self.make(implementation, source, output_signature=spec).repeat(3)
        self.assertDatasetProduces(dataset, [1, 2] * 3)
        self.assertLen(calls, 3)

    @combinations.generate(EVERYWHERE)
    def test_repeat_without_knowing_the_shape(self, implementation: str) -> None:
        dataset = self.make(implementation, lambda: [[1, 2], [3]], output_types=tf.int32)
        self.assertDatasetProduces(dataset.repeat(2), [[1, 2], [3]] * 2)

    @combinations.generate(EVERYWHERE)
    def test_a_structure(self, implementation: str) -> None:
        def source() -> Iterator[Any]:
            for n in range(3):
                yield {"n": n, "pair": (n / 2, f"é{n}")}

        signature = {
            "n": tf.TensorSpec((), tf.int64),
            "pair": (tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.string)),
        }
        dataset = self.make(implementation, source, output_signature=signature)
        expected = [{"n": n, "pair": (n / 2, f"é{n}".encode())} for n in range(3)]
        self.assertDatasetProduces(dataset, expected)

    @combinations.generate(EVERYWHERE)
    def test_batches_and_shuffles(self, implementation: str) -> None:
        spec = tf.TensorSpec((), tf.int64)
        dataset = self.make(implementation, lambda: range(7), output_signature=spec)
        self.assertDatasetProduces(dataset.batch(3), [[0, 1, 2], [3, 4, 5], [6]])
        shuffled = dataset.shuffle(4, seed=1).map(lambda x: x * 2)
        self.assertDatasetProduces(shuffled, list(range(0, 14, 2)), assert_items_equal=True)

    @combinations.generate(EVERYWHERE)
    def test_interleave_of_generators(self, implementation: str) -> None:
        def inner(n: tf.Tensor) -> tf.data.Dataset:
            return self.make(
                implementation,
                lambda n: itertools.repeat(n, 3),
                args=(n,),
                output_types=tf.int64,
                output_shapes=(),
            )

        dataset = tf.data.Dataset.range(4).interleave(inner, cycle_length=2)
        self.assertDatasetProduces(dataset, [0, 1] * 3 + [2, 3] * 3)

    @combinations.generate(EAGERLY)
    def test_ragged_and_sparse_components(self, implementation: str) -> None:
        ragged, sparse = tf.ragged.constant([[1], [2, 3]]), tf.sparse.from_dense([[0, 4]])
        signature = (
            tf.RaggedTensorSpec((2, None), tf.int32),
            tf.SparseTensorSpec((1, 2), tf.int32),
        )
        dataset = self.make(implementation, lambda: [(ragged, sparse)], output_signature=signature)
        get_next = self.getNext(dataset)
        got_ragged, got_sparse = get_next()
        self.assertAllEqual(ragged, got_ragged)
        self.assertValuesEqual(sparse, got_sparse)

    @combinations.generate(EVERYWHERE)
    def test_a_wrong_shape_takes_its_place(self, implementation: str) -> None:
        def source() -> Iterator[Any]:
            yield [1, 2, 3]
            yield [4, 5]
            yield [6, 7, 8]

        spec = tf.TensorSpec((3,), tf.int64)
        get_next = self.getNext(self.make(implementation, source, output_signature=spec))
        self.assertAllEqual([1, 2, 3], self.evaluate(get_next()))
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, r"of shape \(2,\) where"):
            self.evaluate(get_next())
        self.assertAllEqual([6, 7, 8], self.evaluate(get_next()))
        with self.assertRaises(tf.errors.OutOfRangeError):
            self.evaluate(get_next())

    @combinations.generate(EVERYWHERE)
    def test_a_wrong_structure_takes_its_place(self, implementation: str) -> None:
        def source() -> Iterator[Any]:
            yield 1, 2
            yield 3
            yield 4, 5, 6
            yield 7, 8

        spec = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64))
        get_next = self.getNext(self.make(implementation, source, output_signature=spec))
        self.assertEqual((1, 2), self.evaluate(get_next()))
        for _ in range(2):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "expected structure"):
                self.evaluate(get_next())
        self.assertEqual((7, 8), self.evaluate(get_next()))

    @combinations.generate(EVERYWHERE)
    def test_an_exception_takes_its_place(self, implementation: str) -> None:
        def source() -> Iterator[int]:
            yield 1
            raise KeyError("absent")

        spec = tf.TensorSpec((), tf.int64)
        get_next = self.getNext(self.make(implementation, source, output_signature=spec))
        self.assertEqual(1, self.evaluate(get_next()))
        with self.assertRaisesRegex(tf.errors.UnknownError, "KeyError: 'absent'"):
            self.evaluate(get_next())
        with self.assertRaises(tf.errors.OutOfRangeError):
            self.evaluate(get_next())

    @combinations.generate(EVERYWHERE)
    def test_take_closes_the_generator(self, implementation: str) -> None:
        events = []

        def source() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                events.append("finally")

        spec = tf.TensorSpec((), tf.int64)
        dataset = self.make(implementation, source, output_signature=spec).take(2)
        get_next = self.getNext(dataset)
        self.assertEqual([0, 1], [self.evaluate(get_next()) for _ in range(2)])
        with self.assertRaises(tf.errors.OutOfRangeError):
            self.evaluate(get_next())
        self.assertEqual(["finally"], events)

    @combinations.generate(EVERYWHERE)
    def test_many_readers_of_one_iterator(self, implementation: str) -> None:
        spec = tf.TensorSpec((), tf.int64)
        dataset = self.make(implementation, lambda: range(200), output_signature=spec)
        get_next = self.getNext(dataset.map(lambda x: x, num_parallel_calls=2))
        got = self.getIteratorOutput(get_next)
        self.assertEqual(list(range(200)), got)

    @combinations.generate(EVERYWHERE)
    def test_arrays_of_many_dtypes(self, implementation: str) -> None:
        dtypes = [tf.bool, tf.uint8, tf.int16, tf.int32, tf.int64, tf.float32, tf.complex64]
        arrays = tuple(np.ones((2, 3)).astype(dtype.as_numpy_dtype) for dtype in dtypes)
        signature = tuple(tf.TensorSpec((2, None), dtype) for dtype in dtypes)
        dataset = self.make(implementation, lambda: [arrays] * 2, output_signature=signature)
        self.assertDatasetProduces(dataset, [arrays] * 2)

    @combinations.generate(EVERYWHERE)
    def test_shared_state_of_two_iterators(self, implementation: str) -> None:
        barrier = threading.Lock()
        open_now: list[int] = []

        def source() -> Iterator[int]:
            with barrier:
                open_now.append(len(open_now))
            yield from range(3)

        spec = tf.TensorSpec((), tf.int64)
        dataset = self.make(implementation, source, output_signature=spec)
        first, second = self.getNext(dataset), self.getNext(dataset)
        got = [self.evaluate(get()) for get in (first, second, first, second, second, first)]
        self.assertEqual([0, 0, 1, 1, 2, 2], got)
        self.assertLen(open_now, 2)


Make = Callable[..., tf.data.Dataset]
v1 = tf.compat.v1
SCALAR = tf.TensorSpec((), tf.int64)


def drain(session: Any, get_next: Any) -> list[Any]:
    """Everything that an iterator in `session` still has."""
    results = []
    while True:
        try:
            results.append(session.run(get_next))
        except tf.errors.OutOfRangeError:
            return results


class TestSessions:
    """TensorFlow 1's way: build a graph, then run it in sessions."""

    def test_one_shot_iterator(self, from_generator: Make) -> None:
        with tf.Graph().as_default(), v1.Session() as session:
            dataset = from_generator(lambda: range(3), output_signature=SCALAR)
            get_next = v1.data.make_one_shot_iterator(dataset).get_next()
            assert drain(session, get_next) == [0, 1, 2]
            assert drain(session, get_next) == []

    def test_initializable_iterator(self, from_generator: Make) -> None:
        calls = []

        def source() -> Iterator[int]:
            calls.append(1)
            yield from range(3)

        with tf.Graph().as_default(), v1.Session() as session:
            dataset = from_generator(source, output_signature=SCALAR)
            iterator = v1.data.make_initializable_iterator(dataset)
            get_next = iterator.get_next()
            for passes in (1, 2, 3):
                session.run(iterator.initializer)
                assert drain(session, get_next) == [0, 1, 2]
                assert len(calls) == passes

    def test_initializing_in_the_middle_starts_anew(self, from_generator: Make) -> None:
        events = []

        def source() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                events.append("finally")

        with tf.Graph().as_default(), v1.Session() as session:
            dataset = from_generator(source, output_signature=SCALAR)
            iterator = v1.data.make_initializable_iterator(dataset)
            get_next = iterator.get_next()
            session.run(iterator.initializer)
            assert [session.run(get_next) for _ in range(3)] == [0, 1, 2]
            session.run(iterator.initializer)
            assert session.run(get_next) == 0
            assert events == ["finally"]

    def test_shared_name(self, from_generator: Make) -> None:
        """Two iterators of one name in one session are one iterator."""
        with tf.Graph().as_default(), v1.Session() as session:
            dataset = from_generator(lambda: range(4), output_signature=SCALAR)
            iterators = [
                v1.data.make_initializable_iterator(dataset, shared_name="shared") for _ in "ab"
            ]
            first, second = (iterator.get_next() for iterator in iterators)
            session.run(iterators[0].initializer)
            got = [session.run(which) for which in (first, second, second, first)]
            assert got == [0, 1, 2, 3]

    def test_arguments_that_are_fed(self, from_generator: Make) -> None:
        def source(low: Any, name: Any) -> Iterator[Any]:
            for n in range(low, low + 2):
                yield n, name + b"!"

        with tf.Graph().as_default(), v1.Session() as session:
            low, name = v1.placeholder(tf.int32, ()), v1.placeholder(tf.string, ())
            dataset = from_generator(
                source,
                args=(low, name),
                output_signature=(SCALAR, tf.TensorSpec((), tf.string)),
            )
            iterator = v1.data.make_initializable_iterator(dataset)
            get_next = iterator.get_next()
            session.run(iterator.initializer, {low: 5, name: "a"})
            assert drain(session, get_next) == [(5, b"a!"), (6, b"a!")]
            session.run(iterator.initializer, {low: 7, name: "é"})
            assert drain(session, get_next) == [(7, "é!".encode()), (8, "é!".encode())]

    def test_two_sessions_of_one_graph(self, from_generator: Make) -> None:
        with tf.Graph().as_default() as graph:
            dataset = from_generator(lambda: range(3), output_signature=SCALAR)
            iterator = v1.data.make_initializable_iterator(dataset)
            get_next = iterator.get_next()
            with v1.Session(graph=graph) as one, v1.Session(graph=graph) as two:
                one.run(iterator.initializer)
                two.run(iterator.initializer)
                got = [session.run(get_next) for session in (one, two, two, one)]
                assert got == [0, 0, 1, 1]

    def test_a_graph_that_outlives_the_names(
        self, from_generator: Make, collect_garbage: Callable[[], None]
    ) -> None:
        def build() -> tuple[Any, Any]:
            dataset = from_generator(lambda: range(3), output_signature=SCALAR)
            iterator = v1.data.make_initializable_iterator(dataset)
            return iterator.initializer, iterator.get_next()

        with tf.Graph().as_default(), v1.Session() as session:
            initializer, get_next = build()
            collect_garbage()
            for _ in range(2):
                session.run(initializer)
                assert drain(session, get_next) == [0, 1, 2]

    def test_closing_the_session_closes_the_source(self, from_generator: Make) -> None:
        events = []

        def source() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                events.append("finally")

        with tf.Graph().as_default(), v1.Session() as session:
            dataset = from_generator(source, output_signature=SCALAR)
            iterator = v1.data.make_initializable_iterator(dataset)
            get_next = iterator.get_next()
            session.run(iterator.initializer)
            assert session.run(get_next) == 0
        del session
        assert events == ["finally"]
