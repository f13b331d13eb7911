"""What arrives on the device is what the generator yielded, as with TensorFlow's own from_generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen

DTYPES = (
    *(tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.bool),
    *(tf.uint8, tf.int8, tf.int32, tf.int64, tf.complex64),
)
SIGNATURE = {
    "scalar": tf.TensorSpec((), tf.int64),
    "empty": tf.TensorSpec((0,), tf.float32),
    **{dtype.name: tf.TensorSpec((20, 30), dtype) for dtype in DTYPES},
    "nested": (tf.TensorSpec((7,), tf.float32), tf.TensorSpec((100, 100), tf.float32)),
}
NUMBER = tf.TensorSpec((), tf.int64)

Pipeline = Callable[[tf.data.Dataset], tf.data.Dataset]

PIPELINES: dict[str, Pipeline] = {
    "elements": lambda dataset: dataset,
    "batches": lambda dataset: dataset.batch(4),
    "full batches": lambda dataset: dataset.batch(4, drop_remainder=True),
    "repeated": lambda dataset: dataset.repeat(2),
    "repeated batches": lambda dataset: dataset.repeat(2).batch(3),
    "batches of TensorFlow's": lambda dataset: dataset.map(lambda element: element).batch(4),
    "shuffled": lambda dataset: dataset.shuffle(5, seed=1).batch(4),
}


def elements() -> Iterator[dict[str, Any]]:
    for i in range(10):
        arrays = {
            d.name: (np.arange(600).reshape(20, 30) + i).astype(d.as_numpy_dtype) for d in DTYPES
        }
        yield {
            "scalar": i,
            "empty": [],
            **arrays,
            "nested": (np.full(7, i, np.float32), np.full((100, 100), i, np.float32)),
        }


def by_method(dataset: Any) -> tf.data.Dataset:
    if not hasattr(dataset, "prefetch_to_device"):
        return by_apply(dataset)
    return dataset.prefetch_to_device("/gpu:0", buffer_size=2)


def by_apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
    return dataset.apply(tf.data.experimental.prefetch_to_device("/gpu:0", 2))


WAYS = pytest.mark.parametrize("to_gpu", [by_method, by_apply])


def assert_same(actual: Any, expected: Any) -> None:
    tf.nest.assert_same_structure(actual, expected)
    for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert "GPU" in a.device
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@WAYS
@pytest.mark.parametrize("pinned", [None, False])
@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_the_same_as_stock(pipeline: Pipeline, pinned: bool | None, to_gpu: Pipeline) -> None:
    stock = pipeline(tf.data.Dataset.from_generator(elements, output_signature=SIGNATURE))
    ours = pipeline(fastgen.from_generator(elements, output_signature=SIGNATURE, pinned=pinned))
    arrived = list(to_gpu(ours))
    expected = list(stock)
    assert len(arrived) == len(expected) > 0
    for actual, wanted in zip(arrived, expected, strict=True):
        assert_same(actual, wanted)


@WAYS
def test_nothing(to_gpu: Pipeline) -> None:
    dataset = fastgen.from_generator(lambda: iter(()), output_signature=SIGNATURE)
    assert list(to_gpu(dataset.batch(2))) == []


@WAYS
def test_many_passes(to_gpu: Pipeline) -> None:
    dataset = to_gpu(fastgen.from_generator(lambda: range(50), output_signature=NUMBER).batch(8))
    for _ in range(5):
        assert [int(n) for batch in dataset for n in batch.numpy()] == list(range(50))


@WAYS
def test_an_iterator_that_is_left(to_gpu: Pipeline) -> None:
    closed = []

    def source() -> Iterator[np.ndarray[Any, Any]]:
        try:
            while True:
                yield np.ones((100, 100), np.float32)
        finally:
            closed.append(True)

    spec = tf.TensorSpec((100, 100), tf.float32)
    for _ in range(3):
        iterator = iter(to_gpu(fastgen.from_generator(source, output_signature=spec).batch(4)))
        assert next(iterator).shape == (4, 100, 100)
        del iterator
    assert len(closed) == 3


@WAYS
def test_an_element_that_does_not_fit_fails_alone(to_gpu: Pipeline) -> None:
    def source() -> Iterator[Any]:
        yield from (1, "two", 3)

    iterator = iter(to_gpu(fastgen.from_generator(source, output_signature=NUMBER)))
    assert int(next(iterator)) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="Element 1"):
        next(iterator)
    assert int(next(iterator)) == 3
    with pytest.raises(StopIteration):
        next(iterator)


@WAYS
def test_an_exception_of_the_source(to_gpu: Pipeline) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("lost")

    iterator = iter(to_gpu(fastgen.from_generator(source, output_signature=NUMBER)))
    assert int(next(iterator)) == 1
    with pytest.raises(tf.errors.UnknownError, match="KeyError: 'lost'") as raised:
        next(iterator)
    assert isinstance(fastgen.original_exception(raised.value), KeyError)


def test_a_loop_in_a_graph() -> None:
    numbers = fastgen.from_generator(lambda: range(100), output_signature=NUMBER).batch(7)
    dataset = by_method(numbers)

    @tf.function
    def total() -> tf.Tensor:
        so_far = tf.constant(0, tf.int64)
        for batch in dataset:
            with tf.device("/cpu:0"):
                so_far += tf.reduce_sum(batch)
        return so_far

    assert int(total()) == int(total()) == sum(range(100))


@pytest.mark.gpu
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_compiled_step(jit_compile: bool) -> None:
    spec = tf.TensorSpec((100,), tf.float32)
    rows = fastgen.from_generator(
        lambda: (np.full(100, i, np.float32) for i in range(64)), output_signature=spec
    )

    @tf.function(jit_compile=jit_compile)
    def step(batch: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(batch, axis=1)

    sums = [float(s) for b in by_method(rows.batch(8)) for s in step(b).numpy()]
    assert sums == [100.0 * i for i in range(64)]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (tf.TensorSpec((), tf.string), "text"),
        (tf.RaggedTensorSpec((None, None), tf.int32), None),
        (tf.SparseTensorSpec((2, 2), tf.int32), None),
    ],
)
def test_what_no_gpu_holds_is_refused_by_name(spec: tf.TypeSpec, value: Any) -> None:
    signature = {"x": tf.TensorSpec((), tf.float32), "y": (spec,)}
    dataset: Any = fastgen.from_generator(lambda: [], output_signature=signature)
    with pytest.raises(ValueError, match=r"Component \['y'\]\[0\] cannot be copied to /gpu:0"):
        dataset.prefetch_to_device("/gpu:0")
