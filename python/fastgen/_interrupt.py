"""What Ctrl-C means to those who wait for a source. Called by the native library; cpp/fastgen/python/signals.h tells when."""

import os
import signal
import sys
import threading

__all__ = ["main_thread_is_stuck", "may_raise"]

_LIBRARIES = tuple(f"{os.sep}{name}{os.sep}" for name in ("tensorflow", "keras"))


def main_thread_is_stuck() -> bool:
    """True when SIGINT means KeyboardInterrupt and the main thread cannot raise it, because it waits inside of TensorFlow.

    A main thread that runs Python, or sleeps in it, handles the signal by itself; then a source
    that some other thread waits for goes on undisturbed. So it does when the program handles SIGINT
    in its own way.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return frame is not None and any(name in frame.f_code.co_filename for name in _LIBRARIES)


def may_raise() -> bool:
    """False inside of the constructor of TensorFlow's exception: whole first, then replaced."""
    frame = sys._getframe(1)
    return frame.f_code.co_name != "__init__" or not any(
        name in frame.f_code.co_filename for name in _LIBRARIES
    )
