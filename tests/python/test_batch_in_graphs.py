"""Fused batches in graphs, where arguments are symbolic, and in programs of other kinds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

import fastgen
from differential import IMPLEMENTATIONS, failures, observe

INT = tf.TensorSpec((), tf.int64)
PAIR = (INT, tf.TensorSpec((), tf.string))
v1 = tf.compat.v1


def pairs(length: int = 10) -> Callable[[], Iterator[Any]]:
    def source() -> Iterator[Any]:
        for n in range(length):
            yield n, f"é{n}"

    return source


def words(make: Callable[..., tf.data.Dataset]) -> Callable[..., Any]:
    """A function of symbolic arguments that puts all batches into one string."""

    @tf.function
    def function(count: tf.Tensor, size: tf.Tensor, drop_remainder: tf.Tensor) -> tf.Tensor:
        text = tf.constant("")
        dataset = make(pairs(5), output_signature=PAIR).repeat(count)
        for numbers, strings in dataset.batch(size, drop_remainder=drop_remainder):
            joined = tf.strings.reduce_join(tf.strings.as_string(numbers) + strings)
            text += tf.strings.join(["|", joined])
        return text

    return function


class TestInGraphs:
    def test_symbolic_arguments(self) -> None:
        theirs, ours = (words(make) for make in IMPLEMENTATIONS.values())
        for count, size in itertools.product([0, 1, 3], [1, 4, 5, 100]):
            for drop_remainder in (True, False):
                arguments = tf.constant([count, size], tf.int64)
                symbolic = (*tf.unstack(arguments), tf.constant(drop_remainder))
                assert ours(*symbolic) == theirs(*symbolic)

    def test_a_batch_size_of_0_is_an_error_when_it_is_run(self) -> None:
        texts = []
        for make in IMPLEMENTATIONS.values():
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                words(make)(tf.constant(1, tf.int64), tf.constant(0, tf.int64), tf.constant(False))
            texts.append(caught.value.message)
        for text in texts:
            assert "Batch size must be greater than zero." in text

    def test_a_dataset_from_outside(self, from_generator: Any) -> None:
        dataset = from_generator(pairs(), output_signature=PAIR).repeat(2).batch(3)

        @tf.function
        def total() -> tf.Tensor:
            return dataset.reduce(tf.constant(0, tf.int64), lambda a, b: a + tf.reduce_sum(b[0]))

        assert [int(total()) for _ in range(3)] == [90] * 3

    @pytest.mark.parametrize("iterator", ["make_one_shot_iterator", "make_initializable_iterator"])
    @pytest.mark.parametrize("elements", [list(range(7)), [0, 1, "x", 3, 4, [5], 6, 7, 8]])
    @pytest.mark.parametrize("drop_remainder", [False, True])
    def test_sessions(self, iterator: str, elements: list[Any], drop_remainder: bool) -> None:
        def steps(make: Callable[..., tf.data.Dataset]) -> list[Any]:
            found: list[Any] = []
            with tf.Graph().as_default(), v1.Session() as session:
                dataset = make(lambda: elements, output_signature=INT).repeat(2)
                it = getattr(v1.data, iterator)(dataset.batch(2, drop_remainder))
                get_next = it.get_next()
                if iterator == "make_initializable_iterator":
                    session.run(it.initializer)
                while True:
                    try:
                        found.append(session.run(get_next).tolist())
                    except tf.errors.OutOfRangeError:
                        return found
                    except tf.errors.InvalidArgumentError as error:
                        found.append("TypeError: `generator` yielded" in error.message)

        theirs, ours = (steps(make) for make in IMPLEMENTATIONS.values())
        assert ours == theirs
        assert len(ours) >= 6

    def test_a_placeholder_for_the_batch_size(self, from_generator: Any) -> None:
        with tf.Graph().as_default(), v1.Session() as session:
            size = v1.placeholder(tf.int64, ())
            dataset = from_generator(pairs(), output_signature=PAIR).repeat(size).batch(size)
            it = v1.data.make_initializable_iterator(dataset)
            numbers, _ = it.get_next()
            for fed in (2, 3):
                session.run(it.initializer, {size: fed})
                assert session.run(numbers).tolist() == list(range(fed))


@pytest.mark.parametrize("api", ["tf.data", "tf.compat.v1.data"])
def test_installed(api: str) -> None:
    dataset_class = {"tf.data": tf.data.Dataset, "tf.compat.v1.data": v1.data.Dataset}[api]

    def batches() -> tf.data.Dataset:
        return dataset_class.from_generator(pairs(), output_signature=PAIR).repeat(2).batch(3, True)

    with fastgen.installed():
        ours = batches()
    theirs = batches()
    assert type(theirs).__module__.startswith("tensorflow")
    assert isinstance(ours, dataset_class)
    assert ours.element_spec == theirs.element_spec
    assert observe(ours) == observe(theirs)
    assert not failures(observe(ours))


class TestInProcessesOfTheirOwn:
    def test_a_strategy_divides_batches_as_ever(self, run_script: Callable[..., str]) -> None:
        """Between two devices; the last ones are uneven."""
        printed = run_script(
            """
            import tensorflow as tf
            import fastgen

            cpu = tf.config.list_physical_devices("CPU")[0]
            two = [tf.config.LogicalDeviceConfiguration()] * 2
            tf.config.set_logical_device_configuration(cpu, two)
            strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

            def parts(make, size, drop_remainder):
                data = make(lambda: range(11), output_signature=tf.TensorSpec((), tf.int64))
                data = data.repeat(2).batch(size, drop_remainder=drop_remainder)
                for each in strategy.experimental_distribute_dataset(data):
                    for part in strategy.experimental_local_results(each):
                        yield part.numpy().tolist()

            for arguments in ((4, False), (4, True), (5, False), (7, False)):
                print("theirs", list(parts(tf.data.Dataset.from_generator, *arguments)))
                print("ours", list(parts(fastgen.from_generator, *arguments)))
            """
        )
        lines = [line for line in printed.splitlines() if line.startswith(("theirs", "ours"))]
        theirs, ours = (
            [line.removeprefix(who) for line in lines if line.startswith(who)]
            for who in ("theirs", "ours")
        )
        assert len(theirs) == 4
        assert "[0, 1], [2, 3]" in theirs[0]
        assert ours == theirs

    def test_debug_mode_leaves_batches_to_tensorflow(self, run_script: Callable[..., str]) -> None:
        printed = run_script(
            """
            import tensorflow as tf
            import fastgen
            tf.data.experimental.enable_debug_mode()
            spec = tf.TensorSpec((), tf.int64)
            data = fastgen.from_generator(lambda: range(4), output_signature=spec)
            for batches in (data.batch(3), data.repeat(2).batch(3, num_parallel_calls=2)):
                print(type(batches).__name__, [batch.numpy().tolist() for batch in batches])
            """
        )
        assert "_BatchedDataset" not in printed
        assert "[[0, 1, 2], [3]]" in printed
        assert "[[0, 1, 2], [3, 0, 1], [2, 3]]" in printed
