// CPython and NumPy, included in one way everywhere.
#ifndef FASTGEN_PYTHON_PYTHON_API_H_
#define FASTGEN_PYTHON_PYTHON_API_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

// One translation unit (numpy_import.cc) holds NumPy's table of functions; all others refer to it.
#define PY_ARRAY_UNIQUE_SYMBOL fastgen_numpy_api
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#ifndef FASTGEN_IMPORT_NUMPY_HERE
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

namespace fastgen {

/// Fills NumPy's table of functions. Call once, with the GIL, before anything else in this folder; false with a Python
/// exception set when NumPy cannot be imported.
bool ImportNumpy();

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_PYTHON_API_H_
