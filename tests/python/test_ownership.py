"""An array is taken as it lies only where nobody can reach it any more; there are more ways to reach one than references."""

from __future__ import annotations

import collections
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

import fastgen

X = tf.TensorSpec((300, 300), tf.float32)


class RevivesDict(dict):
    kept: ClassVar[list[np.ndarray]] = []

    def __del__(self) -> None:
        if isinstance(self["x"], np.ndarray):
            self.kept.append(self["x"])


class RevivesTuple(collections.namedtuple("RevivesTuple", "x")):
    kept: ClassVar[list[np.ndarray]] = []

    def __del__(self) -> None:
        if isinstance(self.x, np.ndarray):
            self.kept.append(self.x)


@pytest.mark.parametrize("element", [RevivesDict, RevivesTuple])
def test_an_element_revives_its_array_when_it_dies(element: Any) -> None:
    def source() -> Any:
        for number in range(5):
            yield element(x=np.full((300, 300), number, np.float32))
            for array in element.kept:
                array.fill(-1)

    got = list(fastgen.from_generator(source, output_signature=element(x=X)))
    assert [float(tf.nest.flatten(e)[0][0, 0]) for e in got] == [0, 1, 2, 3, 4]


def test_a_later_component_reaches_the_element() -> None:
    kept: list[np.ndarray] = []

    class Peeks:
        def __init__(self, find: Any) -> None:
            self.find = find

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            kept.append(self.find()["x"])
            return np.array([1.0])

    def source() -> Any:
        for number in range(5):
            element = collections.OrderedDict(x=np.full((300, 300), number, np.float32))
            element["y"] = [Peeks(weakref.ref(element))]
            held = [element]
            del element
            yield held.pop()
            for array in kept:
                array.fill(-1)

    spec = collections.OrderedDict(x=X, y=tf.TensorSpec((1, 1), tf.float32))
    got = list(fastgen.from_generator(source, output_signature=spec))
    assert kept
    assert [float(e["x"][0, 0]) for e in got] == [0, 1, 2, 3, 4]
