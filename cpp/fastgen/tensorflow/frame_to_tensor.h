// Between frames and tensors.
#ifndef FASTGEN_TENSORFLOW_FRAME_TO_TENSOR_H_
#define FASTGEN_TENSORFLOW_FRAME_TO_TENSOR_H_

#include <string>
#include <vector>

#include "fastgen/core/frame.h"
#include "fastgen/core/status.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/core/status.h"

namespace fastgen {

/// Moves a frame's components into tensors: bytes in a block become the tensor's buffer where they lie, and the block lives as
/// long as any tensor on it. The frame's components are spent afterwards.
void FrameToTensors(Frame* frame, std::vector<tensorflow::Tensor>* tensors);

/// Copies a tensor into a component. An error for tensors that have no plain bytes (variants, resources).
absl::Status TensorToComponent(const tensorflow::Tensor& tensor, Component* component);

absl::Status ToAbslStatus(const Status& status);

/// What a user sees who runs a graph whose source is not there.
absl::Status SourceIsGone(const std::string& key);

}  // namespace fastgen

#endif  // FASTGEN_TENSORFLOW_FRAME_TO_TENSOR_H_
