#include "fastgen/tensorflow/source_handle.h"

#include <atomic>

#include "fastgen/tensorflow/frame_to_tensor.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/variant.h"
#include "tensorflow/core/framework/variant_op_registry.h"

namespace fastgen {
namespace {

/// Written once, before the first op can run; pairs with the load in ConnectedProvider().
std::atomic<SourceProvider*> provider{nullptr};

}  // namespace

SourceProvider* ConnectedProvider() { return provider.load(std::memory_order_acquire); }

SourceHandle SourceHandle::Find(const std::string& key) {
  SourceProvider* connected = ConnectedProvider();
  return SourceHandle{key, connected == nullptr ? nullptr : connected->Find(key)};
}

void SourceHandle::Encode(tensorflow::VariantTensorData* data) const {
  data->set_type_name(TypeName());
  data->set_metadata(key);
}

bool SourceHandle::Decode(const tensorflow::VariantTensorData& data) {
  std::string encoded_key;
  data.get_metadata(&encoded_key);
  *this = Find(encoded_key);
  return true;
}

namespace {

REGISTER_UNARY_VARIANT_DECODE_FUNCTION(SourceHandle, "fastgen::SourceHandle");

class FastgenSourceOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* ctx) override {
    const tensorflow::Tensor& key = ctx->input(0);
    OP_REQUIRES(ctx, key.dims() == 0, absl::InvalidArgumentError("`key` must be a scalar."));
    SourceHandle handle = SourceHandle::Find(key.scalar<tensorflow::tstring>()());
    OP_REQUIRES(ctx, handle.source != nullptr, SourceIsGone(handle.key));
    tensorflow::Tensor* out = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, tensorflow::TensorShape({}), &out));
    out->scalar<tensorflow::Variant>()() = std::move(handle);
  }
};

REGISTER_KERNEL_BUILDER(Name("FastgenSource").Device(tensorflow::DEVICE_CPU), FastgenSourceOp);

}  // namespace
}  // namespace fastgen

/// Called once by Python when the library is loaded. False when the two libraries come out of different builds.
extern "C" __attribute__((visibility("default"))) bool fastgen_connect(fastgen::SourceProvider* from_native,
                                                                       std::uint64_t interface_version) {
  if (interface_version != fastgen::kStreamInterfaceVersion) return false;
  fastgen::provider.store(from_native, std::memory_order_release);
  return true;
}
