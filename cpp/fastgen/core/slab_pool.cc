#include "fastgen/core/slab_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "fastgen/core/memory_pressure.h"

namespace fastgen {
namespace {

/// From here on a slab starts on a page, so that its pages hold nothing else.
constexpr std::size_t kPage = 4096;
constexpr std::size_t kPageAlignedFrom = 16 * kPage;

/// From here on a slab is made of huge pages, where the system has them: a fault for every 2 MB instead of every 4 KB when it is
/// first written, and fewer misses of the TLB ever after. It starts on one, so that it has no part of another's.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kHugePagesFrom = 2 * kHugePage;

/// Room for the read-ahead of a source (64 MiB) and as much again in the consumer's hands.
constexpr std::size_t kDefaultBudget = std::size_t{128} << 20;

struct Free {
  void operator()(std::byte* data) const { std::free(data); }
};

int FloorLog2(std::size_t n) { return 63 - __builtin_clzll(n); }

}  // namespace

/// The object lies apart from its bytes: bytes that a tensor writes past its end must not reach a free list.
class SlabPool::Slab final : public Block {
 public:
  Slab(SlabPool* pool, int shelf, std::byte* data, std::size_t size) : Block(data, size), pool_(pool), shelf_(shelf) {}
  ~Slab() override { std::free(data_); }

  int shelf() const { return shelf_; }
  void Reuse(std::size_t size) { Reset(size); }

  Slab* next = nullptr;  // guarded by the shelf's mutex

 private:
  void Dispose() override { pool_->Put(this); }

