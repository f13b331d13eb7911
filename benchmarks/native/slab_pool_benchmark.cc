// Memory for frames' bytes, from the pool and from the system's allocator, with each page written to once, as any use does.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "fastgen/core/pinned_memory.h"
#include "fastgen/core/slab_pool.h"

namespace fastgen::benchmarks {
namespace {

constexpr std::size_t kPage = 4096;
/// So many buffers live at a time, as frames wait in a ring and tensors in a model.
constexpr std::size_t kAlive = 8;

void TouchPages(std::byte* data, std::size_t bytes) {
  // Never twice the same place within the page: those would fight for one set of the cache, which is not what is measured.
  constexpr std::size_t kStride = kPage + 64;
  for (std::size_t i = 0; i < bytes; i += kStride) data[i] = std::byte{1};
  benchmark::ClobberMemory();
}

void FromPool(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  SlabPool pool(std::size_t{256} << 20);
  std::array<BlockRef, kAlive> alive;
  std::size_t oldest = 0;
  for (auto _ : state) {
    BlockRef& place = alive[oldest++ % kAlive];
    place = BlockRef();
    place = pool.Get(bytes);
    TouchPages(place->data(), bytes);
  }
  state.counters["fresh_slabs"] = static_cast<double>(pool.fresh_slabs());
}

/// Pinned slabs pay for their limit as well.
void FromPinnedMemory(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  PinnedMemory memory(SystemMemory::Global(), std::size_t{256} << 20);
  std::array<BlockRef, kAlive> alive;
  std::size_t oldest = 0;
  for (auto _ : state) {
    BlockRef& place = alive[oldest++ % kAlive];
    place = BlockRef();
    place = memory.Get(bytes);
    TouchPages(place->data(), bytes);
  }
  state.counters["fallbacks"] = static_cast<double>(memory.figures().fallbacks);
}

void FromSystem(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::array<void*, kAlive> alive{};
  std::size_t oldest = 0;
  for (auto _ : state) {
    void*& place = alive[oldest++ % kAlive];
    std::free(place);
    place = std::aligned_alloc(kSlabAlignment, bytes);
    TouchPages(static_cast<std::byte*>(place), bytes);
  }
  for (void* place : alive) std::free(place);
}

// 1 KB, 64 KB, 1 MB, 16 MB.
#define FASTGEN_SIZES ->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 20)->Arg(1 << 24)->MinTime(0.3)->MinWarmUpTime(0.1)
BENCHMARK(FromPool) FASTGEN_SIZES;
BENCHMARK(FromPinnedMemory) FASTGEN_SIZES;
BENCHMARK(FromSystem) FASTGEN_SIZES;

/// Two threads want slabs of one size from one pool.
void FromSharedPool(benchmark::State& state) {
  static SlabPool pool(std::size_t{256} << 20);
  for (auto _ : state) {
    BlockRef slab = pool.Get(std::size_t{1} << 20);
    benchmark::DoNotOptimize(slab.get());
  }
}
BENCHMARK(FromSharedPool)->Threads(1)->Threads(2)->UseRealTime()->MinTime(0.3);

/// A program that changes the size of its slabs after every `state.range(1)` of them, in a pool that holds one size at a time: the
/// slabs of the new size displace those of the old one.
void FromPoolOfChangingSizes(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const auto before_change = static_cast<std::uint64_t>(state.range(1));
  // Every size is a step larger than the one before, until it begins anew: no shelf serves two of them.
  constexpr std::uint64_t kSizes = 4;
  constexpr std::size_t kStep = 4;  // a fourth larger each
  SlabPool pool(2 * kAlive * bytes);
  std::array<BlockRef, kAlive> alive;
  std::uint64_t made = 0;
  for (auto _ : state) {
    const std::size_t size = bytes + bytes / kStep * (made / before_change % kSizes);
    BlockRef& place = alive[made++ % kAlive];
    place = BlockRef();
    place = pool.Get(size);
    TouchPages(place->data(), size);
  }
  state.counters["fresh_slabs"] =
      benchmark::Counter(static_cast<double>(pool.fresh_slabs()) / static_cast<double>(std::max<std::uint64_t>(made, 1)));
}
// Never (but once in a lifetime), now and then, all the time.
BENCHMARK(FromPoolOfChangingSizes)
    ->ArgNames({"bytes", "slabs_between_changes"})
    ->ArgsProduct({{1 << 16, 1 << 20, 1 << 24}, {1 << 30, 256, 16}})
    ->MinTime(0.3);

}  // namespace
}  // namespace fastgen::benchmarks
