"""The thread of a source: one, its own, from the call to the close."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

import fastgen
from differential import yielding

INT = tf.TensorSpec((), tf.int64)
# Only a hang is ever waited for this long.
PATIENCE_S = 30

CONTEXT: contextvars.ContextVar[str] = contextvars.ContextVar("CONTEXT", default="default")


class TestThread:
    """fastgen runs a source on one thread of its own, for its whole life."""

    def test_is_one_from_call_to_close(self) -> None:
        threads: dict[str, set[int]] = {}

        def see(when: str) -> None:
            threads.setdefault(when, set()).add(threading.get_ident())

        class Numbers:
            def __init__(self) -> None:
                see("called")

            def __iter__(self) -> Iterator[int]:
                see("iter")
                try:
                    for number in itertools.count():
                        see("next")
                        yield number
                finally:
                    see("closed")

        iterator = iter(fastgen.from_generator(Numbers, output_signature=INT).take(500))
        assert len(list(iterator)) == 500
        assert threads.keys() == {"called", "iter", "next", "closed"}
        assert len(set.union(*threads.values())) == 1
        assert threading.get_ident() not in threads["next"]

    def test_is_another_for_each_iterator(self) -> None:
        seen = []

        def source() -> Iterator[int]:
            seen.append(threading.get_ident())
            yield from itertools.count()

        dataset = fastgen.from_generator(source, output_signature=INT)
        iterators = [iter(dataset) for _ in range(3)]
        for iterator in iterators:
            next(iterator)
        assert len(set(seen)) == 3

    def test_inherits_context_variables(self) -> None:
        seen = []

        def source() -> Iterator[int]:
            seen.append(CONTEXT.get())
            yield 1
            seen.append(CONTEXT.get())
            yield 2

        token = CONTEXT.set("of the caller")
        try:
            dataset = fastgen.from_generator(source, output_signature=INT)
            iterator = iter(dataset)
            next(iterator)
        finally:
            CONTEXT.reset(token)
        assert next(iterator) is not None
        assert next(iterator, None) is None
        assert seen == ["of the caller"] * 2

    def test_what_the_source_sets_stays_with_the_source(self) -> None:
        seen = []

        def source() -> Iterator[int]:
            CONTEXT.set("of the source")
            yield 1
            seen.append(CONTEXT.get())
            yield 2

        assert len(list(fastgen.from_generator(source, output_signature=INT))) == 2
        assert seen == ["of the source"]
        assert CONTEXT.get() == "default"

    def test_keeps_thread_local_state(self) -> None:
        local = threading.local()

        def source() -> Iterator[int]:
            local.count = 0
            for _ in range(1000):
                local.count += 1
                yield local.count

        dataset = fastgen.from_generator(source, output_signature=INT)
        assert [int(value) for value in dataset] == list(range(1, 1001))

    def test_keeps_an_sqlite_connection(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("create table rows (n integer)")
            connection.executemany("insert into rows values (?)", [(n,) for n in range(500)])
            connection.commit()

        def source() -> Iterator[int]:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                for (number,) in connection.execute("select n from rows order by n"):
                    yield number

        dataset = fastgen.from_generator(source, output_signature=INT)
        assert [int(value) for value in dataset] == list(range(500))
        for _ in dataset.take(3):
            pass

    def test_is_gone_when_the_iterator_is(self, collect_garbage: Callable[[], None]) -> None:
        idents = []

        def source() -> Iterator[int]:
            idents.append(threading.get_native_id())
            yield from itertools.count()

        iterator = iter(fastgen.from_generator(source, output_signature=INT))
        next(iterator)
        del iterator
        collect_garbage()
        # The kernel may list a thread for a moment after it was joined.
        deadline = time.monotonic() + PATIENCE_S
        while str(idents[0]) in os.listdir("/proc/self/task"):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def test_lets_the_source_use_tensorflow(self, from_generator: Any) -> None:
        def source() -> Iterator[Any]:
            for number in range(5):
                yield tf.reduce_sum(tf.range(number))

        dataset = from_generator(source, output_signature=tf.TensorSpec((), tf.int32))
        assert [int(value) for value in dataset] == [0, 0, 1, 3, 6]

    def test_lets_the_source_use_datasets_of_its_own(self, from_generator: Any) -> None:
        def source() -> Iterator[Any]:
            inner = from_generator(yielding(1, 2, 3), output_signature=INT)
            yield from inner.map(lambda x: x * 2)

        dataset = from_generator(source, output_signature=INT)
        assert [int(value) for value in dataset] == [2, 4, 6]
