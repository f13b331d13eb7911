#include "fastgen/tensorflow/device_memory.h"

#include <cstddef>
#include <mutex>
#include <unordered_map>

#include "tensorflow/core/framework/allocator.h"

namespace fastgen {
namespace {

using ::tensorflow::Allocator;

class PinnedAllocator final : public SlabAllocator {
 public:
  explicit PinnedAllocator(Allocator* allocator) : allocator_(allocator) {}

  void* Allocate(std::size_t bytes) override {
    // Without the attribute TensorFlow would wait for seconds until somebody frees memory. There is other memory.
    const tensorflow::AllocationAttributes at_once(/*retry_on_failure=*/false, /*allocation_will_be_logged=*/false,
                                                   /*freed_by_func=*/nullptr);
    return allocator_->AllocateRaw(kSlabAlignment, bytes, at_once);
  }
  void Free(void* data, std::size_t) override { allocator_->DeallocateRaw(data); }
  bool pinned() const override { return true; }

 private:
  // TensorFlow's host allocators belong to the process, not to a device that may go.
  Allocator* const allocator_;
};

}  // namespace

SlabAllocator* FindPinnedMemory(tensorflow::data::IteratorContext* ctx) {
  tensorflow::AllocatorAttributes attributes;
  attributes.set_on_host(true);
  attributes.set_gpu_compatible(true);
  Allocator* const allocator = ctx->allocator(attributes);
  // Without a GPU this is the CPU's ordinary one.
  if (allocator == nullptr || allocator->GetMemoryType() != tensorflow::AllocatorMemoryType::kHostPinned) return nullptr;
  static std::mutex mutex;
  static auto* known = new std::unordered_map<Allocator*, PinnedAllocator>;  // never destroyed: slabs refer to them
  const std::lock_guard<std::mutex> lock(mutex);
  return &known->try_emplace(allocator, allocator).first->second;
}

}  // namespace fastgen
