"""Two GPUs that share one source, step by step: replicas of a function, and the iterator below strategies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.data.ops.multi_device_iterator_ops import (
    MultiDeviceIterator,
    OwnedMultiDeviceIterator,
)

import fastgen

pytestmark = pytest.mark.skipif(
    len(tf.config.list_physical_devices("GPU")) < 2, reason="one GPU in this machine"
)

ROWS = 96
BATCH = 8
GPUS = ["/gpu:0", "/gpu:1"]
SIGNATURE = (tf.TensorSpec((32, 32), tf.float32), tf.TensorSpec((), tf.int64))


def rows() -> Iterator[Any]:
    for i in range(ROWS):
        yield np.full((32, 32), i, np.float32), i


def batches(**arguments: Any) -> Any:
    return fastgen.from_generator(rows, output_signature=SIGNATURE, **arguments).batch(BATCH)


def labels_of(images: Any, labels: Any) -> list[int]:
    """The rows of a batch, after a look at their values."""
    assert (images.numpy() == labels.numpy()[:, None, None]).all()
    return [int(label) for label in labels.numpy()]


@pytest.fixture(scope="module")
def strategy() -> Any:
    return tf.distribute.MirroredStrategy(GPUS)


def test_a_step_on_every_replica(strategy: Any) -> None:
    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        wrong = images - tf.cast(labels, tf.float32)[:, None, None]
        return tf.reduce_sum(tf.abs(wrong)), tf.reduce_sum(labels)

    total = 0
    for batch in strategy.experimental_distribute_dataset(batches()):
        wrong, labels = strategy.run(step, args=batch)
        assert float(strategy.reduce("SUM", wrong, axis=None)) == 0
        total += int(strategy.reduce("SUM", labels, axis=None))
    assert total == sum(range(ROWS))


@pytest.mark.parametrize("iterator_type", [MultiDeviceIterator, OwnedMultiDeviceIterator])
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_multi_device_iterator(iterator_type: Any, prefetch: int) -> None:
    iterator = iterator_type(
        batches(), GPUS, max_buffer_size=max(prefetch, 1), prefetch_buffer_size=prefetch
    )
    if iterator_type is MultiDeviceIterator:
        iterator._eager_reset()
    seen: list[int] = []
    for _ in range(ROWS // BATCH // 2):
        for index, (images, labels) in enumerate(iterator.get_next()):
            assert images.device.endswith(f"GPU:{index}")
            seen += labels_of(images, labels)
    assert seen == list(range(ROWS))
    with pytest.raises(tf.errors.OutOfRangeError):
        iterator.get_next()


def test_an_error_reaches_whoever_asks(strategy: Any) -> None:
    def source() -> Iterator[Any]:
        yield from rows()
        raise ValueError("the disk is gone")

    dataset = fastgen.from_generator(source, output_signature=SIGNATURE).batch(BATCH)
    seen = 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="the disk is gone"):
        for _images, labels in strategy.experimental_distribute_dataset(dataset):
            parts = strategy.experimental_local_results(labels)
            seen += sum(int(part.shape[0]) for part in parts)
    assert seen == ROWS
