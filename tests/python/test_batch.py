"""`batch` behind a source: the same batches as TensorFlow's, though the producer collates them."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from batching import assert_same_batches, fused, is_fused
from differential import (
    IMPLEMENTATIONS,
    assert_same,
    observe,
    shape_of,
    yielding,
)

INT = tf.TensorSpec((), tf.int64)
STRING = tf.TensorSpec((), tf.string)
MIXED = (INT, tf.TensorSpec((None,), tf.float32), STRING)


def mixed(length: int) -> Callable[[], Iterator[Any]]:
    """A source of numbers, arrays and strings."""

    def source() -> Iterator[Any]:
        for n in range(length):
            yield n, [n, n / 2], f"é{n}"

    return source


def both(attempt: Callable[[Callable[..., tf.data.Dataset]], Any]) -> tuple[Any, Any]:
    """What an attempt comes to with each implementation: a result, or an error's type and text."""

    def outcome(make: Callable[..., tf.data.Dataset]) -> Any:
        try:
            return attempt(make)
        except Exception as error:
            # The class whose method it is has another name.
            return type(error), re.sub(r"\w+\.batch\(\)", "batch()", str(error))

    stock, ours = (outcome(make) for make in IMPLEMENTATIONS.values())
    return stock, ours


ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "by position": ((3, True), {}),
    "all by position": ((3, True, 2, True, "named"), {}),
    "by name": ((), {"drop_remainder": True, "batch_size": 3}),
    "tensors": ((tf.constant(3, tf.int64), tf.constant(True)), {}),
    "tensors, remainder kept": ((tf.constant(3, tf.int64), tf.constant(False)), {}),
    "NumPy's": ((np.int32(3), np.True_), {}),
    "arrays": ((np.array(3), np.array(False)), {}),
    "True is 1": ((True,), {}),
    "parallel": ((3,), {"num_parallel_calls": 2}),
    "parallel, in order": ((3,), {"num_parallel_calls": 1, "deterministic": True}),
    "parallel, autotuned": ((3,), {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": None}),
    "parallel, dropped": ((3, True), {"num_parallel_calls": 2}),
    "a name": ((3,), {"name": "named"}),
}
WRONG_ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "zero": ((0,), {}),
    "less than zero": ((-1,), {}),
    "zero, parallel": ((0,), {"num_parallel_calls": 2}),
    "too large": ((2**64,), {}),
    "a float": ((1.5,), {}),
    "text": (("3",), {}),
    "none": ((None,), {}),
    "a list": (([2, 3],), {}),
    "an int32 tensor": ((tf.constant(3),), {}),
    "a vector": ((tf.constant([2, 3], tf.int64),), {}),
    "drop_remainder is text": ((3, "yes"), {}),
    "drop_remainder is a number": ((3, 1), {}),
    "drop_remainder is none": ((3, None), {}),
    "drop_remainder is a vector": ((3, [True, False]), {}),
    "parallel calls are text": ((3,), {"num_parallel_calls": "2"}),
    "an unknown argument": ((3,), {"bogus": 1}),
    "too many arguments": ((3, False, None, None, None, 1), {}),
    "no arguments": ((), {}),
    "twice": ((3,), {"batch_size": 3}),
}


class TestArguments:
    @pytest.mark.parametrize("name", ARGUMENTS)
    @pytest.mark.parametrize("passes", [1, 2])
    def test_mean_what_they_mean(self, name: str, passes: int) -> None:
        args, kwargs = ARGUMENTS[name]
        assert_same_batches(
            lambda: mixed(7),
            lambda ds, batch: batch(ds if passes == 1 else ds.repeat(passes), *args, **kwargs),
            output_signature=MIXED,
        )

    def test_batches_may_come_in_any_order_if_the_user_says_so(self, from_generator: Any) -> None:
        dataset = from_generator(lambda: range(10), output_signature=INT)
        dataset = dataset.batch(2, num_parallel_calls=2, deterministic=False)
        rows = sorted(batch.numpy().tolist() for batch in dataset)
        assert rows == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]

    @pytest.mark.parametrize("deterministic", [True, False, None])
    @pytest.mark.parametrize("num_parallel_calls", [None, 2])
    def test_warnings(self, deterministic: bool | None, num_parallel_calls: int | None) -> None:
        def texts(make: Callable[..., tf.data.Dataset]) -> list[Any]:
            dataset = make(list, output_signature=INT)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                dataset.batch(2, deterministic=deterministic, num_parallel_calls=num_parallel_calls)
            return [(warning.category, str(warning.message)) for warning in caught]

        stock, ours = both(texts)
        assert ours == stock
        assert len(stock) == (deterministic is not None and num_parallel_calls is None)

    @pytest.mark.parametrize("name", WRONG_ARGUMENTS)
    @pytest.mark.parametrize("passes", [None, 2])
    def test_errors(self, name: str, passes: int | None) -> None:
        args, kwargs = WRONG_ARGUMENTS[name]

        def attempt(make: Callable[..., tf.data.Dataset]) -> Any:
            dataset = make(mixed(2), output_signature=MIXED)
            return (dataset.repeat(passes) if passes else dataset).batch(*args, **kwargs)

        stock, ours = both(attempt)
        assert isinstance(stock, tuple)
        assert ours == stock


