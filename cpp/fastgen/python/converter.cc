#include "fastgen/python/converter.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "fastgen/python/array_copy.h"

namespace fastgen {
namespace {

template <typename T>
void StoreScalar(T value, DType dtype, Component* out) {
  static_assert(sizeof(T) <= Component::kInlineBytes);
  out->dtype = dtype;
  out->SetRank(0);
  out->storage = Component::Storage::kInline;
  out->byte_size = sizeof(T);
  std::memcpy(out->inline_bytes, &value, sizeof(T));
}

template <typename T>
bool Fits(long long value) {
  if constexpr (std::is_unsigned_v<T>) {
    return value >= 0 && static_cast<unsigned long long>(value) <= std::numeric_limits<T>::max();
  } else {
    return value >= std::numeric_limits<T>::min() && value <= std::numeric_limits<T>::max();
  }
}

/// A Python int. NumPy makes it an int64 first and wraps what does not fit.
template <typename T>
bool StoreInteger(long long value, Rules rules, DType dtype, Component* out) {
  if (rules != Rules::kNumpy && !Fits<T>(value)) return false;
  StoreScalar(static_cast<T>(value), dtype, out);
  return true;
}

/// A Python int that becomes a float. Where the float cannot hold it exactly the rules differ, so that is declined.
template <typename T>
bool StoreIntegerAsFloat(long long value, DType dtype, Component* out) {
  constexpr long long kExact = 1LL << std::numeric_limits<T>::digits;
  if (value > kExact || value < -kExact) return false;
  StoreScalar(static_cast<T>(value), dtype, out);
  return true;
}

bool StorePythonInt(long long value, Rules rules, DType dtype, Component* out) {
  switch (dtype) {
    case DType::kInt8: return StoreInteger<std::int8_t>(value, rules, dtype, out);
    case DType::kInt16: return StoreInteger<std::int16_t>(value, rules, dtype, out);
    case DType::kInt32: return StoreInteger<std::int32_t>(value, rules, dtype, out);
    case DType::kInt64: return StoreInteger<std::int64_t>(value, rules, dtype, out);
    case DType::kUint8: return StoreInteger<std::uint8_t>(value, rules, dtype, out);
    case DType::kUint16: return StoreInteger<std::uint16_t>(value, rules, dtype, out);
    case DType::kUint32: return StoreInteger<std::uint32_t>(value, rules, dtype, out);
    case DType::kUint64: return StoreInteger<std::uint64_t>(value, rules, dtype, out);
    case DType::kFloat32: return StoreIntegerAsFloat<float>(value, dtype, out);
    case DType::kFloat64: return StoreIntegerAsFloat<double>(value, dtype, out);
    case DType::kBool:
      if (rules != Rules::kNumpy) return false;
      StoreScalar(value != 0, dtype, out);
      return true;
    default: return false;
  }
}

/// A Python float that NumPy truncates to an integer; only where the result is defined.
template <typename T>
bool StoreTruncated(double value, DType dtype, Component* out) {
  const double truncated = std::trunc(value);
  // Written so that NaN fails. Above 2^53 neighbouring limits round to the same double; those are declined.
  constexpr double kLimit = 9007199254740992.0;
  if (!(std::abs(truncated) < kLimit) || !Fits<T>(static_cast<long long>(truncated))) return false;
  StoreScalar(static_cast<T>(truncated), dtype, out);
  return true;
}

bool StorePythonFloat(double value, Rules rules, DType dtype, Component* out) {
  if (dtype == DType::kFloat64) {
    StoreScalar(value, dtype, out);
    return true;
  }
  if (dtype == DType::kFloat32) {
    // NumPy warns where a finite value overflows.
    if (std::isfinite(value) && std::abs(value) > std::numeric_limits<float>::max()) return false;
    StoreScalar(static_cast<float>(value), dtype, out);
    return true;
  }
  if (rules != Rules::kNumpy) return false;
  switch (dtype) {
    case DType::kInt8: return StoreTruncated<std::int8_t>(value, dtype, out);
    case DType::kInt16: return StoreTruncated<std::int16_t>(value, dtype, out);
    case DType::kInt32: return StoreTruncated<std::int32_t>(value, dtype, out);
    case DType::kInt64: return StoreTruncated<std::int64_t>(value, dtype, out);
    case DType::kUint8: return StoreTruncated<std::uint8_t>(value, dtype, out);
    case DType::kUint16: return StoreTruncated<std::uint16_t>(value, dtype, out);
    case DType::kUint32: return StoreTruncated<std::uint32_t>(value, dtype, out);
    case DType::kUint64: return StoreTruncated<std::uint64_t>(value, dtype, out);
    default: return false;
  }
}

bool IsNumeric(PyArray_Descr* descr) {
  return PyTypeNum_ISBOOL(descr->type_num) || PyTypeNum_ISNUMBER(descr->type_num);
}

/// Whether NumPy makes an array of this without running code of the user's.
bool IsPlain(PyObject* value) {
  return PyList_CheckExact(value) || PyTuple_CheckExact(value) || PyArray_IsScalar(value, Generic) ||
         std::strcmp(Py_TYPE(value)->tp_name, "tensorflow.python.framework.ops.EagerTensor") == 0;
}

bool IsText(PyObject* value) { return PyUnicode_CheckExact(value) || PyBytes_CheckExact(value); }

/// A list of strings, which NumPy would make an array of rank 1.
bool ConvertListOfStrings(const ComponentSpec& spec, PyObject* list, Component* out) {
  const Py_ssize_t size = PyList_GET_SIZE(list);
  const std::int64_t length = size;
  if (size == 0 || !spec.Accepts(1, &length)) return false;
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (!IsText(PyList_GET_ITEM(list, i))) return false;
  }
  *out->SetRank(1) = length;
  return CopyStrings(reinterpret_cast<PyListObject*>(list)->ob_item, static_cast<std::size_t>(size), out);
}

/// An array of Python objects, all of them strings.
bool ConvertArrayOfStrings(const ComponentSpec& spec, PyArrayObject* array, Component* out) {
  if (PyArray_TYPE(array) != NPY_OBJECT || !PyArray_IS_C_CONTIGUOUS(array)) return false;
  if (!spec.Accepts(PyArray_NDIM(array), PyArray_DIMS(array))) return false;
  auto* items = static_cast<PyObject**>(PyArray_DATA(array));
  const auto count = static_cast<std::size_t>(PyArray_SIZE(array));
  for (std::size_t i = 0; i < count; ++i) {
    if (items[i] == nullptr || !(PyUnicode_Check(items[i]) || PyBytes_Check(items[i]))) return false;
  }
  std::int64_t* dims = out->SetRank(PyArray_NDIM(array));
  for (int axis = 0; axis < PyArray_NDIM(array); ++axis) dims[axis] = PyArray_DIM(array, axis);
  return CopyStrings(items, count, out);
}

bool ConvertText(const ComponentSpec& spec, PyObject* value, Component* out) {
  if (IsText(value)) {
    if (!spec.Accepts<std::int64_t>(0, nullptr)) return false;
    out->SetRank(0);
    return CopyStrings(&value, 1, out);
  }
  if (PyList_CheckExact(value)) return ConvertListOfStrings(spec, value, out);
  if (PyArray_CheckExact(value)) return ConvertArrayOfStrings(spec, reinterpret_cast<PyArrayObject*>(value), out);
  return false;
}

}  // namespace

