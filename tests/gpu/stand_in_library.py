"""Builds, loads and drives the stand-in: two devices of type GPU for a machine that has none.

See `stand_in/device.cc` for what it does. It is compiled for the installed TensorFlow, once for each
version of its sources, and is no part of the package.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from pathlib import Path

import tensorflow as tf
from tensorflow.python.eager import context

__all__ = ["StandIn", "build"]

_SOURCES = Path(__file__).parent / "stand_in"


class StandIn:
    """The stand-in's settings and counters."""

    def __init__(self, library: Path) -> None:
        """Loads it, and makes TensorFlow look for devices again."""
        self._library = ctypes.CDLL(str(library))
        context.context().reinitialize_physical_devices()

    def reset(self) -> None:
        """Copies take no longer than they must, nothing is broken, and host memory has no limit."""
        self.set_longest_delay(0)
        self.set_broken(False)
        self.hold_allocations(False)
        self.set_host_limit(2**63)

    def set_longest_delay(self, microseconds: int) -> None:
        """Copies begin after a random time up to this."""
        self._library.stand_in_set_longest_delay_us(ctypes.c_int64(microseconds))

    def set_broken(self, broken: bool) -> None:
        """Breaks the devices: they let go of the memory, and say that they have read it, before they do."""
        self._library.stand_in_set_broken(ctypes.c_bool(broken))

    def set_host_limit(self, limit_bytes: int) -> None:
        """TensorFlow's own limit for pinned memory."""
        self._library.stand_in_set_host_limit(ctypes.c_uint64(limit_bytes))

    def hold_allocations(self, hold: bool) -> None:
        """Allocations of pinned memory take until this is called with False, or ten seconds."""
        self._library.stand_in_hold_allocations(ctypes.c_bool(hold))

    def is_pinned(self, address: int) -> bool:
        """Whether an address lies in pinned memory."""
        function = self._library.stand_in_is_pinned
        function.restype = ctypes.c_bool
        return bool(function(ctypes.c_void_p(address)))

    def _read(self, counter: str) -> int:
        function = getattr(self._library, f"stand_in_{counter}")
        function.restype = ctypes.c_uint64
        return int(function())

    @property
    def holding_allocation(self) -> bool:
        """Whether somebody waits for such an allocation."""
        return bool(self._read("holding_allocation"))

    @property
    def given_up_holding(self) -> int:
        """How many allocations took the ten seconds."""
        return self._read("given_up_holding")

    @property
    def pinned_bytes(self) -> int:
        """Copied to devices from pinned memory so far."""
        return self._read("pinned_bytes")

    @property
    def pageable_bytes(self) -> int:
        """Copied to devices from other memory so far."""
        return self._read("pageable_bytes")

    @property
    def host_in_use(self) -> int:
        """Bytes of pinned memory that TensorFlow has handed out."""
        return self._read("host_in_use")

    @property
    def host_peak(self) -> int:
        """The most that it has ever handed out."""
        return self._read("host_peak")

    @property
    def host_allocations(self) -> int:
        """How often it has handed out pinned memory."""
        return self._read("host_allocations")

    @property
    def host_waits(self) -> int:
        """How often somebody wanted to wait until there is some."""
        return self._read("host_waits")


def build(cache: Path) -> Path:
    """The library, compiled for this TensorFlow; `cache` keeps it."""
    folder = Path(tf.sysconfig.get_lib())
    flags = [f for f in tf.sysconfig.get_compile_flags() if f.startswith("-D")]
    sources = sorted(_SOURCES.iterdir())
    command = [
        *(os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-shared", "-fPIC"),
        *("-Wall", "-Wextra", "-Wshadow", "-Werror", "-fvisibility=hidden"),
        *("-isystem", tf.sysconfig.get_include(), *flags),
        *(str(source) for source in sources if source.suffix == ".cc"),
        *(str(folder / f"libtensorflow_{part}.so.2") for part in ("framework", "cc")),
        "-Wl,--no-undefined",
    ]
    seen = hashlib.sha256(repr((tf.__version__, command)).encode())
    for source in sources:
        seen.update(source.read_bytes())
    library = cache / f"stand_in_{seen.hexdigest()[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(unfinished)], check=True)
        unfinished.rename(library)
    return library
