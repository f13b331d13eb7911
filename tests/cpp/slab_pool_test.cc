#include "fastgen/core/slab_pool.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>
#include <vector>

#include "failing_new.h"
#include "support.h"

// Sanitizers end the process when an allocation is absurd, unless they are told that the program looks at the result.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

namespace fastgen {
namespace {

using testing::Await;
using testing::LittleMemory;
using testing::MemoryIs;
using testing::OutOfMemory;
using testing::PlentyOfMemory;

constexpr std::size_t kKilobyte = 1024;
constexpr std::size_t kMegabyte = kKilobyte * kKilobyte;

const MemoryIs unless_said_otherwise(&PlentyOfMemory);

std::size_t ResidentBytes() {
  std::size_t pages = 0;
  std::ifstream statm("/proc/self/statm");
  statm >> pages >> pages;
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::uintptr_t Address(const BlockRef& slab) { return reinterpret_cast<std::uintptr_t>(slab->data()); }

TEST(SlabPool, SlabsAreAligned) {
  SlabPool pool(0);
  for (const std::size_t bytes : {0ul, 1ul, 63ul, 64ul, 65ul, 1000ul, 4096ul, 5000ul, kMegabyte + 1}) {
    const BlockRef slab = pool.Get(bytes);
    EXPECT_EQ(Address(slab) % kSlabAlignment, 0u) << bytes;
    EXPECT_EQ(slab->size(), bytes);
    std::memset(slab->data(), 0xAB, SlabPool::RoundUp(bytes));
  }
}

TEST(SlabPool, LargeSlabsStartOnAPage) {
  SlabPool pool(kMegabyte);
  // The two share a shelf, and the first is a little smaller than what counts as large: neither may spoil it for the other.
  ASSERT_EQ(SlabPool::RoundUp(60 * kKilobyte), SlabPool::RoundUp(64 * kKilobyte));
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 16; ++i) slabs.push_back(pool.Get(60 * kKilobyte));
  slabs.clear();
  for (int i = 0; i < 16; ++i) {
    slabs.push_back(pool.Get(64 * kKilobyte));
    EXPECT_EQ(Address(slabs.back()) % 4096, 0u);
  }
  EXPECT_EQ(pool.fresh_slabs(), 16u);
}

TEST(SlabPool, RecyclesASlabOfTheSameStep) {
  SlabPool pool(kMegabyte);
  BlockRef slab = pool.Get(1000);
  const std::byte* data = slab->data();
  slab = BlockRef();
  slab = pool.Get(1001);
  EXPECT_EQ(slab->data(), data);
  EXPECT_EQ(slab->size(), 1001u);
  EXPECT_EQ(pool.fresh_slabs(), 1u);
}

TEST(SlabPool, DoesNotHandOutASlabThatIsHeld) {
  SlabPool pool(kMegabyte);
  BlockRef first = pool.Get(1000);
  first->Ref();
  Block* second_reference = first.get();
  first = BlockRef();
  BlockRef other = pool.Get(1000);
  EXPECT_NE(other->data(), second_reference->data()) << "somebody still holds the first";
  second_reference->Unref();
  EXPECT_EQ(pool.Get(1000)->data(), second_reference->data());
}

TEST(SlabPool, ARecycledSlabHasOneReference) {
  SlabPool pool(kMegabyte);
  for (int i = 0; i < 3; ++i) {
    BlockRef slab = pool.Get(1000);
    slab->Ref();
    slab->Unref();
    EXPECT_EQ(pool.free_bytes(), 0u);
    slab = BlockRef();
    EXPECT_EQ(pool.free_bytes(), SlabPool::RoundUp(1000));
  }
}

TEST(SlabPool, KeepsNoMoreThanItsBudget) {
  SlabPool pool(10 * kKilobyte);
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 20; ++i) slabs.push_back(pool.Get(kKilobyte));
  EXPECT_EQ(pool.free_bytes(), 0u);
  slabs.clear();
  EXPECT_EQ(pool.free_bytes(), 10 * kKilobyte);
  for (int i = 0; i < 20; ++i) slabs.push_back(pool.Get(kKilobyte));
  EXPECT_EQ(pool.fresh_slabs(), 30u);
  EXPECT_EQ(pool.free_bytes(), 0u);
}

TEST(SlabPool, NeverWaitsForASlabToComeBack) {
  SlabPool pool(0);
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 1000; ++i) slabs.push_back(pool.Get(kKilobyte));
  EXPECT_EQ(pool.fresh_slabs(), 1000u);
}

