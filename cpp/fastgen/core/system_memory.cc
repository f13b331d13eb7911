#include "fastgen/core/system_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace fastgen {
namespace {

/// From here on a slab starts on a page, so that its pages hold nothing else.
constexpr std::size_t kPage = 4096;
constexpr std::size_t kPageAlignedFrom = 16 * kPage;

/// From here on a slab is made of huge pages, where the system has them: a fault for every 2 MB instead of every 4 KB when it is
/// first written, and fewer misses of the TLB ever after. It starts on one, so that it has no part of another's.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugePagesFrom = 2 * kHugePage;

}  // namespace

SystemMemory& SystemMemory::Global() {
  // Never destroyed: tensors may be freed while the process runs its last destructors.
  static auto* memory = new SystemMemory;
  return *memory;
}

void* SystemMemory::Allocate(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePagesFrom ? kHugePage : bytes >= kPageAlignedFrom ? kPage : kSlabAlignment;
  // aligned_alloc wants a multiple of the alignment; the addition must not wrap for absurd sizes.
  if (bytes > SIZE_MAX - alignment) return nullptr;
  void* const data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  // Advice: where it is not taken, nothing is lost.
  if (data != nullptr && alignment == kHugePage) ::madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return data;
}

void SystemMemory::Free(void* data, std::size_t) { std::free(data); }

void SystemMemory::GiveUp(void* data, std::size_t bytes) {
  // The allocator may keep for itself what it is given back. Whole pages are returned to the system first: they are what the pool
  // was too large for. Their size is the kernel's, which would round up, over what is not ours.
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (bytes >= kPageAlignedFrom && reinterpret_cast<std::uintptr_t>(data) % page == 0) {
    ::madvise(data, bytes / page * page, MADV_DONTNEED);
  }
  std::free(data);
}

}  // namespace fastgen
