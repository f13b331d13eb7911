"""What goes wrong in a batch: the error, in its place, that TensorFlow's own batch comes to.

Sources are written as words: one for each element, with the lengths of its two components.

    23   an element of lengths 2 and 3        2x   the second component cannot be converted
    s    an element of another structure      x3   the first cannot
    !    the source raises                    2w   the second has a rank that the signature excludes
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from batching import Batch, assert_same_batches, fused
from conversion_values import HasArray
from differential import (
    failures,
    observe,
    shape_of,
    yielding,
)

INT = tf.TensorSpec((), tf.int64)
SPEC = (tf.TensorSpec((None,), tf.float32), tf.TensorSpec((None,), tf.string))

NO_TEXT = object()

# By the short way into a batch and by the long one, small and large.
NUMBERS: list[Callable[[int], Any]] = [
    lambda length: [float(length)] * length,
    lambda length: np.full(length, length, np.float32),
    lambda length: np.full(length * 3, length)[::3],
    lambda length: HasArray([length] * length),
    lambda length: np.full(length * 5000, length, np.float32),
]
STRINGS: list[Callable[[int], Any]] = [
    lambda length: ["é" * length] * length or np.zeros(0, object),
    lambda length: np.array([b"a"] * length, object),
    lambda length: HasArray(["b"] * length) if length else np.zeros(0, "U1"),
    lambda length: ["long" * 300] * length or np.zeros(0, object),
]


def element(word: str, numbers: int = 0, strings: int = 0) -> Any:
    """The element that a word stands for, made in one of the ways above."""
    if word == "s":
        return [1.0], ["a"], 3
    first, second = word
    return (
        ["x"] if first == "x" else [[1.0]] if first == "w" else NUMBERS[numbers](int(first)),
        [NO_TEXT] if second == "x" else "a" if second == "w" else STRINGS[strings](int(second)),
    )


class Source:
    """An iterator of words, which goes on after an exception; as a generator it does not."""

    def __init__(self, words: str, choice: random.Random | None = None) -> None:
        self.words = iter(words.split())
        self.choice = choice

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Any:
        word = next(self.words)
        if word == "!":
            raise KeyError("absent")
        if self.choice is None:
            return element(word)
        return element(word, self.choice.randrange(4), self.choice.randrange(len(STRINGS)))


def generator(words: str) -> Iterator[Any]:
    yield from Source(words)


def in_twos(ds: tf.data.Dataset, batch: Batch) -> tf.data.Dataset:
    return batch(ds, 2)


RAGGED = {
    "in the second element": "11 21 11 11",
    "in the last": "11 11 11 12",
    "in the second component": "11 12 11 11",
    "in both": "11 22 11 11",
    "in the first of a later batch, which is a new beginning": "11 11 22 22",
    "in every batch": "11 22 33 44 12 21",
    "in a partial batch": "11 11 11 11 21",
    "in a partial batch alone": "12 21",
    "followed by good ones": "11 21 31 22 22 22 33 33 33",
    "of which the second component differs earlier": "11 12 21",
    "of no length at first": "00 10 00 00",
    "of no length later": "11 10 01",
    "before a wrong element": "11 21 1x 11 11 11",
    "and wrong in one": "11 2x 11 11 11 11",
    "and wrong in one, the other way": "11 x2 11 11 11 11",
    "after a wrong element": "1x 11 21 11",
    "before another structure": "11 21 s 11 11 11",
    "before another rank": "11 21 1w 11 11 11",
    "before an exception": "11 21 ! 11 11 11",
    "before the end, and an exception": "11 11 11 21 !",
}
WRONG = {
    "first": "x1 11 11 11 11",
    "in the middle": "11 1x 11 11 11",
    "last of a batch": "11 11 x1 11 11 11",
    "last of all": "11 11 11 11 x1",
    "in a partial batch": "11 11 11 x1 11",
    "the only one": "1x",
    "all": "x1 1x s w1 1w",
    "several": "x1 11 11 11 1x x1 11 11 11 s",
    "another structure": "11 s 11 11 11",
    "another rank": "11 11 w1 11 11 1w",
    "an exception first": "! 11 11 11",
    "an exception in the middle": "11 11 11 11 ! 11 11 11",
    "an exception between two batches": "11 11 11 ! 11 11",
    "an exception last": "11 11 11 11 !",
    "exceptions only": "! ! !",
    "an exception and a wrong element": "11 ! x1 11 11 ! ! 11 11 11",
}


class TestInEachPlace:
    @pytest.mark.parametrize("name", RAGGED)
    @pytest.mark.parametrize("drop_remainder", [False, True])
    def test_unequal_shapes(self, name: str, drop_remainder: bool) -> None:
        steps = assert_same_batches(
            lambda: lambda: Source(RAGGED[name]),
            lambda ds, batch: batch(ds, 3, drop_remainder),
            output_signature=SPEC,
        )
        if "11 22" in RAGGED[name]:
            assert "Cannot batch tensors with different shapes" in failures(steps)[0].text

    @pytest.mark.parametrize("name", WRONG)
    @pytest.mark.parametrize("drop_remainder", [False, True])
    def test_elements_and_exceptions(self, name: str, drop_remainder: bool) -> None:
        steps = assert_same_batches(
            lambda: lambda: Source(WRONG[name]),
            lambda ds, batch: batch(ds, 3, drop_remainder),
            output_signature=SPEC,
        )
        assert failures(steps)

    @pytest.mark.parametrize("words", [*RAGGED.values(), *WRONG.values()])
    def test_of_a_generator(self, words: str) -> None:
        """And so that all that is expected of it does not depend on the words above."""
        assert_same_batches(
            lambda: lambda: generator(words), reference="unfused", output_signature=SPEC
        )

    @pytest.mark.parametrize("size", [1, 2, 5, 10**6])
    @pytest.mark.parametrize("words", ["11 21 11 11 1x 12", "11 11 ! 11 11 21 x1 11"])
    def test_with_batches_of_each_size(self, words: str, size: int) -> None:
        assert_same_batches(
            lambda: lambda: Source(words),
            lambda ds, batch: batch(ds, size),
            output_signature=SPEC,
        )

    @pytest.mark.parametrize("num_parallel_calls", [1, 3])
    @pytest.mark.parametrize("drop_remainder", [False, True])
    def test_as_a_parallel_batch(self, num_parallel_calls: int, drop_remainder: bool) -> None:
        words = "11 11 1x 11 21 11 11 11 12 12 s 12 12 12 12"
        assert_same_batches(
            lambda: lambda: Source(words),
            lambda ds, batch: batch(
                ds, 2, drop_remainder, num_parallel_calls=num_parallel_calls, deterministic=True
            ),
            output_signature=SPEC,
        )

    def test_of_an_unknown_rank(self) -> None:
        elements: list[Any] = [1, 2, [3], 4, [5], [6], [[7]], [8, 9], "x", [1], 2, 3, 4]
        assert_same_batches(
            lambda: yielding(*[(value, value) for value in elements]),
            in_twos,
            output_types=(tf.int32, tf.float32),
        )
        assert_same_batches(lambda: yielding(*elements), in_twos, output_types=tf.int32)

    def test_of_text(self) -> None:
        elements: list[Any] = ["a", 5, b"b", "c", [b"d"], None, "e" * 5000, "f", "g"]
        assert_same_batches(
            lambda: yielding(*elements),
            in_twos,
            output_signature=tf.TensorSpec((), tf.string),
        )

    def test_that_need_more_memory_than_there_is(self) -> None:
        huge = np.broadcast_to(np.float32(0), (1 << 44,))
        few, many = np.ones(2, np.float32), np.ones(3, np.float32)
        steps = assert_same_batches(
            lambda: yielding(few, few, many, huge, huge, few, few, huge, many, many),
            in_twos,
            reference="unfused",
            output_signature=tf.TensorSpec((None,), tf.float32),
        )
        assert shape_of(steps) == "vffvfve"
        assert {failure.kind for failure in failures(steps)} == {"ResourceExhaustedError"}


class TestAnySequence:
    """Words by chance, with elements made in all ways: hundreds of small programs."""

    @pytest.mark.parametrize("seed", range(8))
    def test_of_elements_and_errors(self, seed: int) -> None:
        for number in range(15 * seed, 15 * seed + 15):
            self.check(number, random.Random(number))

    def check(self, seed: int, choice: random.Random) -> None:
        alphabet = choice.choice([["11"], ["11", "22"], ["11", "12", "21", "00", "33"]])
        mistakes = choice.choice([[], ["1x", "x1"], ["!", "s", "1w", "2x"]])
        words = " ".join(choice.choices(alphabet * 6 + mistakes, k=choice.randrange(40)))
        size, drop_remainder = choice.choice([1, 2, 3, 5, 50]), choice.random() < 0.5
        passes = choice.choice([None, 1, 3])

        def via(ds: tf.data.Dataset, batch: Batch) -> tf.data.Dataset:
            return batch(ds if passes is None else ds.repeat(passes), size, drop_remainder)

        assert_same_batches(
            lambda: lambda: Source(words, random.Random(seed)),
            via,
            reference="unfused",
            output_signature=SPEC,
            buffer_size=choice.choice([fastgen.AUTOTUNE, 1, 2, 7, 100]),
        )


class Passes:
    """A source that yields other words in each pass; "call" fails when it is called."""

    def __init__(self, *words: str) -> None:
        self.words = iter(words)

    def __call__(self) -> Source:
        words = next(self.words, "")
        if words == "call":
            raise OSError("not there")
        return Source(words)


PASSES: dict[str, tuple[str, ...]] = {
    "that end in the middle of a batch": ("11 11", "11 11 11", "11 11"),
    "that are empty": ("11 11", "", "", "11 11", ""),
    "of which the first is empty": ("", "11 11", "11 11"),
    "that all are empty": ("", "", ""),
    "with unequal shapes": ("11 11", "22 22", "22 11 11 11"),
    "with wrong elements": ("11 1x", "11 11 11 x1", "s 11 11"),
    "that raise at the end": ("11 11 11 !", "11 !", "! 11 11"),
    "that raise in the middle": ("11 11", "11 ! 11", "11 11"),
}


class TestPasses:
    @pytest.mark.parametrize("name", PASSES)
    @pytest.mark.parametrize("passes", [0, 1, 2, 5, -1])
    def test_over_a_source_that_changes(self, name: str, passes: int) -> None:
        assert_same_batches(
            lambda: Passes(*PASSES[name]),
            lambda ds, batch: batch(ds.repeat(passes), 3),
            reference="tensorflow" if passes in (2, -1) else "unfused",
            output_signature=SPEC,
        )

    @pytest.mark.parametrize("drop_remainder", [False, True])
    @pytest.mark.parametrize("before", [(), ("11 11",), ("11 11 11", "11")])
    @pytest.mark.parametrize("passes", [5, -1])
    def test_of_which_one_cannot_be_called(
        self, before: tuple[str, ...], drop_remainder: bool, passes: int
    ) -> None:
        """TensorFlow's later errors speak of a KeyError; fastgen repeats the first."""
        known = assert_same_batches(
            lambda: Passes(*before, "call", "11 11"),
            lambda ds, batch: batch(ds.repeat(passes), 3, drop_remainder),
            limit=sum(map(len, before)) // 8 + 1,
            output_signature=SPEC,
        )
        assert shape_of(known)[-1] == "f"
        ours = fastgen.from_generator(Passes(*before, "call", "11 11"), output_signature=SPEC)
        steps = observe(fused(ours.repeat(passes), 3, drop_remainder), limit=7)
        assert shape_of(steps).endswith("fff")
        assert all("OSError: not there" in failure.text for failure in failures(steps))


