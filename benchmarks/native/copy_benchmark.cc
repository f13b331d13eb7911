// Rows of 602 KB into a slab that holds many of them, past the cache and through it. Somebody reads the slab afterwards, as a model
// does: what is not in the cache then is paid there.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "fastgen/core/slab_pool.h"
#include "fastgen/core/streaming_copy.h"

namespace fastgen::benchmarks {
namespace {

constexpr std::size_t kRow = 224 * 224 * 3 * 4;  // an image of floats
constexpr std::size_t kLine = 64;

using Copy = void (*)(std::byte* to, const std::byte* from, std::size_t bytes);

void CopyPlainly(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

std::uint64_t ReadAll(const std::byte* data, std::size_t bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes; i += kLine) sum += static_cast<std::uint64_t>(data[i]);
  return sum;
}

/// One slab after the other from a pool that keeps two, each written to its end. The array that is copied from was just made.
template <Copy copy>
void IntoSlab(benchmark::State& state) {
  const std::size_t bytes = static_cast<std::size_t>(state.range(0)) << 20;
  const bool read = state.range(1) != 0;
  SlabPool pool(std::size_t{256} << 20);
  std::vector<std::byte> array(kRow);
  BlockRef last;
  std::uint8_t made = 0;
  for (auto _ : state) {
    BlockRef slab = pool.Get(bytes);
    for (std::size_t at = 0; at < bytes; at += kRow) {
      std::memset(array.data(), ++made, kRow);
      copy(slab->data() + at, array.data(), std::min(kRow, bytes - at));
    }
    if (read) benchmark::DoNotOptimize(ReadAll(slab->data(), bytes));
    benchmark::ClobberMemory();
    last = std::move(slab);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

// Slabs of 1, 8, 19 (32 images) and 64 MB; not read and read.
#define FASTGEN_SLABS ->ArgNames({"MB", "read"})->ArgsProduct({{1, 8, 19, 64}, {0, 1}})->MinTime(0.3)->Unit(benchmark::kMicrosecond)
BENCHMARK_TEMPLATE(IntoSlab, CopyPlainly) FASTGEN_SLABS;
BENCHMARK_TEMPLATE(IntoSlab, CopyStreaming) FASTGEN_SLABS;

}  // namespace
}  // namespace fastgen::benchmarks
