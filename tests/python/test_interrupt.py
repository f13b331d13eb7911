"""Ctrl-C while the source is slow."""

from pathlib import Path

import pytest

from interpreters import run_program

# The source sleeps for longer than a test may take: only an interrupt ends the wait. It wakes up
# when it is closed, so that the program need not leave it behind.
PROGRAM = """
import os, signal, threading, time

closing = threading.Event()

def source():
    yield 0
    closing.wait(1000)

def interrupt_soon():
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

ds = fastgen.from_generator(source, output_signature=SPEC){transformations}
"""

WAYS = {
    "plain": "",
    "batched": ".batch(2)",
    "prefetched": ".batch(2).prefetch(2)",
    "mapped_in_parallel": ".map(lambda x: x + 1, num_parallel_calls=2).batch(2)",
    "interleaved": ".interleave(lambda x: fastgen.from_generator(source, output_signature=SPEC)).batch(4)",
}


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_raises_keyboard_interrupt(tmp_path: Path, way: str) -> None:
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations=WAYS[way])
        + """
iterator = iter(ds)  # kept: it is destroyed only when its source can wake up
try:
    interrupt_soon()
    for element in iterator:
        pass
except KeyboardInterrupt:
    print('interrupted')
closing.set()
""",
    )
    assert outcome.stdout == "interrupted\n"
    assert outcome.stderr == ""
    assert outcome.code == 0


def test_ctrl_c_reaches_a_wait_inside_of_a_function(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations="")
        + """
@tf.function
def total():
    result = tf.constant(0, tf.int64)
    for element in ds:
        result += element
    return result

try:
    interrupt_soon()
    total()
except KeyboardInterrupt:
    print('interrupted')
closing.set()
""",
    )
    assert outcome.stdout == "interrupted\n"
    assert outcome.code == 0


def test_the_programs_own_handler_runs_and_the_wait_goes_on(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations="")
        + """
def handler(number, frame):
    print('handled')

signal.signal(signal.SIGINT, handler)
iterator = iter(ds)
next(iterator)
interrupt_soon()
threading.Timer(2.0, closing.set).start()
print(next(iterator, 'end'))
""",
    )
    assert sorted(outcome.stdout.split()) == ["end", "handled"]
    assert outcome.code == 0


def test_a_main_thread_that_does_not_wait_handles_the_signal_itself(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations="")
        + """
seen = []
consumer = threading.Thread(target=lambda: seen.extend(ds))
consumer.start()
try:
    interrupt_soon()
    time.sleep(1000)
except KeyboardInterrupt:
    print('interrupted')
closing.set()
consumer.join()
print('consumer got', len(seen))
""",
    )
    assert outcome.stdout == "interrupted\nconsumer got 1\n"
    assert outcome.stderr == ""
    assert outcome.code == 0


def test_an_interrupted_program_that_catches_nothing_ends_as_python_does(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations="")
        + """
interrupt_soon()
for element in ds:
    pass
""",
    )
    assert outcome.code == -2
    assert outcome.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_ctrl_c_reaches_a_training_loop_whose_source_keeps_up(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        """
        import itertools, os, signal, threading
        ds = fastgen.from_generator(itertools.count, output_signature=SPEC).batch(64).prefetch(4)
        matrix = tf.random.uniform((300, 300))

        @tf.function
        def step(batch):
            return tf.reduce_sum(matrix @ matrix) + tf.cast(batch[0], tf.float32)

        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            for batch in ds:
                step(batch)
        except KeyboardInterrupt:
            print('interrupted')
        """,
    )
    assert outcome.stdout == "interrupted\n"
    assert outcome.stderr == ""
    assert outcome.code == 0


def test_a_handler_of_another_library_that_passes_on_is_no_circle(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        """
        import faulthandler, os, signal, sys
        next(iter(fastgen.from_generator(lambda: [1], output_signature=SPEC)))
        faulthandler.register(signal.SIGINT, file=open(os.devnull, 'w'), chain=True)
        next(iter(fastgen.from_generator(lambda: [1], output_signature=SPEC)))
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            print('interrupted')
        """,
    )
    assert outcome.stdout == "interrupted\n"
    assert outcome.code == 0


@pytest.mark.parametrize(
    "operation",
    [
        "ds.reduce(tf.constant(0, tf.int64), lambda a, b: a + b)",
        "ds.skip(1).get_single_element()",
    ],
    ids=["reduce", "get_single_element"],
)
def test_ctrl_c_reaches_an_operation_on_the_whole_dataset(tmp_path: Path, operation: str) -> None:
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations="")
        + f"""
try:
    interrupt_soon()
    {operation}
except KeyboardInterrupt:
    print('interrupted')
closing.set()
""",
    )
    assert outcome.stdout == "interrupted\n"
    assert outcome.code == 0


def test_ctrl_c_while_a_dataset_is_saved_comes_after_the_save(tmp_path: Path) -> None:
    # TensorFlow's save never returns when its input ends in an error, so the wait goes on.
    outcome = run_program(
        tmp_path,
        PROGRAM.format(transformations="")
        + f"""
try:
    interrupt_soon()
    threading.Timer(2.0, closing.set).start()
    ds.save({str(tmp_path / "saved")!r})
except KeyboardInterrupt:
    print('interrupted')
""",
    )
    assert outcome.stdout == "interrupted\n"
    assert outcome.code == 0
