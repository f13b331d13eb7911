"""Several devices: each row once, on the device that it was meant for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from stand_in_library import StandIn

SIGNATURE = (tf.TensorSpec((5000,), tf.float32), tf.TensorSpec((), tf.int64))


def rows() -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    for i in range(200):
        yield np.full(5000, i, np.float32), i


@pytest.fixture
def strategy() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(cross_device_ops=tf.distribute.ReductionToOneDevice())


def labels_of(strategy: tf.distribute.Strategy, batch: Any) -> list[int]:
    """The rows of a batch, which all replicas have a part of; checked on the way."""
    labels: list[int] = []
    replicas = zip(*map(strategy.experimental_local_results, batch), strict=True)
    for device, (x, y) in zip(strategy.extended.worker_devices, replicas, strict=True):
        assert (
            "CPU" in x.device
            or tf.DeviceSpec.from_string(x.device).device_index
            == tf.DeviceSpec.from_string(device).device_index
        )
        np.testing.assert_array_equal(x.numpy(), np.repeat(y.numpy()[:, None], 5000, axis=1))
        labels += y.numpy().tolist()
    return labels


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("batch_size", [8, 12])
def test_distributed_batches(
    strategy: tf.distribute.Strategy, fetch: bool, batch_size: int
) -> None:
    dataset = fastgen.from_generator(rows, output_signature=SIGNATURE).batch(batch_size)
    options = tf.distribute.InputOptions(experimental_fetch_to_device=fetch)
    seen: list[int] = []
    for batch in strategy.experimental_distribute_dataset(dataset, options):
        seen += labels_of(strategy, batch)
    assert sorted(seen) == list(range(200))


@pytest.mark.parametrize("fetch", [True, False])
def test_datasets_from_a_function(strategy: tf.distribute.Strategy, fetch: bool) -> None:
    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = fastgen.from_generator(rows, output_signature=SIGNATURE)
        return dataset.batch(context.get_per_replica_batch_size(20))

    options = tf.distribute.InputOptions(experimental_fetch_to_device=fetch)
    seen: list[int] = []
    for batch in strategy.distribute_datasets_from_function(make, options):
        seen += labels_of(strategy, batch)
    assert sorted(seen) == list(range(200))


@pytest.mark.stand_in
def test_both_devices_read_pinned_memory(
    strategy: tf.distribute.Strategy, stand_in: StandIn
) -> None:
    dataset = fastgen.from_generator(rows, output_signature=SIGNATURE).batch(20)
    before = stand_in.pinned_bytes
    seen: list[int] = []
    for batch in strategy.experimental_distribute_dataset(dataset):
        seen += labels_of(strategy, batch)
    assert sorted(seen) == list(range(200))
    assert stand_in.pinned_bytes - before >= 200 * 5000 * 4
