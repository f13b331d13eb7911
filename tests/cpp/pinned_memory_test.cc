// Slabs from a device's host allocator: within the limit, recycled, and out of plain memory beyond it.
#include "fastgen/core/pinned_memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "fastgen/core/memory_pressure.h"
#include "fastgen/core/system_memory.h"
#include "support.h"

// ThreadSanitizer's search for deadlocks ends the process where a thread holds more than 64 locks, as one does across a fork.
extern "C" const char* __tsan_default_options() { return "detect_deadlocks=0"; }

namespace fastgen {
namespace {

using testing::LittleMemory;
using testing::MemoryIs;
using testing::PlentyOfMemory;

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

const MemoryIs unless_said_otherwise(&PlentyOfMemory);

/// Memory that calls itself pinned, spoils what is given back, and can have nothing left.
class HostAllocator final : public SlabAllocator {
 public:
  ~HostAllocator() override { EXPECT_EQ(in_use(), 0u); }

  void* Allocate(std::size_t bytes) override {
    if (empty) return nullptr;
    ++allocations;
    void* const data = SystemMemory::Global().Allocate(bytes);
    const std::lock_guard<std::mutex> lock(mutex_);
    in_use_ += bytes;
    if (in_use_ > peak_) peak_ = in_use_;
    return data;
  }
  void Free(void* data, std::size_t bytes) override {
    std::memset(data, 0xDB, bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      in_use_ -= bytes;
    }
    SystemMemory::Global().Free(data, bytes);
  }
  bool pinned() const override { return true; }

  std::size_t in_use() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return in_use_;
  }
  std::size_t peak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return peak_;
  }

  std::atomic<bool> empty{false};
  std::atomic<int> allocations{0};

 private:
  std::mutex mutex_;
  std::size_t in_use_ = 0;
  std::size_t peak_ = 0;
};

TEST(PinnedMemory, SlabsArePinnedAndAligned) {
  HostAllocator host;
  PinnedMemory memory(host, 64 * kMegabyte);
  for (const std::size_t bytes : {0ul, 1ul, 100ul, 5000ul, kMegabyte + 1}) {
    const BlockRef slab = memory.Get(bytes);
    EXPECT_TRUE(slab->pinned());
    EXPECT_EQ(slab->size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slab->data()) % kSlabAlignment, 0u);
    std::memset(slab->data(), 1, bytes);
  }
  EXPECT_EQ(memory.figures().slabs, 5u);
  EXPECT_EQ(memory.figures().fallbacks, 0u);
}

TEST(PinnedMemory, PlainSlabsAreNot) { EXPECT_FALSE(SlabPool::Global().Get(100)->pinned()); }

TEST(PinnedMemory, IsRecycled) {
  HostAllocator host;
  PinnedMemory memory(host, 8 * kMegabyte);
  for (int i = 0; i < 100; ++i) memory.Get(kMegabyte);
  EXPECT_EQ(host.allocations, 1);
  EXPECT_EQ(memory.figures().slabs, 100u);
  EXPECT_EQ(memory.figures().taken_bytes, kMegabyte);
  EXPECT_EQ(memory.figures().free_bytes, kMegabyte);
}

TEST(PinnedMemory, BeyondTheLimitSlabsArePlain) {
  HostAllocator host;
  PinnedMemory memory(host, 3 * kMegabyte);
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 5; ++i) slabs.push_back(memory.Get(kMegabyte));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(slabs[static_cast<std::size_t>(i)]->pinned(), i < 3) << i;
  EXPECT_EQ(memory.figures().taken_bytes, 3 * kMegabyte);
  EXPECT_EQ(memory.figures().fallbacks, 2u);
  slabs.clear();
  EXPECT_TRUE(memory.Get(kMegabyte)->pinned());  // again, now that there is room
}

TEST(PinnedMemory, WhatIsLargerThanTheLimitCostsNothingThatIsKept) {
  HostAllocator host;
  PinnedMemory memory(host, 2 * kMegabyte);
  memory.Get(kMegabyte);
  EXPECT_FALSE(memory.Get(3 * kMegabyte)->pinned());
  EXPECT_EQ(memory.figures().free_bytes, kMegabyte);
}

