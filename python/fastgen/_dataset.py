"""The dataset itself."""

from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops

from fastgen import _native
from fastgen._arguments import Arguments
from fastgen._fork import guard_forks
from fastgen._shim import ops
from fastgen._signature import Signature

__all__ = ["SourceDataset"]


class SourceDataset(dataset_ops.DatasetSource):  # type: ignore[misc]
    """A `tf.data.Dataset` of the elements that a Python source yields."""

    def __init__(
        self,
        source: _native.Source,
        arguments: Arguments,
        signature: Signature,
        *,
        cardinality: int,
        name: str | None,
    ) -> None:
        """Makes the dataset in the current graph, or eagerly."""
        self._signature = signature
        self._name = name
        super().__init__(
            ops.fastgen_dataset(
                _make_handle(source),
                arguments.tensors,
                cardinality=cardinality,
                **self._common_args,
            )
        )

    @property
    def element_spec(self) -> Any:
        """The structure of `tf.TypeSpec` that every element has."""
        return self._signature.spec


guard_forks(SourceDataset)


def _make_handle(source: _native.Source) -> Any:
    """The tensor that keeps the source alive inside TensorFlow.

    It is made outside of any function that is being traced. There it becomes a captured input, and
    lives as long as the function, or an iterator over a dataset that the function makes, can use
    it.
    """
    with tf.init_scope():
        handle = ops.fastgen_source(source.key)
        if not tf.executing_eagerly():
            # A graph holds the op by its key only; so the graph object holds the source.
            graph = tf.compat.v1.get_default_graph()
            if not hasattr(graph, "_fastgen_sources"):
                graph._fastgen_sources = []
            graph._fastgen_sources.append(source)
        return handle
