// Slabs that a device can read by itself, within a limit.
//
// A GPU copies from pinned pages at the bus's full speed and while it computes; from others only through a detour. Such pages are
// lost to the rest of the system as long as they are pinned, so there is a limit to them, and beyond it slabs lie in plain memory.
#ifndef FASTGEN_CORE_PINNED_MEMORY_H_
#define FASTGEN_CORE_PINNED_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "fastgen/core/block.h"
#include "fastgen/core/slab_allocator.h"
#include "fastgen/core/slab_pool.h"
#include "fastgen/core/slabs.h"

namespace fastgen {

/// All methods may be called from any thread. Must outlive its slabs; what streams use is never destroyed.
class PinnedMemory final : public Slabs {
 public:
  struct Figures {
    std::size_t limit_bytes = 0;
    std::size_t taken_bytes = 0;  // from the allocator: in slabs that are in use, and kept for reuse
    std::size_t free_bytes = 0;   // of these, kept for reuse
    std::uint64_t slabs = 0;      // handed out so far
    std::uint64_t fallbacks = 0;  // slabs that were handed out of plain memory instead
  };

  /// Takes at most `limit_bytes` from the allocator, whatever is in use.
  PinnedMemory(SlabAllocator& allocator, std::size_t limit_bytes);

  /// The process's pinned memory, from the allocator that was the first to be connected. Null for another one: a process has one
  /// host allocator for its devices, and the limit is the process's.
  static PinnedMemory* Connect(SlabAllocator& allocator);
  /// What Connect() has made; null before.
  static PinnedMemory* Connected();
  /// The process's limit, before and after it is connected. A sixteenth of the memory that the process may use, unless set.
  static std::size_t process_limit();
  static void set_process_limit(std::size_t bytes);

  /// A slab, pinned unless that would go over the limit, or the allocator has nothing left.
  BlockRef Get(std::size_t bytes) override;
  bool MayTakeLong(std::size_t bytes) const override;
  bool pinned() const override { return memory_.limit_.load(std::memory_order_relaxed) > 0; }

  /// For the arrays that a source makes. Some become elements as they lie; others are large, or kept for long. And NumPy asks with the
  /// GIL held, so nothing may be pinned then. So arrays get slabs that are kept for reuse, while less than half of the limit is in
  /// use; an array that is not pinned is copied when it becomes an element, and the slab of that copy is the next array's. No
  /// fallback is counted.
  Slabs& for_arrays() { return arrays_; }

  Figures figures() const;
  /// Below what is in use nothing more is taken, until as much has come back.
  void set_limit(std::size_t bytes);
  /// True once after the first fallback since the limit was set, to one of those who ask.
  bool TakeFallback() { return report_.load(std::memory_order_relaxed) && report_.exchange(false, std::memory_order_relaxed); }

  /// Holds every lock of the process's, for a fork, as SlabPool::LockAll().
  static void LockProcess();
  static void UnlockProcess();
  /// In the child, once it has the locks back: devices and their memory are the parent's. Nothing is pinned there any more, and what
  /// the child inherited is leaked rather than given to an allocator whose lock some thread of the parent may have held.
  static void ForgetAfterFork();

 private:
  /// The allocator, up to the limit.
  class Limited final : public SlabAllocator {
   public:
    Limited(SlabAllocator& allocator, std::size_t limit) : limit_(limit), allocator_(allocator) {}
    void* Allocate(std::size_t bytes) override;
    void Free(void* data, std::size_t bytes) override;
    bool pinned() const override { return allocator_.pinned(); }
    bool HasRoomFor(std::size_t bytes) const { return HasRoomFor(bytes, taken_.load(std::memory_order_relaxed)); }

    // Relaxed throughout: they bound sums, and the memory itself is handed over by the allocator's own lock and the pool's.
    std::atomic<std::size_t> limit_;
    std::atomic<std::size_t> taken_{0};
    std::atomic<bool> forgotten_{false};

   private:
    bool HasRoomFor(std::size_t bytes, std::size_t taken) const {
      const std::size_t limit = limit_.load(std::memory_order_relaxed);
      return bytes <= limit && taken <= limit - bytes;
    }

    SlabAllocator& allocator_;
  };

  class Arrays final : public Slabs {
   public:
    explicit Arrays(PinnedMemory& memory) : memory_(memory) {}
    BlockRef Get(std::size_t bytes) override;
    bool pinned() const override { return memory_.pinned(); }

   private:
    PinnedMemory& memory_;
  };

  /// Null where Get() would have to fall back.
  BlockRef TryGet(std::size_t bytes);
  void NoteFallback();

  Limited memory_;
  SlabPool pool_;
  Arrays arrays_{*this};
  // Relaxed: counters, and a flag that orders nothing.
  std::atomic<std::uint64_t> slabs_{0};
  std::atomic<std::uint64_t> fallbacks_{0};
  std::atomic<bool> reported_{false};  // a fallback since the limit was set
  std::atomic<bool> report_{false};    // and nobody has taken it yet
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_PINNED_MEMORY_H_
