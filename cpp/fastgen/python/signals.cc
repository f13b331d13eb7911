#include "fastgen/python/signals.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "fastgen/python/gil.h"
#include "fastgen/python/lifecycle.h"

namespace fastgen::signals {
namespace {

/// What a handler raised and Python has yet to see; guarded by the GIL.
PyObject* raised = nullptr;

/// Runs on the main thread as soon as it is back in bytecode.
int Raise(void*) {
  PyObject* exception = raised;
  raised = nullptr;
  if (exception == nullptr) return 0;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception)), exception);
  Py_DECREF(exception);
  return -1;
}

/// With the GIL, on the main thread.
bool RunHandlers() {
  if (PyErr_CheckSignals() == 0) return false;
  // The exception cannot pass through TensorFlow, which reports a cancelled wait in its own words; so it is raised again once
  // Python runs.
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  Py_XDECREF(raised);
  raised = value;
  Py_AddPendingCall(&Raise, nullptr);
  return true;
}

}  // namespace

bool Interrupted() {
  if (lifecycle::Exiting() || syscall(SYS_gettid) != getpid()) return false;
  bool raised_one = false;
  WithGil([&] { raised_one = RunHandlers(); });
  return raised_one;
}

}  // namespace fastgen::signals
