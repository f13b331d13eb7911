// Host memory of the stand-in: pinned pages that it knows by their addresses, as a driver does.
#ifndef FASTGEN_TESTS_GPU_STAND_IN_HOST_MEMORY_H_
#define FASTGEN_TESTS_GPU_STAND_IN_HOST_MEMORY_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "tensorflow/core/framework/allocator.h"

namespace fastgen::stand_in {

/// TensorFlow's allocator for host memory that devices read. What is given back is spoiled at once, so that whoever reads it late
/// reads garbage.
class PinnedAllocator final : public tensorflow::Allocator {
 public:
  static PinnedAllocator& Global();

  std::string Name() override { return "stand_in_host"; }
  void* AllocateRaw(std::size_t alignment, std::size_t bytes) override;
  void* AllocateRaw(std::size_t alignment, std::size_t bytes, const tensorflow::AllocationAttributes& attributes) override;
  void DeallocateRaw(void* data) override;
  tensorflow::AllocatorMemoryType GetMemoryType() const override { return tensorflow::AllocatorMemoryType::kHostPinned; }

  /// Limit and counters are of pieces from here on: TensorFlow keeps handles and strings of its own here too.
  static constexpr std::size_t kCountedFrom = 4096;

  /// From now on an allocation takes until this is called with false; or, so that a program which cannot call it fails rather than
  /// hangs, ten seconds.
  void Hold(bool hold);
  /// Whether an allocation is being held.
  bool holding() const;
  /// How many were held for the ten seconds.
  std::uint64_t given_up() const;

  /// Whether an address lies in memory of this allocator's.
  bool Contains(const void* data) const;
  void set_limit(std::size_t bytes);

  std::size_t in_use() const;
  std::size_t peak() const;
  std::uint64_t allocations() const;
  /// How often somebody would have waited for memory to be freed.
  std::uint64_t waits() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool hold_ = false;
  bool holding_ = false;
  std::uint64_t given_up_ = 0;
  std::map<std::uintptr_t, std::size_t> pieces_;  // where they begin, and how long they are; all below guarded by mutex_
  std::size_t limit_ = SIZE_MAX;
  std::size_t in_use_ = 0;
  std::size_t peak_ = 0;
  std::uint64_t allocations_ = 0;
  std::uint64_t waits_ = 0;
};

}  // namespace fastgen::stand_in

#endif  // FASTGEN_TESTS_GPU_STAND_IN_HOST_MEMORY_H_
