// Holding and freeing the GIL around a piece of code.
//
// Functions rather than guard objects, for one reason: CPython up to 3.13 ends a thread that asks for the GIL after finalization
// began by unwinding its stack, as if an exception flew. A guard's destructor would then touch the interpreter without the GIL,
// and a destructor that takes the GIL could not be unwound through at all. Nothing here runs on the way out. For the same reason
// no frame above these may be `noexcept`, and `body` must not throw.
#ifndef FASTGEN_PYTHON_GIL_H_
#define FASTGEN_PYTHON_GIL_H_

#include "fastgen/python/python_api.h"

namespace fastgen {

/// Whether this thread holds the GIL. PyGILState_Check() would do, but says yes to every thread once there has been a
/// subinterpreter.
inline bool HoldsGil() {
#if PY_VERSION_HEX >= 0x030d0000
  PyThreadState* const current = PyThreadState_GetUnchecked();
#else
  PyThreadState* const current = _PyThreadState_UncheckedGet();
#endif
  return current != nullptr && current == PyGILState_GetThisThreadState();
}

/// Runs `body` with the GIL, taking it if this thread does not have it. Never when lifecycle::Exiting().
template <typename Body>
void WithGil(const Body& body) {
  const PyGILState_STATE state = PyGILState_Ensure();
  body();
  PyGILState_Release(state);
}

/// Runs `body` without the GIL, which this thread must hold. `body` must not touch any Python object.
template <typename Body>
void WithoutGil(const Body& body) {
  PyThreadState* const thread = PyEval_SaveThread();
  body();
  PyEval_RestoreThread(thread);
}

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_GIL_H_