bool Converter::TryConvert(PyObject* element, Frame* frame) const {
  if (rules_ == Rules::kNever) return false;
  if (!ConvertNode(structure_, element, frame)) {
    PyErr_Clear();
    frame->Clear();
    return false;
  }
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < frame->num_components; ++i) bytes += frame->components[i].byte_size;
  frame->byte_size = bytes;
  return true;
}

bool Converter::ConvertNode(const Structure& node, PyObject* value, Frame* frame) const {
  switch (node.kind) {
    case Structure::Kind::kLeaf:
      return ConvertLeaf(leaves_[node.leaf], value, &frame->components[node.leaf]);
    case Structure::Kind::kTuple:
    case Structure::Kind::kNamedTuple: {
      const bool right_type =
          node.kind == Structure::Kind::kTuple ? PyTuple_CheckExact(value) : Py_TYPE(value) == node.type;
      if (!right_type || static_cast<std::size_t>(PyTuple_GET_SIZE(value)) != node.children.size()) return false;
      for (std::size_t i = 0; i < node.children.size(); ++i) {
        if (!ConvertNode(node.children[i], PyTuple_GET_ITEM(value, static_cast<Py_ssize_t>(i)), frame)) return false;
      }
      return true;
    }
    case Structure::Kind::kDict: {
      if (Py_TYPE(value) != node.type || static_cast<std::size_t>(PyDict_Size(value)) != node.children.size()) return false;
      for (std::size_t i = 0; i < node.children.size(); ++i) {
        PyObject* item = PyDict_GetItemWithError(value, node.keys[i]);  // borrowed
        if (item == nullptr) return false;
        Py_INCREF(item);  // converting may free the GIL, and another thread may then empty the dict
        const bool converted = ConvertNode(node.children[i], item, frame);
        Py_DECREF(item);
        if (!converted) return false;
      }
      return true;
    }
  }
  return false;
}

