#include "fastgen/tensorflow/read_ahead_mark.h"

#include <memory>
#include <string>
#include <vector>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/partial_tensor_shape.h"
#include "tensorflow/core/lib/core/refcount.h"

namespace fastgen {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::data::DatasetBase;
using ::tensorflow::data::DatasetContext;

constexpr char kStockOp[] = "PrefetchDataset";
constexpr char kKernelLabel[] = "fastgen";

/// Only what the graph's builder asks of the dataset whose node it writes.
class Mark final : public DatasetBase {
 public:
  explicit Mark(const DatasetBase& marked) : DatasetBase(DatasetContext({kStockOp, marked.node_name()})), marked_(marked) {}

  const tensorflow::DataTypeVector& output_dtypes() const override { return marked_.output_dtypes(); }
  const std::vector<tensorflow::PartialTensorShape>& output_shapes() const override { return marked_.output_shapes(); }
  std::string DebugString() const override { return "fastgen::Mark"; }
  absl::Status InputDatasets(std::vector<const DatasetBase*>*) const override { return absl::OkStatus(); }
  absl::Status CheckExternalState() const override { return absl::OkStatus(); }

 protected:
  std::unique_ptr<tensorflow::data::IteratorBase> MakeIteratorInternal(const std::string&) const override { return nullptr; }
  absl::Status AsGraphDefInternal(tensorflow::data::SerializationContext*, DatasetGraphDefBuilder*,
                                  tensorflow::Node**) const override {
    return absl::InternalError("fastgen: a mark is no dataset");
  }

 private:
  const DatasetBase& marked_;
};

/// The kernel behind the mark: its dataset is its input.
class FastgenMarkOp final : public tensorflow::data::UnaryDatasetOpKernel {
 public:
  explicit FastgenMarkOp(OpKernelConstruction* ctx) : UnaryDatasetOpKernel(ctx) {}

 protected:
  void MakeDataset(OpKernelContext*, DatasetBase* input, DatasetBase** output) override {
    input->Ref();
    *output = input;
  }
};

REGISTER_KERNEL_BUILDER(Name(kStockOp).Device(tensorflow::DEVICE_CPU).Label(kKernelLabel).HostMemory("buffer_size"),
                        FastgenMarkOp);

}  // namespace

absl::Status MarkAsReadingAhead(const DatasetBase& dataset, DatasetBase::DatasetGraphDefBuilder* builder, tensorflow::Node* node,
                                tensorflow::Node** output) {
  tensorflow::Node* buffer_size = nullptr;
  TF_RETURN_IF_ERROR(builder->AddScalar(std::int64_t{tensorflow::data::model::kAutotune}, &buffer_size));
  tensorflow::AttrValue label;
  builder->BuildAttrValue(std::string(kKernelLabel), &label);
  const tensorflow::core::RefCountPtr<Mark> mark(new Mark(dataset));
  return builder->AddDataset(mark.get(), {node, buffer_size}, {{"_kernel", label}}, output);
}

}  // namespace fastgen
