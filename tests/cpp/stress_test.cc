// Two threads, more than fifty million items, order and content of each one checked.
//
// Instrumented builds do the same with fewer: a fiftieth under ThreadSanitizer, a tenth under AddressSanitizer.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <thread>

#include "fastgen/core/channel.h"
#include "fastgen/core/parking.h"
#include "fastgen/core/ring.h"
#include "support.h"

namespace fastgen {
namespace {

using testing::kForever;
using testing::NumberIn;
using testing::Send;

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kFewer = 50;
#elif defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kFewer = 10;
#else
constexpr std::uint64_t kFewer = 1;
#endif

constexpr std::uint64_t kMillion = 1'000'000;

/// Numbers that look random and are the same in both threads.
std::uint64_t Scramble(std::uint64_t n) {
  n = (n ^ (n >> 31)) * 0x9E3779B97F4A7C15u;
  return n ^ (n >> 29);
}

/// Takes time that no compiler removes and no scheduler sees.
void Work(std::uint64_t rounds) {
  for (std::uint64_t i = 0; i < rounds; ++i) SpinPause();
}

/// How many rounds of work each side does for an item; every so often both change places, so that the ring is full for a while
/// and empty for a while.
struct Pace {
  std::uint64_t producer = 0;
  std::uint64_t consumer = 0;
  std::uint64_t swap_every = 0;  // items; 0 is never

  bool Swapped(std::uint64_t i) const { return swap_every != 0 && i / swap_every % 2 == 1; }
  std::uint64_t ForProducer(std::uint64_t i) const { return Swapped(i) ? consumer : producer; }
  std::uint64_t ForConsumer(std::uint64_t i) const { return Swapped(i) ? producer : consumer; }
};

// The ring with a parking spot for either side -------------------------------------------------------------------------

/// Several words, so that a slot that is handed over half written shows.
struct Item {
  std::uint64_t number;
  std::uint64_t scrambled;
  std::uint64_t complement;
};

/// As simple as sleeping on both sides can be: wake the other after every single step.
class SleepyRing {
 public:
  explicit SleepyRing(std::size_t capacity) : ring_(capacity) {}

  void Push(std::uint64_t number) {
    Item* item = nullptr;
    while ((item = ring_.Reserve()) == nullptr) {
      room_.Park([this] { return ring_.published() - popped_.load(std::memory_order_seq_cst) < ring_.capacity(); }, kForever);
    }
    *item = {number, Scramble(number), ~number};
    ring_.Publish(std::memory_order_seq_cst);
    items_.Unpark();
  }

  Item Pop() {
    Item* item = nullptr;
    while ((item = ring_.Front()) == nullptr) items_.Park([this] { return ring_.HasItemSeqCst(); }, kForever);
    const Item copy = *item;
    *item = {};
    ring_.Pop();
    popped_.store(ring_.consumed(), std::memory_order_seq_cst);
    room_.Unpark();
    return copy;
  }

 private:
  Ring<Item> ring_;
  alignas(kCacheLine) std::atomic<std::uint64_t> popped_{0};  // the head again, in the one total order
  alignas(kCacheLine) ParkingSpot room_;
  alignas(kCacheLine) ParkingSpot items_;
};

void RunRing(std::size_t capacity, std::uint64_t items, const Pace& pace) {
  items /= kFewer;
  SleepyRing ring(capacity);
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < items; ++i) {
      Work(pace.ForProducer(i));
      ring.Push(i);
    }
  });
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < items; ++i) {
    const Item item = ring.Pop();
    if (item.number != i || item.scrambled != Scramble(i) || item.complement != ~i) ++wrong;
    Work(pace.ForConsumer(i));
  }
  producer.join();
  EXPECT_EQ(wrong, 0u);
}

TEST(RingStress, RunsFree) { RunRing(1024, 25 * kMillion, {}); }
TEST(RingStress, MostlyFull) { RunRing(16, kMillion, {0, 3, 0}); }
TEST(RingStress, MostlyEmpty) { RunRing(1024, 100'000, {200, 0, 0}); }
TEST(RingStress, FullAndEmptyByTurns) { RunRing(64, 3 * kMillion, {0, 2, 1000}); }
TEST(RingStress, OneSlot) { RunRing(1, 50'000, {}); }

// The channel ----------------------------------------------------------------------------------------------------------

ReadAhead Frames(std::int64_t count) { return {count, ReadAhead::kNoByteLimit}; }

void RunChannel(const ReadAhead& read_ahead, std::uint64_t items, const Pace& pace) {
  items /= kFewer;
  Channel channel(1, read_ahead);
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < items; ++i) {
      Work(pace.ForProducer(i));
      if (!Send(channel, static_cast<std::int64_t>(Scramble(i)))) return;
    }
    channel.Finish();
  });
  std::uint64_t received = 0;
  std::uint64_t wrong = 0;
  Frame* frame = nullptr;
  for (Channel::Outcome outcome; (outcome = channel.Next(&frame, kForever)) != Channel::Outcome::kEnd;) {
    if (outcome == Channel::Outcome::kEmpty) continue;
    if (static_cast<std::uint64_t>(NumberIn(*frame)) != Scramble(received)) ++wrong;
    channel.Release();
    Work(pace.ForConsumer(received++));
  }
  producer.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(received, items);
  const Statistics statistics = channel.statistics();
  EXPECT_EQ(statistics.frames_published, items);
  EXPECT_EQ(statistics.frames_consumed, items);
  std::cout << items << " frames: the producer waited " << statistics.producer_waits << " times, the consumer "
            << statistics.consumer_waits << " times\n";
}

TEST(ChannelStress, RunsFree) { RunChannel(Frames(1024), 20 * kMillion, {}); }
TEST(ChannelStress, Autotuned) { RunChannel({}, 5 * kMillion, {}); }
TEST(ChannelStress, AutotunedWithinFewBytes) { RunChannel({ReadAhead::kAutotune, 1000}, 2 * kMillion, {}); }
TEST(ChannelStress, MostlyFull) { RunChannel(Frames(16), kMillion, {0, 3, 0}); }
TEST(ChannelStress, MostlyEmpty) { RunChannel(Frames(1024), 100'000, {200, 0, 0}); }
TEST(ChannelStress, FullAndEmptyByTurns) { RunChannel(Frames(64), 3 * kMillion, {0, 2, 1000}); }
TEST(ChannelStress, OneFrame) { RunChannel(Frames(1), 100'000, {}); }

}  // namespace
}  // namespace fastgen
