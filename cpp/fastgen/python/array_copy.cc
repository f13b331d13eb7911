#include "fastgen/python/array_copy.h"

#include <cstring>
#include <new>
#include <vector>

#include "fastgen/core/slab_pool.h"
#include "fastgen/python/gil.h"

namespace fastgen {
namespace {

/// From here on the GIL is freed for the copy. Below, taking it back from a busy thread (up to 5 ms by default, see
/// sys.setswitchinterval) would cost more than the copy.
constexpr std::size_t kLargeCopy = std::size_t{256} << 10;

std::byte* AllocateBlock(Component::Storage how, std::size_t bytes, Component* out) {
  try {
    out->SetBlock(how, SlabPool::Global().Get(bytes), bytes);
    return out->block->data();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return nullptr;
  }
}

/// Null with MemoryError set when there is no memory. No C++ exception leaves this file: it would pass by the references that its
/// callers have to drop.
std::byte* Allocate(std::size_t bytes, Component* out) {
  out->byte_size = bytes;
  if (bytes <= Component::kInlineBytes) {
    out->storage = Component::Storage::kInline;
    return out->inline_bytes;
  }
  return AllocateBlock(Component::Storage::kBlock, bytes, out);
}

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

bool CopyHeldArray(PyArrayObject* array, PyArray_Descr* descr, DType dtype, Component* out) {
  const int rank = PyArray_NDIM(array);
  out->dtype = dtype;
  std::int64_t* dims = out->SetRank(rank);
  for (int axis = 0; axis < rank; ++axis) dims[axis] = PyArray_DIM(array, axis);
  const std::size_t bytes =
      static_cast<std::size_t>(PyArray_SIZE(array)) * static_cast<std::size_t>(PyDataType_ELSIZE(descr));
  std::byte* to = Allocate(bytes, out);
  if (to == nullptr) return false;
  const bool same_type = PyArray_DESCR(array) == descr || PyArray_EquivTypes(PyArray_DESCR(array), descr);
  if (!same_type || !PyArray_IS_C_CONTIGUOUS(array)) return CopyByNumpy(array, descr, to);
  const void* from = PyArray_DATA(array);
  if (bytes >= kLargeCopy) {
    WithoutGil([=] { std::memcpy(to, from, bytes); });  // safe: the caller holds the array
  } else {
    std::memcpy(to, from, bytes);
  }
  return true;
}

}  // namespace

bool CopyArray(PyArrayObject* array, PyArray_Descr* descr, DType dtype, Component* out) {
  // While the GIL is free another thread may drop the reference that the array came from (out of a dict, say).
  Py_INCREF(array);
  const bool copied = CopyHeldArray(array, descr, dtype, out);
  Py_DECREF(array);
  return copied;
}

bool CopyStrings(PyObject* const* strings, std::size_t count, Component* out) {
  struct Text {
    const char* data;
    Py_ssize_t size;
  };
  // Most components are one string; no allocation for those.
  Text single;
  std::vector<Text> many;
  Text* texts = &single;
  if (count != 1) {
    many.resize(count);
    texts = many.data();
  }
  std::size_t total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Text& text = texts[i];
    if (PyBytes_Check(strings[i])) {
      text = {PyBytes_AS_STRING(strings[i]), PyBytes_GET_SIZE(strings[i])};
    } else if (PyUnicode_Check(strings[i])) {
      text.data = PyUnicode_AsUTF8AndSize(strings[i], &text.size);
      if (text.data == nullptr) return false;
    } else {
      PyErr_Format(PyExc_TypeError, "Unsupported object type %s", Py_TYPE(strings[i])->tp_name);
      return false;
    }
    total += static_cast<std::size_t>(text.size);
  }
  const std::size_t table = StringTable::SizeOfTable(count);
  out->dtype = DType::kString;
  std::byte* const base = AllocateBlock(Component::Storage::kStrings, table + total, out);
  if (base == nullptr) return false;
  auto* ends = reinterpret_cast<std::uint64_t*>(base);
  std::byte* to = base + table;
  const auto copy = [&] {
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto size = static_cast<std::size_t>(texts[i].size);
      std::memcpy(to + end, texts[i].data, size);
      ends[i] = end += size;
    }
  };
  if (total < kLargeCopy) {
    copy();
    return true;
  }
  // While the GIL is free another thread may empty the list that the strings came from.
  const std::vector<PyObject*> held(strings, strings + count);
  for (PyObject* string : held) Py_INCREF(string);
  WithoutGil(copy);  // safe: the strings are held, and strings never change
  for (PyObject* string : held) Py_DECREF(string);
  return true;
}

}  // namespace fastgen
