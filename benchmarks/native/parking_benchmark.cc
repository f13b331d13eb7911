// What sleeping costs: waking somebody, and looking whether anybody is to be woken.
#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "fastgen/core/parking.h"

namespace fastgen::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kForever = std::chrono::hours(1);
/// Time for a thread to fall asleep. Not part of what is measured.
constexpr auto kFallAsleep = std::chrono::microseconds(200);

std::int64_t Now() { return Clock::now().time_since_epoch().count(); }

/// A number that one thread waits for, asleep in a ParkingSpot.
class Parked {
 public:
  void Publish(std::uint64_t number) {
    number_.store(number, std::memory_order_seq_cst);
    spot_.Unpark();
  }
  void WaitFor(std::uint64_t number) {
    const auto there = [&] { return number_.load(std::memory_order_seq_cst) >= number; };
    while (!there()) spot_.Park(there, kForever);
  }

 private:
  std::atomic<std::uint64_t> number_{0};
  ParkingSpot spot_;
};

/// The same with what the standard library offers.
class Conditional {
 public:
  void Publish(std::uint64_t number) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      number_ = number;
    }
    condition_.notify_one();
  }
  void WaitFor(std::uint64_t number) {
    std::unique_lock<std::mutex> lock(mutex_);
    condition_.wait(lock, [&] { return number_ >= number; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  std::uint64_t number_ = 0;
};

/// From the moment before publishing to the moment when the sleeper runs.
template <typename Signal>
void WakeSleeper(benchmark::State& state) {
  constexpr std::uint64_t kStop = std::uint64_t{1} << 62;
  Signal signal;
  Signal answer;
  std::atomic<std::int64_t> woken_at{0};
  std::atomic<bool> done{false};
  std::thread sleeper([&] {
    for (std::uint64_t round = 1;; ++round) {
      signal.WaitFor(round);
      woken_at.store(Now(), std::memory_order_relaxed);
      if (done.load()) return;
      answer.Publish(round);
    }
  });
  std::uint64_t round = 0;
  for (auto _ : state) {
    std::this_thread::sleep_for(kFallAsleep);
    const std::int64_t published_at = Now();
    signal.Publish(++round);
    answer.WaitFor(round);
    state.SetIterationTime(static_cast<double>(woken_at.load(std::memory_order_relaxed) - published_at) * 1e-9);
  }
  done.store(true);
  signal.Publish(kStop);
  sleeper.join();
}
BENCHMARK_TEMPLATE(WakeSleeper, Parked)->UseManualTime()->Iterations(4000)->Unit(benchmark::kMicrosecond);
BENCHMARK_TEMPLATE(WakeSleeper, Conditional)->UseManualTime()->Iterations(4000)->Unit(benchmark::kMicrosecond);

/// What the publisher pays while nobody sleeps.
void UnparkNobody(benchmark::State& state) {
  ParkingSpot spot;
  for (auto _ : state) {
    spot.Unpark();
    benchmark::ClobberMemory();
  }
}
BENCHMARK(UnparkNobody)->MinTime(0.2);

/// What the publisher pays for the system call that wakes, without the sleeper's share.
void UnparkSomebody(benchmark::State& state) {
  Parked signal;
  std::atomic<bool> done{false};
  std::thread sleeper([&] {
    for (std::uint64_t round = 1; !done.load(); ++round) signal.WaitFor(round);
  });
  std::uint64_t round = 0;
  for (auto _ : state) {
    std::this_thread::sleep_for(kFallAsleep);
    const std::int64_t begin = Now();
    signal.Publish(++round);
    state.SetIterationTime(static_cast<double>(Now() - begin) * 1e-9);
  }
  done.store(true);
  signal.Publish(++round);
  sleeper.join();
}
BENCHMARK(UnparkSomebody)->UseManualTime()->Iterations(4000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace fastgen::benchmarks