TEST(SlabPool, ALowerBudgetFreesAtOnceAndStays) {
  SlabPool pool(kMegabyte);
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 10; ++i) slabs.push_back(pool.Get(kKilobyte << (i % 5)));
  BlockRef held = pool.Get(kKilobyte);
  slabs.clear();
  EXPECT_GT(pool.free_bytes(), 20 * kKilobyte);
  pool.set_budget(20 * kKilobyte);
  EXPECT_LE(pool.free_bytes(), 20 * kKilobyte);
  EXPECT_GT(pool.free_bytes(), 0u) << "only what is above the budget";
  EXPECT_EQ(pool.budget(), 20 * kKilobyte);
  pool.set_budget(0);
  EXPECT_EQ(pool.free_bytes(), 0u);
  held = BlockRef();
  EXPECT_EQ(pool.free_bytes(), 0u);
  pool.set_budget(kMegabyte);
  held = pool.Get(kKilobyte);
  held = BlockRef();
  EXPECT_EQ(pool.free_bytes(), kKilobyte);
}

// Sizes ---------------------------------------------------------------------------------------------------------------

TEST(SlabPool, RoundsUpToFourStepsForEachPowerOfTwo) {
  EXPECT_EQ(SlabPool::RoundUp(0), 256u);
  EXPECT_EQ(SlabPool::RoundUp(1), 256u);
  for (std::size_t power = 256; power < std::size_t{1} << 36; power *= 2) {
    for (std::size_t step = 0; step < 4; ++step) {
      const std::size_t size = power + power / 4 * step;
      EXPECT_EQ(SlabPool::RoundUp(size), size) << "a step is its own size";
      EXPECT_EQ(SlabPool::RoundUp(size + 1), size + power / 4) << "one byte more is the next step";
      EXPECT_EQ(SlabPool::RoundUp(size + power / 4 - 1), size + power / 4);
    }
  }
  EXPECT_EQ(SlabPool::RoundUp(std::size_t{1} << 36), std::size_t{1} << 36);
  EXPECT_EQ(SlabPool::RoundUp((std::size_t{1} << 36) + 1), 0u) << "too large to be recycled";
}

TEST(SlabPool, AtMostAFifthOfASlabLiesIdle) {
  for (std::size_t bytes = 256; bytes < 100'000; ++bytes) {
    const std::size_t size = SlabPool::RoundUp(bytes);
    ASSERT_GE(size, bytes);
    ASSERT_LE(size - bytes, size / 5) << bytes;
    ASSERT_LE(SlabPool::RoundUp(bytes - 1), size) << "more bytes never get a smaller slab";
  }
}

// Failure -------------------------------------------------------------------------------------------------------------

TEST(SlabPool, AbsurdSizesThrow) {
  SlabPool pool(kMegabyte);
  for (const std::size_t bytes : {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 4095, SIZE_MAX - 4096, SIZE_MAX / 2, std::size_t{1} << 60}) {
    EXPECT_THROW(pool.Get(bytes), std::bad_alloc) << bytes;
  }
  EXPECT_EQ(pool.fresh_slabs(), 0u);
  EXPECT_EQ(pool.free_bytes(), 0u);
  EXPECT_TRUE(pool.Get(100)) << "still of use";
}

