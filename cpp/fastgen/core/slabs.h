// Whoever needs memory for frames' bytes asks here, and need not know what kind it is.
#ifndef FASTGEN_CORE_SLABS_H_
#define FASTGEN_CORE_SLABS_H_

#include <cstddef>

#include "fastgen/core/block.h"

namespace fastgen {

class Slabs {
 public:
  virtual ~Slabs() = default;

  /// A slab of at least `bytes` bytes whose contents are unspecified. From any thread; never waits for a tensor to be freed. Throws
  /// std::bad_alloc when memory has run out.
  virtual BlockRef Get(std::size_t bytes) = 0;
  /// Whether Get() may have to wait for the system: what it hands out is mostly there already.
  virtual bool MayTakeLong(std::size_t) const { return false; }
  /// Whether its slabs are pinned, as far as there is such memory.
  virtual bool pinned() const = 0;
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_SLABS_H_
