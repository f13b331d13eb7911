// Recycled, 64-byte-aligned memory for frames' bytes.
//
// Fresh pages are the hidden cost of large elements: the kernel zeroes and maps each page when it is first touched. So slabs are
// kept when the last tensor on them is freed, up to a budget of bytes, and handed out again. They are kept for speed alone: while
// memory is scarce (memory_pressure.h) none is.
#ifndef FASTGEN_CORE_SLAB_POOL_H_
#define FASTGEN_CORE_SLAB_POOL_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "fastgen/core/block.h"
#include "fastgen/core/slab_allocator.h"
#include "fastgen/core/slabs.h"
#include "fastgen/core/system_memory.h"

namespace fastgen {

/// All methods may be called from any thread and never wait for a tensor to be freed: a pool that has nothing to recycle
/// allocates. A pool must outlive its slabs; the one that streams share, Global(), is never destroyed.
class SlabPool final : public Slabs {
 public:
  /// Room for the read-ahead of a source (64 MiB) and as much again in the consumer's hands.
  static constexpr std::size_t kDefaultBudget = std::size_t{128} << 20;

  /// Keeps at most `budget_bytes` of free memory for reuse. What comes back beyond that displaces slabs of the size that has
  /// been used least recently; so a program that has changed its sizes recycles the new ones.
  explicit SlabPool(std::size_t budget_bytes, SlabAllocator& allocator = SystemMemory::Global())
      : allocator_(allocator), budget_(budget_bytes) {}
  ~SlabPool() override;
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  static SlabPool& Global();

  BlockRef Get(std::size_t bytes) override;
  bool pinned() const override { return allocator_.pinned(); }
  /// The same, but null when the allocator has nothing left, even after all that is kept for reuse has been given back to it. Throws
  /// std::bad_alloc only where there is no memory for the pool's own few bytes.
  BlockRef TryGet(std::size_t bytes);

  /// Whether a slab for so many bytes is kept for reuse, as far as can be seen from outside.
  bool Keeps(std::size_t bytes) const;
  /// Bytes kept for reuse now.
  std::size_t free_bytes() const { return free_bytes_.load(std::memory_order_relaxed); }
  std::size_t budget() const { return budget_.load(std::memory_order_relaxed); }
  /// A lower budget frees what is above it at once.
  void set_budget(std::size_t bytes);
  /// How many slabs were asked of the system rather than recycled.
  std::uint64_t fresh_slabs() const { return fresh_slabs_.load(std::memory_order_relaxed); }

  /// Holds every lock of the pool, for a fork: the child must not inherit one that another thread held.
  void LockAll();
  void UnlockAll();

  /// The bytes that a slab for `bytes` really has: the next of four steps to each power of two, so that at most a fifth of a
  /// slab lies idle. 0 for sizes that are too large to be recycled.
  static std::size_t RoundUp(std::size_t bytes);

 private:
  class Slab;
  struct Shelf {
    std::mutex mutex;
    Slab* free_list = nullptr;  // guarded by mutex
    // When a slab last came or went, on the pool's clock; written under the mutex. Relaxed: it only guides a choice.
    std::atomic<std::uint64_t> last_used{0};
    std::atomic<bool> empty{true};  // likewise
  };

  static constexpr int kStepsPerPowerOfTwo = 4;
  static constexpr int kSmallestLog2 = 8;  // 256 bytes
  static constexpr int kLargestLog2 = 36;  // 64 GiB
  static constexpr int kShelves = (kLargestLog2 - kSmallestLog2) * kStepsPerPowerOfTwo + 1;

  static int ShelfOf(std::size_t bytes);
  static std::size_t BytesOf(int shelf);
  void Put(Slab* slab);
  bool Keep(Slab* slab);
  bool Displace(const Shelf* not_from);
  void FreeDownTo(std::size_t bytes);
  void FreeAll();
  void GiveUp(Slab* slab);
  void Delete(Slab* slab);

  SlabAllocator& allocator_;
  std::atomic<std::size_t> budget_;
  std::atomic<std::size_t> free_bytes_{0};
  std::atomic<std::uint64_t> fresh_slabs_{0};
  std::atomic<std::uint64_t> clock_{0};  // counts uses; relaxed
  std::array<Shelf, kShelves> shelves_;
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_SLAB_POOL_H_
