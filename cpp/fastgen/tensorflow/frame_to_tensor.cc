#include "fastgen/tensorflow/frame_to_tensor.h"

#include <cstring>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "fastgen/core/slab_pool.h"
#include "tensorflow/core/framework/allocation_description.pb.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/lib/core/refcount.h"

namespace fastgen {
namespace {

using ::tensorflow::DataType;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

static_assert(static_cast<int>(DType::kFloat32) == tensorflow::DT_FLOAT);
static_assert(static_cast<int>(DType::kString) == tensorflow::DT_STRING);
static_assert(static_cast<int>(DType::kInt64) == tensorflow::DT_INT64);
static_assert(static_cast<int>(DType::kBool) == tensorflow::DT_BOOL);
static_assert(static_cast<int>(DType::kBfloat16) == tensorflow::DT_BFLOAT16);
static_assert(static_cast<int>(DType::kHalf) == tensorflow::DT_HALF);
static_assert(static_cast<int>(DType::kVariant) == tensorflow::DT_VARIANT);
static_assert(static_cast<int>(DType::kUint64) == tensorflow::DT_UINT64);
static_assert(static_cast<int>(DType::kFloat8E4m3fn) == tensorflow::DT_FLOAT8_E4M3FN);
static_assert(static_cast<int>(DType::kInt4) == tensorflow::DT_INT4);
static_assert(static_cast<int>(DType::kUint4) == tensorflow::DT_UINT4);

static_assert(static_cast<int>(Code::kCancelled) == static_cast<int>(absl::StatusCode::kCancelled));
static_assert(static_cast<int>(Code::kInvalidArgument) == static_cast<int>(absl::StatusCode::kInvalidArgument));
static_assert(static_cast<int>(Code::kFailedPrecondition) == static_cast<int>(absl::StatusCode::kFailedPrecondition));
static_assert(static_cast<int>(Code::kUnimplemented) == static_cast<int>(absl::StatusCode::kUnimplemented));
static_assert(static_cast<int>(Code::kUnavailable) == static_cast<int>(absl::StatusCode::kUnavailable));

/// Lets a tensor lie in a block.
class BlockBuffer final : public tensorflow::TensorBuffer {
 public:
  BlockBuffer(BlockRef block, std::byte* data, std::size_t size) : TensorBuffer(data), block_(std::move(block)), size_(size) {}

  std::size_t size() const override { return size_; }
  TensorBuffer* root_buffer() override { return this; }
  void FillAllocationDescription(tensorflow::AllocationDescription* description) const override {
    description->set_requested_bytes(static_cast<std::int64_t>(size_));
    description->set_allocator_name("fastgen");
  }
  /// TensorFlow copies from pinned memory to a GPU as it lies, and takes other host memory through a pinned buffer of its own.
  tensorflow::AllocatorMemoryType GetMemoryType() const override {
    return block_->pinned() ? tensorflow::AllocatorMemoryType::kHostPinned : tensorflow::AllocatorMemoryType::kHostPageable;
  }

 private:
  const BlockRef block_;
  const std::size_t size_;
};

/// A tensor that only this library can open, on its way through the native side.
class TensorBlock final : public Block {
 public:
  explicit TensorBlock(Tensor tensor) : Block(nullptr, tensor.TotalBytes()), tensor_(std::move(tensor)) {}
  Tensor& tensor() { return tensor_; }

 private:
  void Dispose() override { delete this; }
  Tensor tensor_;
};

class FastgenHandOverOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* ctx) override {
    Tensor* address = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &address));
    Block* block = new TensorBlock(ctx->input(0));
    address->scalar<std::int64_t>()() = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(block));
  }
};

REGISTER_KERNEL_BUILDER(Name("FastgenHandOver").Device(tensorflow::DEVICE_CPU), FastgenHandOverOp);

TensorShape ShapeOf(const Component& component) {
  TensorShape shape;
  for (int axis = 0; axis < component.rank; ++axis) shape.AddDim(component.dims()[axis]);
  return shape;
}

