// From NumPy's memory to where a component's bytes shall lie.
#ifndef FASTGEN_PYTHON_ARRAY_COPY_H_
#define FASTGEN_PYTHON_ARRAY_COPY_H_

#include <cstddef>

#include "fastgen/python/python_api.h"

namespace fastgen {

/// The bytes of an array's values in C order, as values of `descr`.
std::size_t BytesAs(PyArrayObject* array, PyArray_Descr* descr);

/// Whether an array's memory holds just those bytes: same dtype, byte order and layout.
bool HoldsBytesOf(PyArrayObject* array, PyArray_Descr* descr);

/// Whether an array is the only way to its memory: it owns that, no view was made of it, and no weak reference can bring it back.
/// Whoever holds the only reference to such an array knows that its values will not change.
bool OwnsMemoryAlone(PyArrayObject* array);

/// From here on the GIL is freed for a copy. Below, taking it back from a busy thread (up to 5 ms by default, see
/// sys.setswitchinterval) would cost more than the copy.
inline constexpr std::size_t kLargeCopy = std::size_t{256} << 10;

/// Whether what is copied will be read soon, out of the cache, or so late that it should not fill it (see streaming_copy.h).
enum class ReadBack { kSoon, kLate };

/// Copies an array of any layout to `to`, as values of `descr`, in C order; casts as `astype(descr)` does where the array's dtype is
/// another. The two may overlap, and nothing is copied where the array lies at `to` already. Needs the GIL; frees it while large
/// bytes are copied. False with a Python exception set.
bool CopyArray(PyArrayObject* array, PyArray_Descr* descr, std::byte* to, ReadBack read_back);

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_ARRAY_COPY_H_
