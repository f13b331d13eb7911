"""Tests of feeding a GPU: on a real one where there is one, and on a stand-in everywhere else.

They run in a process of their own (`python -m pytest tests/gpu`), because TensorFlow's devices must be
there before TensorFlow starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

import fastgen
from stand_in_library import StandIn, build

_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parents[1] / "build" / "stand-in"
_stand_in: StandIn | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Decides on what the tests run."""
    paths = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    if not all(path.is_relative_to(_HERE) for path in paths):
        raise pytest.UsageError("run tests/gpu on its own: its devices would change other tests")
    config.addinivalue_line("markers", "gpu: only a real GPU can answer")
    config.addinivalue_line("markers", "stand_in: asks the stand-in what it has seen")
    global _stand_in
    # Kernels of a TensorFlow that is built for GPUs would take the stand-in for a device of theirs.
    if not tf.config.list_physical_devices("GPU") and not tf.test.is_built_with_gpu_support():
        _stand_in = StandIn(build(_BUILD))


def pytest_report_header() -> str:
    """Says on what the tests run."""
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", "unknown")
        for device in tf.config.list_physical_devices("GPU")
    ]
    return f"GPU: {', '.join(names) or 'none'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reports what was not run, and why."""
    nothing = not tf.config.list_physical_devices("GPU")
    for item in items:
        if nothing:
            reason = "this TensorFlow is built for GPUs and sees none: not run"
            item.add_marker(pytest.mark.skip(reason=reason))
        if _stand_in is not None and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no GPU in this machine: not run"))
        if _stand_in is None and item.get_closest_marker("stand_in"):
            item.add_marker(pytest.mark.skip(reason="needs the stand-in, and this GPU is real"))


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """The stand-in, as it is when nothing has been set."""
    assert _stand_in is not None, "mark the test with `stand_in`"
    _stand_in.reset()
    yield _stand_in
    _stand_in.reset()


@pytest.fixture(autouse=True)
def late_copies() -> Iterator[None]:
    """The stand-in reads later than it is told to, as a device does that has other work."""
    if _stand_in is not None:
        _stand_in.set_longest_delay(300)
    yield
    if _stand_in is not None:
        _stand_in.reset()


@pytest.fixture
def pinned_limit() -> Iterator[int]:
    """fastgen's limit, set back after the test."""
    before = fastgen.pinned_memory_info().limit_bytes
    yield before
    fastgen.set_pinned_memory_limit(before)
