// The iterator over a stream of frames, whichever dataset it belongs to.
#ifndef FASTGEN_TENSORFLOW_STREAM_ITERATOR_H_
#define FASTGEN_TENSORFLOW_STREAM_ITERATOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "fastgen/core/stream.h"
#include "fastgen/tensorflow/frame_to_tensor.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/dataset.h"

namespace fastgen {

/// Keeps a stream's wait informed of the step's cancellation, for a scope.
class CancellationScope {
 public:
  CancellationScope(tensorflow::CancellationManager* manager, Stream* stream) : manager_(manager) {
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
  tensorflow::CancellationManager* const manager_;
  tensorflow::CancellationToken callback_ = 0;
  bool registered_ = false;
  CancellationToken token_;
};

/// `Dataset` has OpenStream(): a new stream, or null with the status set.
template <typename Dataset>
class StreamIterator final : public tensorflow::data::DatasetIterator<Dataset> {
  using Base = tensorflow::data::DatasetIterator<Dataset>;
  using IteratorContext = tensorflow::data::IteratorContext;
  using Tensor = tensorflow::Tensor;

 public:
  explicit StreamIterator(const typename Base::Params& params) : Base(params) {}

 protected:
  absl::Status GetNextInternal(IteratorContext* ctx, std::vector<Tensor>* tensors, bool* end_of_sequence) override {
    // One consumer at a time. Cancellation goes around the lock.
    const absl::MutexLock lock(&mutex_);
    *end_of_sequence = false;
    if (stream_ == nullptr) {
      TF_RETURN_IF_ERROR(TakeSplit(ctx, end_of_sequence));
      if (*end_of_sequence) return absl::OkStatus();
      absl::Status opened;
      stream_ = this->dataset()->OpenStream(&opened);
      TF_RETURN_IF_ERROR(opened);
    }
    Frame* frame = nullptr;
    Status status;
    Stream::Outcome outcome = stream_->TryNext(&frame, &status);
    if (outcome == Stream::Outcome::kEmpty) {
      this->RecordStop(ctx);  // waiting is not this node's work
      {
        const CancellationScope scope(ctx->cancellation_manager(), stream_.get());
        outcome = stream_->Next(scope.token(), &frame, &status);
      }
      this->RecordStart(ctx);
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

  absl::Status SaveInternal(tensorflow::data::SerializationContext*, tensorflow::data::IteratorStateWriter*) override {
    return absl::UnimplementedError(
        "The position in a Python source cannot be saved in a checkpoint yet. Save the model without its input iterator.");
  }

  absl::Status RestoreInternal(IteratorContext*, tensorflow::data::IteratorStateReader*) override {
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

}  // namespace fastgen

#endif  // FASTGEN_TENSORFLOW_STREAM_ITERATOR_H_