bool Converter::ConvertLeaf(const Leaf& leaf, PyObject* value, Component* out) const {
  const ComponentSpec& spec = leaf.spec;
  if (spec.dtype == DType::kString) return ConvertText(spec, value, out);
  if (leaf.descr == nullptr) return false;
  if (PyArray_Check(value)) return ConvertArray(leaf, reinterpret_cast<PyArrayObject*>(value), out);

  const bool scalar_fits = spec.Accepts<std::int64_t>(0, nullptr);
  if (PyLong_CheckExact(value)) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    return scalar_fits && overflow == 0 && StorePythonInt(number, rules_, spec.dtype, out);
  }
  if (PyFloat_CheckExact(value)) {
    return scalar_fits && StorePythonFloat(PyFloat_AS_DOUBLE(value), rules_, spec.dtype, out);
  }
  if (PyBool_Check(value)) {
    if (!scalar_fits) return false;
    if (spec.dtype == DType::kBool) {
      StoreScalar(value == Py_True, spec.dtype, out);
      return true;
    }
    return rules_ == Rules::kNumpy && StorePythonInt(value == Py_True, rules_, spec.dtype, out);
  }
  if (leaf.scalar != nullptr && Py_TYPE(value) == leaf.scalar) {
    if (!scalar_fits) return false;
    out->dtype = spec.dtype;
    out->SetRank(0);
    out->storage = Component::Storage::kInline;
    out->byte_size = static_cast<std::uint64_t>(PyDataType_ELSIZE(leaf.descr));
    PyArray_ScalarAsCtype(value, out->inline_bytes);
    return true;
  }
  // Eager tensors, lists of numbers, other NumPy scalars: NumPy makes arrays of them. With the other rules a cast may have to be
  // refused, and the long way words that; and objects with an `__array__` of their own must be asked only once.
  if (rules_ != Rules::kNumpy || !IsPlain(value)) return false;
  PyObject* array = PyArray_FROM_O(value);
  if (array == nullptr) return false;
  const bool converted = ConvertArray(leaf, reinterpret_cast<PyArrayObject*>(array), out);
  Py_DECREF(array);
  return converted;
}

bool Converter::ConvertArray(const Leaf& leaf, PyArrayObject* array, Component* out) const {
  if (leaf.descr == nullptr || !leaf.spec.Accepts(PyArray_NDIM(array), PyArray_DIMS(array))) return false;
  PyArray_Descr* descr = PyArray_DESCR(array);
  if (descr != leaf.descr && !PyArray_EquivTypes(descr, leaf.descr)) {
    // Casts between plain numbers are NumPy's `astype`. A cast that warns (NaN to an integer) is left to the long way when
    // warnings are errors: CopyArray() then fails, and the exception is cleared.
    if (rules_ != Rules::kNumpy || !IsNumeric(descr) || !IsNumeric(leaf.descr)) return false;
  }
  return CopyArray(array, leaf.descr, leaf.spec.dtype, out);
}

bool Converter::FillFromPrepared(PyObject* sequence, Frame* frame) const {
  if (!PyList_CheckExact(sequence) || static_cast<std::size_t>(PyList_GET_SIZE(sequence)) != leaves_.size()) {
    PyErr_SetString(PyExc_SystemError, "fastgen: a prepared element must be a list of one value for each component");
    return false;
  }
  frame->byte_size = 0;
  bool filled = true;
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    PyObject* value = PyList_GET_ITEM(sequence, static_cast<Py_ssize_t>(i));
    const Leaf& leaf = leaves_[i];
    Component* out = &frame->components[i];
    if (PyLong_CheckExact(value)) {
      // Every block is taken over even after a failure: nobody else would free it.
      auto* block = static_cast<Block*>(PyLong_AsVoidPtr(value));
      out->dtype = leaf.spec.dtype;
      out->SetBlock(Component::Storage::kOpaque, BlockRef(block), block->size());
    } else if (filled) {
      auto* array = reinterpret_cast<PyArrayObject*>(value);
      filled = PyArray_Check(value) && (leaf.spec.dtype == DType::kString
                                            ? ConvertArrayOfStrings(leaf.spec, array, out)
                                            : ConvertArray(leaf, array, out));
    }
    frame->byte_size += out->byte_size;
  }
  if (!filled) {
    if (PyErr_Occurred() == nullptr) {
      PyErr_SetString(PyExc_SystemError, "fastgen: a prepared component does not have the dtype or shape of its signature");
    }
    frame->Clear();
  }
  return filled;
}

}  // namespace fastgen
