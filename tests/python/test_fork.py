"""After os.fork(): inherited iterators refuse, new ones work, and the child ends as it should."""

from pathlib import Path

import pytest

from interpreters import run_program

# The child does BODY and exits with code 7; a child that hangs is killed by the alarm.
PROGRAM = """
import os, pathlib, signal, sys, time

def numbers():
    yield from range(100_000)

def make():
    return fastgen.from_generator(numbers, output_signature=SPEC){transformations}

def wait_for_starting_threads():
    # TensorFlow's threads take a lock when they start, and the child would inherit it locked.
    quiet = 0
    while quiet < 30:
        threads = [task for task in pathlib.Path('/proc/self/task').iterdir() if task.name != str(os.getpid())]
        states = [(task / 'stat').read_text().rsplit(')', 1)[1].split()[0] for task in threads]
        quiet = quiet + 1 if set(states) == {{'S'}} else 0
        time.sleep(0.01)

ds = make()
iterator = iter(ds)
next(iterator)
sys.stdout.flush()
wait_for_starting_threads()
child = os.fork()
if child == 0:
    signal.alarm(30)
    {body}
    print('child done')
    sys.stdout.flush()
    {leave}
_, status = os.waitpid(child, 0)
print('child', os.waitstatus_to_exitcode(status), int(tf.reduce_sum(next(iterator))))
"""

READ_INHERITED = """
    try:
        for _ in range(100_000):
            next(iterator)
    except tf.errors.FailedPreconditionError as error:
        print('before the process forked' in str(error), 'spawn' in str(error))
"""

TRANSFORMATIONS = {
    "plain": "",
    "batched": ".batch(1)",
    "prefetched": ".batch(1).prefetch(2)",
    "flat_mapped": ".flat_map(lambda x: fastgen.from_generator(lambda: [1], output_signature=SPEC))",
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_an_inherited_iterator_refuses(tmp_path: Path, transformation: str) -> None:
    program = PROGRAM.format(
        transformations=TRANSFORMATIONS[transformation],
        body=READ_INHERITED.strip(),
        leave="os._exit(7)",
    )
    outcome = run_program(tmp_path, program)
    assert outcome.stdout == "True True\nchild done\nchild 7 1\n"
    assert outcome.code == 0


@pytest.mark.parametrize("leave", ["os._exit(7)", "sys.exit(7)"])
def test_a_new_iterator_works_in_the_child(tmp_path: Path, leave: str) -> None:
    program = PROGRAM.format(
        transformations="", body="print(int(next(iter(ds))), int(next(iter(make()))))", leave=leave
    )
    outcome = run_program(tmp_path, program)
    assert outcome.stdout == "0 0\nchild done\nchild 7 1\n"
    assert outcome.stderr == ""
    assert outcome.code == 0


def test_a_fork_while_slabs_come_and_go(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        """
        import os, signal, threading
        import numpy as np
        from fastgen import _native

        stop = threading.Event()

        def arrays():
            while not stop.is_set():
                yield np.zeros(8000, np.float32)

        spec = tf.TensorSpec((8000,), tf.float32)
        ds = fastgen.from_generator(arrays, output_signature=spec).batch(8).prefetch(2)
        reader = threading.Thread(target=lambda: [None for _ in ds])
        reader.start()
        codes = set()
        for _ in range(200):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                _native.set_slab_pool_budget(0)  # takes every lock of the pool
                os._exit(0)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        reader.join()
        print(codes)
        """,
    )
    assert outcome.stdout == "{0}\n"
    assert outcome.code == 0
