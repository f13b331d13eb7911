// From NumPy's memory into a component: the bytes of arrays and the text of strings.
#ifndef FASTGEN_PYTHON_ARRAY_COPY_H_
#define FASTGEN_PYTHON_ARRAY_COPY_H_

#include "fastgen/core/frame.h"
#include "fastgen/python/python_api.h"

namespace fastgen {

/// Copies an array of any layout into `out`, as values of `descr`, in C order; casts as `astype(descr)` does where the array's
/// dtype is another. Needs the GIL; frees it while large bytes are copied. False with a Python exception set.
bool CopyArray(PyArrayObject* array, PyArray_Descr* descr, DType dtype, Component* out);

/// Copies `count` strings (`str` as UTF-8, `bytes` as they are) into `out`, whose shape the caller has set. Needs the GIL. False
/// when one is neither, with a Python exception set.
bool CopyStrings(PyObject* const* strings, std::size_t count, Component* out);

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_ARRAY_COPY_H_
