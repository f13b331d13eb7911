"""Elements of every structure: what is taken for what, and how it comes out again."""

from __future__ import annotations

import collections
import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import none_tensor

import fastgen
from differential import assert_same, shape_of, values, yielding

INT = tf.TensorSpec((), tf.int32)
FLOAT = tf.TensorSpec((), tf.float32)
STRING = tf.TensorSpec((), tf.string)


class Point(NamedTuple):
    x: Any
    y: Any


class Place(NamedTuple):
    x: Any
    y: Any


class Three(NamedTuple):
    x: Any
    y: Any
    z: Any


SamePoint = collections.namedtuple("Point", ["x", "y"])


class CustomDict(dict):
    """A subclass of dict."""


class CustomTuple(tuple):
    """A subclass of tuple."""

    __slots__ = ()


@dataclasses.dataclass
class Record:
    x: Any
    y: Any


CANDIDATES: dict[str, Any] = {
    "number": 1,
    "tuple": (1, 2),
    "tuple of one": (1,),
    "tuple of three": (1, 2, 3),
    "empty tuple": (),
    "list": [1, 2],
    "list of one": [1],
    "array": np.array([1, 2]),
    "array of one": np.array([1]),
    "tensor": tf.constant([1, 2]),
    "Point": Point(1, 2),
    "Place": Place(1, 2),
    "Three": Three(1, 2, 3),
    "another Point": SamePoint(1, 2),
    "subclass of tuple": CustomTuple((1, 2)),
    "dict": {"x": 1, "y": 2},
    "dict in another order": {"y": 2, "x": 1},
    "dict with a key too many": {"x": 1, "y": 2, "z": 3},
    "dict with a key missing": {"x": 1},
    "dict with other keys": {"a": 1, "b": 2},
    "dict with numbers for keys": {0: 1, 1: 2},
    "dict with mixed keys": {"x": 1, 1: 2},
    "empty dict": {},
    "OrderedDict": OrderedDict(x=1, y=2),
    "OrderedDict in another order": OrderedDict(y=2, x=1),
    "defaultdict": defaultdict(int, x=1, y=2),
    "subclass of dict": CustomDict(x=1, y=2),
    "set": {1, 2},
    "range": range(1, 3),
    "string": "xy",
    "bytes": b"xy",
    "generator": (n for n in (1, 2)),
    "dataclass": Record(1, 2),
    "None": None,
    "tuple of tuples": ((1, 2), (3, 4)),
    "tuple of lists": ([1, 2], [3, 4]),
    "tuple and number": ((1, 2), 3),
    "number and tuple": (1, (2, 3)),
    "tuple of dicts": ({"x": 1, "y": 2}, {"x": 3, "y": 4}),
    "dict of tuples": {"x": (1, 2), "y": (3, 4)},
    "dict of a dict": {"x": {"y": 1}},
    "tuple with None": (1, None),
}

SIGNATURES: dict[str, Any] = {
    "leaf": INT,
    "tuple": (INT, INT),
    "tuple of one": (INT,),
    "tuple of a tuple of one": ((INT,),),
    "Point": Point(INT, INT),
    "subclass of tuple": CustomTuple((INT, INT)),
    "dict": {"x": INT, "y": INT},
    "dict in another order": {"y": INT, "x": FLOAT},
    "dict of one": {"x": INT},
    "dict with numbers for keys": {0: INT, 1: INT},
    "OrderedDict": OrderedDict(x=INT, y=INT),
    "OrderedDict in another order": OrderedDict(y=INT, x=FLOAT),
    "defaultdict": defaultdict(None, x=INT, y=INT),
    "subclass of dict": CustomDict(x=INT, y=INT),
    "dataclass of specs": Record(INT, INT),
    "tuple of tuples": ((INT, INT), (INT, INT)),
    "number and tuple": (INT, (INT, INT)),
    "tuple of dicts": ({"x": INT, "y": INT}, {"x": INT, "y": INT}),
    "dict of tuples": {"x": (INT, INT), "y": (INT, INT)},
    "dict of a dict": {"x": {"y": INT}},
    "tuple of vectors": (tf.TensorSpec((2,), tf.int32), tf.TensorSpec((2,), tf.int32)),
}


def make_or_refuse(make: Callable[..., Any], signature: Any) -> str:
    """The error that a dataset of this signature meets at construction, if any."""
    try:
        make(lambda: [], output_signature=signature)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    return ""