TEST(SlabPool, LeaksNothingWhenMemoryRunsOutHalfWay) {
  // The bytes are there, the object is not. AddressSanitizer sees a leak at exit; without it the allocator's books tell.
  SlabPool pool(0);
  const auto allocated = [] {
    const struct mallinfo2 books = mallinfo2();
    return books.uordblks + books.hblkhd;
  };
  const std::size_t before = allocated();
  for (int i = 0; i < 16; ++i) {
    bool thrown = false;
    try {
      const OutOfMemory out_of_memory;
      pool.Get(kMegabyte);
    } catch (const std::bad_alloc&) {
      thrown = true;
    }
    EXPECT_TRUE(thrown);
  }
  EXPECT_LT(allocated(), before + kMegabyte);
  EXPECT_EQ(pool.fresh_slabs(), 0u);
}

// Memory pressure -----------------------------------------------------------------------------------------------------

/// Leaves some slabs of different sizes in the pool.
void KeepSome(SlabPool& pool) {
  std::vector<BlockRef> slabs;
  for (int i = 0; i < 10; ++i) slabs.push_back(pool.Get(kKilobyte << i));
  slabs.clear();
  ASSERT_GT(pool.free_bytes(), kMegabyte / 2);
}

TEST(SlabPoolMemoryPressure, AFreshSlabFreesAllThatIsKept) {
  SlabPool pool(100 * kMegabyte);
  KeepSome(pool);
  const MemoryIs little(&LittleMemory);
  const BlockRef slab = pool.Get(10 * kMegabyte);
  EXPECT_EQ(pool.free_bytes(), 0u);
}

TEST(SlabPoolMemoryPressure, ALargeSlabThatComesBackFreesAllThatIsKept) {
  SlabPool pool(100 * kMegabyte);
  BlockRef slab = pool.Get(10 * kMegabyte);
  KeepSome(pool);
  SetMemoryReader(&LittleMemory);  // nobody has looked since
  slab = BlockRef();
  EXPECT_EQ(pool.free_bytes(), 0u);
  const MemoryIs over(&PlentyOfMemory);
}

TEST(SlabPoolMemoryPressure, NothingIsKeptWhileItLasts) {
  SlabPool pool(100 * kMegabyte);
  {
    const MemoryIs little(&LittleMemory);
    for (int i = 0; i < 12; ++i) {
      BlockRef slab = pool.Get(kKilobyte << i);
      slab = BlockRef();
      EXPECT_EQ(pool.free_bytes(), 0u) << (kKilobyte << i);
    }
  }
  KeepSome(pool);  // and afterwards it is as before
}

TEST(SlabPoolMemoryPressure, SmallSlabsNeedNobodyElseToSeeItsEnd) {
  SlabPool pool(100 * kMegabyte);
  const MemoryIs little(&LittleMemory);
  SetMemoryReader(&PlentyOfMemory);
  ASSERT_TRUE(MemoryPressureLastSeen()) << "nobody has looked since";
  pool.Get(kKilobyte);
  EXPECT_EQ(pool.free_bytes(), kKilobyte) << "it had to be made, and whoever makes one looks";
}

TEST(SlabPoolMemoryPressure, PagesGoBackToTheSystemWhateverTheAllocatorKeeps) {
  constexpr std::size_t kSlabs = 64;
  // Freed memory stays with the allocator. A sanitizer's keeps it anyway, and cannot be told.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  SlabPool pool(kSlabs * kMegabyte);
  std::vector<BlockRef> slabs;
  for (std::size_t i = 0; i < kSlabs; ++i) {
    slabs.push_back(pool.Get(kMegabyte));
    std::memset(slabs.back()->data(), 1, kMegabyte);
  }
  slabs.clear();
  ASSERT_EQ(pool.free_bytes(), kSlabs * kMegabyte);
  const std::size_t before = ResidentBytes();
  const MemoryIs little(&LittleMemory);
  pool.Get(2 * kMegabyte);
  EXPECT_LT(ResidentBytes(), before - kSlabs * kMegabyte / 2);
}

