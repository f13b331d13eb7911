// A source as a value in a tensor: what keeps it alive inside TensorFlow.
#ifndef FASTGEN_TENSORFLOW_SOURCE_HANDLE_H_
#define FASTGEN_TENSORFLOW_SOURCE_HANDLE_H_

#include <memory>
#include <string>

#include "fastgen/core/stream.h"
#include "tensorflow/core/framework/variant_encode_decode.h"

namespace fastgen {

/// The provider that `_native` handed over; null before that.
SourceProvider* ConnectedProvider();

/// Copyable, as tensors want it. Encoded it is the source's key; decoding finds the source again in this process, or leaves
/// `source` empty.
struct SourceHandle {
  std::string key;
  std::shared_ptr<Source> source;

  std::string TypeName() const { return "fastgen::SourceHandle"; }
  std::string DebugString() const { return "fastgen source " + key; }
  void Encode(tensorflow::VariantTensorData* data) const;
  bool Decode(const tensorflow::VariantTensorData& data);

  /// Finds the source of this key, if it lives in this process.
  static SourceHandle Find(const std::string& key);
};

}  // namespace fastgen

#endif  // FASTGEN_TENSORFLOW_SOURCE_HANDLE_H_
