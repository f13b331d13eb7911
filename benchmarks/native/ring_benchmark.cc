// Eight-byte items from one thread to another, and there and back, through the ring and through its baselines.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "queues.h"

namespace fastgen::benchmarks {
namespace {

constexpr std::uint64_t kItems = 100'000;  // of one iteration

/// Waits a moment; now and then long enough that another program gets this processor, should it have to share it.
class Patience {
 public:
  void Wait() {
    SpinPause();
    if (++turns_ % 4096 == 0) std::this_thread::yield();
  }

 private:
  unsigned turns_ = 0;
};

/// Some 40 ns each on recent x86, much less on older ones. Part of the time that is reported.
void Pause(unsigned times) {
  for (unsigned i = 0; i < times; ++i) SpinPause();
}

/// Another thread pushes without end, the benchmark's pops. Either may pause after each item, which decides what the other finds.
/// The counters tell how often, for each item, there was no room or nothing there.
template <typename Queue>
void Transfer(benchmark::State& state, std::size_t capacity, unsigned producer_pauses, unsigned consumer_pauses) {
  Queue queue(capacity);
  std::atomic<bool> done{false};
  std::uint64_t pushed = 0;
  std::uint64_t full = 0;
  std::thread producer([&] {
    Patience patience;
    while (!done.load(std::memory_order_relaxed)) {
      if (queue.TryPush(pushed)) {
        ++pushed;
        Pause(producer_pauses);
      } else {
        ++full;
        patience.Wait();
      }
    }
  });
  Patience patience;
  std::uint64_t popped = 0;
  std::uint64_t empty = 0;
  for (auto _ : state) {
    for (std::uint64_t i = 0; i < kItems; ++popped, ++i) {
      std::uint64_t item = 0;
      while (!queue.TryPop(&item)) {
        ++empty;
        patience.Wait();
      }
      if (item != popped) std::abort();
      Pause(consumer_pauses);
    }
  }
  done.store(true);
  producer.join();
  state.counters["items_per_second"] =
      benchmark::Counter(static_cast<double>(kItems), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["full"] = static_cast<double>(full) / static_cast<double>(pushed);
  state.counters["empty"] = static_cast<double>(empty) / static_cast<double>(popped);
}

/// The consumer waits for each item.
template <typename Queue>
void NeverFull(benchmark::State& state) {
  Transfer<Queue>(state, 1024, 1, 0);
}

/// The producer waits for each slot.
template <typename Queue>
void AlwaysFull(benchmark::State& state) {
  Transfer<Queue>(state, 1024, 0, 1);
}

/// Nobody pauses. Which side waits, or whether they run in step, is up to the queue and to the machine: see the counters.
template <typename Queue>
void FlatOut(benchmark::State& state) {
  Transfer<Queue>(state, 1024, 0, 0);
}

/// One item there and back, over two queues.
template <typename Queue>
void RoundTrip(benchmark::State& state) {
  constexpr std::uint64_t kStop = ~std::uint64_t{0};
  Queue there(16);
  Queue back(16);
  std::thread echo([&] {
    Patience patience;
    for (std::uint64_t item = 0; item != kStop;) {
      while (!there.TryPop(&item)) patience.Wait();
      back.TryPush(item);
    }
  });
  Patience patience;
  std::uint64_t item = 0;
  for (auto _ : state) {
    there.TryPush(item);
    while (!back.TryPop(&item)) patience.Wait();
  }
  there.TryPush(kStop);
  echo.join();
}

/// Medians of several runs: where two threads run, and beside whom, changes from run to run.
void Repeat(benchmark::internal::Benchmark* it) { it->UseRealTime()->MinTime(0.05)->Repetitions(7)->ReportAggregatesOnly(); }

#define FASTGEN_COMPARE(what)                            \
  BENCHMARK_TEMPLATE(what, PollingRing)->Apply(&Repeat); \
  BENCHMARK_TEMPLATE(what, WakingRing)->Apply(&Repeat);  \
  BENCHMARK_TEMPLATE(what, BoostQueue)->Apply(&Repeat);  \
  BENCHMARK_TEMPLATE(what, MutexQueue)->Apply(&Repeat)

FASTGEN_COMPARE(NeverFull);
FASTGEN_COMPARE(AlwaysFull);
FASTGEN_COMPARE(FlatOut);
FASTGEN_COMPARE(RoundTrip);

}  // namespace
}  // namespace fastgen::benchmarks