/// The scalars that are common have a constructor that makes value and buffer in one allocation.
Tensor InlineTensor(const Component& component) {
  const auto as = [&component](auto zero) {
    std::memcpy(&zero, component.inline_bytes, sizeof(zero));
    return Tensor(zero);
  };
  if (component.rank == 0) {
    switch (component.dtype) {
      case DType::kInt64: return as(std::int64_t{});
      case DType::kInt32: return as(std::int32_t{});
      case DType::kFloat32: return as(float{});
      case DType::kFloat64: return as(double{});
      case DType::kUint8: return as(std::uint8_t{});
      case DType::kBool: return as(bool{});
      default: break;
    }
  }
  Tensor tensor(static_cast<DataType>(component.dtype), ShapeOf(component));
  if (component.byte_size > 0) std::memcpy(tensor.data(), component.inline_bytes, component.byte_size);
  return tensor;
}

Tensor StringTensor(const Component& component) {
  Tensor tensor(tensorflow::DT_STRING, ShapeOf(component));
  auto values = tensor.flat<tensorflow::tstring>();
  const StringTable table(component.bytes());
  // Copied: a string that only points into the block would be copied as a pointer by whoever copies the tensor, and dangle.
  for (std::size_t i = 0; i < static_cast<std::size_t>(values.size()); ++i) {
    values(static_cast<Eigen::Index>(i)).assign(table.data(i), table.size(i));
  }
  return tensor;
}

Tensor ComponentToTensor(Component* component) {
  switch (component->storage) {
    case Component::Storage::kInline:
      return InlineTensor(*component);
    case Component::Storage::kStrings:
      return StringTensor(*component);
    case Component::Storage::kOpaque:
      return static_cast<TensorBlock*>(component->held.block)->tensor();
    case Component::Storage::kBlock: {
      const std::size_t size = component->byte_size;
      std::byte* const data = component->held.data;
      tensorflow::core::RefCountPtr<tensorflow::TensorBuffer> buffer(new BlockBuffer(component->TakeBlock(), data, size));
      return Tensor(static_cast<DataType>(component->dtype), ShapeOf(*component), std::move(buffer));
    }
    case Component::Storage::kNone:
      break;
  }
  return Tensor();
}

}  // namespace

void FrameToTensors(Frame* frame, std::vector<Tensor>* tensors) {
  tensors->reserve(frame->num_components);
  for (std::uint32_t i = 0; i < frame->num_components; ++i) tensors->push_back(ComponentToTensor(&frame->components[i]));
}

absl::Status TensorToComponent(const Tensor& tensor, Component* component) {
  component->dtype = static_cast<DType>(tensor.dtype());
  if (tensor.dtype() != tensorflow::DT_STRING && SizeOf(component->dtype) == 0) {
    return absl::UnimplementedError(absl::StrCat("An argument of dtype ", tensorflow::DataTypeString(tensor.dtype()),
                                                 " cannot be passed to a Python source: it has no NumPy form."));
  }
  std::int64_t* dims = component->SetRank(tensor.dims());
  for (int axis = 0; axis < tensor.dims(); ++axis) dims[axis] = tensor.dim_size(axis);
  if (tensor.dtype() != tensorflow::DT_STRING) {
    const auto bytes = tensor.tensor_data();
    component->SetBlock(Component::Storage::kBlock, SlabPool::Global().Get(bytes.size()), bytes.size());
    std::memcpy(component->held.data, bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  const auto values = tensor.flat<tensorflow::tstring>();
  const auto count = static_cast<std::size_t>(values.size());
  std::size_t total = StringTable::SizeOfTable(count);
  for (Eigen::Index i = 0; i < values.size(); ++i) total += values(i).size();
  component->SetBlock(Component::Storage::kStrings, SlabPool::Global().Get(total), total);
  StringTableWriter writer(component->held.data, count);
  for (Eigen::Index i = 0; i < values.size(); ++i) writer.Append(values(i).data(), values(i).size());
  return absl::OkStatus();
}

absl::Status ToAbslStatus(const Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status converted(static_cast<absl::StatusCode>(status.code()), status.message());
  if (status.exception_id() != 0) {
    const std::string number = absl::StrCat(status.exception_id());
    // By way of a view: TensorFlow's library does not export the constructor from a string.
    converted.SetPayload("fastgen.exception", absl::Cord(absl::string_view(number)));
  }
  return converted;
}

absl::Status SourceIsGone(const std::string& key) {
  return absl::FailedPreconditionError(absl::StrCat(
      "The Python source '", key,
      "' is not in this process, or no longer. A dataset made from a Python callable can be saved as a graph, but only run in a "
      "process that holds the callable, and while something there does: keep the dataset object (or make it again) as long as its "
      "graph is used."));
}

}  // namespace fastgen
