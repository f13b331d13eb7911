// What moves bytes between the host and a device of the stand-in's: in order, on a thread of its own, and late.
#ifndef FASTGEN_TESTS_GPU_STAND_IN_COPY_ENGINE_H_
#define FASTGEN_TESTS_GPU_STAND_IN_COPY_ENGINE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>

namespace fastgen::stand_in {

/// Settings and counters of all engines.
struct Engines {
  std::atomic<std::int64_t> longest_delay_us{0};
  // Broken engines let go of what they read, and say that they have read it, before they do.
  std::atomic<bool> broken{false};
  std::atomic<std::uint64_t> pinned_copies{0};
  std::atomic<std::uint64_t> pinned_bytes{0};
  std::atomic<std::uint64_t> pageable_copies{0};
  std::atomic<std::uint64_t> pageable_bytes{0};

  static Engines& Global();
};

/// Runs jobs one after the other, each after a random delay.
class CopyEngine {
 public:
  CopyEngine();
  ~CopyEngine();

  void Enqueue(std::function<void()> job);
  /// Returns when all that was enqueued before has run.
  void Drain();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;  // all below guarded by mutex_
  bool stopping_ = false;
  std::mt19937_64 random_{20};  // the thread's own
  std::thread thread_;
};

}  // namespace fastgen::stand_in

#endif  // FASTGEN_TESTS_GPU_STAND_IN_COPY_ENGINE_H_