TEST(PinnedMemory, SaysWhereItWouldHaveToBePinned) {
  HostAllocator host;
  PinnedMemory memory(host, 2 * kMegabyte);
  EXPECT_TRUE(memory.MayTakeLong(kMegabyte));
  BlockRef slab = memory.Get(kMegabyte);
  EXPECT_TRUE(memory.MayTakeLong(kMegabyte));
  slab = BlockRef();
  EXPECT_FALSE(memory.MayTakeLong(kMegabyte));  // kept
  EXPECT_FALSE(memory.MayTakeLong(3 * kMegabyte));  // never to be had
  EXPECT_FALSE(SlabPool::Global().MayTakeLong(kMegabyte));
}

TEST(PinnedMemory, WhatIsInUseCostsNothingThatIsKept) {
  HostAllocator host;
  PinnedMemory memory(host, 4 * kMegabyte);
  const BlockRef in_use = memory.Get(3 * kMegabyte);
  memory.Get(kMegabyte / 2);
  EXPECT_FALSE(memory.Get(2 * kMegabyte)->pinned());
  EXPECT_EQ(memory.figures().free_bytes, kMegabyte / 2);
}

TEST(PinnedMemory, WhatIsKeptMakesRoomForAnotherSize) {
  HostAllocator host;
  PinnedMemory memory(host, 4 * kMegabyte);
  for (int i = 1; i <= 4; ++i) {
    EXPECT_TRUE(memory.Get(static_cast<std::size_t>(i) * kMegabyte)->pinned()) << i;
  }
  EXPECT_EQ(memory.figures().taken_bytes, 4 * kMegabyte);
  EXPECT_LE(host.peak(), 4 * kMegabyte);
}

TEST(PinnedMemory, WithoutALimitThereIsNone) {
  HostAllocator host;
  PinnedMemory memory(host, 0);
  EXPECT_FALSE(memory.Get(1)->pinned());
  EXPECT_FALSE(memory.for_arrays().Get(1)->pinned());
  EXPECT_FALSE(memory.pinned());
  EXPECT_EQ(memory.figures().fallbacks, 0u) << "that is what was asked for";
  EXPECT_EQ(host.allocations, 0);
}

TEST(PinnedMemory, AnAllocatorThatHasNothingLeftIsNoError) {
  HostAllocator host;
  PinnedMemory memory(host, 8 * kMegabyte);
  host.empty = true;
  EXPECT_FALSE(memory.Get(kMegabyte)->pinned());
  EXPECT_EQ(memory.figures().taken_bytes, 0u);
  EXPECT_EQ(memory.figures().fallbacks, 1u);
  host.empty = false;
  EXPECT_TRUE(memory.Get(kMegabyte)->pinned());
}

TEST(PinnedMemory, ArraysLeaveHalfOfItToOthers) {
  HostAllocator host;
  PinnedMemory memory(host, 4 * kMegabyte);
  EXPECT_FALSE(memory.for_arrays().Get(kMegabyte)->pinned()) << "nothing is pinned for an array";
  EXPECT_EQ(host.allocations, 0);
  std::vector<BlockRef> elements;
  for (int i = 0; i < 4; ++i) elements.push_back(memory.Get(kMegabyte));
  elements.clear();
  std::vector<BlockRef> arrays;
  for (int i = 0; i < 5; ++i) arrays.push_back(memory.for_arrays().Get(kMegabyte));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(arrays[static_cast<std::size_t>(i)]->pinned(), i < 2) << i;
  EXPECT_TRUE(memory.Get(kMegabyte)->pinned());
  EXPECT_EQ(memory.figures().fallbacks, 0u);
  EXPECT_FALSE(memory.TakeFallback());
  arrays.clear();
  EXPECT_TRUE(memory.for_arrays().Get(kMegabyte)->pinned());
  EXPECT_FALSE(memory.for_arrays().Get(3 * kMegabyte)->pinned());
}

