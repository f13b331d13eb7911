// The system's memory, for slabs.
#ifndef FASTGEN_CORE_SYSTEM_MEMORY_H_
#define FASTGEN_CORE_SYSTEM_MEMORY_H_

#include <cstddef>

#include "fastgen/core/slab_allocator.h"

namespace fastgen {

/// Aligned by size: large slabs start on a page, and very large ones are made of huge pages where the system has them.
class SystemMemory final : public SlabAllocator {
 public:
  static SystemMemory& Global();

  void* Allocate(std::size_t bytes) override;
  void Free(void* data, std::size_t bytes) override;
  void GiveUp(void* data, std::size_t bytes) override;
  bool pinned() const override { return false; }
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_SYSTEM_MEMORY_H_
