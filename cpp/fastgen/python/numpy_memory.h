// NumPy arrays in recycled memory.
//
// What a source creates (np.zeros, image / 255, ...) is allocated by NumPy through a handler that is a context variable (NEP 49).
// Each producer sets this one in its own context, so that the source's large arrays come from the slab pool; arrays of the rest
// of the program are not touched. NumPy frees an array by the handler that allocated it, wherever that happens.
#ifndef FASTGEN_PYTHON_NUMPY_MEMORY_H_
#define FASTGEN_PYTHON_NUMPY_MEMORY_H_

#include <cstddef>

#include "fastgen/core/block.h"
#include "fastgen/core/slab_allocator.h"
#include "fastgen/core/slabs.h"
#include "fastgen/python/python_api.h"

namespace fastgen::numpy_memory {

/// An array's bytes begin here in its slab, so that they keep its alignment; before them stands what frees them.
inline constexpr std::size_t kOffsetInSlab = kSlabAlignment;

/// Installs a handler in the current context that takes large arrays from `slabs`, which must live for ever: arrays may. Call with
/// the GIL, inside of the context that the source runs in. False with a Python exception set.
bool Install(Slabs& slabs);

/// The slab in which an array lies from its beginning, if it owns its memory alone and that came from such a handler; null
/// otherwise. While somebody holds a reference to the slab, its bytes stay, whatever becomes of the array. Needs the GIL.
Block* SlabOf(PyArrayObject* array);

}  // namespace fastgen::numpy_memory

#endif  // FASTGEN_PYTHON_NUMPY_MEMORY_H_
