// The flattened dtypes and shapes that a source's elements must have.
#ifndef FASTGEN_CORE_SIGNATURE_H_
#define FASTGEN_CORE_SIGNATURE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fastgen/core/dtype.h"

namespace fastgen {

/// The dtype and shape that one component must have.
struct ComponentSpec {
  static constexpr std::int64_t kUnknownLength = -1;

  DType dtype = DType::kInvalid;
  bool known_rank = false;
  std::vector<std::int64_t> dims;  // when the rank is known; kUnknownLength where any length will do

  /// Whether just one shape fits.
  bool IsFullyDefined() const {
    return known_rank && std::find(dims.begin(), dims.end(), kUnknownLength) == dims.end();
  }

  /// Whether a value of this shape fits. `Length` is any integer type, so that NumPy's arrays need no conversion.
  template <typename Length>
  bool Accepts(int rank, const Length* lengths) const {
    if (!known_rank) return true;
    if (static_cast<std::size_t>(rank) != dims.size()) return false;
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      if (dims[axis] != kUnknownLength && dims[axis] != static_cast<std::int64_t>(lengths[axis])) return false;
    }
    return true;
  }
};

using Signature = std::vector<ComponentSpec>;

}  // namespace fastgen

#endif  // FASTGEN_CORE_SIGNATURE_H_
