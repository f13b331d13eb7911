// The dataset kernel: an iterator reads a stream of frames.
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "fastgen/core/stream.h"
#include "fastgen/tensorflow/frame_to_tensor.h"
#include "fastgen/tensorflow/source_handle.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/dataset.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/partial_tensor_shape.h"
#include "tensorflow/core/framework/variant.h"

namespace fastgen {
namespace {

using ::tensorflow::CancellationManager;
using ::tensorflow::DataTypeVector;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::PartialTensorShape;
using ::tensorflow::Tensor;
using ::tensorflow::data::CardinalityOptions;
using ::tensorflow::data::DatasetBase;
using ::tensorflow::data::DatasetContext;
using ::tensorflow::data::DatasetIterator;
using ::tensorflow::data::IteratorBase;
using ::tensorflow::data::IteratorContext;
using ::tensorflow::data::IteratorStateReader;
using ::tensorflow::data::IteratorStateWriter;
using ::tensorflow::data::SerializationContext;
using ::tensorflow::data::SplitProvider;

/// Keeps a stream's wait informed of the step's cancellation, for a scope.
class CancellationScope {
 public:
  CancellationScope(CancellationManager* manager, Stream* stream) : manager_(manager) {
    if (manager_ == nullptr) return;
    callback_ = manager_->get_cancellation_token();
    registered_ = manager_->RegisterCallback(callback_, [this, stream] {
      token_.Cancel();
      stream->Interrupt();
    });
    if (!registered_) token_.Cancel();  // it was cancelled before we came
  }
  /// Waits for a callback in progress: afterwards nobody refers to this scope or the stream.
  ~CancellationScope() {
    if (registered_) manager_->DeregisterCallback(callback_);
  }
  CancellationScope(const CancellationScope&) = delete;
  CancellationScope& operator=(const CancellationScope&) = delete;

  const CancellationToken& token() const { return token_; }

 private:
  CancellationManager* const manager_;
  tensorflow::CancellationToken callback_ = 0;
  bool registered_ = false;
  CancellationToken token_;
};

/// For a tf.data service that deals out parts of a dataset: a Python source has one part, all of it.
class WholeSource final : public SplitProvider {
 public:
  absl::Status GetNext(Tensor* split, bool* end_of_splits) override {
    const absl::MutexLock lock(&mutex_);
    *end_of_splits = taken_;
    if (!taken_) *split = Tensor(std::int64_t{0});
    taken_ = true;
    return absl::OkStatus();
  }
  absl::Status Reset() override {
    const absl::MutexLock lock(&mutex_);
    taken_ = false;
    return absl::OkStatus();
  }
  absl::Status Save(std::function<std::string(std::string)> full_name, IteratorStateWriter* writer) override {
    const absl::MutexLock lock(&mutex_);
    return writer->WriteScalar(full_name("taken"), std::int64_t{taken_});
  }
  absl::Status Restore(std::function<std::string(std::string)> full_name, IteratorStateReader* reader) override {
    const absl::MutexLock lock(&mutex_);
    std::int64_t taken = 0;
    TF_RETURN_IF_ERROR(reader->ReadScalar(full_name("taken"), &taken));
    taken_ = taken != 0;
    return absl::OkStatus();
  }
  std::int64_t Cardinality() const override { return 1; }

 private:
  absl::Mutex mutex_;
  bool taken_ ABSL_GUARDED_BY(mutex_) = false;
};

class FastgenDataset final : public DatasetBase {
 public:
  FastgenDataset(OpKernelContext* ctx, Tensor handle, std::shared_ptr<Source> source, std::vector<Tensor> args,
                 DataTypeVector output_types, std::vector<PartialTensorShape> output_shapes, std::int64_t cardinality)
      : DatasetBase(DatasetContext(ctx)),
        handle_(std::move(handle)),
        source_(std::move(source)),
        args_(std::move(args)),
        output_types_(std::move(output_types)),
        output_shapes_(std::move(output_shapes)),
        declared_cardinality_(cardinality) {}

  std::unique_ptr<IteratorBase> MakeIteratorInternal(const std::string& prefix) const override;

  const DataTypeVector& output_dtypes() const override { return output_types_; }
  const std::vector<PartialTensorShape>& output_shapes() const override { return output_shapes_; }
  std::string DebugString() const override { return "fastgen::FastgenDataset(" + source_->key() + ")"; }
  std::int64_t CardinalityInternal(CardinalityOptions) const override { return declared_cardinality_; }
  absl::Status InputDatasets(std::vector<const DatasetBase*>* inputs) const override {
    inputs->clear();
    return absl::OkStatus();
  }
  absl::Status MakeSplitProviders(std::vector<std::unique_ptr<SplitProvider>>* providers) const override {
    providers->push_back(std::make_unique<WholeSource>());
    return absl::OkStatus();
  }
  /// The source's own state is the user's affair, as a file's contents are.
  absl::Status CheckExternalState() const override { return absl::OkStatus(); }

  std::unique_ptr<Stream> OpenStream(absl::Status* status) const {
    std::vector<Component> arguments(args_.size(), Component{});
    try {
      for (std::size_t i = 0; i < args_.size() && status->ok(); ++i) *status = TensorToComponent(args_[i], &arguments[i]);
      if (status->ok()) return source_->Open(std::move(arguments));
    } catch (const std::bad_alloc&) {
      *status = absl::ResourceExhaustedError("Out of memory for the source's arguments, or for a buffer of this size.");
    }
    for (Component& argument : arguments) argument.Clear();
    return nullptr;
  }

