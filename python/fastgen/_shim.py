"""Loads the TensorFlow shim, once, and connects it to the native library."""

import ctypes
from typing import Any, Final

import tensorflow as tf

from fastgen import _native
from fastgen._tensorflow_version import shim_path

__all__ = ["ops"]


def _load() -> Any:
    path = str(shim_path(".".join(tf.__version__.split(".")[:2])))
    generated = tf.load_op_library(path)
    connect = ctypes.CDLL(path).fastgen_connect
    connect.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    connect.restype = ctypes.c_bool
    if not connect(_native.stream_provider_address(), _native.stream_interface_version()):
        raise ImportError(
            f"fastgen's two libraries ({_native.__file__} and {path}) come from different builds. "
            f"Install fastgen again: pip install --force-reinstall --no-deps fastgen"
        )
    return generated


ops: Final[Any] = _load()
"""The generated Python wrappers of fastgen's ops."""
