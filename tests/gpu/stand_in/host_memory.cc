#include "host_memory.h"

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace fastgen::stand_in {

PinnedAllocator& PinnedAllocator::Global() {
  static auto* allocator = new PinnedAllocator;  // never destroyed: tensors may be freed at the very end
  return *allocator;
}

void* PinnedAllocator::AllocateRaw(std::size_t alignment, std::size_t bytes) {
  return AllocateRaw(alignment, bytes, tensorflow::AllocationAttributes());
}

void* PinnedAllocator::AllocateRaw(std::size_t alignment, std::size_t bytes,
                                   const tensorflow::AllocationAttributes& attributes) {
  std::unique_lock<std::mutex> lock(mutex_);
  const bool counts = bytes >= kCountedFrom;
  if (counts && hold_) {
    holding_ = true;
    if (!changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !hold_; })) ++given_up_;
    holding_ = false;
  }
  if (counts && (bytes > limit_ || in_use_ > limit_ - bytes)) {
    if (attributes.retry_on_failure) ++waits_;
    return nullptr;
  }
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* const data = std::aligned_alloc(alignment, rounded);
  pieces_[reinterpret_cast<std::uintptr_t>(data)] = bytes;
  if (!counts) return data;
  in_use_ += bytes;
  if (in_use_ > peak_) peak_ = in_use_;
  ++allocations_;
  return data;
}

void PinnedAllocator::DeallocateRaw(void* data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto piece = pieces_.find(reinterpret_cast<std::uintptr_t>(data));
  std::memset(data, 0xDB, piece->second);
  if (piece->second >= kCountedFrom) in_use_ -= piece->second;
  pieces_.erase(piece);
  std::free(data);
}

void PinnedAllocator::Hold(bool hold) {
  const std::lock_guard<std::mutex> lock(mutex_);
  hold_ = hold;
  changed_.notify_all();
}

bool PinnedAllocator::holding() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return holding_;
}

std::uint64_t PinnedAllocator::given_up() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return given_up_;
}

bool PinnedAllocator::Contains(const void* data) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  auto after = pieces_.upper_bound(address);
  if (after == pieces_.begin()) return false;
  --after;
  return address < after->first + after->second;
}

void PinnedAllocator::set_limit(std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  limit_ = bytes;
}

std::size_t PinnedAllocator::in_use() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return in_use_;
}

std::size_t PinnedAllocator::peak() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return peak_;
}

std::uint64_t PinnedAllocator::allocations() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return allocations_;
}

std::uint64_t PinnedAllocator::waits() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return waits_;
}

}  // namespace fastgen::stand_in
