"""The life of an iterator: when the source is called, when it is closed, and what the end is."""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf

import fastgen
from differential import assert_same, shape_of, without_injected_prefetch, yielding

INT = tf.TensorSpec((), tf.int64)
# Only a hang is ever waited for this long.
PATIENCE_S = 30


class Log:
    """What happened to a source, in order, written by any thread."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def source(self, length: int | None = None) -> Callable[[], Iterator[int]]:
        """A generator function that writes down each call, each close and each end."""

        def generator() -> Iterator[int]:
            self.events.append("called")
            try:
                yield from itertools.count() if length is None else range(length)
                self.events.append("exhausted")
            except GeneratorExit:
                self.events.append("closed")
                raise
            finally:
                self.events.append("finally")

        return generator

    def count(self, event: str) -> int:
        return self.events.count(event)


@pytest.fixture
def log() -> Log:
    return Log()


class TestStart:
    """The source is called when the first element is asked for, and not before."""

    def test_is_not_at_construction_nor_at_iter(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(3), output_signature=INT)
        assert log.events == []
        iterator = iter(dataset)
        assert log.events == []
        next(iterator)
        assert log.count("called") == 1

    def test_is_not_when_transformations_are_built(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(3), output_signature=INT)
        dataset = dataset.map(lambda x: x + 1).shuffle(2).batch(2)
        assert log.events == []
        assert len(list(dataset)) == 2
        assert log.count("called") == 1

    def test_is_once_an_iterator(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(3), output_signature=INT)
        for passes in (1, 2, 3):
            assert [int(value) for value in dataset] == [0, 1, 2]
            assert log.count("called") == passes

    def test_is_once_a_pass_of_repeat(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(2), output_signature=INT).repeat(3)
        calls = []
        for value in without_injected_prefetch(dataset):
            calls.append((int(value), log.count("called")))
        assert calls == [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]

    def test_is_once_a_use_in_zip(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(2), output_signature=INT)
        pairs = [(int(a), int(b)) for a, b in tf.data.Dataset.zip((dataset, dataset))]
        assert pairs == [(0, 0), (1, 1)]
        assert log.count("called") == 2

    def test_is_once_a_use_in_concatenate_and_only_then(
        self, from_generator: Any, log: Log
    ) -> None:
        dataset = from_generator(log.source(2), output_signature=INT)
        iterator = iter(without_injected_prefetch(dataset.concatenate(dataset)))
        assert [int(next(iterator)), int(next(iterator))] == [0, 1]
        assert log.count("called") == 1
        assert [int(next(iterator)), int(next(iterator))] == [0, 1]
        assert log.count("called") == 2

    def test_never_comes_when_nothing_is_asked_for(
        self, from_generator: Any, log: Log, collect_garbage: Callable[[], None]
    ) -> None:
        iterator = iter(from_generator(log.source(3), output_signature=INT))
        del iterator
        collect_garbage()
        assert log.events == []

    def test_of_take_0(self, from_generator: Any, log: Log) -> None:
        assert list(from_generator(log.source(3), output_signature=INT).take(0)) == []
        assert log.events == []

    def test_with_skip(self, from_generator: Any) -> None:
        dataset = from_generator(yielding(1, 2, 3), output_signature=INT).skip(2)
        assert [int(value) for value in dataset] == [3]


class TestClose:
    """A generator that is not needed any more has run its `finally` before anyone goes on."""

    CLOSED = ("called", "closed", "finally")

    def assert_closed(self, log: Log) -> None:
        assert tuple(log.events) == self.CLOSED

    def test_before_take_reports_its_end(self, from_generator: Any, log: Log) -> None:
        iterator = iter(from_generator(log.source(), output_signature=INT).take(2))
        assert [int(next(iterator)), int(next(iterator))] == [0, 1]
        assert next(iterator, None) is None
        self.assert_closed(log)

    def test_when_the_loop_is_left(self, from_generator: Any, log: Log) -> None:
        for value in from_generator(log.source(), output_signature=INT):
            if int(value) == 3:
                break
        self.assert_closed(log)

    def test_when_the_iterator_is_deleted(self, from_generator: Any, log: Log) -> None:
        iterator = iter(from_generator(log.source(), output_signature=INT))
        next(iterator)
        del iterator
        self.assert_closed(log)

    def test_when_the_iterator_goes_before_the_dataset(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(), output_signature=INT)
        iterator = iter(dataset)
        next(iterator)
        del dataset
        next(iterator)
        del iterator
        self.assert_closed(log)

    def test_at_the_end_of_the_data(self, from_generator: Any, log: Log) -> None:
        iterator = iter(from_generator(log.source(2), output_signature=INT))
        next(iterator)
        next(iterator)
        assert next(iterator, None) is None
        assert log.events == ["called", "exhausted", "finally"]

    def test_in_each_pass(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(), output_signature=INT).take(1).repeat(3)
        assert [int(value) for value in dataset] == [0, 0, 0]
        assert log.events == [*self.CLOSED] * 3

    def test_through_transformations(
        self, from_generator: Any, log: Log, collect_garbage: Callable[[], None]
    ) -> None:
        dataset = from_generator(log.source(), output_signature=INT)
        dataset = dataset.map(lambda x: x, num_parallel_calls=2).batch(2).prefetch(2)
        iterator = iter(dataset)
        next(iterator)
        del iterator
        collect_garbage()
        self.assert_closed(log)

    def test_is_not_called_on_iterators_that_are_no_generators(self, from_generator: Any) -> None:
        called = []

        class Numbers:
            def __iter__(self) -> Numbers:
                return self

            def __next__(self) -> int:
                return 1

            def close(self) -> None:
                called.append("close")

        assert len(list(from_generator(Numbers, output_signature=INT).take(3))) == 3
        assert called == []

    def test_lets_go_of_iterators_that_are_no_generators(
        self, from_generator: Any, collect_garbage: Callable[[], None]
    ) -> None:
        gone = []

        class Numbers:
            def __iter__(self) -> Numbers:
                return self

            def __next__(self) -> int:
                return 1

            def __del__(self) -> None:
                gone.append("gone")

        iterator = iter(from_generator(Numbers, output_signature=INT).take(1))
        next(iterator)
        assert next(iterator, None) is None
        assert gone == ["gone"]

    def test_lets_go_of_the_source(self, collect_garbage: Callable[[], None]) -> None:
        """TensorFlow keeps it for ever."""

        class Source:
            def __call__(self) -> Iterator[int]:
                yield 1

        source = Source()
        alive = weakref.ref(source)
        dataset = fastgen.from_generator(source, output_signature=INT)
        del source
        assert [int(value) for value in dataset] == [1]
        assert alive() is not None
        del dataset
        collect_garbage()
        assert alive() is None

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_generator_that_yields_while_it_is_closed(self, from_generator: Any) -> None:
        """Python calls that a RuntimeError; nobody is left to hear of it."""

        def stubborn() -> Iterator[int]:
            while True:
                with contextlib.suppress(GeneratorExit):
                    yield 1

        assert len(list(from_generator(stubborn, output_signature=INT).take(2))) == 2

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_generator_that_raises_while_it_is_closed(self, from_generator: Any) -> None:
        def raises() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                raise ValueError("in finally")

        assert len(list(from_generator(raises, output_signature=INT).take(2))) == 2

    def test_frees_what_the_source_had_open(self, from_generator: Any, tmp_path: Any) -> None:
        path = tmp_path / "numbers"
        path.write_text("\n".join(map(str, range(1000))))
        opened = []

        def lines() -> Iterator[int]:
            with path.open() as file:
                opened.append(file)
                for line in file:
                    yield int(line)

        for _ in from_generator(lines, output_signature=INT):
            break
        assert opened[0].closed


class TestEnd:
    def test_stays(self, from_generator: Any, log: Log) -> None:
        iterator = iter(from_generator(log.source(1), output_signature=INT))
        assert int(next(iterator)) == 0
        for _ in range(5):
            assert next(iterator, None) is None
        assert log.count("called") == 1

    def test_stays_after_an_error(self, from_generator: Any) -> None:
        def source() -> Iterator[int]:
            yield 1
            raise KeyError("k")

        iterator = iter(from_generator(source, output_signature=INT))
        next(iterator)
        with pytest.raises(tf.errors.UnknownError):
            next(iterator)
        for _ in range(5):
            assert next(iterator, None) is None

    def test_of_nothing(self, from_generator: Any) -> None:
        assert list(from_generator(list, output_signature=INT)) == []

    def test_is_not_the_end_of_an_iterator_that_could_go_on(self) -> None:
        """An iterator that raised StopIteration once is not asked again."""

        class Resumes:
            def __init__(self) -> None:
                self.calls = 0

            def __iter__(self) -> Resumes:
                return self

            def __next__(self) -> int:
                self.calls += 1
                if self.calls == 2:
                    raise StopIteration
                return self.calls

        steps = assert_same(Resumes, output_signature=INT)
        assert shape_of(steps) == "ve"


class TestSeveralIterators:
    def test_have_lives_of_their_own(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(3), output_signature=INT)
        first, second = iter(dataset), iter(dataset)
        got = [int(next(which)) for which in (first, second, second, first, second, first)]
        assert got == [0, 0, 1, 1, 2, 2]
        assert log.count("called") == 2

    def test_many_at_once(self, from_generator: Any, log: Log) -> None:
        dataset = from_generator(log.source(), output_signature=INT)
        iterators = [iter(dataset) for _ in range(40)]
        for expected in range(3):
            assert {int(next(iterator)) for iterator in iterators} == {expected}
        del iterators
        assert log.count("called") == log.count("closed") == log.count("finally") == 40

    def test_of_one_shared_python_iterator(self, from_generator: Any) -> None:
        """What the source shares between its iterators is the source's affair."""
        shared = iter(range(6))
        dataset = from_generator(lambda: shared, output_signature=INT)
        got = [int(value) for value in dataset]
        assert got == list(range(6))
        assert list(dataset) == []

    def test_read_by_several_threads(self, from_generator: Any) -> None:
        """One iterator is never entered twice at once, whoever asks."""
        inside = threading.Lock()

        def source() -> Iterator[int]:
            for number in range(400):
                assert inside.acquire(blocking=False)
                sum(range(1000))
                inside.release()
                yield number

        iterator = iter(from_generator(source, output_signature=INT))
        got: list[int] = []

        def read() -> None:
            while (value := next(iterator, None)) is not None:
                got.append(int(value))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert sorted(got) == list(range(400))
