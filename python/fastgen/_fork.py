"""After a fork: iterators that the child inherited have lost their threads, and say so instead of waiting for them for ever.

The native library knows this of its own streams. But between them and the user stands TensorFlow's
prefetching, whose thread did not come along either; it would wait for that thread. So in a child,
and only there, the iterator's Python method looks first.
"""

import functools
import os
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import iterator_ops

__all__ = ["guard_forks"]

_MESSAGE = (
    "This iterator was made before the process forked, and the thread that runs its source exists only in "
    "the parent process. Make the iterator in the child, or start the child with the 'spawn' method."
)

_guarded: list[int] = []


def guard_forks(source_dataset: type) -> None:
    """Arranges that children refuse inherited iterators over datasets of this class; once for a process."""
    if not _guarded:
        _guarded.append(os.getpid())
        os.register_at_fork(after_in_child=functools.partial(_refuse_inherited, source_dataset))


def _refuse_inherited(source_dataset: type) -> None:
    iterator = iterator_ops.OwnedIterator
    if hasattr(iterator, "_fastgen_guarded"):
        return  # the child of a child
    iterator._fastgen_guarded = True
    make, advance = iterator.__init__, iterator._next_internal

    @functools.wraps(make)
    def make_here(self: Any, *args: Any, **kwargs: Any) -> None:
        self._fastgen_process = os.getpid()
        make(self, *args, **kwargs)

    @functools.wraps(advance)
    def advance_here(self: Any) -> Any:
        inherited = getattr(self, "_fastgen_process", None) != os.getpid()
        if inherited and _reads(getattr(self, "_dataset", None), source_dataset):
            raise tf.errors.FailedPreconditionError(None, None, _MESSAGE)
        return advance(self)

    iterator.__init__, iterator._next_internal = make_here, advance_here


def _reads(dataset: Any, source_dataset: type) -> bool:
    """Whether elements of a dataset come from one of ours, directly or out of a function (`flat_map`, `interleave`)."""
    if isinstance(dataset, source_dataset):
        return True
    for function in dataset._functions() if hasattr(dataset, "_functions") else ():
        if any(op.type == "FastgenDataset" for op in function.function.graph.get_operations()):
            return True
    inputs = dataset._inputs() if hasattr(dataset, "_inputs") else ()
    return any(_reads(one, source_dataset) for one in inputs)
