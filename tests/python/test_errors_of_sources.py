"""Exceptions out of a source: after the elements before them, as TensorFlow reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from differential import (
    STOCK,
    Failure,
    assert_same,
    failures,
    observe,
    shape_of,
)

INT = tf.TensorSpec((), tf.int32)
STRING = tf.TensorSpec((), tf.string)
PAIR = (INT, tf.TensorSpec((2,), tf.float32))


class Named(ValueError):
    """A user's own exception, of a class that TensorFlow knows by its base."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


EXCEPTIONS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "ValueError": (lambda: ValueError("wrong value"), "InvalidArgumentError"),
    "TypeError": (lambda: TypeError("wrong type"), "InvalidArgumentError"),
    "a subclass of ValueError": (lambda: Named("mine"), "InvalidArgumentError"),
    "UnicodeEncodeError": (
        lambda: UnicodeEncodeError("ascii", "é", 0, 1, "no"),
        "InvalidArgumentError",
    ),
    "StopIteration": (lambda: StopIteration(3), "UnknownError"),
    "MemoryError": (lambda: MemoryError("too much"), "ResourceExhaustedError"),
    "NotImplementedError": (lambda: NotImplementedError("later"), "UnimplementedError"),
    "KeyError": (lambda: KeyError("absent"), "UnknownError"),
    "IndexError": (lambda: IndexError(3), "UnknownError"),
    "RuntimeError": (lambda: RuntimeError("boom"), "UnknownError"),
    "OSError": (lambda: FileNotFoundError(2, "No such file", "a.txt"), "UnknownError"),
    "ZeroDivisionError": (lambda: ZeroDivisionError("division by zero"), "UnknownError"),
    "AssertionError": (lambda: AssertionError(), "UnknownError"),
    "no text": (lambda: RuntimeError(), "UnknownError"),
    "text that is not ASCII": (lambda: RuntimeError("naïve 日本 🚀"), "UnknownError"),
    "a text of several lines": (lambda: ValueError("first\nsecond\n"), "InvalidArgumentError"),
    "tf.errors.NotFoundError": (
        lambda: tf.errors.NotFoundError(None, None, "not there"),
        "UnknownError",
    ),
    "tf.errors.OutOfRangeError": (
        lambda: tf.errors.OutOfRangeError(None, None, "the end?"),
        "UnknownError",
    ),
    "GeneratorExit": (lambda: GeneratorExit("left"), "UnknownError"),
    "KeyboardInterrupt": (lambda: KeyboardInterrupt("stop"), "UnknownError"),
    "SystemExit": (lambda: SystemExit(3), "UnknownError"),
}


def raising(make: Callable[[], BaseException], after: int = 2) -> Callable[[], Iterator[int]]:
    """A generator function that yields `after` numbers and then raises."""

    def source_that_raises() -> Iterator[int]:
        yield from range(after)
        raise make()

    return source_that_raises


class TestExceptionsOfTheSource:
    """They come after the elements before them, with the class that TensorFlow gives them."""

    @pytest.mark.parametrize("name", EXCEPTIONS)
    def test_out_of_a_generator(self, name: str) -> None:
        make, kind = EXCEPTIONS[name]
        steps = assert_same(raising(make), output_signature=INT)
        assert shape_of(steps) == "vvfe"
        assert steps[2].kind == kind

    @pytest.mark.parametrize("name", ["ValueError", "KeyError", "MemoryError"])
    def test_on_the_path_of_composite_components(self, name: str) -> None:
        make, kind = EXCEPTIONS[name]
        steps = assert_same(raising(make), output_types=tf.int32)
        assert shape_of(steps) == "vvfe"
        assert steps[2].kind == kind

    def test_before_the_first_element(self) -> None:
        steps = assert_same(raising(lambda: KeyError("k"), after=0), output_signature=INT)
        assert shape_of(steps) == "fe"

    def test_after_many_elements(self) -> None:
        steps = assert_same(raising(lambda: KeyError("k"), after=500), output_signature=INT)
        assert shape_of(steps) == "v" * 500 + "fe"

    def test_the_text_carries_the_traceback(self, from_generator: Any) -> None:
        def deep_inside() -> None:
            raise RuntimeError("naïve 日本")

        def source_that_calls() -> Iterator[int]:
            yield 1
            deep_inside()

        _, failure, _ = observe(from_generator(source_that_calls, output_signature=INT))
        assert isinstance(failure, Failure)
        assert "RuntimeError: naïve 日本" in failure.text
        assert "Traceback (most recent call last):" in failure.text
        for frame in ("in source_that_calls", "in deep_inside", __file__):
            assert frame in failure.text

    def test_the_text_carries_the_cause(self, from_generator: Any) -> None:
        def source() -> Iterator[int]:
            try:
                yield {}["absent"]
            except KeyError as error:
                raise RuntimeError("cannot go on") from error

        failure, _ = observe(from_generator(source, output_signature=INT))
        assert isinstance(failure, Failure)
        assert "RuntimeError: cannot go on" in failure.text
        assert "KeyError: 'absent'" in failure.text
        assert "The above exception was the direct cause" in failure.text

    def test_an_exception_that_cannot_be_printed(self) -> None:
        first, *_ = observe(fastgen.from_generator(raising(Unprintable, 0), output_signature=INT))
        assert isinstance(first, Failure)
        assert first.kind == "UnknownError"
        assert "Unprintable" in first.text

    def test_a_file_that_does_not_close_well(self, from_generator: Any) -> None:
        def source() -> Iterator[int]:
            try:
                yield 1
                raise RuntimeError("first")
            finally:
                raise ValueError("second")

        steps = observe(from_generator(source, output_signature=INT))
        assert shape_of(steps) == "vfe"
        assert "ValueError: second" in steps[1].text
        assert "RuntimeError: first" in steps[1].text


