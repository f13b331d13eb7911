#include "fastgen/core/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>

#include "support.h"

namespace fastgen {
namespace {

using testing::Await;

bool Push(Ring<int>& ring, int value) {
  int* slot = ring.Reserve();
  if (slot == nullptr) return false;
  *slot = value;
  ring.Publish();
  return true;
}

int Pop(Ring<int>& ring) {
  const int value = *ring.Front();
  ring.Pop();
  return value;
}

TEST(Ring, RoundsItsCapacityUpToAPowerOfTwo) {
  EXPECT_EQ(Ring<int>(1).capacity(), 1u);
  EXPECT_EQ(Ring<int>(2).capacity(), 2u);
  EXPECT_EQ(Ring<int>(3).capacity(), 4u);
  EXPECT_EQ(Ring<int>(1000).capacity(), 1024u);
  EXPECT_EQ(Ring<int>(0).capacity(), 1u);
}

TEST(Ring, SlotsStartValueInitialised) {
  Ring<int> ring(8);
  ring.ForEachSlot([](std::size_t, int& slot) { EXPECT_EQ(slot, 0); });
}

TEST(Ring, VisitsEverySlotOnceAndInOrder) {
  Ring<int> ring(8);
  std::set<int*> slots;
  std::size_t expected = 0;
  ring.ForEachSlot([&](std::size_t i, int& slot) {
    EXPECT_EQ(i, expected++);
    slots.insert(&slot);
  });
  EXPECT_EQ(slots.size(), ring.capacity());
}

TEST(Ring, IsEmptyAtFirst) {
  Ring<int> ring(4);
  EXPECT_EQ(ring.Front(), nullptr);
  EXPECT_FALSE(ring.HasItemSeqCst());
  EXPECT_EQ(ring.size(), 0u);
}

TEST(Ring, HoldsExactlyItsCapacity) {
  Ring<int> ring(4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(Push(ring, i));
  EXPECT_EQ(ring.Reserve(), nullptr);
  EXPECT_EQ(ring.size(), 4u);
  Pop(ring);
  EXPECT_TRUE(Push(ring, 4));
  EXPECT_EQ(ring.Reserve(), nullptr);
}

TEST(Ring, OneSlotIsARing) {
  Ring<int> ring(1);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(Push(ring, i));
    EXPECT_EQ(ring.Reserve(), nullptr);
    EXPECT_EQ(Pop(ring), i);
    EXPECT_EQ(ring.Front(), nullptr);
  }
}

TEST(Ring, KeepsTheOrderAcrossManyTurns) {
  Ring<int> ring(4);
  int pushed = 0;
  int popped = 0;
  for (int turn = 0; turn < 100; ++turn) {
    for (int i = 0; i < 1 + turn % 4; ++i) ASSERT_TRUE(Push(ring, pushed++));
    while (ring.Front() != nullptr) EXPECT_EQ(Pop(ring), popped++);
  }
  EXPECT_EQ(popped, pushed);
}

TEST(Ring, NothingIsThereBeforeItIsPublished) {
  Ring<int> ring(4);
  *ring.Reserve() = 7;
  EXPECT_EQ(ring.Front(), nullptr);
  EXPECT_FALSE(ring.HasItemSeqCst());
  ring.Publish();
  EXPECT_TRUE(ring.HasItemSeqCst());
  ASSERT_NE(ring.Front(), nullptr);
  EXPECT_EQ(*ring.Front(), 7);
}

TEST(Ring, AskingTwiceGivesTheSameSlot) {
  Ring<int> ring(4);
  EXPECT_EQ(ring.Reserve(), ring.Reserve());
  Push(ring, 1);
  Push(ring, 2);
  EXPECT_EQ(ring.Front(), ring.Front());
  EXPECT_EQ(ring.size(), 2u);
}

TEST(Ring, CountsWhatWasEverPublishedAndConsumed) {
  Ring<int> ring(2);
  for (int i = 0; i < 5; ++i) {
    Push(ring, i);
    Pop(ring);
  }
  Push(ring, 5);
  EXPECT_EQ(ring.published(), 6u);
  EXPECT_EQ(ring.consumed(), 5u);
  EXPECT_EQ(ring.size(), 1u);
}

TEST(Ring, EachSideWritesOnLinesOfItsOwn) {
  // Behind the indices nothing of a neighbour's may follow on the consumer's line, nor before the first line.
  EXPECT_EQ(alignof(Ring<int>), kCacheLine);
  EXPECT_EQ(sizeof(Ring<int>), 5 * kCacheLine);
}

TEST(Ring, SizeNeverWrapsAroundWhileBothSidesRun) {
  Ring<int> ring(8);
  std::atomic<bool> done{false};
  std::thread consumer([&] {
    for (int i = 0; i < 20'000; ++i) {
      Await([&] { return ring.Front() != nullptr; });
      ASSERT_EQ(Pop(ring), i);
    }
    done.store(true);
  });
  std::thread producer([&] {
    for (int i = 0; i < 20'000; ++i) Await([&] { return Push(ring, i); });
  });
  // A third thread may see the two indices at different moments, yet never a head that has overtaken its tail.
  std::size_t largest = 0;
  while (!done.load()) largest = std::max(largest, ring.size());
  producer.join();
  consumer.join();
  EXPECT_LE(largest, 20'000u);
}

TEST(Ring, HandsItemsThatOwnMemoryFromThreadToThread) {
  constexpr int kItems = 20'000;
  Ring<std::unique_ptr<int>> ring(8);
  std::thread producer([&] {
    for (int i = 0; i < kItems; ++i) {
      std::unique_ptr<int>* slot = nullptr;
      Await([&] { return (slot = ring.Reserve()) != nullptr; });
      ASSERT_EQ(*slot, nullptr);  // the consumer's last word on this slot is visible
      *slot = std::make_unique<int>(i);
      ring.Publish();
    }
  });
  for (int i = 0; i < kItems; ++i) {
    Await([&] { return ring.Front() != nullptr; });
    ASSERT_EQ(**ring.Front(), i);
    ring.Front()->reset();
    ring.Pop();
  }
  producer.join();
}

TEST(RoundUpToPowerOfTwo, IsTheSmallestThatIsLargeEnough) {
  EXPECT_EQ(RoundUpToPowerOfTwo(0), 1u);
  for (std::size_t power = 1; power <= std::size_t{1} << 40; power <<= 1) {
    EXPECT_EQ(RoundUpToPowerOfTwo(power), power);
    if (power > 1) {
      EXPECT_EQ(RoundUpToPowerOfTwo(power + 1), 2 * power);
    }
  }
}

}  // namespace
}  // namespace fastgen
