// Ctrl-C for a user who waits for a slow source.
//
// Python notes a signal in C and runs its handler when the main thread is next in bytecode. A main thread that waits inside of
// TensorFlow does not get there before the wait ends; and it is rarely the thread that waits here, because TensorFlow puts a
// prefetching thread between. So a SIGINT is held back for a moment, until a watching thread has looked at what the main thread
// does:
//   - it runs Python, or waits elsewhere than in TensorFlow: the signal is passed on as if nothing had been;
//   - it is in TensorFlow, and streams wait for their sources: these waits end, and KeyboardInterrupt is raised in the main thread
//     as soon as TensorFlow has returned;
//   - it is in TensorFlow, and nobody waits: the watcher looks again, until one of the other two holds.
#ifndef FASTGEN_PYTHON_SIGNALS_H_
#define FASTGEN_PYTHON_SIGNALS_H_

#include <cstdint>

#include "fastgen/python/python_api.h"

namespace fastgen::signals {

/// The two things that Python knows (python/fastgen/_interrupt.py): `main_thread_is_stuck()`, whether the main thread is in
/// TensorFlow and would raise KeyboardInterrupt if it were not; `may_raise()`, whether an exception can be raised where the main
/// thread is now. Call once, with the GIL.
void Initialize(PyObject* main_thread_is_stuck, PyObject* may_raise);

/// Makes sure that SIGINT is watched, also when somebody has installed a handler since. Any thread.
void Watch();

/// After a fork, in the child: the watching thread did not come along.
void ForgetWatcher();

/// A stream's wait, which SIGINT may end. Made and destroyed by the waiting thread, which calls ShouldGiveUp() now and then.
class WatchedWait {
 public:
  WatchedWait();
  ~WatchedWait();
  WatchedWait(const WatchedWait&) = delete;
  WatchedWait& operator=(const WatchedWait&) = delete;

  bool ShouldGiveUp() const;

 private:
  const std::uint64_t given_up_before_;
};

}  // namespace fastgen::signals

#endif  // FASTGEN_PYTHON_SIGNALS_H_
