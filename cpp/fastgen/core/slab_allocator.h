// Where the memory of slabs comes from.
#ifndef FASTGEN_CORE_SLAB_ALLOCATOR_H_
#define FASTGEN_CORE_SLAB_ALLOCATOR_H_

#include <cstddef>

namespace fastgen {

/// What TensorFlow and AVX-512 ask of a tensor's buffer.
inline constexpr std::size_t kSlabAlignment = 64;

/// Memory as a pool asks for it. All methods may be called from any thread, throw nothing, and wait for nobody's memory to be freed. An
/// allocator outlives every pool and every slab of its memory, so in practice it lives for ever.
class SlabAllocator {
 public:
  virtual ~SlabAllocator() = default;

  /// `bytes` bytes at a multiple of kSlabAlignment, contents unspecified; null where there are none to be had.
  virtual void* Allocate(std::size_t bytes) = 0;
  virtual void Free(void* data, std::size_t bytes) = 0;
  /// The same where memory is short: the system should have it back, not another layer's cache.
  virtual void GiveUp(void* data, std::size_t bytes) { Free(data, bytes); }
  /// Whether the system keeps these pages where they are, so that a device can read them by itself.
  virtual bool pinned() const = 0;
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_SLAB_ALLOCATOR_H_
