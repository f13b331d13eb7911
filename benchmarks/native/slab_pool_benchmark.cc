// Memory for frames' bytes, from the pool and from the system's allocator, with each page written to once, as any use does.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <utility>

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

}  // namespace
}  // namespace fastgen::benchmarks
