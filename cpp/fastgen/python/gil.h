// Holding and freeing the GIL for a scope.
//
// CPython up to 3.13 ends a thread that asks for the GIL after finalization began by unwinding its stack, as if an exception
// flew. It must find no `noexcept` frame in its way, or the process dies; hence the destructors' noexcept(false).
#ifndef FASTGEN_PYTHON_GIL_H_
#define FASTGEN_PYTHON_GIL_H_

#include "fastgen/python/python_api.h"

namespace fastgen {

/// Holds the GIL, taking it if this thread does not have it. Never construct one when lifecycle::Exiting().
class GilHold {
 public:
  GilHold() : state_(PyGILState_Ensure()) {}
  ~GilHold() noexcept(false) { PyGILState_Release(state_); }
  GilHold(const GilHold&) = delete;
  GilHold& operator=(const GilHold&) = delete;

 private:
  PyGILState_STATE state_;
};

/// Frees the GIL, which this thread must hold, and takes it back at the end of the scope.
class GilFree {
 public:
  GilFree() : thread_(PyEval_SaveThread()) {}
  ~GilFree() noexcept(false) { PyEval_RestoreThread(thread_); }
  GilFree(const GilFree&) = delete;
  GilFree& operator=(const GilFree&) = delete;

 private:
  PyThreadState* thread_;
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_GIL_H_
