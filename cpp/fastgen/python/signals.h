// Ctrl-C for a user who waits for a slow source.
//
// Python notes a signal in C and runs its handler when the main thread is next in bytecode. A main thread that waits inside of
// TensorFlow does not get there before the wait ends; and it is rarely the thread that waits here, because TensorFlow puts a
// prefetching thread between. So while streams wait, SIGINT is held back for a moment (at most a tick) until one of them has looked
// at what the main thread does: if it is stuck behind a stream, the streams' waits end, and KeyboardInterrupt is raised in the main
// thread once TensorFlow has returned; otherwise the signal is passed on as if nothing had been.
#ifndef FASTGEN_PYTHON_SIGNALS_H_
#define FASTGEN_PYTHON_SIGNALS_H_

#include <cstdint>

#include "fastgen/python/python_api.h"

namespace fastgen::signals {

/// The two decisions, made with the GIL in python/fastgen/_interrupt.py. `should_give_up()`: whether the waits should end for a
/// SIGINT that has arrived. `may_raise()`: whether KeyboardInterrupt can be raised where the main thread is now. Call once, with
/// the GIL.
void Initialize(PyObject* should_give_up, PyObject* may_raise);

/// A wait that SIGINT may end. Made and destroyed by the waiting thread, which calls ShouldGiveUp() now and then.
class WatchedWait {
 public:
  WatchedWait();
  ~WatchedWait();
  WatchedWait(const WatchedWait&) = delete;
  WatchedWait& operator=(const WatchedWait&) = delete;

  /// Whether to end the wait. Takes the GIL only when a signal has arrived.
  bool ShouldGiveUp();

 private:
  const std::uint64_t given_up_before_;
};

}  // namespace fastgen::signals

#endif  // FASTGEN_PYTHON_SIGNALS_H_
