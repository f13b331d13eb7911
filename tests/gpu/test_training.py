"""Training loops over a dataset on a GPU: in graphs, compiled, and Keras's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fastgen

ToGpu = Callable[[Any], Any]

ROWS = 64
SIGNATURE = (tf.TensorSpec((16,), tf.float32), tf.TensorSpec((), tf.float32))


def rows() -> Iterator[Any]:
    for i in range(ROWS):
        yield np.full((16,), i, np.float32), 2.0 * i


def by_method(dataset: Any) -> Any:
    return dataset.prefetch_to_device("/gpu:0")


def by_apply(dataset: Any) -> Any:
    return dataset.apply(tf.data.experimental.prefetch_to_device("/gpu:0"))


@pytest.fixture(params=[by_method, by_apply])
def to_gpu(request: pytest.FixtureRequest) -> ToGpu:
    ways: ToGpu = request.param
    return ways


def batches(passes: int = 1) -> Any:
    dataset = fastgen.from_generator(rows, output_signature=SIGNATURE).repeat(passes)
    return dataset.batch(8, drop_remainder=True)


def total(features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(features) + tf.reduce_sum(labels)


TOTAL = sum(16 * i + 2 * i for i in range(ROWS))


def test_a_step_for_each_batch(to_gpu: ToGpu) -> None:
    step = tf.function(total)
    assert sum(float(step(*batch)) for batch in to_gpu(batches())) == TOTAL


def test_a_loop_inside_of_a_function(to_gpu: ToGpu) -> None:
    dataset = to_gpu(batches())

    @tf.function
    def epoch() -> tf.Tensor:
        result = tf.constant(0.0)
        for features, labels in dataset:
            result += total(features, labels)
        return result

    assert [float(epoch()) for _ in range(2)] == [TOTAL] * 2


def test_an_iterator_that_a_function_reads(to_gpu: ToGpu) -> None:
    @tf.function
    def steps(iterator: Any) -> tf.Tensor:
        result = tf.constant(0.0)
        for _ in tf.range(4):
            features, labels = next(iterator)
            result += total(features, labels)
        return result

    iterator = iter(to_gpu(batches()))
    assert float(steps(iterator)) + float(steps(iterator)) == TOTAL


def test_a_compiled_step_on_the_cpu() -> None:
    step = tf.function(total, jit_compile=True)
    dataset = batches().prefetch_to_device("/cpu:0")
    with tf.device("/cpu:0"):
        assert sum(float(step(*batch)) for batch in dataset) == TOTAL


@pytest.mark.gpu
def test_a_compiled_step_on_the_gpu(to_gpu: ToGpu) -> None:
    step = tf.function(total, jit_compile=True)
    assert sum(float(step(*batch)) for batch in to_gpu(batches())) == TOTAL


def losses_of_training(dataset: tf.data.Dataset, **options: Any) -> list[float]:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", **options)
    history = model.fit(dataset, epochs=3, steps_per_epoch=ROWS // 8, shuffle=False, verbose=0)
    losses: list[float] = history.history["loss"]
    return losses


def test_keras_trains_on_it(to_gpu: ToGpu) -> None:
    losses = losses_of_training(to_gpu(batches(passes=3)), jit_compile=False)
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]


@pytest.mark.gpu
def test_keras_trains_on_it_compiled(to_gpu: ToGpu) -> None:
    losses = losses_of_training(to_gpu(batches(passes=3)), jit_compile=True)
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]
