#include "fastgen/python/signals.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>

#include "fastgen/python/gil.h"
#include "fastgen/python/lifecycle.h"

namespace fastgen::signals {
namespace {

// Everything here is seq_cst: a handler may interrupt any thread between any two of these, and none of it is hot.
std::atomic<int> waiting{0};             // streams in a WatchedWait
std::atomic<bool> held_back{false};      // a SIGINT that nobody has decided on yet
std::atomic<bool> pass_on{false};        // the next SIGINT is one that was held back
std::atomic<std::uint64_t> given_up{0};  // how often waits were told to end
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "used in a signal handler");

PyObject* should_give_up_policy = nullptr;  // both set once, with the GIL; never dropped
PyObject* may_raise_policy = nullptr;

std::mutex install_mutex;
// The handler that was there before. Written before OnInterrupt() is installed, under install_mutex.
struct sigaction next_handler;

/// Does only what a signal handler may do.
void OnInterrupt(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool passed_on = pass_on.exchange(false);
  // A second Ctrl-C is never held back: should the first have been lost, the user gets through.
  const bool hold = !passed_on && waiting.load() > 0 && !held_back.exchange(true);
  errno = saved_errno;
  if (hold) return;
  if ((next_handler.sa_flags & SA_SIGINFO) != 0) {
    next_handler.sa_sigaction(number, info, context);
  } else {
    next_handler.sa_handler(number);
  }
}

/// Installs OnInterrupt() before whatever handles SIGINT now; again if somebody has installed a handler since.
void Watch() {
  const std::lock_guard<std::mutex> lock(install_mutex);
  struct sigaction current;
  if (sigaction(SIGINT, nullptr, &current) != 0) return;
  const bool ours = (current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == &OnInterrupt;
  // Without a handler the signal ends the process, or is ignored: nothing to add to that.
  const bool nobodys = (current.sa_flags & SA_SIGINFO) == 0 && (current.sa_handler == SIG_DFL || current.sa_handler == SIG_IGN);
  if (ours || nobodys) return;
  next_handler = current;
  struct sigaction watching = current;
  watching.sa_flags |= SA_SIGINFO;
  watching.sa_sigaction = &OnInterrupt;
  sigaction(SIGINT, &watching, nullptr);
}

/// Sends the signal that was held back to the main thread, so that it also ends a system call there.
void PassOn() {
  pass_on.store(true);
  syscall(SYS_tgkill, getpid(), getpid(), SIGINT);
}

bool Ask(PyObject* policy) {
  PyObject* answer = PyObject_CallNoArgs(policy);
  const bool yes = answer == Py_True;
  if (answer == nullptr) PyErr_WriteUnraisable(policy);
  Py_XDECREF(answer);
  return yes;
}

/// Runs on the main thread when it is back in bytecode.
int RaiseInterrupt(void*) {
  // Inside of the constructor of TensorFlow's own exception, another exception would be reported as a fault of the binding. It is
  // over soon; until then the interpreter asks again.
  if (!Ask(may_raise_policy) && Py_AddPendingCall(&RaiseInterrupt, nullptr) == 0) return 0;
  PyErr_SetNone(PyExc_KeyboardInterrupt);
  return -1;
}

}  // namespace

void Initialize(PyObject* should_give_up, PyObject* may_raise) {
  Py_INCREF(should_give_up);
  Py_INCREF(may_raise);
  should_give_up_policy = should_give_up;
  may_raise_policy = may_raise;
}

WatchedWait::WatchedWait() : given_up_before_(given_up.load()) {
  Watch();
  waiting.fetch_add(1);
}

WatchedWait::~WatchedWait() {
  waiting.fetch_sub(1);
  // A signal that came in the last moment of the wait: Python is about to run anyway.
  if (held_back.exchange(false)) PassOn();
}

bool WatchedWait::ShouldGiveUp() {
  Watch();
  if (held_back.exchange(false)) {
    bool give_up = false;
    if (should_give_up_policy != nullptr && !lifecycle::Exiting()) {
      WithGil([&] { give_up = Ask(should_give_up_policy) && Py_AddPendingCall(&RaiseInterrupt, nullptr) == 0; });
    }
    if (give_up) {
      given_up.fetch_add(1);  // all who wait, not only this one
    } else {
      PassOn();
    }
  }
  return given_up.load() != given_up_before_;
}

}  // namespace fastgen::signals
