"""fastgen's datasets in pipelines: transformations make of them what they make of TensorFlow's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from differential import IMPLEMENTATIONS, assert_same, observe, shape_of, yielding

INT = tf.TensorSpec((), tf.int64)
SAMPLE = {
    "x": tf.TensorSpec((2,), tf.float32),
    "name": tf.TensorSpec((), tf.string),
    "n": INT,
}
SEQUENCE = tf.TensorSpec((None,), tf.int32)


def samples(length: int = 23) -> Callable[[], Iterator[dict[str, Any]]]:
    def source() -> Iterator[dict[str, Any]]:
        for number in range(length):
            yield {"x": [number, number / 2], "name": f"é{number}", "n": number}

    return source


def sequences() -> Iterator[np.ndarray]:
    for length in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 0, 8):
        yield np.full(length, length)


class TestElementSpec:
    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param({"output_signature": INT}, id="scalar"),
            pytest.param({"output_signature": SAMPLE}, id="dict"),
            pytest.param({"output_signature": (INT, (SEQUENCE,))}, id="nested"),
            pytest.param(
                {"output_signature": tf.RaggedTensorSpec((None, None), tf.int32)}, id="ragged"
            ),
            pytest.param({"output_signature": tf.TensorSpec((), tf.int64, "named")}, id="named"),
            pytest.param({"output_types": tf.int64}, id="type"),
            pytest.param({"output_types": (tf.int64, tf.string)}, id="types"),
            pytest.param(
                {"output_types": {"a": tf.int64}, "output_shapes": {"a": [None, 3]}}, id="shapes"
            ),
            pytest.param({"output_types": "float32", "output_shapes": [1, None]}, id="name"),
        ],
    )
    def test_is_the_signature(self, arguments: dict[str, Any]) -> None:
        theirs, ours = (make(list, **arguments).element_spec for make in IMPLEMENTATIONS.values())
        assert ours == theirs
        assert repr(ours) == repr(theirs)

    def test_of_what_is_made_of_it(self) -> None:
        theirs, ours = (
            make(samples(), output_signature=SAMPLE).batch(4).element_spec
            for make in IMPLEMENTATIONS.values()
        )
        assert ours == theirs

    def test_is_kept_by_the_tensors(self, from_generator: Any) -> None:
        dataset = from_generator(yielding([[1, 2]]), output_types=tf.int32, output_shapes=[1, 2])
        assert dataset.map(lambda x: x).element_spec.shape == (1, 2)
        assert tf.data.experimental.get_structure(dataset) == dataset.element_spec


class TestKind:
    def test_is_a_dataset(self, from_generator: Any) -> None:
        dataset = from_generator(list, output_signature=INT)
        assert isinstance(dataset, tf.data.Dataset)
        assert isinstance(dataset, tf.compat.v2.data.Dataset)
        assert tf.data.DatasetSpec.from_value(dataset).element_spec == INT

    def test_prints_its_signature(self, from_generator: Any) -> None:
        text = repr(from_generator(list, output_signature=INT))
        assert "element_spec=TensorSpec(shape=(), dtype=tf.int64, name=None)" in text

    def test_has_no_inputs(self) -> None:
        import fastgen

        assert fastgen.from_generator(list, output_signature=INT)._inputs() == []

    def test_takes_a_name(self, from_generator: Any) -> None:
        dataset = from_generator(yielding(1), output_signature=INT, name="numbers")
        assert [int(value) for value in dataset] == [1]

    def test_has_an_unknown_length(self, from_generator: Any) -> None:
        dataset = from_generator(lambda: range(3), output_signature=INT)
        assert dataset.cardinality().numpy() == tf.data.UNKNOWN_CARDINALITY == -2
        with pytest.raises(TypeError, match=r"The dataset length is unknown\."):
            len(dataset)
        assert bool(dataset)

    def test_as_numpy_iterator(self, from_generator: Any) -> None:
        dataset = from_generator(samples(3), output_signature=SAMPLE)
        first = next(dataset.as_numpy_iterator())
        assert first["name"] == "é0".encode()
        np.testing.assert_array_equal(first["x"], [0, 0])

    def test_get_single_element(self, from_generator: Any) -> None:
        dataset = from_generator(yielding(5), output_signature=INT)
        assert int(dataset.get_single_element()) == 5


TRANSFORMATIONS: dict[str, Callable[[tf.data.Dataset], tf.data.Dataset]] = {
    "nothing": lambda ds: ds,
    "batch": lambda ds: ds.batch(4),
    "batch, remainder dropped": lambda ds: ds.batch(4, drop_remainder=True),
    "batch of one": lambda ds: ds.batch(1),
    "batch larger than the data": lambda ds: ds.batch(1000),
    "parallel batch": lambda ds: ds.batch(4, num_parallel_calls=2, deterministic=True),
    "batch of batches": lambda ds: ds.batch(2).batch(3),
    "batch, unbatch": lambda ds: ds.batch(4).unbatch(),
    "batch, repeat": lambda ds: ds.batch(4).repeat(2),
    "repeat, batch": lambda ds: ds.repeat(2).batch(4),
    "repeat without end": lambda ds: ds.repeat().take(50),
    "repeat 0 times": lambda ds: ds.repeat(0),
    "shuffle": lambda ds: ds.shuffle(5, seed=1),
    "shuffle all, anew each time": lambda ds: ds.shuffle(
        100, seed=1, reshuffle_each_iteration=True
    ).repeat(2),
    "shuffle, batch": lambda ds: ds.shuffle(8, seed=2).batch(4),
    "shard": lambda ds: ds.shard(3, 1),
    "take": lambda ds: ds.take(5),
    "take more than there is": lambda ds: ds.take(100),
    "skip": lambda ds: ds.skip(20),
    "skip, take, batch": lambda ds: ds.skip(2).take(9).batch(2),
    "map": lambda ds: ds.map(lambda s: {**s, "n": s["n"] + 1}),
    "parallel map": lambda ds: ds.map(lambda s: s["n"] * 2, num_parallel_calls=2),
    "map, batch": lambda ds: ds.map(lambda s: s["n"], num_parallel_calls=2).batch(5),
    "filter": lambda ds: ds.filter(lambda s: s["n"] % 3 == 0),
    "filter, batch": lambda ds: ds.filter(lambda s: s["n"] % 2 == 0).batch(4),
    "enumerate": lambda ds: ds.enumerate(),
    "prefetch": lambda ds: ds.prefetch(tf.data.AUTOTUNE),
    "batch, prefetch": lambda ds: ds.batch(4).prefetch(2),
    "cache": lambda ds: ds.cache().repeat(2),
    "batch, cache": lambda ds: ds.batch(4).cache().repeat(2),
    "concatenate": lambda ds: ds.concatenate(ds),
    "zip": lambda ds: tf.data.Dataset.zip(ds, ds.skip(1)),
    "zip with a range": lambda ds: tf.data.Dataset.zip(tf.data.Dataset.range(5), ds),
    "window": lambda ds: (
        ds.map(lambda s: s["n"])
        .window(4, shift=2, drop_remainder=True)
        .flat_map(lambda window: window.batch(4))
    ),
    "window of samples": lambda ds: ds.window(3).map(
        lambda w: w["n"].batch(3).get_single_element()
    ),
    "scan": lambda ds: ds.scan(
        tf.constant(0, tf.int64), lambda total, s: (total + s["n"], total + s["n"])
    ),
    "take_while": lambda ds: ds.take_while(lambda s: s["n"] < 7),
    "group_by_window": lambda ds: ds.group_by_window(
        key_func=lambda s: s["n"] % 2,
        reduce_func=lambda key, window: window.batch(3),
        window_size=3,
    ),
    "rebatch": lambda ds: ds.batch(4).rebatch(3),
    "ragged_batch": lambda ds: ds.map(lambda s: s["x"]).ragged_batch(3),
    "interleave": lambda ds: tf.data.Dataset.range(3).interleave(lambda _: ds, cycle_length=2),
    "flat_map": lambda ds: tf.data.Dataset.range(2).flat_map(lambda _: ds),
    "choose": lambda ds: tf.data.Dataset.choose_from_datasets(
        [ds, ds.skip(5)], tf.data.Dataset.range(2).repeat(6)
    ),
    "sample": lambda ds: tf.data.Dataset.sample_from_datasets([ds, ds.skip(3)], seed=3),
    "unique": lambda ds: ds.map(lambda s: s["n"] % 4).unique(),
    "ignore_errors": lambda ds: ds.ignore_errors(),
    "assert_cardinality": lambda ds: ds.apply(tf.data.experimental.assert_cardinality(23)),
    "sliding, stacked": lambda ds: ds.window(2, 1).flat_map(lambda w: w["x"].batch(2)),
    "options": lambda ds: ds.with_options(_options()),
}


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 2
    options.experimental_optimization.apply_default_optimizations = True
    options.autotune.enabled = False
    return options


class TestTransformations:
    @pytest.mark.parametrize("name", TRANSFORMATIONS)
    def test_of_samples(self, name: str) -> None:
        assert_same(samples(), output_signature=SAMPLE, via=TRANSFORMATIONS[name])

    @pytest.mark.parametrize("name", ["batch", "shuffle, batch", "cache", "zip", "prefetch"])
    def test_of_nothing(self, name: str) -> None:
        assert_same(samples(0), output_signature=SAMPLE, via=TRANSFORMATIONS[name])

    def test_batches_of_unequal_shapes_are_refused(self) -> None:
        steps = assert_same(sequences, output_signature=SEQUENCE, via=lambda ds: ds.batch(2))
        assert "f" in shape_of(steps)

    @pytest.mark.parametrize("drop_remainder", [False, True])
    @pytest.mark.parametrize("shape", [None, [None], [10]])
    def test_padded_batch(self, shape: Any, drop_remainder: bool) -> None:
        assert_same(
            sequences,
            output_signature=SEQUENCE,
            via=lambda ds: ds.padded_batch(4, shape, drop_remainder=drop_remainder),
        )

    def test_padded_batch_with_values_of_its_own(self) -> None:
        def source() -> Iterator[Any]:
            for length in (2, 0, 3):
                yield list(range(length)), ["é"] * length

        assert_same(
            source,
            output_signature=(SEQUENCE, tf.TensorSpec((None,), tf.string)),
            via=lambda ds: ds.padded_batch(2, ([None], [4]), padding_values=(-1, "pad")),
        )

    def test_padded_batch_that_does_not_fit(self) -> None:
        assert_same(
            sequences, output_signature=SEQUENCE, via=lambda ds: ds.padded_batch(3, [4]), limit=20
        )

    def test_bucket_by_sequence_length(self) -> None:
        assert_same(
            sequences,
            output_signature=SEQUENCE,
            via=lambda ds: ds.bucket_by_sequence_length(
                lambda x: tf.shape(x)[0], bucket_boundaries=[3, 6], bucket_batch_sizes=[3, 2, 2]
            ),
        )

    def test_rejection_resample(self, from_generator: Any) -> None:
        dataset = from_generator(lambda: itertools.cycle([0, 0, 0, 1]), output_signature=INT)
        resampled = dataset.rejection_resample(
            class_func=lambda x: tf.cast(x, tf.int32), target_dist=[0.5, 0.5], seed=1
        )
        classes = [int(label) for label, _ in resampled.take(400)]
        assert 100 < sum(classes) < 300

    def test_reduce(self, from_generator: Any) -> None:
        dataset = from_generator(lambda: range(100), output_signature=INT)
        assert int(dataset.reduce(tf.constant(0, tf.int64), lambda a, b: a + b)) == 4950

    def test_map_to_py_function(self, from_generator: Any) -> None:
        dataset = from_generator(lambda: range(5), output_signature=INT)
        dataset = dataset.map(
            lambda x: tf.numpy_function(lambda n: n * 2, [x], tf.int64), num_parallel_calls=2
        )
        assert [int(value) for value in dataset] == [0, 2, 4, 6, 8]

    def test_from_generator_inside_from_generator(self, from_generator: Any) -> None:
        inner = from_generator(lambda: range(4), output_signature=INT)
        outer = from_generator(
            lambda: inner.batch(2), output_signature=tf.TensorSpec((2,), tf.int64)
        )
        assert [value.numpy().tolist() for value in outer] == [[0, 1], [2, 3]]


class TestManyAtOnce:
    @pytest.mark.parametrize("num_parallel_calls", [None, 2, tf.data.AUTOTUNE])
    def test_interleave_of_200_sources(self, num_parallel_calls: int | None) -> None:
        def elements(make: Callable[..., Any]) -> list[int]:
            def inner(n: tf.Tensor) -> tf.data.Dataset:
                return make(lambda n: [n, n + 1000, n + 2000], args=(n,), output_signature=INT)

            dataset = tf.data.Dataset.range(200).interleave(
                inner, cycle_length=16, num_parallel_calls=num_parallel_calls
            )
            return [int(value) for value in dataset]

        theirs, ours = (elements(make) for make in IMPLEMENTATIONS.values())
        assert len(theirs) == 600
        assert ours == theirs

    def test_interleave_with_all_open_at_once(self, from_generator: Any) -> None:
        def inner(n: tf.Tensor) -> tf.data.Dataset:
            return from_generator(lambda n: [n] * 3, args=(n,), output_signature=INT)

        dataset = tf.data.Dataset.range(200).interleave(inner, cycle_length=200)
        got = [int(value) for value in dataset]
        assert got == list(range(200)) * 3

    def test_interleave_left_early(self, from_generator: Any) -> None:
        closed = []

        def source(n: Any) -> Iterator[int]:
            try:
                yield from itertools.count(int(n) * 1000)
            finally:
                closed.append(int(n))

        dataset = tf.data.Dataset.range(20).interleave(
            lambda n: from_generator(source, args=(n,), output_signature=INT),
            cycle_length=20,
            num_parallel_calls=2,
        )
        got = [int(value) for value in dataset.take(50)]
        assert len(got) == 50
        assert len(closed) == len(set(closed))
        assert set(closed) >= {value // 1000 for value in got}

    def test_a_list_of_datasets_zipped(self, from_generator: Any) -> None:
        datasets = [
            from_generator(lambda k=k: range(k, k + 3), output_signature=INT) for k in range(30)
        ]
        rows = [[int(n) for n in row] for row in tf.data.Dataset.zip(tuple(datasets))]
        assert rows == [list(range(start, start + 30)) for start in range(3)]


class TestFiles:
    """Transformations that write what a source made, and read it again."""

    def test_cache_in_a_file(self, from_generator: Any, tmp_path: Path) -> None:
        calls = []

        def source() -> Iterator[dict[str, Any]]:
            calls.append(1)
            yield from samples(5)()

        dataset = from_generator(source, output_signature=SAMPLE).cache(str(tmp_path / "cache"))
        first, second = observe(dataset), observe(dataset)
        assert first == second
        assert len(calls) == 1

    def test_snapshot(self, from_generator: Any, tmp_path: Path) -> None:
        calls = []

        def source() -> Iterator[dict[str, Any]]:
            calls.append(1)
            yield from samples(5)()

        dataset = from_generator(source, output_signature=SAMPLE).snapshot(str(tmp_path / "snap"))
        numbers = [sorted(int(sample["n"]) for sample in dataset) for _ in range(2)]
        assert numbers == [[0, 1, 2, 3, 4]] * 2

    def test_save_and_load(self, from_generator: Any, tmp_path: Path) -> None:
        dataset = from_generator(samples(7), output_signature=SAMPLE)
        dataset.save(str(tmp_path / "saved"))
        loaded = tf.data.Dataset.load(str(tmp_path / "saved"))
        assert loaded.element_spec == SAMPLE
        assert observe(loaded) == observe(dataset)

    def test_save_in_shards(self, from_generator: Any, tmp_path: Path) -> None:
        dataset = from_generator(lambda: range(9), output_signature=INT)
        dataset.save(str(tmp_path / "saved"), shard_func=lambda x: x % 3)
        loaded = tf.data.Dataset.load(str(tmp_path / "saved"))
        assert sorted(int(value) for value in loaded) == list(range(9))
