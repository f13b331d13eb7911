"""Pinned memory where there is none to be had, and the figures and limit that users see.

What is pinned, and copied from, is tested in tests/gpu.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen

IMAGE = tf.TensorSpec((64, 64), tf.float32)

pytestmark = pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="this program has pinned memory"
)


def images() -> Iterator[np.ndarray[Any, Any]]:
    for i in range(8):
        yield np.full((64, 64), i, np.float32)


def read(dataset: tf.data.Dataset) -> list[float]:
    return [float(value) for image in dataset for value in np.ravel(image)[:: 64 * 64]]


@pytest.fixture
def limit() -> Iterator[int]:
    before = fastgen.pinned_memory_info().limit_bytes
    yield before
    fastgen.set_pinned_memory_limit(before)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("pinned", [None, False])
def test_without_a_gpu_elements_are_the_same_and_nothing_is_pinned(
    pinned: bool | None, batched: bool
) -> None:
    dataset = fastgen.from_generator(images, output_signature=IMAGE, pinned=pinned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(dataset.batch(3) if batched else dataset) == list(map(float, range(8)))
    info = fastgen.pinned_memory_info()
    assert (info.taken_bytes, info.slabs, info.fallbacks) == (0, 0, 0)


def test_who_asks_for_it_without_a_gpu_is_told_once() -> None:
    dataset = fastgen.from_generator(images, output_signature=IMAGE, pinned=True)
    with pytest.warns(
        RuntimeWarning, match=r"pinned=True, but TensorFlow has no pinned memory"
    ) as seen:
        for _ in range(3):
            assert read(dataset) == list(map(float, range(8)))
    assert len(seen) == 1
    assert "images" in str(seen[0].message)


def test_a_warning_that_is_an_error_loses_no_element(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_value))
    dataset = fastgen.from_generator(images, output_signature=IMAGE, pinned=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert read(dataset) == list(map(float, range(8)))
    assert [type(report) for report in reported] == [RuntimeWarning]


@pytest.mark.parametrize("wrong", [1, "yes", np.True_])
def test_anything_but_a_bool_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="`pinned` must be True, False or None, got"):
        fastgen.from_generator(images, output_signature=IMAGE, pinned=wrong)


def test_the_limit_can_be_set(limit: int) -> None:
    assert limit > 0
    fastgen.set_pinned_memory_limit(12345)
    assert fastgen.pinned_memory_info().limit_bytes == 12345
    fastgen.set_pinned_memory_limit(0)
    assert fastgen.pinned_memory_info().limit_bytes == 0
    fastgen.set_pinned_memory_limit(2**80)
    assert fastgen.pinned_memory_info().limit_bytes >= 2**62


@pytest.mark.parametrize("wrong", [1.5, "1", None, True])
def test_a_limit_that_is_no_number_is_refused(limit: int, wrong: Any) -> None:
    with pytest.raises(TypeError, match="`limit_bytes` must be a number of bytes, got"):
        fastgen.set_pinned_memory_limit(wrong)
    assert fastgen.pinned_memory_info().limit_bytes == limit


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        fastgen.set_pinned_memory_limit(-1)