@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_structure_against_every_signature(signature: str) -> None:
    spec = SIGNATURES[signature]
    refusal = make_or_refuse(tf.data.Dataset.from_generator, spec)
    assert make_or_refuse(fastgen.from_generator, spec) == refusal
    if refusal:
        return
    steps = assert_same(
        yielding(*CANDIDATES.values()),
        output_signature=spec,
        names=dict(enumerate(CANDIDATES)),
    )
    assert len(steps) == len(CANDIDATES) + 1


class TestBareTypes:
    """`output_types` alone, and with `output_shapes`: structures of types make structures."""

    @pytest.mark.parametrize(
        "types",
        [
            pytest.param((tf.int32, tf.int32), id="tuple"),
            pytest.param((tf.int32,), id="tuple of one"),
            pytest.param({"x": tf.int32, "y": tf.float32}, id="dict"),
            pytest.param(Point(tf.int32, tf.float64), id="namedtuple"),
            pytest.param((tf.int32, (tf.int32, tf.int32)), id="nested"),
            pytest.param("int32", id="name of a type"),
            pytest.param(("int32", np.float32), id="names and NumPy types"),
        ],
    )
    def test_alone(self, types: Any) -> None:
        assert_same(
            yielding(*CANDIDATES.values()),
            output_types=types,
            names=dict(enumerate(CANDIDATES)),
        )

    @pytest.mark.parametrize(
        ("types", "shapes"),
        [
            pytest.param(tf.int32, (), id="scalar"),
            pytest.param(tf.int32, [], id="scalar, as a list"),
            pytest.param(tf.int32, (2,), id="vector"),
            pytest.param(tf.int32, (None,), id="vector of unknown length"),
            pytest.param(tf.int32, None, id="unknown"),
            pytest.param(tf.int32, tf.TensorShape([None]), id="TensorShape"),
            pytest.param((tf.int32, tf.int32), ((), ()), id="two scalars"),
            pytest.param((tf.int32, tf.int32), ([], None), id="scalar and unknown"),
            pytest.param((tf.int32, tf.int32), (tf.TensorShape([]), [None]), id="mixed"),
            pytest.param({"x": tf.int32, "y": tf.int32}, {"x": [], "y": [2]}, id="dict"),
            pytest.param(Point(tf.int32, tf.int32), Point([], []), id="namedtuple"),
        ],
    )
    def test_with_shapes(self, types: Any, shapes: Any) -> None:
        assert_same(
            yielding(*CANDIDATES.values()),
            output_types=types,
            output_shapes=shapes,
            names=dict(enumerate(CANDIDATES)),
        )


class TestWhatUsersRelyOn:
    """The rules that people know, spelled out."""

    def outcome(self, signature: Any, *elements: Any) -> str:
        return shape_of(assert_same(yielding(*elements), output_signature=signature))

    def test_a_list_is_not_taken_for_a_tuple(self) -> None:
        assert self.outcome((INT, INT), [1, 2], (1, 2)) == "fve"

    def test_an_array_is_not_taken_for_a_tuple(self) -> None:
        assert self.outcome((INT, INT), np.array([1, 2]), (1, 2)) == "fve"

    def test_a_namedtuple_is_taken_for_a_tuple(self) -> None:
        (element,) = values(assert_same(yielding(Point(1, 2)), output_signature=(INT, INT)))
        assert element[0] is tuple

    def test_a_namedtuple_signature_needs_that_type(self) -> None:
        assert self.outcome(Point(INT, INT), Point(1, 2), Place(1, 2), (1, 2)) == "vffe"

    def test_a_namedtuple_comes_out_as_what_it_is(self) -> None:
        (element,) = fastgen.from_generator(yielding(Point(1, 2)), output_signature=Point(INT, INT))
        assert type(element) is Point
        assert (int(element.x), int(element.y)) == (1, 2)

    def test_a_dict_needs_exactly_the_keys(self) -> None:
        signature = {"a": INT, "b": INT}
        wrong = [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 2}]
        assert self.outcome(signature, {"a": 1, "b": 2}, *wrong, {"b": 1, "a": 2}) == "vfffve"

    def test_the_keys_may_come_in_any_order(self) -> None:
        first, second = fastgen.from_generator(
            yielding({"b": "two", "a": 1}, {"a": 3, "b": "four"}),
            output_signature={"a": INT, "b": STRING},
        )
        assert [int(first["a"]), int(second["a"])] == [1, 3]
        assert [first["b"].numpy(), second["b"].numpy()] == [b"two", b"four"]

    def test_a_plain_dict_for_an_ordered_one_is_an_error(self) -> None:
        signature = OrderedDict(b=INT, a=INT)
        assert self.outcome(signature, {"b": 1, "a": 2}, OrderedDict(b=1, a=2)) == "fve"

    def test_a_dict_signature_keeps_the_order_of_its_keys(self) -> None:
        signature = {"z": INT, "a": STRING, "m": FLOAT}
        (element,) = fastgen.from_generator(
            yielding({"a": "x", "m": 0.5, "z": 1}), output_signature=signature
        )
        (stock,) = tf.data.Dataset.from_generator(
            yielding({"a": "x", "m": 0.5, "z": 1}), output_signature=signature
        )
        assert list(element) == list(stock)

    def test_a_tuple_of_one_stays_a_tuple(self) -> None:
        (element,) = fastgen.from_generator(yielding((5,)), output_signature=(INT,))
        assert isinstance(element, tuple)
        assert len(element) == 1

    def test_deep_nesting(self) -> None:
        signature = {"a": (INT, {"b": (FLOAT, Point(STRING, {"c": INT}))}), "d": INT}
        element = {"a": (1, {"b": (0.5, Point("x", {"c": 2}))}), "d": 3}
        assert self.outcome(signature, element, element, 3) == "vvfe"

    def test_very_many_components(self) -> None:
        names = [f"feature_{number}" for number in range(300)]
        element = {name: number for number, name in enumerate(names)}
        assert self.outcome(dict.fromkeys(names, INT), element, element) == "vve"


