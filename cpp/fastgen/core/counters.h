// What a channel has seen, for reports and for tuning. Each counter has one writer; anybody may read.
#ifndef FASTGEN_CORE_COUNTERS_H_
#define FASTGEN_CORE_COUNTERS_H_

#include <atomic>
#include <cstdint>

namespace fastgen {

/// A number that one thread raises and others read now and then. Relaxed throughout: it orders nothing.
class Counter {
 public:
  void Add(std::uint64_t n) {
    // No fetch_add: there is one writer, and a plain addition costs a fraction of a locked one.
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// A copy of a channel's counters.
struct Statistics {
  std::uint64_t frames_published = 0;
  std::uint64_t frames_consumed = 0;
  std::uint64_t errors = 0;
  std::uint64_t bytes = 0;           // of all frames consumed
  std::uint64_t producer_waits = 0;  // how often the producer slept because the ring was full
  std::uint64_t consumer_waits = 0;  // how often the consumer slept because the ring was empty
  std::uint64_t window = 0;          // how many frames the producer may be ahead, now
  std::uint64_t buffered_bytes = 0;  // of the frames that wait, now
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_COUNTERS_H_
