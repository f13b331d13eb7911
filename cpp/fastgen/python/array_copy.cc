#include "fastgen/python/array_copy.h"

#include <cstring>

#include "fastgen/core/streaming_copy.h"
#include "fastgen/python/gil.h"

namespace fastgen {
namespace {

/// NumPy's own copy: strides, byte order and casts.
bool CopyByNumpy(PyArrayObject* array, PyArray_Descr* descr, std::byte* to) {
  Py_INCREF(descr);
  PyObject* target = PyArray_NewFromDescr(&PyArray_Type, descr, PyArray_NDIM(array), PyArray_DIMS(array),
                                          /*strides=*/nullptr, to, NPY_ARRAY_CARRAY, /*obj=*/nullptr);
  if (target == nullptr) return false;
  const bool copied = PyArray_CopyInto(reinterpret_cast<PyArrayObject*>(target), array) == 0;
  Py_DECREF(target);
  return copied;
}

}  // namespace

std::size_t BytesAs(PyArrayObject* array, PyArray_Descr* descr) {
  return static_cast<std::size_t>(PyArray_SIZE(array)) * static_cast<std::size_t>(PyDataType_ELSIZE(descr));
}

bool HoldsBytesOf(PyArrayObject* array, PyArray_Descr* descr) {
  const bool same_type = PyArray_DESCR(array) == descr || PyArray_EquivTypes(PyArray_DESCR(array), descr);
  return same_type && PyArray_IS_C_CONTIGUOUS(array);
}

bool OwnsMemoryAlone(PyArrayObject* array) {
  return PyArray_CheckExact(array) && PyArray_CHKFLAGS(array, NPY_ARRAY_OWNDATA) && PyArray_BASE(array) == nullptr &&
         reinterpret_cast<const PyArrayObject_fields*>(array)->weakreflist == nullptr;
}

bool CopyArray(PyArrayObject* array, PyArray_Descr* descr, std::byte* to, ReadBack read_back) {
  const auto* const from = static_cast<const std::byte*>(PyArray_DATA(array));
  const std::size_t bytes = BytesAs(array, descr);
  const bool plain = HoldsBytesOf(array, descr);
  if (plain && from == to) return true;
  if (plain && bytes < kLargeCopy) {
    std::memmove(to, from, bytes);
    return true;
  }
  // NumPy may free the GIL too; and then another thread may drop the reference that the array came from (out of a dict, say).
  Py_INCREF(array);
  bool copied = true;
  if (plain) {
    const bool apart = from + bytes <= to || to + bytes <= from;
    WithoutGil([=] {
      if (apart && read_back == ReadBack::kLate) {
        CopyStreaming(to, from, bytes);
      } else {
        std::memmove(to, from, bytes);
      }
    });
  } else {
    copied = CopyByNumpy(array, descr, to);
  }
  Py_DECREF(array);
  return copied;
}

}  // namespace fastgen