class TestEmptyStructures:
    @pytest.mark.parametrize("signature", [(), {}, ((), ())])
    def test_are_refused_or_not_as_tensorflow_does(self, signature: Any) -> None:
        refusal = make_or_refuse(tf.data.Dataset.from_generator, signature)
        assert refusal
        assert make_or_refuse(fastgen.from_generator, signature) == refusal

    def test_inside_others(self) -> None:
        assert_same(yielding((1, ()), (1,), (2, ((),)), (3, ())), output_signature=(INT, ()))


RAGGED = tf.RaggedTensorSpec((None, None), tf.int32)
SPARSE = tf.SparseTensorSpec((None, None), tf.int32)

COMPOSITES: dict[str, Any] = {
    "number": 1,
    "list": [[1, 2], [3, 4]],
    "ragged list": [[1, 2], [3]],
    "array": np.array([[1, 2], [3, 4]], np.int32),
    "tensor": tf.constant([[1, 2], [3, 4]]),
    "ragged": tf.ragged.constant([[1, 2], [3], []]),
    "ragged of int64": tf.ragged.constant([[1, 2], [3]], tf.int64),
    "ragged with row splits of int32": tf.ragged.constant([[1], []], row_splits_dtype=tf.int32),
    "ragged of rank 3": tf.ragged.constant([[[1], []], [[2, 3]]]),
    "ragged of rank 3, uniform inside": tf.ragged.constant([[[1, 2]], []], ragged_rank=1),
    "ragged, empty": tf.ragged.constant([], tf.int32, ragged_rank=1),
    "ragged value": tf.compat.v1.ragged.constant_value([[1, 2], [3]], np.int32),
    "ragged of strings": tf.ragged.constant([["a"], ["b", "c"]]),
    "sparse": tf.sparse.from_dense([[0, 1], [2, 0]]),
    "sparse of another shape": tf.SparseTensor([[0, 0, 0]], [1], [1, 2, 3]),
    "sparse of float": tf.sparse.from_dense([[0.0, 1.0]]),
    "sparse, empty": tf.SparseTensor(np.zeros((0, 2), np.int64), np.zeros(0, np.int32), [2, 2]),
    "sparse value": tf.compat.v1.SparseTensorValue([[0, 1]], np.array([5], np.int32), [2, 2]),
    "None": None,
    "optional": tf.experimental.Optional.from_value(3),
    "optional of float": tf.experimental.Optional.from_value(3.5),
    "empty optional": tf.experimental.Optional.empty(INT),
    "dataset": tf.data.Dataset.range(3),
    "dataset of int32": tf.data.Dataset.from_tensor_slices([1, 2]),
    "variable": tf.Variable(3),
    "string": "text",
}

