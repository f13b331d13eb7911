// Two devices of type GPU for a TensorFlow that has none, and a CPU beside them as a TensorFlow with GPUs has it.
//
// Kernels that compute nothing (datasets, iterators, sends, calls) are registered for GPUs in every build of TensorFlow; they are all
// that feeding one takes.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "copy_engine.h"
#include "host_memory.h"
#include "tensorflow/core/common_runtime/copy_tensor.h"
#include "tensorflow/core/common_runtime/device_factory.h"
#include "tensorflow/core/common_runtime/dma_helper.h"
#include "tensorflow/core/common_runtime/local_device.h"
#include "tensorflow/core/common_runtime/threadpool_device.h"
#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/tensor_reference.h"
#include "tensorflow/core/public/session_options.h"

namespace fastgen::stand_in {
namespace {

using ::tensorflow::Allocator;
using ::tensorflow::AllocatorAttributes;
using ::tensorflow::Device;
using ::tensorflow::DeviceContext;
using ::tensorflow::DMAHelper;
using ::tensorflow::SessionOptions;
using ::tensorflow::StatusCallback;
using ::tensorflow::Tensor;

constexpr int kDevices = 2;
constexpr tensorflow::Bytes kMemory(std::int64_t{1} << 30);

/// Memory apart from the host's: only the copy engine writes there.
class DeviceAllocator final : public Allocator {
 public:
  std::string Name() override { return "stand_in_device"; }
  void* AllocateRaw(std::size_t alignment, std::size_t bytes) override {
    return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  }
  void DeallocateRaw(void* data) override { std::free(data); }
  tensorflow::AllocatorMemoryType GetMemoryType() const override { return tensorflow::AllocatorMemoryType::kDevice; }
};

class Context final : public DeviceContext {
 public:
  void CopyCPUTensorToDevice(const Tensor* from, Device*, Tensor* to, StatusCallback done, bool) const override {
    Engines& engines = Engines::Global();
    const std::size_t bytes = from->TotalBytes();
    const void* const source = DMAHelper::base(from);
    void* const target = DMAHelper::base(to);
    if (bytes == 0) return engine_.Enqueue([done = std::move(done)] { done(absl::OkStatus()); });
    // TensorFlow stages what says that it is pageable, wherever it lies. Of what does not say, a slice of a batch for one, the driver
    // knows by the address.
    const tensorflow::AllocatorMemoryType type = from->GetMemoryType();
    if (type == tensorflow::AllocatorMemoryType::kHostPinned ||
        (type == tensorflow::AllocatorMemoryType::kUnknown && PinnedAllocator::Global().Contains(source))) {
      ++engines.pinned_copies;
      engines.pinned_bytes += bytes;
      if (engines.broken) {
        engine_.Enqueue([=, target_held = *to] { std::memcpy(target, source, bytes); });
        return done(absl::OkStatus());
      }
      // All that TensorFlow holds while a GPU reads: one reference to the buffer.
      engine_.Enqueue([=, held = tensorflow::TensorReference(*from), done = std::move(done)] {
        std::memcpy(target, source, bytes);
        held.Unref();
        done(absl::OkStatus());
      });
      return;
    }
    ++engines.pageable_copies;
    engines.pageable_bytes += bytes;
    // As a driver does with memory that it may not read later.
    auto staged = std::make_shared<std::vector<char>>(bytes);
    std::memcpy(staged->data(), source, bytes);
    engine_.Enqueue([=, done = std::move(done)] {
      std::memcpy(target, staged->data(), bytes);
      done(absl::OkStatus());
    });
  }

  void CopyDeviceTensorToCPU(const Tensor* from, absl::string_view, Device*, Tensor* to, StatusCallback done) override {
    Copy(from, to, std::move(done));
  }
  void CopyTensorInSameDevice(const Tensor* from, Device*, Tensor* to, StatusCallback done) const override {
    Copy(from, to, std::move(done));
  }
  Allocator* host_memory_allocator() const override { return &PinnedAllocator::Global(); }

  void Drain() { engine_.Drain(); }

 private:
  void Copy(const Tensor* from, Tensor* to, StatusCallback done) const {
    engine_.Enqueue([held = *from, target = DMAHelper::base(to), done = std::move(done)] {
      if (held.TotalBytes() > 0) std::memcpy(target, DMAHelper::base(&held), held.TotalBytes());
      done(absl::OkStatus());
    });
  }

  mutable CopyEngine engine_;
};

class StandInGpu final : public tensorflow::LocalDevice {
 public:
  StandInGpu(const SessionOptions& options, const tensorflow::DeviceAttributes& attributes)
      : LocalDevice(options, attributes), context_(new Context) {
    info_.default_context = context_;
    info_.gpu_id = 0;
    set_tensorflow_accelerator_device_info(&info_);
  }
  ~StandInGpu() override { context_->Unref(); }

