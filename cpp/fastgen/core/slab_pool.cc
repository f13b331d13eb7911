#include "fastgen/core/slab_pool.h"

#include <memory>
#include <new>

#include "fastgen/core/memory_pressure.h"

namespace fastgen {
namespace {

/// From here on a slab is so large that a look at the system's memory costs nothing beside it.
constexpr std::size_t kLargeSlab = std::size_t{64} << 10;

int FloorLog2(std::size_t n) { return 63 - __builtin_clzll(n); }

}  // namespace

/// The object lies apart from its bytes: bytes that a tensor writes past its end must not reach a free list.
class SlabPool::Slab final : public Block {
 public:
  Slab(SlabPool* pool, int shelf, std::byte* data, std::size_t size, bool pinned)
      : Block(data, size, pinned), pool_(pool), shelf_(shelf), bytes_(shelf >= 0 ? BytesOf(shelf) : size) {}

  int shelf() const { return shelf_; }
  /// What the allocator gave.
  std::size_t bytes() const { return bytes_; }
  void Reuse(std::size_t size) { Reset(size); }

  Slab* next = nullptr;  // guarded by the shelf's mutex

 private:
  void Dispose() override { pool_->Put(this); }

  SlabPool* const pool_;
  const int shelf_;
  const std::size_t bytes_;
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
  BlockRef slab = TryGet(bytes);
  if (!slab) throw std::bad_alloc();
  return slab;
}

BlockRef SlabPool::TryGet(std::size_t bytes) {
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
  // What the slab can hold, not what is asked for now: whoever gets it next may fill it.
  const std::size_t wanted = shelf >= 0 ? BytesOf(shelf) : bytes;
  void* data = allocator_.Allocate(wanted);
  // What is kept is of other sizes, or somebody has just brought it back.
  while (data == nullptr && Displace(nullptr)) data = allocator_.Allocate(wanted);
  if (data == nullptr) return BlockRef();
  const auto free = [this, wanted](void* memory) { allocator_.Free(memory, wanted); };
  std::unique_ptr<void, decltype(free)> owned(data, free);
  BlockRef slab(new Slab(this, shelf, static_cast<std::byte*>(data), bytes, allocator_.pinned()));
  owned.release();  // the slab's by now
  fresh_slabs_.fetch_add(1, std::memory_order_relaxed);
  return slab;
}

bool SlabPool::Keeps(std::size_t bytes) const {
  const int shelf = ShelfOf(bytes);
  return shelf >= 0 && !shelves_[static_cast<std::size_t>(shelf)].empty.load(std::memory_order_relaxed);
}

void SlabPool::Put(Slab* slab) {
  const int shelf = slab->shelf();
  const std::size_t bytes = shelf >= 0 ? BytesOf(shelf) : 0;
  // Small slabs come by the million; for them, what somebody else has seen is enough.
  const bool scarce = bytes >= kLargeSlab ? UnderMemoryPressure() : MemoryPressureLastSeen();
  if (scarce) {
    FreeAll();
    return GiveUp(slab);
  }
  if (shelf >= 0 && bytes <= budget()) {
    do {
      if (Keep(slab)) return;
    } while (Displace(&shelves_[static_cast<std::size_t>(shelf)]));
  }
  Delete(slab);
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

bool SlabPool::Displace(const Shelf* not_from) {
  int oldest = -1;
  std::uint64_t oldest_use = 0;
  for (int shelf = 0; shelf < kShelves; ++shelf) {
    const Shelf& place = shelves_[static_cast<std::size_t>(shelf)];
    if (&place == not_from || place.empty.load(std::memory_order_relaxed)) continue;
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
  Delete(slab);  // giving pages back takes its time: not under the lock
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
  allocator_.GiveUp(slab->data(), slab->bytes());
  delete slab;
}

void SlabPool::Delete(Slab* slab) {
  allocator_.Free(slab->data(), slab->bytes());
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
