// The ring and what one would take in its place, with one face: TryPush() and TryPop() of eight bytes, one thread on either side.
#ifndef FASTGEN_BENCHMARKS_NATIVE_QUEUES_H_
#define FASTGEN_BENCHMARKS_NATIVE_QUEUES_H_

#include <atomic>
#include <boost/lockfree/spsc_queue.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>

#include "fastgen/core/parking.h"
#include "fastgen/core/ring.h"

namespace fastgen::benchmarks {

/// The ring as a consumer uses it that never sleeps.
class PollingRing {
 public:
  explicit PollingRing(std::size_t capacity) : ring_(capacity) {}
  bool TryPush(std::uint64_t item) {
    std::uint64_t* slot = ring_.Reserve();
    if (slot == nullptr) return false;
    *slot = item;
    ring_.Publish();
    return true;
  }
  bool TryPop(std::uint64_t* item) {
    const std::uint64_t* slot = ring_.Front();
    if (slot == nullptr) return false;
    *item = *slot;
    ring_.Pop();
    return true;
  }

 private:
  Ring<std::uint64_t> ring_;
};

/// The ring as the channel uses it: each push is seq_cst and looks whether the consumer sleeps. Here it never does, so this is
/// what being able to sleep costs.
class WakingRing {
 public:
  explicit WakingRing(std::size_t capacity) : ring_(capacity) {}
  bool TryPush(std::uint64_t item) {
    std::uint64_t* slot = ring_.Reserve();
    if (slot == nullptr) return false;
    *slot = item;
    ring_.Publish(std::memory_order_seq_cst);
    parking_.Unpark();
    return true;
  }
  bool TryPop(std::uint64_t* item) {
    const std::uint64_t* slot = ring_.Front();
    if (slot == nullptr) return false;
    *item = *slot;
    ring_.Pop();
    return true;
  }

 private:
  Ring<std::uint64_t> ring_;
  alignas(kCacheLine) ParkingSpot parking_;
};

class BoostQueue {
 public:
  explicit BoostQueue(std::size_t capacity) : queue_(capacity) {}
  bool TryPush(std::uint64_t item) { return queue_.push(item); }
  bool TryPop(std::uint64_t* item) { return queue_.pop(*item); }

 private:
  boost::lockfree::spsc_queue<std::uint64_t> queue_;
};

class MutexQueue {
 public:
  explicit MutexQueue(std::size_t capacity) : capacity_(capacity) {}
  bool TryPush(std::uint64_t item) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (items_.size() == capacity_) return false;
    items_.push_back(item);
    return true;
  }
  bool TryPop(std::uint64_t* item) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (items_.empty()) return false;
    *item = items_.front();
    items_.pop_front();
    return true;
  }

 private:
  const std::size_t capacity_;
  std::mutex mutex_;
  std::deque<std::uint64_t> items_;
};

}  // namespace fastgen::benchmarks

#endif  // FASTGEN_BENCHMARKS_NATIVE_QUEUES_H_