class RaisesOnce:
    """An iterator, but no generator: it goes on after the exception that it raises at one place."""

    def __init__(self, make: Callable[[], BaseException], place: int = 2, length: int = 5) -> None:
        self.make, self.place, self.length, self.next = make, place, length, 0

    def __iter__(self) -> RaisesOnce:
        return self

    def __next__(self) -> int:
        here = self.next
        self.next += 1
        if here == self.place:
            raise self.make()
        if here >= self.length:
            raise StopIteration
        return here


class TestIteratorsThatAreNoGenerators:
    """They can go on after an exception, and so does the dataset."""

    @pytest.mark.parametrize("name", EXCEPTIONS)
    def test_go_on(self, name: str) -> None:
        make, _ = EXCEPTIONS[name]
        steps = assert_same(lambda: RaisesOnce(make), output_signature=INT)
        assert shape_of(steps) == ("vve" if name == "StopIteration" else "vvfvve")

    def test_map(self) -> None:
        steps = assert_same(
            lambda: map((12).__floordiv__, [1, 0, 2, 0, 0, 3]), output_types=tf.int32
        )
        assert shape_of(steps) == "vfvffve"
        steps = assert_same(lambda: map(int, ["1", "x", "2", "3", "y"]), output_signature=INT)
        assert shape_of(steps) == "vfvvfe"

    def test_zip_of_a_source_that_raises(self) -> None:
        steps = assert_same(
            lambda: zip(RaisesOnce(lambda: KeyError("k")), [[1, 2]] * 9, strict=False),
            output_signature=PAIR,
        )
        assert shape_of(steps) == "vvfvve"


class TestCallables:
    """A source that fails before there is anything to iterate over."""

    def check_first_error_is_repeated(self, source: Callable[[], Any], text: str) -> None:
        """TensorFlow's later errors speak of a KeyError; fastgen repeats the first."""
        theirs = observe(STOCK(source, output_signature=INT), limit=3)
        ours = observe(fastgen.from_generator(source, output_signature=INT), limit=3)
        assert shape_of(theirs) == shape_of(ours) == "fff"
        first = theirs[0]
        assert isinstance(first, Failure)
        assert text in first.text
        for failure in failures(ours):
            assert failure.kind == first.kind
            assert first.key_text in failure.text

    @pytest.mark.parametrize("name", sorted(EXCEPTIONS.keys() - {"StopIteration"}))
    def test_that_raise_when_called(self, name: str) -> None:
        make, _ = EXCEPTIONS[name]

        def source() -> Iterator[int]:
            raise make()

        self.check_first_error_is_repeated(source, "")

    def test_that_raise_stop_iteration_when_called(self) -> None:
        """An empty source; TensorFlow stumbles over its own KeyError while it ends the iterator."""

        def source() -> Iterator[int]:
            raise StopIteration

        assert shape_of(observe(fastgen.from_generator(source, output_signature=INT))) == "e"

    @pytest.mark.parametrize(
        ("result", "text"),
        [
            (5, "TypeError: 'int' object is not iterable"),
            (None, "TypeError: 'NoneType' object is not iterable"),
            (np.int32(3), "TypeError: 'numpy.int32' object is not iterable"),
            (np.array(3), "TypeError: iteration over a 0-d array"),
        ],
    )
    def test_whose_result_is_not_iterable(self, result: Any, text: str) -> None:
        self.check_first_error_is_repeated(lambda: result, text)

    def test_that_want_arguments(self) -> None:
        def source(n: int) -> Iterator[int]:
            yield n

        self.check_first_error_is_repeated(source, "missing 1 required positional argument: 'n'")

    def test_are_called_once_though_they_raise(self) -> None:
        calls = []

        def source() -> Iterator[int]:
            calls.append(1)
            raise RuntimeError("no")

        observe(fastgen.from_generator(source, output_signature=INT), limit=3)
        assert len(calls) == 1