TEST(PinnedMemory, AFallbackIsReportedOnceForEachLimit) {
  HostAllocator host;
  PinnedMemory memory(host, 1);
  EXPECT_FALSE(memory.TakeFallback());
  for (int i = 0; i < 3; ++i) memory.Get(kMegabyte);
  EXPECT_TRUE(memory.TakeFallback());
  memory.Get(kMegabyte);
  EXPECT_FALSE(memory.TakeFallback());
  memory.set_limit(2);
  memory.Get(kMegabyte);
  memory.set_limit(3);
  EXPECT_FALSE(memory.TakeFallback()) << "that was the limit before";
  memory.Get(kMegabyte);
  EXPECT_TRUE(memory.TakeFallback());
}

TEST(PinnedMemory, ALowerLimitHoldsFromThenOn) {
  HostAllocator host;
  PinnedMemory memory(host, 4 * kMegabyte);
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 4; ++i) slabs.push_back(memory.Get(kMegabyte));
  slabs.resize(3);
  memory.set_limit(2 * kMegabyte);
  EXPECT_EQ(memory.figures().taken_bytes, 3 * kMegabyte);  // what was kept has gone; what is in use cannot
  EXPECT_FALSE(memory.Get(kMegabyte)->pinned());
  slabs.clear();
  EXPECT_LE(memory.figures().taken_bytes, 2 * kMegabyte);
  EXPECT_TRUE(memory.Get(kMegabyte)->pinned());
}

TEST(PinnedMemory, IsGivenBackWhenMemoryIsScarce) {
  HostAllocator host;
  PinnedMemory memory(host, 8 * kMegabyte);
  BlockRef slab = memory.Get(kMegabyte);
  const MemoryIs scarce(&LittleMemory);
  slab = BlockRef();
  EXPECT_EQ(memory.figures().taken_bytes, 0u);
}

TEST(PinnedMemory, TheLimitHoldsWithManyThreads) {
  HostAllocator host;
  PinnedMemory memory(host, 3 * kMegabyte);
  constexpr int kThreads = 4;
  constexpr int kRounds = 3000;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        const std::size_t bytes = kMegabyte / static_cast<std::size_t>(1 + (i * 7 + t) % 5);
        const BlockRef slab = memory.Get(bytes);
        std::memset(slab->data(), t, 64);
        std::memset(slab->data() + bytes - 64, t, 64);
        for (std::size_t at = 0; at < 64; ++at) {
          if (slab->data()[at] != std::byte(t) || slab->data()[bytes - 64 + at] != std::byte(t)) ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(host.peak(), 3 * kMegabyte);
  const PinnedMemory::Figures now = memory.figures();
  EXPECT_EQ(now.slabs + now.fallbacks, static_cast<std::uint64_t>(kThreads) * kRounds);
  EXPECT_EQ(now.taken_bytes, now.free_bytes);
}

TEST(PinnedMemory, AProcessHasOne) {
  // What is connected lives for ever.
  static HostAllocator& first = *new HostAllocator;
  static HostAllocator second;
  EXPECT_EQ(PinnedMemory::Connected(), nullptr);
  EXPECT_EQ(PinnedMemory::process_limit(), ReadMemoryLimit() / 16);
  PinnedMemory::set_process_limit(5 * kMegabyte);
  static PinnedMemory* const memory = PinnedMemory::Connect(first);  // static: what a fork leaks is no leak of the test
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(memory, PinnedMemory::Connected());
  EXPECT_EQ(memory, PinnedMemory::Connect(first));
  EXPECT_EQ(PinnedMemory::Connect(second), nullptr);
  EXPECT_EQ(memory->figures().limit_bytes, 5 * kMegabyte);
  PinnedMemory::set_process_limit(kMegabyte);
  EXPECT_EQ(memory->figures().limit_bytes, kMegabyte);
  // As in a child after a fork: what was inherited is never given back, and there is none any more.
  BlockRef slab = memory->Get(kMegabyte);
  const int in_use = static_cast<int>(first.in_use());
  PinnedMemory::LockProcess();
  PinnedMemory::UnlockProcess();
  PinnedMemory::ForgetAfterFork();
  slab = BlockRef();
  EXPECT_FALSE(memory->Get(1)->pinned());
  EXPECT_EQ(static_cast<int>(first.in_use()), in_use);
  EXPECT_EQ(PinnedMemory::Connected(), nullptr);
  EXPECT_EQ(PinnedMemory::Connect(first), nullptr);
}

}  // namespace
}  // namespace fastgen
