#include "fastgen/python/lifecycle.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "fastgen/core/slab_pool.h"
#include "fastgen/python/gil.h"
#include "fastgen/python/producer.h"
#include "fastgen/python/signals.h"

namespace fastgen::lifecycle {
namespace {

/// How long the interpreter's exit waits for all producers together. A source that is stuck longer is left behind in silence:
/// the process is going away with it.
constexpr std::chrono::milliseconds kExitPatience{1000};

std::atomic<bool> exiting{false};
std::atomic<std::uint32_t> fork_generation{0};

/// Everything behind one mutex, and never destroyed: threads may come here while the process runs its last destructors.
struct State {
  std::mutex mutex;
  std::vector<std::shared_ptr<Producer>> producers;  // started, and not yet gone
  std::vector<PyObject*> to_drop;
  bool drop_scheduled = false;
};

State& state() {
  static auto* the_state = new State;
  return *the_state;
}

// Every lock that a thread may hold without the GIL is held across fork, so that the child inherits none that will never be freed.
void BeforeFork() {
  state().mutex.lock();
  SourceRegistry::Global().Lock();
  SlabPool::Global().LockAll();
}

void FreeLocksAfterFork() {
  SlabPool::Global().UnlockAll();
  SourceRegistry::Global().Unlock();
  state().mutex.unlock();
}

void AfterForkInChild() {
  fork_generation.fetch_add(1, std::memory_order_relaxed);
  // The threads of these producers did not come along. What they hold is leaked: their destructors would wait for them.
  new std::vector<std::shared_ptr<Producer>>(std::move(state().producers));
  state().producers.clear();
  state().drop_scheduled = false;
  FreeLocksAfterFork();
  signals::ForgetWatcher();
}

int DropNowPending(void*) {
  DropNow();
  return 0;
}

}  // namespace

void Initialize() { pthread_atfork(&BeforeFork, &FreeLocksAfterFork, &AfterForkInChild); }

bool Exiting() { return exiting.load(std::memory_order_acquire); }

std::uint32_t ForkGeneration() { return fork_generation.load(std::memory_order_relaxed); }

bool Register(const std::shared_ptr<Producer>& producer) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  if (Exiting()) return false;
  state().producers.push_back(producer);
  return true;
}

void Unregister(const Producer* producer) {
  std::shared_ptr<Producer> last;  // dropped outside the lock
  const std::lock_guard<std::mutex> lock(state().mutex);
  auto& producers = state().producers;
  const auto found = std::find_if(producers.begin(), producers.end(), [&](const auto& p) { return p.get() == producer; });
  if (found == producers.end()) return;
  std::swap(*found, producers.back());
  last = std::move(producers.back());
  producers.pop_back();
}

void StopAllProducers() {
  std::vector<std::shared_ptr<Producer>> producers;
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    producers = state().producers;
    // From here on nothing new starts. Producers at work still need the GIL to close their sources, and may have it: CPython
    // is whole until its atexit functions have returned.
    exiting.store(true, std::memory_order_release);
  }
  const auto deadline = std::chrono::steady_clock::now() + kExitPatience;
  WithoutGil([&] {  // the producers need it to close their sources
    for (const auto& producer : producers) producer->channel().Close();
    for (const auto& producer : producers) producer->WaitUntilFinished(deadline);
  });
  // References that wait to be dropped are dropped while that is still possible.
  DropNow();
}

void DropLater(PyObject* object) {
  if (object == nullptr || Exiting()) return;
  bool schedule = false;
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().to_drop.push_back(object);
    schedule = !std::exchange(state().drop_scheduled, true);
  }
  // The main thread runs it as soon as it next runs bytecode. Should the interpreter's short list of pending calls be full, the
  // next DropLater() or DropNow() comes round to it.
  if (schedule && Py_AddPendingCall(&DropNowPending, nullptr) != 0) {
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().drop_scheduled = false;
  }
}

void DropNow() {
  std::vector<PyObject*> objects;
  {
    const std::lock_guard<std::mutex> lock(state().mutex);
    objects.swap(state().to_drop);
    state().drop_scheduled = false;
  }
  // Finalizers may run, and may fail: whatever exception is being handled here is not theirs to replace.
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  for (PyObject* object : objects) Py_DECREF(object);
  PyErr_Restore(type, value, traceback);
}

}  // namespace fastgen::lifecycle