  Allocator* GetAllocator(AllocatorAttributes attributes) override {
    if (!attributes.on_host()) return &memory_;
    if (attributes.gpu_compatible()) return &PinnedAllocator::Global();
    return tensorflow::cpu_allocator();
  }
  absl::Status TryGetDeviceContext(DeviceContext** context) override {
    context_->Ref();
    *context = context_;
    return absl::OkStatus();
  }
  absl::Status MakeTensorFromProto(const tensorflow::TensorProto& proto, const AllocatorAttributes attributes,
                                   Tensor* tensor) override {
    Tensor parsed(proto.dtype());
    if (!parsed.FromProto(tensorflow::cpu_allocator(), proto)) return absl::InvalidArgumentError("not a tensor");
    *tensor = Tensor(GetAllocator(attributes), parsed.dtype(), parsed.shape());
    if (parsed.TotalBytes() > 0) std::memcpy(DMAHelper::base(tensor), DMAHelper::base(&parsed), parsed.TotalBytes());
    return absl::OkStatus();
  }
  void CopyTensorInSameDevice(const Tensor* from, Tensor* to, const DeviceContext*, StatusCallback done) override {
    context_->CopyTensorInSameDevice(from, this, to, std::move(done));
  }
  absl::Status Sync() override {
    context_->Drain();
    return absl::OkStatus();
  }

 private:
  // Process-wide, as a card's: tensors may outlive the device object.
  static inline DeviceAllocator& memory_ = *new DeviceAllocator;
  Context* const context_;
  AcceleratorDeviceInfo info_;
};

class StandInGpuFactory final : public tensorflow::DeviceFactory {
 public:
  absl::Status ListPhysicalDevices(std::vector<std::string>* devices) override {
    for (int i = 0; i < kDevices; ++i) devices->push_back("/physical_device:GPU:" + std::to_string(i));
    return absl::OkStatus();
  }
  absl::Status GetDeviceDetails(int, std::unordered_map<std::string, std::string>* details) override {
    (*details)["device_name"] = "stand-in";
    return absl::OkStatus();
  }
  absl::Status CreateDevices(const SessionOptions& options, const std::string& prefix,
                             std::vector<std::unique_ptr<Device>>* devices) override {
    for (int i = 0; i < kDevices; ++i) {
      const std::string name = prefix + "/device:GPU:" + std::to_string(i);
      devices->push_back(std::make_unique<StandInGpu>(
          options, Device::BuildDeviceAttributes(name, tensorflow::DEVICE_GPU, kMemory, tensorflow::DeviceLocality(),
                                                 "device: stand-in")));
    }
    return absl::OkStatus();
  }
};

class CpuBesideGpus final : public tensorflow::ThreadPoolDevice {
 public:
  using ThreadPoolDevice::ThreadPoolDevice;

  Allocator* GetAllocator(AllocatorAttributes attributes) override {
    if (attributes.gpu_compatible()) return &PinnedAllocator::Global();
    return ThreadPoolDevice::GetAllocator(attributes);
  }
};

class CpuBesideGpusFactory final : public tensorflow::DeviceFactory {
 public:
  absl::Status ListPhysicalDevices(std::vector<std::string>* devices) override {
    devices->push_back("/physical_device:CPU:0");
    return absl::OkStatus();
  }
  absl::Status CreateDevices(const SessionOptions& options, const std::string& prefix,
                             std::vector<std::unique_ptr<Device>>* devices) override {
    const auto& counts = options.config.device_count();
    const auto count = counts.find("CPU");
    for (int i = 0; i < (count == counts.end() ? 1 : count->second); ++i) {
      devices->push_back(std::make_unique<CpuBesideGpus>(options, prefix + "/device:CPU:" + std::to_string(i), kMemory,
                                                         tensorflow::DeviceLocality(), tensorflow::cpu_allocator()));
    }
    return absl::OkStatus();
  }
};

/// From one of the devices to another.
void CopyBetweenGpus(DeviceContext* context, DeviceContext*, Device* device, Device*, const AllocatorAttributes,
                     const AllocatorAttributes, const Tensor* from, Tensor* to, int, StatusCallback done) {
  context->CopyTensorInSameDevice(from, device, to, std::move(done));
}

// Above TensorFlow's own for GPUs (210) and for the CPU beside them (70). As a plug-in's devices: every build of TensorFlow has
// copies between its own GPUs registered, which ask for a CUDA stream, and for other devices those would be found first.
const bool registered = [] {
  constexpr bool kIsPlugIn = true;
  tensorflow::DeviceFactory::Register("GPU", std::make_unique<StandInGpuFactory>(), 300, kIsPlugIn);
  return tensorflow::CopyTensor::Register("GPU", "GPU", &CopyBetweenGpus, kIsPlugIn).ok();
}();
REGISTER_LOCAL_DEVICE_FACTORY("CPU", CpuBesideGpusFactory, 100);

}  // namespace
}  // namespace fastgen::stand_in
