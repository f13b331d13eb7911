"""Where a dataset can be iterated over: tf.function, Keras, strategies, a service, debug mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from differential import IMPLEMENTATIONS

INT = tf.TensorSpec((), tf.int64)


def count(n: Any = 5) -> Iterator[int]:
    yield from range(int(n))


class TestInTfFunction:
    def test_loop_over_a_captured_dataset(self, from_generator: Any) -> None:
        dataset = from_generator(count, output_signature=INT)

        @tf.function
        def total() -> tf.Tensor:
            so_far = tf.constant(0, tf.int64)
            for value in dataset:
                so_far += value
            return so_far

        assert [int(total()) for _ in range(3)] == [10, 10, 10]

    def test_loop_over_an_argument(self, from_generator: Any) -> None:
        @tf.function
        def total(dataset: tf.data.Dataset) -> tf.Tensor:
            so_far = tf.constant(0, tf.int64)
            for value in dataset:
                so_far += value
            return so_far

        dataset = from_generator(count, output_signature=INT)
        assert int(total(dataset)) == int(total(dataset.map(lambda x: x))) == 10

    def test_loop_that_is_left(self, from_generator: Any) -> None:
        dataset = from_generator(lambda: count(1000), output_signature=INT)

        @tf.function
        def first_above(limit: tf.Tensor) -> tf.Tensor:
            found = tf.constant(-1, tf.int64)
            for value in dataset:
                if value > limit:
                    found = value
                    break
            return found

        assert int(first_above(tf.constant(7, tf.int64))) == 8

    def test_made_inside(self, from_generator: Any) -> None:
        @tf.function
        def total() -> tf.Tensor:
            so_far = tf.constant(0, tf.int64)
            for value in from_generator(count, output_signature=INT).batch(2):
                so_far += tf.reduce_sum(value)
            return so_far

        assert [int(total()) for _ in range(2)] == [10, 10]

    def test_an_iterator_as_an_argument(self, from_generator: Any) -> None:
        @tf.function
        def step(iterator: Any) -> tf.Tensor:
            return next(iterator) + 100

        iterator = iter(from_generator(count, output_signature=INT))
        assert [int(step(iterator)) for _ in range(5)] == [100, 101, 102, 103, 104]
        with pytest.raises((StopIteration, tf.errors.OutOfRangeError)):
            step(iterator)

    def test_get_next_as_optional(self, from_generator: Any) -> None:
        iterator = iter(from_generator(lambda: count(2), output_signature=INT))
        steps = [iterator.get_next_as_optional() for _ in range(3)]
        assert [bool(step.has_value()) for step in steps] == [True, True, False]

    def test_errors_reach_the_caller(self, from_generator: Any) -> None:
        def source() -> Iterator[int]:
            yield 1
            raise ValueError("naïve")

        dataset = from_generator(source, output_signature=INT)

        @tf.function
        def total() -> tf.Tensor:
            so_far = tf.constant(0, tf.int64)
            for value in dataset:
                so_far += value
            return so_far

        with pytest.raises(tf.errors.InvalidArgumentError, match="ValueError: naïve"):
            total()

    def test_composite_components(self, from_generator: Any) -> None:
        spec = tf.RaggedTensorSpec((None, None), tf.int32)

        def source() -> Iterator[Any]:
            for length in range(4):
                yield tf.ragged.constant([[1] * length, []], dtype=tf.int32)

        dataset = from_generator(source, output_signature=spec)

        @tf.function
        def total() -> tf.Tensor:
            so_far = 0
            for value in dataset:
                so_far += tf.reduce_sum(value)
            return so_far

        assert int(total()) == 6


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestKeras:
    @pytest.fixture
    def model(self) -> Any:
        import keras

        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    @pytest.fixture
    def pairs(self) -> Callable[[], Iterator[Any]]:
        def source() -> Iterator[Any]:
            random = np.random.default_rng(0)
            for _ in range(24):
                x = random.random(2, np.float32)
                yield x, x.sum(keepdims=True)

        return source

    SIGNATURE = (tf.TensorSpec((2,), tf.float32), tf.TensorSpec((1,), tf.float32))

    def test_fit(self, from_generator: Any, model: Any, pairs: Any) -> None:
        dataset = from_generator(pairs, output_signature=self.SIGNATURE).batch(4)
        history = model.fit(dataset, epochs=2, verbose=0, validation_data=dataset)
        assert len(history.history["loss"]) == 2
        assert history.history["val_loss"][1] < history.history["val_loss"][0] * 1.5

    def test_fit_with_steps_per_epoch(self, from_generator: Any, model: Any, pairs: Any) -> None:
        dataset = from_generator(pairs, output_signature=self.SIGNATURE).repeat().batch(4)
        history = model.fit(dataset, epochs=2, steps_per_epoch=3, verbose=0)
        assert len(history.history["loss"]) == 2

    def test_evaluate_and_predict(self, from_generator: Any, model: Any, pairs: Any) -> None:
        dataset = from_generator(pairs, output_signature=self.SIGNATURE).batch(5)
        assert np.isfinite(model.evaluate(dataset, verbose=0))
        assert model.predict(dataset, verbose=0).shape == (24, 1)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a tf.data service in this process listens."""
    dispatcher = tf.data.experimental.service.DispatchServer()
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(
            dispatcher_address=dispatcher.target.split("://")[1], heartbeat_interval_ms=100
        )
    )
    yield dispatcher.target
    worker._stop()
    dispatcher._stop()


