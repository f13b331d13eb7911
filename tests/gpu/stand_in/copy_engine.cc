#include "copy_engine.h"

#include <chrono>
#include <utility>

namespace fastgen::stand_in {

Engines& Engines::Global() {
  static auto* engines = new Engines;
  return *engines;
}

CopyEngine::CopyEngine() : thread_(&CopyEngine::Run, this) {}

CopyEngine::~CopyEngine() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CopyEngine::Enqueue(std::function<void()> job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

void CopyEngine::Drain() {
  std::mutex done_mutex;
  std::condition_variable done_changed;
  bool done = false;
  Enqueue([&] {
    // Notified under the lock: the waiter, and these variables with it, may be gone right after.
    const std::lock_guard<std::mutex> lock(done_mutex);
    done = true;
    done_changed.notify_all();
  });
  std::unique_lock<std::mutex> lock(done_mutex);
  done_changed.wait(lock, [&] { return done; });
}

void CopyEngine::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    const std::int64_t longest = Engines::Global().longest_delay_us.load();
    if (longest > 0) {
      std::uniform_int_distribution<std::int64_t> delay(0, longest);
      std::this_thread::sleep_for(std::chrono::microseconds(delay(random_)));
    }
    job();
    job = nullptr;
    lock.lock();
  }
}

}  // namespace fastgen::stand_in
