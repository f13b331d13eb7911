#include "fastgen/core/pinned_memory.h"

#include <algorithm>
#include <mutex>

#include "fastgen/core/memory_pressure.h"

namespace fastgen {
namespace {

std::size_t DefaultLimit() {
  constexpr std::size_t kShare = 16;
  constexpr std::size_t kWhereNothingIsKnown = std::size_t{256} << 20;
  const std::size_t memory = ReadMemoryLimit();
  return memory > 0 ? memory / kShare : kWhereNothingIsKnown;
}

/// The process's own. The mutex is for connecting and for the limit, not for slabs.
struct Process {
  std::mutex mutex;
  std::atomic<PinnedMemory*> memory{nullptr};  // written under the mutex: release, for those who load it without (acquire)
  SlabAllocator* allocator = nullptr;          // guarded by mutex
  std::size_t limit = DefaultLimit();  // guarded by mutex
};

Process& process() {
  static auto* the_process = new Process;
  return *the_process;
}

}  // namespace

void* PinnedMemory::Limited::Allocate(std::size_t bytes) {
  std::size_t taken = taken_.load(std::memory_order_relaxed);
  do {
    if (!HasRoomFor(bytes, taken)) return nullptr;
  } while (!taken_.compare_exchange_weak(taken, taken + bytes, std::memory_order_relaxed));
  void* const data = allocator_.Allocate(bytes);
  if (data == nullptr) taken_.fetch_sub(bytes, std::memory_order_relaxed);
  return data;
}

void PinnedMemory::Limited::Free(void* data, std::size_t bytes) {
  if (forgotten_.load(std::memory_order_relaxed)) return;
  allocator_.Free(data, bytes);
  taken_.fetch_sub(bytes, std::memory_order_relaxed);
}

PinnedMemory::PinnedMemory(SlabAllocator& allocator, std::size_t limit_bytes)
    : memory_(allocator, limit_bytes), pool_(std::min(limit_bytes, SlabPool::kDefaultBudget), memory_) {}

PinnedMemory* PinnedMemory::Connect(SlabAllocator& allocator) {
  Process& here = process();
  const std::lock_guard<std::mutex> lock(here.mutex);
  if (here.allocator == nullptr) {
    here.memory.store(new PinnedMemory(allocator, here.limit), std::memory_order_release);
    here.allocator = &allocator;
  }
  return here.allocator == &allocator ? here.memory.load(std::memory_order_relaxed) : nullptr;
}

PinnedMemory* PinnedMemory::Connected() { return process().memory.load(std::memory_order_acquire); }

std::size_t PinnedMemory::process_limit() {
  Process& here = process();
  const std::lock_guard<std::mutex> lock(here.mutex);
  return here.limit;
}

void PinnedMemory::set_process_limit(std::size_t bytes) {
  Process& here = process();
  const std::lock_guard<std::mutex> lock(here.mutex);
  here.limit = bytes;
  if (PinnedMemory* const memory = here.memory.load(std::memory_order_relaxed)) memory->set_limit(bytes);
}

void PinnedMemory::LockProcess() {
  process().mutex.lock();  // before the pool's: nobody connects one from here on
  if (PinnedMemory* const memory = Connected()) memory->pool_.LockAll();
}

void PinnedMemory::UnlockProcess() {
  if (PinnedMemory* const memory = Connected()) memory->pool_.UnlockAll();
  process().mutex.unlock();
}

void PinnedMemory::ForgetAfterFork() {
  PinnedMemory* const memory = Connected();
  if (memory == nullptr) return;
  memory->memory_.limit_.store(0, std::memory_order_relaxed);
  memory->memory_.forgotten_.store(true, std::memory_order_relaxed);
  process().memory.store(nullptr, std::memory_order_release);  // the allocator stays known: Connect() gives none
}

BlockRef PinnedMemory::Get(std::size_t bytes) {
  BlockRef slab = TryGet(bytes);
  if (slab) return slab;
  if (pinned()) NoteFallback();  // a limit of nothing is what the user wants
  return SlabPool::Global().Get(bytes);
}

bool PinnedMemory::MayTakeLong(std::size_t bytes) const {
  // Not where the limit says no at once.
  const std::size_t wanted = SlabPool::RoundUp(bytes);
  return memory_.HasRoomFor(wanted) && !pool_.Keeps(bytes);
}

BlockRef PinnedMemory::TryGet(std::size_t bytes) {
  // What can never be had must not cost what is kept for reuse.
  const Figures now = figures();
  const std::size_t in_use = now.taken_bytes - std::min(now.taken_bytes, now.free_bytes);
  const std::size_t wanted = SlabPool::RoundUp(bytes);
  if (wanted > now.limit_bytes || in_use > now.limit_bytes - wanted) return BlockRef();
  BlockRef slab = pool_.TryGet(bytes);
  if (slab) slabs_.fetch_add(1, std::memory_order_relaxed);
  return slab;
}

BlockRef PinnedMemory::Arrays::Get(std::size_t bytes) {
  const Figures now = memory_.figures();
  // Two figures of different moments: at the worst an array too many or too few is pinned.
  const std::size_t in_use = now.taken_bytes - std::min(now.taken_bytes, now.free_bytes);
  const std::size_t allowed = now.limit_bytes / 2;
  if (bytes <= allowed && in_use <= allowed - bytes && memory_.pool_.Keeps(bytes)) {
    if (BlockRef slab = memory_.TryGet(bytes)) return slab;
  }
  return SlabPool::Global().Get(bytes);
}

void PinnedMemory::NoteFallback() {
  fallbacks_.fetch_add(1, std::memory_order_relaxed);
  if (!reported_.load(std::memory_order_relaxed) && !reported_.exchange(true, std::memory_order_relaxed)) {
    report_.store(true, std::memory_order_relaxed);
  }
}

PinnedMemory::Figures PinnedMemory::figures() const {
  return {memory_.limit_.load(std::memory_order_relaxed), memory_.taken_.load(std::memory_order_relaxed), pool_.free_bytes(),
          slabs_.load(std::memory_order_relaxed), fallbacks_.load(std::memory_order_relaxed)};
}

void PinnedMemory::set_limit(std::size_t bytes) {
  memory_.limit_.store(bytes, std::memory_order_relaxed);
  // All that is kept goes, where it would keep new slabs from being pinned; it is cheap to take again.
  if (memory_.taken_.load(std::memory_order_relaxed) > bytes) pool_.set_budget(0);
  pool_.set_budget(std::min(bytes, SlabPool::kDefaultBudget));
  report_.store(false, std::memory_order_relaxed);
  reported_.store(false, std::memory_order_relaxed);
}

}  // namespace fastgen