TEST(SlabPoolMemoryPressure, ThatComesAndGoesHarmsNoSlab) {
  constexpr int kThreads = 3;
  constexpr int kRounds = 3'000;
  SlabPool pool(kMegabyte);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      BlockRef held[4];
      for (int i = 0; i < kRounds; ++i) {
        BlockRef& place = held[i % 4];
        if (place) {
          for (std::size_t b = 0; b < place->size(); b += 64) ASSERT_EQ(place->data()[b], static_cast<std::byte>(t));
        }
        place = BlockRef();
        place = pool.Get(std::size_t{300} << (i * 7 + t) % 10);
        std::memset(place->data(), t, place->size());
        if (i % 100 == t) SetMemoryReader(i % 200 < 100 ? &LittleMemory : &PlentyOfMemory);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const MemoryIs little(&LittleMemory);
  pool.Get(10 * kMegabyte);
  EXPECT_EQ(pool.free_bytes(), 0u);
}

// Threads -------------------------------------------------------------------------------------------------------------

TEST(SlabPool, ThreadsGetAndPutAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 5'000;
  SlabPool pool(64 * kKilobyte);
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      BlockRef held[4];
      for (int i = 0; i < kRounds; ++i) {
        BlockRef& place = held[i % 4];
        const std::size_t bytes = std::size_t{300} << (i * 7 + t) % 8;
        if (place) {
          // Nobody else was given this slab in the meantime.
          for (std::size_t b = 0; b < place->size(); b += 64) ASSERT_EQ(place->data()[b], static_cast<std::byte>(t));
        }
        place = BlockRef();
        place = pool.Get(bytes);
        ASSERT_EQ(place->size(), bytes);
        std::memset(place->data(), t, bytes);
      }
      running.fetch_sub(1);
    });
  }
  std::size_t most = 0;
  while (running.load() != 0) most = std::max(most, pool.free_bytes());
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, pool.budget()) << "at no moment";
  EXPECT_LE(pool.free_bytes(), pool.budget());
  pool.set_budget(0);
  EXPECT_EQ(pool.free_bytes(), 0u);
}

TEST(SlabPool, SlabsComeBackFromOtherThreads) {
  constexpr int kSlabs = 10'000;
  SlabPool pool(kMegabyte);
  Ring<Block*> ring(16);
  std::thread freer([&] {
    for (int i = 0; i < kSlabs; ++i) {
      Await([&] { return ring.Front() != nullptr; });
      Block* slab = *ring.Front();
      ring.Pop();
      ASSERT_EQ(slab->data()[0], static_cast<std::byte>(i));
      slab->Unref();
    }
  });
  for (int i = 0; i < kSlabs; ++i) {
    BlockRef slab = pool.Get(kKilobyte);
    slab->data()[0] = static_cast<std::byte>(i);
    Block** slot = nullptr;
    Await([&] { return (slot = ring.Reserve()) != nullptr; });
    *slot = slab.release();
    ring.Publish();
  }
  freer.join();
  EXPECT_LE(pool.fresh_slabs(), 18u) << "16 in the ring, one in either hand";
}

TEST(SlabPool, ASlabThatComesBackWhileTheBudgetFallsIsNotKept) {
  constexpr int kRounds = 20'000;
  SlabPool pool(0);
  std::atomic<int> round{0};
  std::atomic<int> returned{0};
  Block* slab = nullptr;
  std::thread returner([&] {
    for (int i = 1; i <= kRounds; ++i) {
      Await([&] { return round.load() == i; });
      slab->Unref();
      returned.store(i);
    }
  });
  int kept = 0;
  for (int i = 1; i <= kRounds; ++i) {
    pool.set_budget(kMegabyte);
    slab = pool.Get(kKilobyte).release();
    round.store(i);
    pool.set_budget(0);
    Await([&] { return returned.load() == i; });
    if (pool.free_bytes() != 0) ++kept;
  }
  returner.join();
  EXPECT_EQ(kept, 0);
}

TEST(SlabPool, TheSharedPoolIsOneAndHasABudget) {
  EXPECT_EQ(&SlabPool::Global(), &SlabPool::Global());
  EXPECT_GT(SlabPool::Global().budget(), 0u);
}

}  // namespace
}  // namespace fastgen
