"""Compares the batches that a producer collates with TensorFlow's own batches of the same elements.

There are two references. Stock `from_generator` is the truth, and slow. TensorFlow's `batch` behind
fastgen's elements, one by one, is as good where the elements themselves are no subject: it is fast
enough for long tables, and knows fastgen's own arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

import fastgen
from differential import STOCK, Step, disagreements, observe

Batch = Callable[..., tf.data.Dataset]
Via = Callable[[tf.data.Dataset, Batch], tf.data.Dataset]


def fused(dataset: tf.data.Dataset, *args: Any, **kwargs: Any) -> tf.data.Dataset:
    """The batch that a user gets, which must be the producer's."""
    batches = dataset.batch(*args, **kwargs)
    assert is_fused(batches)
    return batches


def by_tensorflow(dataset: tf.data.Dataset, *args: Any, **kwargs: Any) -> tf.data.Dataset:
    """TensorFlow's own batch, whatever the dataset is."""
    batches = tf.data.Dataset.batch(dataset, *args, **kwargs)
    assert not is_fused(batches)
    return batches


def is_fused(dataset: tf.data.Dataset) -> bool:
    """Whether `dataset` itself is one of fastgen's batches."""
    return type(dataset).__module__.startswith("fastgen") and "Batch" in type(dataset).__name__


def assert_same_batches(
    make_source: Callable[[], Callable[..., Any]],
    via: Via = lambda ds, batch: batch(ds, 3),
    *,
    reference: str = "tensorflow",
    limit: int = 1000,
    **arguments: Any,
) -> list[Step]:
    """Assert that batches are those of the reference, errors included; return the reference's steps.

    Args:
        make_source: Gives each implementation a source of its own, which may count its calls.
        via: The pipeline, given the elements and what to call for `batch`.
        reference: "tensorflow", or "unfused" for TensorFlow's batch of fastgen's elements.
        limit: The number of steps after which to stop looking.
        **arguments: Those of `from_generator`.
    """
    make = {"tensorflow": STOCK, "unfused": fastgen.from_generator}[reference]
    theirs = via(make(make_source(), **arguments), by_tensorflow)
    ours = via(fastgen.from_generator(make_source(), **arguments), fused)
    assert theirs.element_spec == ours.element_spec
    known, found = observe(theirs, limit), observe(ours, limit)
    wrong = disagreements(known, found)
    assert not wrong, f"{len(wrong)} of {len(known)} steps differ\n" + "\n".join(wrong)
    return known