 protected:
  absl::Status AsGraphDefInternal(SerializationContext* ctx, DatasetGraphDefBuilder* builder,
                                  tensorflow::Node** output) const override {
    tensorflow::Node* handle = nullptr;
    TF_RETURN_IF_ERROR(builder->AddTensor(handle_, &handle));
    std::vector<tensorflow::Node*> args;
    DataTypeVector arg_types;
    for (const Tensor& arg : args_) {
      tensorflow::Node* node = nullptr;
      TF_RETURN_IF_ERROR(builder->AddDatasetOrTensor(ctx, arg, &node));
      args.push_back(node);
      arg_types.push_back(arg.dtype());
    }
    tensorflow::AttrValue arg_types_attr, cardinality_attr;
    builder->BuildAttrValue(arg_types, &arg_types_attr);
    builder->BuildAttrValue(declared_cardinality_, &cardinality_attr);
    return builder->AddDataset(this, {{0, handle}}, {{1, args}},
                               {{"Targs", arg_types_attr}, {"cardinality", cardinality_attr}}, output);
  }

 private:
  class Iterator;

  const Tensor handle_;
  const std::shared_ptr<Source> source_;
  const std::vector<Tensor> args_;
  const DataTypeVector output_types_;
  const std::vector<PartialTensorShape> output_shapes_;
  const std::int64_t declared_cardinality_;
};

class FastgenDataset::Iterator final : public DatasetIterator<FastgenDataset> {
 public:
  explicit Iterator(const Params& params) : DatasetIterator<FastgenDataset>(params) {}

 protected:
  absl::Status GetNextInternal(IteratorContext* ctx, std::vector<Tensor>* tensors, bool* end_of_sequence) override {
    // One consumer at a time. Cancellation goes around the lock.
    const absl::MutexLock lock(&mutex_);
    *end_of_sequence = false;
    if (stream_ == nullptr) {
      TF_RETURN_IF_ERROR(TakeSplit(ctx, end_of_sequence));
      if (*end_of_sequence) return absl::OkStatus();
      absl::Status opened;
      stream_ = dataset()->OpenStream(&opened);
      TF_RETURN_IF_ERROR(opened);
    }
    Frame* frame = nullptr;
    Status status;
    Stream::Outcome outcome = stream_->TryNext(&frame, &status);
    if (outcome == Stream::Outcome::kEmpty) {
      RecordStop(ctx);  // waiting is not this node's work
      {
        const CancellationScope scope(ctx->cancellation_manager(), stream_.get());
        outcome = stream_->Next(scope.token(), &frame, &status);
      }
      RecordStart(ctx);
    }
    switch (outcome) {
      case Stream::Outcome::kFrame:
        FrameToTensors(frame, tensors);
        stream_->Release();
        return absl::OkStatus();
      case Stream::Outcome::kEnd:
        *end_of_sequence = true;
        return absl::OkStatus();
      case Stream::Outcome::kError:
        return ToAbslStatus(status);
      case Stream::Outcome::kEmpty:
        break;
    }
    return absl::InternalError("fastgen: a stream returned without an element although it was asked to wait");
  }

  std::shared_ptr<tensorflow::data::model::Node> CreateNode(
      IteratorContext*, tensorflow::data::model::Node::Args args) const override {
    return tensorflow::data::model::MakeSourceNode(std::move(args));
  }

  absl::Status SaveInternal(SerializationContext*, IteratorStateWriter*) override {
    return absl::UnimplementedError(
        "The position in a Python source cannot be saved in a checkpoint yet. Save the model without its input iterator.");
  }

  absl::Status RestoreInternal(IteratorContext*, IteratorStateReader*) override {
    return absl::UnimplementedError("The position in a Python source cannot be restored from a checkpoint yet.");
  }

 private:
  /// Where a service deals out the work, only one iterator gets this source.
  absl::Status TakeSplit(IteratorContext* ctx, bool* end_of_sequence) {
    for (const auto& provider : ctx->split_providers()) {
      Tensor split;
      TF_RETURN_IF_ERROR(provider->GetNext(&split, end_of_sequence));
    }
    return absl::OkStatus();
  }

  absl::Mutex mutex_;
  std::unique_ptr<Stream> stream_ ABSL_GUARDED_BY(mutex_);
};

std::unique_ptr<IteratorBase> FastgenDataset::MakeIteratorInternal(const std::string& prefix) const {
  return std::make_unique<Iterator>(Iterator::Params{this, prefix + "::Fastgen"});
}

class FastgenDatasetOp final : public tensorflow::data::DatasetOpKernel {
 public:
  explicit FastgenDatasetOp(OpKernelConstruction* ctx) : DatasetOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("output_types", &output_types_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("output_shapes", &output_shapes_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("cardinality", &cardinality_));
  }

 protected:
  void MakeDataset(OpKernelContext* ctx, DatasetBase** output) override {
    const Tensor& handle = ctx->input(0);
    const auto* held = handle.dims() == 0 ? handle.scalar<tensorflow::Variant>()().get<SourceHandle>() : nullptr;
    OP_REQUIRES(ctx, held != nullptr, absl::InvalidArgumentError("`source` must be a handle from FastgenSource."));
    OP_REQUIRES(ctx, held->source != nullptr, SourceIsGone(held->key));
    tensorflow::OpInputList inputs;
    OP_REQUIRES_OK(ctx, ctx->input_list("args", &inputs));
    std::vector<Tensor> args(inputs.begin(), inputs.end());
    *output = new FastgenDataset(ctx, handle, held->source, std::move(args), output_types_, output_shapes_, cardinality_);
  }

 private:
  DataTypeVector output_types_;
  std::vector<PartialTensorShape> output_shapes_;
  std::int64_t cardinality_ = -2;
};

REGISTER_KERNEL_BUILDER(Name("FastgenDataset").Device(tensorflow::DEVICE_CPU), FastgenDatasetOp);

}  // namespace
}  // namespace fastgen