COMPOSITE_SIGNATURES: dict[str, Any] = {
    "ragged": RAGGED,
    "ragged of a known length": tf.RaggedTensorSpec((3, None), tf.int32),
    "ragged of int64": tf.RaggedTensorSpec((None, None), tf.int64),
    "ragged with row splits of int32": tf.RaggedTensorSpec(
        (None, None), tf.int32, row_splits_dtype=tf.int32
    ),
    "ragged of rank 3": tf.RaggedTensorSpec((None, None, None), tf.int32),
    "ragged, uniform inside": tf.RaggedTensorSpec((None, None, 2), tf.int32, ragged_rank=1),
    "ragged of rank 0": tf.RaggedTensorSpec((None, None), tf.int32, ragged_rank=0),
    "ragged of strings": tf.RaggedTensorSpec((None, None), tf.string),
    "sparse": SPARSE,
    "sparse of a known shape": tf.SparseTensorSpec((2, 2), tf.int32),
    "sparse of unknown rank": tf.SparseTensorSpec(None, tf.int32),
    "none": none_tensor.NoneTensorSpec(),
    "optional": tf.OptionalSpec(INT),
    "dataset": tf.data.DatasetSpec(tf.TensorSpec((), tf.int64)),
}


class TestComposites:
    """Components that are more than one tensor, or none."""

    @pytest.mark.parametrize("signature", sorted(COMPOSITE_SIGNATURES.keys() - {"none"}))
    def test_alone(self, signature: str) -> None:
        assert_same(
            yielding(*COMPOSITES.values()),
            output_signature=COMPOSITE_SIGNATURES[signature],
            names=dict(enumerate(COMPOSITES)),
        )

    @pytest.mark.parametrize("signature", COMPOSITE_SIGNATURES)
    def test_next_to_tensors(self, signature: str) -> None:
        assert_same(
            yielding(*({"n": 1, "s": "é", "value": value} for value in COMPOSITES.values())),
            output_signature={"n": INT, "s": STRING, "value": COMPOSITE_SIGNATURES[signature]},
            names=dict(enumerate(COMPOSITES)),
        )

    def test_tensors_next_to_composites_are_converted_strictly(self) -> None:
        """The whole element takes the path that refuses casts."""
        ragged = tf.ragged.constant([[1], []])
        elements = [(n, ragged) for n in (1, 1.9, 2**40, True, "x", [1], np.int64(3), None)]
        assert_same(yielding(*elements), output_signature=(INT, RAGGED))

    def test_all_together(self) -> None:
        element = {
            "ragged": tf.ragged.constant([[1], [2, 3]]),
            "sparse": tf.sparse.from_dense([[0, 4]]),
            "nested": (5, {"text": "six"}),
        }
        signature = {"ragged": RAGGED, "sparse": SPARSE, "nested": (INT, {"text": STRING})}
        steps = assert_same(yielding(element, element, 1), output_signature=signature)
        assert shape_of(steps) == "vvfe"

    def test_in_batches(self) -> None:
        rows = [tf.ragged.constant([[n] * n, []], dtype=tf.int32) for n in range(5)]
        assert_same(yielding(*rows), output_signature=RAGGED, via=lambda ds: ds.batch(2))

    def test_tensor_arrays(self) -> None:
        def source() -> Any:
            for length in range(3):
                array = tf.TensorArray(tf.int32, size=length, element_shape=())
                yield array.unstack(tf.range(length)) if length else array

        assert_same(
            source,
            output_signature=tf.TensorArraySpec(element_shape=(), dtype=tf.int32),
            limit=5,
        )

    def test_a_dataset_of_datasets_flattens(self, from_generator: Any) -> None:
        def source() -> Any:
            for length in range(4):
                yield tf.data.Dataset.range(length)

        dataset = from_generator(
            source, output_signature=tf.data.DatasetSpec(tf.TensorSpec((), tf.int64))
        )
        assert [int(n) for n in dataset.flat_map(lambda inner: inner)] == [0, 0, 1, 0, 1, 2]

    def test_ragged_in_bare_types(self) -> None:
        """A ragged list is no tensor, whichever way it is asked for."""
        steps = assert_same(yielding([[1], [2, 3]], [[1]]), output_types=tf.int32)
        assert shape_of(steps) == "fve"


class Doubling(dict):
    """A dict whose numbers are not those that are stored."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return 2 * value if isinstance(value, int) else value


def test_a_dict_subclass_is_asked_for_its_values() -> None:
    assert_same(lambda: [Doubling(x=21)], output_signature=Doubling(x=INT))
