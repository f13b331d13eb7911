"""Elements that do not fit: an error in their place, with TensorFlow's text; then the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

from differential import (
    assert_same,
    failures,
    shape_of,
    yielding,
)

INT = tf.TensorSpec((), tf.int32)
STRING = tf.TensorSpec((), tf.string)
PAIR = (INT, tf.TensorSpec((2,), tf.float32))


class TestTheFiveErrors:
    """Each is an InvalidArgumentError in its place, and the next element follows."""

    def check(self, source: Callable[[], Any], sentence: str, **signature: Any) -> None:
        steps = assert_same(source, **signature)
        assert shape_of(steps) == "vfve"
        (failure,) = failures(steps)
        assert failure.kind == "InvalidArgumentError"
        assert sentence in failure.text
        assert "TypeError: `generator` yielded an element" in failure.text

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param(1, id="no tuple"),
            pytest.param((1,), id="too short"),
            pytest.param((1, [1.0, 2.0], 3), id="too long"),
            pytest.param([1, [1.0, 2.0]], id="list"),
            pytest.param({"a": 1, "b": 2}, id="dict"),
            pytest.param(None, id="none"),
            pytest.param("ab", id="string"),
        ],
    )
    def test_structure(self, wrong: Any) -> None:
        right = (1, [1.0, 2.0])
        self.check(
            yielding(right, wrong, right),
            "did not match the expected structure. The expected structure was (tf.int32, "
            f"tf.float32), but the yielded element was {wrong}.",
            output_signature=PAIR,
        )

    def test_structure_of_a_dict(self) -> None:
        self.check(
            yielding({"a": 1}, {"b": 1}, {"a": 2}),
            "The expected structure was {'a': tf.int32}, but the yielded element was {'b': 1}.",
            output_signature={"a": INT},
        )

    def test_structure_with_a_composite_component(self) -> None:
        ragged = tf.ragged.constant([[1], [2, 3]])
        self.check(
            yielding((1, ragged), 2, (3, ragged)),
            "The expected structure was (TensorSpec(shape=(), dtype=tf.int32, name=None), "
            "RaggedTensorSpec(TensorShape([None, None]), tf.int32, 1, tf.int64)), but the "
            "yielded element was 2.",
            output_signature=(INT, tf.RaggedTensorSpec((None, None), tf.int32)),
        )

    @pytest.mark.parametrize("wrong", ["x", "", "naïve", "日本", None, [1, [2]], b"\xff"])
    def test_conversion(self, wrong: Any) -> None:
        self.check(
            yielding(1, wrong, 2),
            "could not be converted to the expected type. The expected type was int32, but the "
            f"yielded element was {wrong}.",
            output_signature=INT,
        )

    def test_conversion_on_the_path_of_unknown_rank(self) -> None:
        self.check(
            yielding(1, 1.9, 2),
            "The expected structure was TensorSpec(shape=<unknown>, dtype=tf.int32, name=None), "
            "but the yielded element was 1.9.",
            output_types=tf.int32,
        )

    @pytest.mark.parametrize(
        ("shape", "right", "wrong", "sentence"),
        [
            pytest.param((), 1, [1, 2], "(2,) where an element of shape ()", id="rank"),
            pytest.param((2,), [1, 2], [1], "(1,) where an element of shape (2,)", id="length"),
            pytest.param((2,), [1, 2], 1, "() where an element of shape (2,)", id="scalar"),
            pytest.param(
                (None, 2),
                [[1, 2]],
                [[1], [2]],
                "(2, 1) where an element of shape (None, 2)",
                id="inner",
            ),
            pytest.param((3,), [1, 2, 3], [], "(0,) where an element of shape (3,)", id="empty"),
        ],
    )
    def test_shape(self, shape: Any, right: Any, wrong: Any, sentence: str) -> None:
        self.check(
            yielding(right, wrong, right),
            f"`generator` yielded an element of shape {sentence} was expected.",
            output_signature=tf.TensorSpec(shape, tf.int32),
        )

    def test_spec_of_a_composite_component(self) -> None:
        right = tf.ragged.constant([[1], [2, 3]])
        wrong = tf.ragged.constant([[1.0], [2.0, 3.0]])
        self.check(
            yielding(right, wrong, right),
            "where an element of RaggedTensorSpec(TensorShape([2, None]), tf.int32, 1, tf.int64) "
            "was expected.",
            output_signature=tf.RaggedTensorSpec((2, None), tf.int32),
        )

    def test_the_first_wrong_component_is_reported(self) -> None:
        steps = assert_same(
            yielding(("x", "y"), (1, "y"), (1, [1.0]), ([1], "y")), output_signature=PAIR
        )
        assert shape_of(steps) == "ffffe"

    def test_many_in_a_row(self) -> None:
        steps = assert_same(
            yielding(*["x" if place % 3 else place for place in range(30)]), output_signature=INT
        )
        assert shape_of(steps) == "vff" * 10 + "e"

    def test_in_the_first_and_in_the_last_element(self) -> None:
        assert shape_of(assert_same(yielding("x", 1), output_signature=INT)) == "fve"
        assert shape_of(assert_same(yielding(1, "x"), output_signature=INT)) == "vfe"

    def test_a_component_that_is_no_text(self) -> None:
        steps = assert_same(yielding("a", 5, b"b", [b"c"], "d"), output_signature=STRING)
        assert shape_of(steps) == "vfvfve"


def raising(make: Callable[[], BaseException], after: int = 2) -> Callable[[], Iterator[int]]:
    """A generator function that yields `after` numbers and then raises."""

    def source_that_raises() -> Iterator[int]:
        yield from range(after)
        raise make()

    return source_that_raises


class TestWithTransformations:
    """Errors pass through the pipelines that users build."""

    def test_ignore_errors_drops_what_does_not_fit(self) -> None:
        steps = assert_same(
            yielding(1, "x", 2, [3], 4), output_signature=INT, via=lambda ds: ds.ignore_errors()
        )
        assert shape_of(steps) == "vvve"

    def test_ignore_errors_with_a_generator_that_raises(self) -> None:
        steps = assert_same(
            raising(lambda: KeyError("k")), output_signature=INT, via=lambda ds: ds.ignore_errors()
        )
        assert shape_of(steps) == "vve"

    @pytest.mark.parametrize("place", range(7))
    @pytest.mark.parametrize("drop_remainder", [False, True])
    def test_batch_with_a_faulty_element(self, place: int, drop_remainder: bool) -> None:
        elements: list[Any] = list(range(7))
        elements[place] = "x"
        steps = assert_same(
            yielding(*elements),
            output_signature=INT,
            via=lambda ds: ds.batch(3, drop_remainder=drop_remainder),
        )
        assert len(failures(steps)) == 1

    def test_batch_with_several_faulty_elements(self) -> None:
        elements = ["x", 1, 2, 3, "y", "z", 6, 7, 8, 9]
        assert_same(yielding(*elements), output_signature=INT, via=lambda ds: ds.batch(2))

    def test_batch_with_an_exception_of_the_source(self) -> None:
        assert_same(
            raising(lambda: KeyError("k"), after=4),
            output_signature=INT,
            via=lambda ds: ds.batch(3),
        )

    @pytest.mark.parametrize(
        "via",
        [
            pytest.param(lambda ds: ds.prefetch(2), id="prefetch"),
            pytest.param(lambda ds: ds.map(lambda x: x + 1), id="map"),
            pytest.param(lambda ds: ds.map(lambda x: x, num_parallel_calls=2), id="parallel map"),
            pytest.param(lambda ds: ds.batch(2).prefetch(1), id="batch and prefetch"),
            pytest.param(lambda ds: ds.filter(lambda x: x != 3), id="filter"),
            pytest.param(lambda ds: ds.take(4), id="take"),
            pytest.param(lambda ds: ds.skip(2), id="skip"),
            pytest.param(lambda ds: ds.repeat(2), id="repeat"),
            pytest.param(lambda ds: ds.concatenate(ds), id="concatenate"),
            pytest.param(lambda ds: ds.enumerate(), id="enumerate"),
            pytest.param(lambda ds: ds.window(2).flat_map(lambda w: w.batch(2)), id="window"),
        ],
    )
    def test_a_faulty_element_passes(self, via: Any) -> None:
        steps = assert_same(yielding(0, 1, "x", 3, 4, 5), output_signature=INT, via=via, limit=50)
        assert failures(steps)