  SlabPool* const pool_;
  const int shelf_;
};

SlabPool& SlabPool::Global() {
  // Never destroyed: tensors may be freed while the process runs its last destructors.
  static auto* pool = new SlabPool(kDefaultBudget);
  return *pool;
}

SlabPool::~SlabPool() { set_budget(0); }

int SlabPool::ShelfOf(std::size_t bytes) {
  constexpr std::size_t kSmallest = std::size_t{1} << kSmallestLog2;
  if (bytes <= kSmallest) return 0;
  if (bytes > (std::size_t{1} << kLargestLog2)) return -1;
  const int power = FloorLog2(bytes - 1);
  const std::size_t step = (std::size_t{1} << power) / kStepsPerPowerOfTwo;
  const std::size_t above = bytes - (std::size_t{1} << power);
  return (power - kSmallestLog2) * kStepsPerPowerOfTwo + static_cast<int>((above + step - 1) / step);
}

std::size_t SlabPool::BytesOf(int shelf) {
  const int power = kSmallestLog2 + shelf / kStepsPerPowerOfTwo;
  const std::size_t base = std::size_t{1} << power;
  return base + base / kStepsPerPowerOfTwo * static_cast<std::size_t>(shelf % kStepsPerPowerOfTwo);
}

std::size_t SlabPool::RoundUp(std::size_t bytes) {
  const int shelf = ShelfOf(bytes);
  return shelf < 0 ? 0 : BytesOf(shelf);
}

BlockRef SlabPool::Get(std::size_t bytes) {
  const int shelf = ShelfOf(bytes);
  if (shelf >= 0) {
    Shelf& place = shelves_[static_cast<std::size_t>(shelf)];
    const std::lock_guard<std::mutex> lock(place.mutex);
    place.last_used.store(clock_.fetch_add(1, std::memory_order_relaxed), std::memory_order_relaxed);
    if (Slab* slab = place.free_list) {
      place.free_list = slab->next;
      place.empty.store(place.free_list == nullptr, std::memory_order_relaxed);
      free_bytes_.fetch_sub(BytesOf(shelf), std::memory_order_relaxed);
      slab->Reuse(bytes);
      return BlockRef(slab);
    }
  }
  // A slab that has to be made is costly anyway, and the moment at which memory grows.
  if (UnderMemoryPressure()) FreeAll();
  const std::size_t wanted = shelf >= 0 ? BytesOf(shelf) : bytes;
  // By what the slab can hold, not by what is asked for now: whoever gets it next may fill it.
  const std::size_t alignment = wanted >= kHugePagesFrom ? kHugePage : wanted >= kPageAlignedFrom ? kPage : kSlabAlignment;
  // aligned_alloc wants a multiple of the alignment; the addition must not wrap for absurd sizes.
  if (wanted > SIZE_MAX - alignment) throw std::bad_alloc();
  std::unique_ptr<std::byte, Free> data(
      static_cast<std::byte*>(std::aligned_alloc(alignment, (wanted + alignment - 1) / alignment * alignment)));
  if (data == nullptr) throw std::bad_alloc();
  // Advice: where it is not taken, nothing is lost.
  if (alignment == kHugePage) madvise(data.get(), wanted / kHugePage * kHugePage, MADV_HUGEPAGE);
  BlockRef slab(new Slab(this, shelf, data.get(), bytes));
  data.release();  // the slab's by now
  fresh_slabs_.fetch_add(1, std::memory_order_relaxed);
  return slab;
}

void SlabPool::Put(Slab* slab) {
  const int shelf = slab->shelf();
  const std::size_t bytes = shelf >= 0 ? BytesOf(shelf) : 0;
  // Small slabs come by the million; for them, what somebody else has seen is enough.
  const bool scarce = bytes >= kPageAlignedFrom ? UnderMemoryPressure() : MemoryPressureLastSeen();
  if (scarce) {
    FreeAll();
    return GiveUp(slab);
  }
  if (shelf >= 0 && bytes <= budget()) {
    do {
      if (Keep(slab)) return;
    } while (Displace(shelves_[static_cast<std::size_t>(shelf)]));
  }
  delete slab;
}

bool SlabPool::Keep(Slab* slab) {
  const std::size_t bytes = BytesOf(slab->shelf());
  Shelf& place = shelves_[static_cast<std::size_t>(slab->shelf())];
  // The budget is read under the shelf's mutex. set_budget() takes every one of them after it has changed the budget, so that
  // either it finds this slab on the shelf, or the new budget is known here.
  const std::lock_guard<std::mutex> lock(place.mutex);
  place.last_used.store(clock_.fetch_add(1, std::memory_order_relaxed), std::memory_order_relaxed);
  // Room is taken only where there is some, so that a slab that is refused does not get another one refused in passing.
  std::size_t kept = free_bytes();
  while (kept + bytes <= budget()) {
    if (!free_bytes_.compare_exchange_weak(kept, kept + bytes, std::memory_order_relaxed)) continue;
    slab->next = place.free_list;
    place.free_list = slab;
    place.empty.store(false, std::memory_order_relaxed);
    return true;
  }
  return false;
}

bool SlabPool::Displace(const Shelf& not_from) {
  int oldest = -1;
  std::uint64_t oldest_use = 0;
  for (int shelf = 0; shelf < kShelves; ++shelf) {
    const Shelf& place = shelves_[static_cast<std::size_t>(shelf)];
    if (&place == &not_from || place.empty.load(std::memory_order_relaxed)) continue;
    const std::uint64_t used = place.last_used.load(std::memory_order_relaxed);
    if (oldest >= 0 && used >= oldest_use) continue;
    oldest = shelf;
    oldest_use = used;
  }
  if (oldest < 0) return false;
  Shelf& place = shelves_[static_cast<std::size_t>(oldest)];
  Slab* slab = nullptr;
  {
    const std::lock_guard<std::mutex> lock(place.mutex);
    slab = place.free_list;
    if (slab == nullptr) return true;  // somebody took it: the next look finds another
    place.free_list = slab->next;
    place.empty.store(place.free_list == nullptr, std::memory_order_relaxed);
    free_bytes_.fetch_sub(BytesOf(oldest), std::memory_order_relaxed);
  }
  delete slab;  // giving pages back takes its time: not under the lock
  return true;
}

void SlabPool::set_budget(std::size_t bytes) {
  budget_.store(bytes, std::memory_order_relaxed);
  FreeDownTo(bytes);
}

void SlabPool::FreeDownTo(std::size_t bytes) {
  // Largest first: they free the most for the fewest calls.
  for (int shelf = kShelves - 1; shelf >= 0; --shelf) {
    Shelf& place = shelves_[static_cast<std::size_t>(shelf)];
    const std::lock_guard<std::mutex> lock(place.mutex);
    while (place.free_list != nullptr && free_bytes() > bytes) {
      Slab* slab = place.free_list;
      place.free_list = slab->next;
      place.empty.store(place.free_list == nullptr, std::memory_order_relaxed);
      free_bytes_.fetch_sub(BytesOf(shelf), std::memory_order_relaxed);
      GiveUp(slab);
    }
  }
}

void SlabPool::FreeAll() {
  // Nothing is promised here as set_budget() promises it: a slab that comes back meanwhile is found by the next who looks.
  if (free_bytes() > 0) FreeDownTo(0);
}

void SlabPool::GiveUp(Slab* slab) {
  // The allocator may keep for itself what it is given back. Whole pages are returned to the system first: they are what the pool
  // was too large for. Their size is the kernel's, which would round up, over what is not ours.
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t bytes = slab->shelf() >= 0 ? BytesOf(slab->shelf()) : 0;
  if (bytes >= kPageAlignedFrom && reinterpret_cast<std::uintptr_t>(slab->data()) % page == 0) {
    ::madvise(slab->data(), bytes / page * page, MADV_DONTNEED);
  }
  delete slab;
}

void SlabPool::LockAll() {
  // Nobody else ever holds two of them, so the order cannot deadlock.
  for (Shelf& shelf : shelves_) shelf.mutex.lock();
}

void SlabPool::UnlockAll() {
  for (Shelf& shelf : shelves_) shelf.mutex.unlock();
}

}  // namespace fastgen