class TestSizes:
    @pytest.mark.parametrize("drop_remainder", [False, True])
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 10**6, 2**31, 2**40, 2**63 - 1])
    @pytest.mark.parametrize("length", [0, 1, 6, 7])
    def test_of_batch_and_data(self, length: int, size: int, drop_remainder: bool) -> None:
        if drop_remainder and size > 10**6:  # TensorFlow ends the process for want of memory
            got = fused(
                fastgen.from_generator(mixed(length), output_signature=MIXED), size, drop_remainder
            )
            assert shape_of(observe(got)) == "e"
            return
        assert_same_batches(
            lambda: mixed(length),
            lambda ds, batch: batch(ds, size, drop_remainder),
            reference="unfused" if length % 2 else "tensorflow",
            output_signature=MIXED,
        )

    @pytest.mark.parametrize("size", [100, 1000, 4096, 10**9])
    def test_batches_of_many(self, size: int) -> None:
        assert_same_batches(
            lambda: mixed(5000),
            lambda ds, batch: batch(ds, size),
            reference="unfused",
            output_signature=MIXED,
        )

    @pytest.mark.parametrize("size", [3, 7, 10**9])
    def test_batches_of_large_elements(self, size: int) -> None:
        """More than the memory that a batch of unknown size begins with."""

        def source() -> Iterator[Any]:
            for n in range(20):
                yield np.full(10**6, n, np.float64), np.full((1000, 3), n, np.uint8)

        spec = (tf.TensorSpec((None,), tf.float64), tf.TensorSpec((None, 3), tf.uint8))
        dataset = fused(fastgen.from_generator(source, output_signature=spec), size)
        places = itertools.count()
        for large, small in dataset:
            for row, other in zip(large, small, strict=True):
                n = next(places)
                assert bool(tf.reduce_all(row == float(n)))
                assert bool(tf.reduce_all(other == n))
        assert next(places) == 20


class TestWhatIsFused:
    """Where the producer has no form for a batch, TensorFlow's own is used."""

    def test_batches_of_a_source_and_of_its_passes(self) -> None:
        dataset = fastgen.from_generator(list, output_signature=(INT, {"a": STRING}))
        for elements in (dataset, dataset.repeat(), dataset.repeat(3)):
            assert is_fused(elements.batch(2))
            assert is_fused(elements.batch(2, num_parallel_calls=2))

    @pytest.mark.parametrize(
        ("spec", "element"),
        [
            pytest.param(
                tf.RaggedTensorSpec((None, None), tf.int32),
                lambda n: tf.ragged.constant([[n] * n, [1]], dtype=tf.int32),
                id="ragged",
            ),
            pytest.param(
                {"s": tf.SparseTensorSpec((3,), tf.int64), "n": INT},
                lambda n: {"s": tf.sparse.from_dense(np.eye(3, dtype=np.int64)[n % 3]), "n": n},
                id="sparse",
            ),
        ],
    )
    def test_composite_components_are_left_to_tensorflow(self, spec: Any, element: Any) -> None:
        assert not is_fused(fastgen.from_generator(list, output_signature=spec).batch(2))
        for via in (lambda ds: ds.batch(3), lambda ds: ds.repeat(2).batch(3, True)):
            assert_same(yielding(*map(element, range(7))), output_signature=spec, via=via)
