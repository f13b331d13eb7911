// Memory for a component, asked for while the GIL is held.
#ifndef FASTGEN_PYTHON_SLAB_REQUEST_H_
#define FASTGEN_PYTHON_SLAB_REQUEST_H_

#include <cstddef>
#include <new>

#include "fastgen/core/block.h"
#include "fastgen/core/slabs.h"
#include "fastgen/python/gil.h"

namespace fastgen {

/// slabs.Get(bytes), with the GIL free while memory has to be pinned: that takes milliseconds, and may wait for the device. Needs the
/// GIL; whoever calls holds references of his own to the objects that he goes on with. Throws std::bad_alloc.
inline BlockRef GetSlab(Slabs& slabs, std::size_t bytes) {
  if (!slabs.MayTakeLong(bytes)) return slabs.Get(bytes);
  BlockRef slab;
  WithoutGil([&] {
    try {
      slab = slabs.Get(bytes);
    } catch (const std::bad_alloc&) {  // thrown again when the GIL is held
    }
  });
  if (!slab) throw std::bad_alloc();
  return slab;
}

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_SLAB_REQUEST_H_
