#include "fastgen/python/signals.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>

#include "fastgen/python/gil.h"
#include "fastgen/python/lifecycle.h"

namespace fastgen::signals {
namespace {

/// How often the watcher looks at a main thread that is busy in TensorFlow while a signal is held back.
constexpr std::chrono::milliseconds kLook{20};

// Everything here is seq_cst: a handler may interrupt any thread between any two of these, and none of it is hot.
std::atomic<int> waiting{0};              // streams in a WatchedWait
std::atomic<bool> watcher_runs{false};    // somebody will decide on a signal that is held back
std::atomic<bool> held_back{false};       // a SIGINT that has not been decided on yet
std::atomic<bool> pass_on{false};         // the next SIGINT is one that was held back
std::atomic<std::uint64_t> given_up{0};   // how often waits were told to end
std::atomic<bool> on_its_way{false};      // a KeyboardInterrupt that the main thread has not raised yet
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "used in a signal handler");

sem_t* arrived = nullptr;  // posted for each signal held back; one for each watcher, never freed

PyObject* main_thread_is_stuck_policy = nullptr;  // both set once, with the GIL; never dropped
PyObject* may_raise_policy = nullptr;

std::mutex install_mutex;
// The handler that was there before. Written before OnInterrupt() is installed, under install_mutex.
struct sigaction next_handler;

/// Does only what a signal handler may do.
void OnInterrupt(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool passed_on = pass_on.exchange(false);
  // A second Ctrl-C is never held back: should the first have been lost, the user gets through.
  const bool hold = !passed_on && watcher_runs.load() && !lifecycle::Exiting() && !held_back.exchange(true);
  if (hold) sem_post(arrived);
  errno = saved_errno;
  if (hold) return;
  if ((next_handler.sa_flags & SA_SIGINFO) != 0) {
    next_handler.sa_sigaction(number, info, context);
  } else {
    next_handler.sa_handler(number);
  }
}

/// Installs OnInterrupt() before whatever handles SIGINT now.
void InstallHandler() {
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
  on_its_way.store(false);
  PyErr_SetNone(PyExc_KeyboardInterrupt);
  return -1;
}

/// Decides on one signal; see the top of signals.h.
void Decide() {
  for (;;) {
    bool stuck = false;
    if (!lifecycle::Exiting()) WithGil([&] { stuck = Ask(main_thread_is_stuck_policy); });
    if (!stuck) break;
    if (waiting.load() > 0) {
      on_its_way.store(true);
      WithGil([] { Py_AddPendingCall(&RaiseInterrupt, nullptr); });
      given_up.fetch_add(1);
      held_back.store(false);
      return;
    }
    std::this_thread::sleep_for(kLook);
  }
  held_back.store(false);
  PassOn();
}

void RunWatcher(sem_t* semaphore) {
  pthread_setname_np(pthread_self(), "fastgen-signals");
  for (;;) {
    if (sem_wait(semaphore) == 0) Decide();
  }
}

void StartWatcher() {
  if (watcher_runs.load() || main_thread_is_stuck_policy == nullptr) return;
  // A child of a fork gets a semaphore of its own: the old one's state is unknown there.
  arrived = new sem_t;
  sem_init(arrived, 0, 0);
  // Signals are for others: the main thread's system calls should be the ones that they interrupt.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    std::thread(&RunWatcher, arrived).detach();
    watcher_runs.store(true);
  } catch (const std::system_error&) {
    // No thread to be had: signals are not held back, and reach a waiting user late, as without fastgen.
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

void Initialize(PyObject* main_thread_is_stuck, PyObject* may_raise) {
  Py_INCREF(main_thread_is_stuck);
  Py_INCREF(may_raise);
  main_thread_is_stuck_policy = main_thread_is_stuck;
  may_raise_policy = may_raise;
}

void Watch() {
  const std::lock_guard<std::mutex> lock(install_mutex);
  if (lifecycle::Exiting()) return;
  StartWatcher();
  InstallHandler();
}

void ForgetWatcher() {
  // The mutex may have been held by another thread when the process forked; it is this thread's alone now.
  new (&install_mutex) std::mutex;
  watcher_runs.store(false);
  held_back.store(false);
  on_its_way.store(false);
  waiting.store(0);
}

WatchedWait::WatchedWait() : given_up_before_(given_up.load()) {
  Watch();
  waiting.fetch_add(1);
}

WatchedWait::~WatchedWait() { waiting.fetch_sub(1); }

bool WatchedWait::ShouldGiveUp() const {
  // Also a wait that began afterwards: TensorFlow's prefetching asks again after an error, while the main thread waits for it to
  // come to rest.
  return given_up.load() != given_up_before_ || on_its_way.load();
}

}  // namespace fastgen::signals
