"""Run one source through TensorFlow's own `from_generator` and through fastgen's, and compare.

An observation is the list of what an iterator did, step by step: a value (with dtypes, shapes and
bytes), an error (its class and the sentence that users know), or the end. Two implementations agree
when their observations do, and when their datasets have the same `element_spec`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

import fastgen

# Taken at import, so that tests of `fastgen.install()` cannot make stock mean fastgen.
STOCK: Callable[..., tf.data.Dataset] = tf.data.Dataset.from_generator
IMPLEMENTATIONS: dict[str, Callable[..., tf.data.Dataset]] = {
    "tensorflow": STOCK,
    "fastgen": fastgen.from_generator,
}

_GRAPH_PLACE = re.compile(r"^(\{\{[^}]*\}\}\s*)+")
# What follows the sentence: a traceback, its cause, or the name of a node.
_AFTER_KEY_TEXT = re.compile(
    r"\n\s*(?:Traceback \(most recent call last\)|\[\[\{\{node|\n|[\w.]+(?:Error|Exception):)"
)
# fastgen shortens the values that it prints, in its own way: long ones are not compared.
_COMPARED_TEXT = 300
_VALUE_FOLLOWS = "but the yielded element was"
_SHORTENED_BY_NUMPY = " ... "


@dataclass(frozen=True)
class Tensor:
    """A dense tensor by value: NaN equals NaN, and -0.0 differs from 0.0."""

    dtype: str
    shape: tuple[int, ...]
    data: Any
    shown: str = field(compare=False, default="")

    def __repr__(self) -> str:
        return f"{self.dtype}{list(self.shape)}({self.shown})"


@dataclass(frozen=True)
class Value:
    """The iterator returned an element."""

    element: Any


@dataclass(frozen=True)
class Failure:
    """The iterator raised; `text` is the whole message."""

    kind: str
    text: str

    @property
    def key_text(self) -> str:
        """The sentence that users know: no node names before it, no traceback after it."""
        text = _GRAPH_PLACE.sub("", self.text)
        return _AFTER_KEY_TEXT.split(text, maxsplit=1)[0].strip().removesuffix(":")

    def __repr__(self) -> str:
        return f"{self.kind}({self.key_text[:_COMPARED_TEXT]!r})"


@dataclass(frozen=True)
class End:
    """The iterator reported the end of the data."""


Step = Value | Failure | End


def freeze(element: Any) -> Any:
    """Turn what a dataset iterator returned into something that compares and prints."""
    match element:
        case None:
            return None
        case tf.RaggedTensor():
            splits = [freeze(part) for part in element.nested_row_splits]
            return ("ragged", str(element.shape), freeze(element.flat_values), splits)
        case tf.SparseTensor():
            parts = (element.indices, element.values, element.dense_shape)
            return ("sparse", *map(freeze, parts))
        case tf.TensorArray():
            return ("array", freeze(element.stack()))
        case tf.experimental.Optional():
            return ("optional", freeze(element.get_value()) if element.has_value() else "empty")
        case tf.data.Dataset():
            return ("dataset", observe(element))
        case tf.Tensor():
            return _freeze_tensor(element)
        case Mapping():
            return (type(element).__name__, {key: freeze(element[key]) for key in element})
        case tuple():
            return (type(element), *map(freeze, element))
        case _:
            raise AssertionError(f"a dataset returned a {type(element)}: {element!r}")


def _freeze_tensor(tensor: tf.Tensor) -> Tensor:
    array = tensor.numpy()
    is_text = tensor.dtype == tf.string
    return Tensor(
        dtype=tensor.dtype.name,
        shape=tuple(tensor.shape),
        data=np.asarray(array, dtype=object).tolist() if is_text else np.asarray(array).tobytes(),
        shown=np.array2string(np.asarray(array), threshold=8, separator=","),
    )


def observe(dataset: tf.data.Dataset, limit: int = 1000) -> list[Step]:
    """Iterate over `dataset` in eager mode, past errors, to its end or for `limit` steps."""
    steps: list[Step] = []
    iterator = iter(dataset)
    while len(steps) < limit:
        try:
            element = next(iterator)
        except StopIteration:
            return [*steps, End()]
        except tf.errors.OpError as error:
            steps.append(Failure(type(error).__name__, str(error)))
        else:
            steps.append(Value(freeze(element)))
    return steps


def steps_agree(stock: Step | None, ours: Step | None) -> bool:
    """Whether fastgen did what TensorFlow did; it may say more in an error, never less."""
    if not (isinstance(stock, Failure) and isinstance(ours, Failure)):
        return stock == ours
    known = stock.key_text
    is_long = len(known) > _COMPARED_TEXT or _SHORTENED_BY_NUMPY in known
    if is_long and _VALUE_FOLLOWS in known:
        known = known[: known.index(_VALUE_FOLLOWS) + len(_VALUE_FOLLOWS)]
    return stock.kind == ours.kind and known in ours.text


def disagreements(
    stock: list[Step], ours: list[Step], names: Mapping[int, str] | None = None
) -> list[str]:
    """One line for each step at which the two observations part."""
    lines = []
    for place in range(max(len(stock), len(ours))):
        theirs = stock[place] if place < len(stock) else None
        mine = ours[place] if place < len(ours) else None
        if not steps_agree(theirs, mine):
            name = (names or {}).get(place, f"step {place}")
            lines.append(f"{name}:\n    tensorflow: {theirs}\n    fastgen:    {mine}")
    return lines


def assert_same(
    source: Callable[..., Any],
    /,
    *,
    via: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
    limit: int = 1000,
    names: Mapping[int, str] | None = None,
    **arguments: Any,
) -> list[Step]:
    """Assert that both implementations make the same of `source`; return TensorFlow's steps.

    Args:
        source: The callable that both get; it must yield the same each time that it is called.
        via: What to make of each dataset before it is iterated over.
        limit: The number of steps after which to stop looking.
        names: What to call a step in a report.
        **arguments: Those of `from_generator`.
    """
    datasets = [make(source, **arguments) for make in IMPLEMENTATIONS.values()]
    if via is not None:
        datasets = [via(dataset) for dataset in datasets]
    stock, ours = datasets
    assert stock.element_spec == ours.element_spec
    stock_steps, our_steps = observe(stock, limit), observe(ours, limit)
    wrong = disagreements(stock_steps, our_steps, names)
    assert not wrong, f"{len(wrong)} of {len(stock_steps)} steps differ\n" + "\n".join(wrong)
    return stock_steps


def values(steps: list[Step]) -> list[Any]:
    """The elements among `steps`."""
    return [step.element for step in steps if isinstance(step, Value)]


def failures(steps: list[Step]) -> list[Failure]:
    """The errors among `steps`."""
    return [step for step in steps if isinstance(step, Failure)]


def shape_of(steps: list[Step]) -> str:
    """What happened, one letter a step: (v)alue, (f)ailure, (e)nd."""
    return "".join(type(step).__name__[0].lower() for step in steps)


def yielding(*elements: Any) -> Callable[[], Any]:
    """A source that yields `elements`, and takes no arguments."""

    def source() -> Any:
        yield from elements

    return source


def without_injected_prefetch(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Keep tf.data from reading one element ahead of its own accord at the end of the pipeline."""
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)
