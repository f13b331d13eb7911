"""From a dataset to a device: prefetch_to_device, on the CPU, logical CPUs and strategies.

With a GPU, or what stands for one, it is tested in tests/gpu.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from interpreters import run_program

Pipeline = Callable[[Any], tf.data.Dataset]

PAIR = {"x": tf.TensorSpec((None,), tf.float32), "y": tf.TensorSpec((), tf.int32)}
TEXT = tf.TensorSpec((), tf.string)
NUMBER = tf.TensorSpec((), tf.int64)


def pairs() -> Iterator[dict[str, Any]]:
    for i in range(7):
        yield {"x": np.arange(3, dtype=np.float32) + i, "y": i}


PIPELINES: dict[str, Pipeline] = {
    "elements": lambda make: make(pairs, output_signature=PAIR),
    "batches": lambda make: make(pairs, output_signature=PAIR).batch(3),
    "repeated": lambda make: make(pairs, output_signature=PAIR).repeat(2),
    "repeated batches": lambda make: make(pairs, output_signature=PAIR).repeat(2).batch(4),
    "batches, repeated": lambda make: make(pairs, output_signature=PAIR).batch(3).repeat(2),
}


def listed(dataset: tf.data.Dataset) -> list[dict[str, Any]]:
    return [{key: value.numpy().tolist() for key, value in e.items()} for e in dataset]


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
@pytest.mark.parametrize("buffer_size", [None, 1, 2])
def test_the_method_and_tf_datas_way_give_stocks_elements(
    pipeline: Pipeline, buffer_size: int | None
) -> None:
    expected = listed(pipeline(tf.data.Dataset.from_generator))
    ours: Any = pipeline(fastgen.from_generator)
    by_method = ours.prefetch_to_device("/cpu:0", buffer_size=buffer_size)
    to_device = tf.data.experimental.prefetch_to_device("/cpu:0", buffer_size)
    assert by_method.element_spec == ours.element_spec
    assert listed(by_method) == expected
    assert listed(ours.apply(to_device)) == expected


def test_on_demand_and_what_is_not_fused_have_the_method_too() -> None:
    one_at_a_time: Any = fastgen.from_generator(pairs, output_signature=PAIR, buffer_size=0)
    assert len(listed(one_at_a_time.prefetch_to_device("/cpu:0"))) == 7
    assert len(listed(one_at_a_time.batch(2).prefetch_to_device("/cpu:0"))) == 4
    ragged = tf.ragged.constant([[1], [2, 3]])
    composite: Any = fastgen.from_generator(
        lambda: [ragged] * 3, output_signature=tf.RaggedTensorSpec.from_value(ragged)
    )
    assert len(list(composite.batch(2).prefetch_to_device("/cpu:0"))) == 2


def test_an_error_keeps_its_place() -> None:
    def source() -> Iterator[Any]:
        yield 1
        yield "two"
        yield 3

    dataset: Any = fastgen.from_generator(source, output_signature=NUMBER)
    iterator = iter(dataset.prefetch_to_device("/cpu:0", 1))
    assert int(next(iterator)) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="Element 1"):
        next(iterator)
    assert int(next(iterator)) == 3


def test_strings_may_go_to_a_cpu() -> None:
    dataset: Any = fastgen.from_generator(lambda: ["a", "b"], output_signature=TEXT)
    assert [t.numpy() for t in dataset.prefetch_to_device("/cpu:0")] == [b"a", b"b"]


@pytest.mark.parametrize("wrong", [0, None, ["/gpu:0"]])
def test_a_device_is_a_name(wrong: Any) -> None:
    dataset: Any = fastgen.from_generator(pairs, output_signature=PAIR)
    with pytest.raises(TypeError, match="`device` must be a device's name, such as '/gpu:0', got"):
        dataset.prefetch_to_device(wrong)


@pytest.mark.parametrize("unknown", ["/cpu:17", "/tpu:0", ""])
def test_a_device_that_is_not_there_is_refused_at_once(unknown: str) -> None:
    dataset: Any = fastgen.from_generator(pairs, output_signature=PAIR)
    with pytest.raises(ValueError, match=r"There is no device .* TensorFlow has: .*CPU:0"):
        dataset.prefetch_to_device(unknown)


def test_a_negative_buffer_is_refused() -> None:
    dataset: Any = fastgen.from_generator(pairs, output_signature=PAIR)
    with pytest.raises(ValueError, match="`buffer_size` must be None, AUTOTUNE or a number"):
        dataset.prefetch_to_device("/cpu:0", -2)


def test_a_name_that_is_none_is_refused() -> None:
    dataset: Any = fastgen.from_generator(pairs, output_signature=PAIR)
    with pytest.raises(ValueError, match="is no device's name"):
        dataset.prefetch_to_device("the gpu")


TWO_CPUS = """
import numpy as np

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

def rows():
    for i in range(64):
        yield np.full((1000,), i, np.float32), i

SIGNATURE = (tf.TensorSpec((1000,), tf.float32), tf.TensorSpec((), tf.int64))
dataset = fastgen.from_generator(rows, output_signature=SIGNATURE)
"""


def test_another_logical_device(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        TWO_CPUS
        + """
for ds in (dataset, dataset.batch(8), dataset.repeat(3).batch(8)):
    seen = []
    for x, y in ds.prefetch_to_device("/cpu:1", 2):
        assert x.device.endswith("CPU:1") and y.device.endswith("CPU:1"), (x.device, y.device)
        seen += np.ravel(y).tolist()
        assert np.array_equal(np.ravel(x)[::1000], np.ravel(y)), (x, y)
    assert seen == [i % 64 for i in range(len(seen))] and len(seen) in (64, 192), seen
print("right")
""",
    )
    assert (outcome.code, outcome.stdout) == (0, "right\n"), outcome.stderr


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("jit", [True, False])
def test_mirrored_strategy_gets_each_row_once(tmp_path: Path, fetch: bool, jit: bool) -> None:
    outcome = run_program(
        tmp_path,
        TWO_CPUS
        + f"""
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
options = tf.distribute.InputOptions(experimental_fetch_to_device={fetch})
distributed = strategy.experimental_distribute_dataset(dataset.batch(8), options)

@tf.function(jit_compile={jit})
def compute(x, y):
    return tf.reduce_sum(tf.abs(x - tf.cast(y, tf.float32)[:, None])), y

@tf.function
def step(batch):
    return strategy.run(compute, args=batch)

seen = []
for batch in distributed:
    wrong, labels = step(batch)
    assert sum(float(w) for w in strategy.experimental_local_results(wrong)) == 0
    for replica in strategy.experimental_local_results(labels):
        seen += replica.numpy().tolist()
assert sorted(seen) == list(range(64)), seen
print("right")
""",
    )
    assert (outcome.code, outcome.stdout) == (0, "right\n"), outcome.stderr


def test_an_xla_compiled_step() -> None:
    dataset: Any = fastgen.from_generator(pairs, output_signature=PAIR)

    @tf.function(jit_compile=True)
    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.reduce_sum(batch["x"]) + tf.cast(tf.reduce_sum(batch["y"]), tf.float32)

    batches = dataset.batch(3, drop_remainder=True).prefetch_to_device("/cpu:0", 2)
    totals = [float(step(batch)) for batch in batches]
    assert totals == [sum(3.0 + 3 * i + i for i in r) for r in (range(3), range(3, 6))]