class TestIgnoreErrors:
    @pytest.mark.parametrize("words", [*RAGGED.values(), *WRONG.values()])
    def test_drops_the_batches_that_failed(self, words: str) -> None:
        steps = assert_same_batches(
            lambda: lambda: Source(words),
            lambda ds, batch: batch(ds.repeat(2), 3).ignore_errors(),
            reference="unfused",
            output_signature=SPEC,
        )
        assert not failures(steps)

    def test_for_thousands_of_failures(self) -> None:
        words = "11 1x 11 21 11 11 " * 500
        steps = assert_same_batches(
            lambda: lambda: Source(words),
            lambda ds, batch: batch(ds, 2).ignore_errors(),
            reference="unfused",
            limit=5000,
            output_signature=SPEC,
        )
        assert shape_of(steps) == "v" * 500 + "e"


class TestTheText:
    def test_names_the_element_and_the_component(self) -> None:
        def source() -> Iterator[Any]:
            for n in range(9):
                yield {"a": [1.0], "b": "x" if n == 4 else ["x"]}

        dataset = fastgen.from_generator(source, output_signature={"a": SPEC[0], "b": SPEC[1]})
        steps = observe(fused(dataset.repeat(1), 3))
        assert shape_of(steps) == "vfvve"
        assert "Element 4, component ['b']" in failures(steps)[0].text

    def test_carries_the_exception(self) -> None:
        batches = fused(fastgen.from_generator(lambda: Source("11 !"), output_signature=SPEC), 3)
        with pytest.raises(tf.errors.UnknownError, match="in __next__") as caught:
            next(iter(batches))
        assert isinstance(fastgen.original_exception(caught.value), KeyError)