class TestDataService:
    """One in the same process; others are a matter of their own."""

    @pytest.mark.parametrize("mode", ["parallel_epochs", "distributed_epoch"])
    def test_distribute(self, from_generator: Any, address: str, mode: str) -> None:
        dataset = from_generator(lambda: count(50), output_signature=INT).map(lambda x: x * 2)
        dataset = dataset.apply(tf.data.experimental.service.distribute(mode, address))
        assert sorted(int(value) for value in dataset) == list(range(0, 100, 2))

    def test_distribute_structures_in_batches(self, from_generator: Any, address: str) -> None:
        def source() -> Iterator[Any]:
            for n in range(10):
                yield {"n": n, "text": f"é{n}"}

        dataset = from_generator(
            source, output_signature={"n": INT, "text": tf.TensorSpec((), tf.string)}
        ).batch(5)
        dataset = dataset.apply(tf.data.experimental.service.distribute("parallel_epochs", address))
        first, second = dataset
        assert first["n"].numpy().tolist() == [0, 1, 2, 3, 4]
        assert second["text"].numpy()[-1].decode() == "é9"


# Each runs in an interpreter of its own, because it settles what the whole process is like.
PREAMBLE = """
import sys
import tensorflow as tf
import fastgen

make = {"tensorflow": tf.data.Dataset.from_generator, "fastgen": fastgen.from_generator}[
    "%s"
]
"""


class TestInProcessesOfTheirOwn:
    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_mirrored_strategy(self, implementation: str, run_script: Callable[..., str]) -> None:
        printed = run_script(
            PREAMBLE % implementation
            + """
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def numbers():
    for n in range(8):
        yield [n]

def dataset():
    return make(numbers, output_signature=tf.TensorSpec((1,), tf.int64))

@tf.function
def add(values):
    each = strategy.run(lambda x: tf.reduce_sum(x), args=(values,))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)

distributed = strategy.experimental_distribute_dataset(dataset().batch(4))
print("distribute", [int(add(values)) for values in distributed])

per_input = strategy.distribute_datasets_from_function(lambda context: dataset().batch(2))
print("from function", [int(add(values)) for values in per_input])
"""
        )
        assert "distribute [6, 22]" in printed
        assert "from function [6, 22]" in printed

    def test_debug_mode(self, run_script: Callable[..., str]) -> None:
        """Broken in TensorFlow, where the first element is a KeyError; fastgen's works."""
        printed = run_script(
            PREAMBLE % "fastgen"
            + """
tf.data.experimental.enable_debug_mode()

def numbers(n):
    yield from range(n)

spec = tf.TensorSpec((), tf.int64)
dataset = make(numbers, args=(4,), output_signature=spec).map(lambda x: x + 1).batch(3)
print("values", [batch.numpy().tolist() for batch in dataset])

pairs = make(lambda: [(1, "a"), (2, "b")],
             output_signature=(spec, tf.TensorSpec((), tf.string)))
print("pairs", [(int(n), text.numpy()) for n, text in pairs])

bare = make(lambda: [1, "x", 2], output_types=tf.int64)
print("bare", [int(value) for value in bare.ignore_errors()])
"""
        )
        assert "values [[1, 2, 3], [4]]" in printed
        assert "pairs [(1, b'a'), (2, b'b')]" in printed
        assert "bare [1, 2]" in printed

    @pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
    def test_functions_run_eagerly(
        self, implementation: str, run_script: Callable[..., str]
    ) -> None:
        printed = run_script(
            PREAMBLE % implementation
            + """
tf.config.run_functions_eagerly(True)
dataset = make(lambda: range(5), output_signature=tf.TensorSpec((), tf.int64))
dataset = dataset.map(lambda x: x * 2).batch(2)
print("values", [batch.numpy().tolist() for batch in dataset])
"""
        )
        assert "values [[0, 2], [4, 6], [8]]" in printed
