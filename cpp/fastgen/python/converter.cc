#include "fastgen/python/converter.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "fastgen/python/array_copy.h"
#include "fastgen/python/batch.h"
#include "fastgen/python/element_row.h"

namespace fastgen {
namespace {

/// A leaf's place in a row.
template <typename Row>
struct Place {
  Row& row;
  std::size_t index;
  DType dtype;

  template <typename T>
  bool Store(T value) {
    return row.StoreScalar(index, dtype, value);
  }
};

template <typename T>
bool Fits(long long value) {
  if constexpr (std::is_unsigned_v<T>) {
    return value >= 0 && static_cast<unsigned long long>(value) <= std::numeric_limits<T>::max();
  } else {
    return value >= std::numeric_limits<T>::min() && value <= std::numeric_limits<T>::max();
  }
}

/// A Python int. NumPy makes it an int64 first and wraps what does not fit.
template <typename T, typename Row>
bool StoreInteger(long long value, Rules rules, Place<Row> place) {
  if (rules != Rules::kNumpy && !Fits<T>(value)) return false;
  return place.Store(static_cast<T>(value));
}

/// A Python int that becomes a float. Where the float cannot hold it exactly the rules differ, so that is declined.
template <typename T, typename Row>
bool StoreIntegerAsFloat(long long value, Place<Row> place) {
  constexpr long long kExact = 1LL << std::numeric_limits<T>::digits;
  if (value > kExact || value < -kExact) return false;
  return place.Store(static_cast<T>(value));
}

template <typename Row>
bool StorePythonInt(long long value, Rules rules, Place<Row> place) {
  switch (place.dtype) {
    case DType::kInt8: return StoreInteger<std::int8_t>(value, rules, place);
    case DType::kInt16: return StoreInteger<std::int16_t>(value, rules, place);
    case DType::kInt32: return StoreInteger<std::int32_t>(value, rules, place);
    case DType::kInt64: return StoreInteger<std::int64_t>(value, rules, place);
    case DType::kUint8: return StoreInteger<std::uint8_t>(value, rules, place);
    case DType::kUint16: return StoreInteger<std::uint16_t>(value, rules, place);
    case DType::kUint32: return StoreInteger<std::uint32_t>(value, rules, place);
    case DType::kUint64: return StoreInteger<std::uint64_t>(value, rules, place);
    case DType::kFloat32: return StoreIntegerAsFloat<float>(value, place);
    case DType::kFloat64: return StoreIntegerAsFloat<double>(value, place);
    case DType::kBool:
      return rules == Rules::kNumpy && place.Store(value != 0);
    default: return false;
  }
}

/// A Python float that NumPy truncates to an integer; only where the result is defined.
template <typename T, typename Row>
bool StoreTruncated(double value, Place<Row> place) {
  const double truncated = std::trunc(value);
  // Written so that NaN fails. Above 2^53 neighbouring limits round to the same double; those are declined.
  constexpr double kLimit = 9007199254740992.0;
  if (!(std::abs(truncated) < kLimit) || !Fits<T>(static_cast<long long>(truncated))) return false;
  return place.Store(static_cast<T>(truncated));
}

template <typename Row>
bool StorePythonFloat(double value, Rules rules, Place<Row> place) {
  if (place.dtype == DType::kFloat64) return place.Store(value);
  if (place.dtype == DType::kFloat32) {
    // NumPy warns where a finite value overflows.
    if (std::isfinite(value) && std::abs(value) > std::numeric_limits<float>::max()) return false;
    return place.Store(static_cast<float>(value));
  }
  if (rules != Rules::kNumpy) return false;
  switch (place.dtype) {
    case DType::kInt8: return StoreTruncated<std::int8_t>(value, place);
    case DType::kInt16: return StoreTruncated<std::int16_t>(value, place);
    case DType::kInt32: return StoreTruncated<std::int32_t>(value, place);
    case DType::kInt64: return StoreTruncated<std::int64_t>(value, place);
    case DType::kUint8: return StoreTruncated<std::uint8_t>(value, place);
    case DType::kUint16: return StoreTruncated<std::uint16_t>(value, place);
    case DType::kUint32: return StoreTruncated<std::uint32_t>(value, place);
    case DType::kUint64: return StoreTruncated<std::uint64_t>(value, place);
    default: return false;
  }
}

bool IsNumeric(PyArray_Descr* descr) {
  return PyTypeNum_ISBOOL(descr->type_num) || PyTypeNum_ISNUMBER(descr->type_num);
}

bool IsEagerTensor(PyObject* value) {
  return std::strcmp(Py_TYPE(value)->tp_name, "tensorflow.python.framework.ops.EagerTensor") == 0;
}

/// Whether NumPy makes an array of this without running code of the user's, such as an `__array__` deep in a list: it must run
/// once, and whoever declines here has run it.
bool IsPlain(PyObject* value) {
  const bool list = PyList_CheckExact(value);
  if (!list && !PyTuple_CheckExact(value)) {
    return PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value) || PyComplex_CheckExact(value) ||
           PyArray_IsScalar(value, Generic) || PyArray_CheckExact(value) || IsEagerTensor(value);
  }
  // A list that holds itself ends here too; NumPy says what is wrong with it.
  if (Py_EnterRecursiveCall(" in a nested list") != 0) return false;
  bool plain = true;
  const Py_ssize_t size = list ? PyList_GET_SIZE(value) : PyTuple_GET_SIZE(value);
  for (Py_ssize_t i = 0; i < size && plain; ++i) plain = IsPlain(list ? PyList_GET_ITEM(value, i) : PyTuple_GET_ITEM(value, i));
  Py_LeaveRecursiveCall();
  return plain;
}

bool IsText(PyObject* value) { return PyUnicode_CheckExact(value) || PyBytes_CheckExact(value); }

/// A list of strings, which NumPy would make an array of rank 1.
template <typename Row>
bool ConvertListOfStrings(const ComponentSpec& spec, std::size_t index, PyObject* list, Row& row) {
  const Py_ssize_t size = PyList_GET_SIZE(list);
  const npy_intp length = size;
  if (size == 0 || !spec.Accepts(1, &length)) return false;
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (!IsText(PyList_GET_ITEM(list, i))) return false;
  }
  return row.StoreStrings(index, 1, &length, reinterpret_cast<PyListObject*>(list)->ob_item, static_cast<std::size_t>(size));
}

/// An array of Python objects, all of them strings.
template <typename Row>
bool ConvertArrayOfStrings(const ComponentSpec& spec, std::size_t index, PyArrayObject* array, Row& row) {
  if (PyArray_TYPE(array) != NPY_OBJECT || !PyArray_IS_C_CONTIGUOUS(array)) return false;
  if (!spec.Accepts(PyArray_NDIM(array), PyArray_DIMS(array))) return false;
  auto* items = static_cast<PyObject**>(PyArray_DATA(array));
  const auto count = static_cast<std::size_t>(PyArray_SIZE(array));
  for (std::size_t i = 0; i < count; ++i) {
    if (items[i] == nullptr || !(PyUnicode_Check(items[i]) || PyBytes_Check(items[i]))) return false;
  }
  return row.StoreStrings(index, PyArray_NDIM(array), PyArray_DIMS(array), items, count);
}

template <typename Row>
bool ConvertText(const ComponentSpec& spec, std::size_t index, PyObject* value, Row& row) {
  if (IsText(value)) return spec.Accepts<npy_intp>(0, nullptr) && row.StoreStrings(index, 0, nullptr, &value, 1);
  if (PyList_CheckExact(value)) return ConvertListOfStrings(spec, index, value, row);
  if (PyArray_CheckExact(value)) return ConvertArrayOfStrings(spec, index, reinterpret_cast<PyArrayObject*>(value), row);
  return false;
}

/// Whether the one reference by which a container holds a value is the only one, and nobody can come by another: a weak reference
/// would bring the value back, and a finalizer sees it when we drop it. (Arrays are looked at by OwnsMemoryAlone().)
bool HeldOnceBy(bool container_is_ours, PyObject* value) {
  if (!container_is_ours || Py_REFCNT(value) != 1) return false;
  const PyTypeObject* const type = Py_TYPE(value);
  return PyArray_CheckExact(value) ||
         (type->tp_weaklistoffset == 0 && type->tp_finalize == nullptr && type->tp_del == nullptr);
}

/// What a frame costs while it waits.
void SumBytes(Frame* frame) {
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < frame->num_components; ++i) bytes += frame->components[i].byte_size;
  frame->byte_size = bytes;
}

}  // namespace

template <typename Row>
bool Converter::TryConvert(PyObject* element, Row& row) const {
  if (rules_ == Rules::kNever) return false;
  if (ConvertNode(structure_, element, HeldOnceBy(true, element), row)) return true;
  PyErr_Clear();
  return false;
}

template <typename Row>
bool Converter::ConvertNode(const Structure& node, PyObject* value, bool ours, Row& row) const {
  switch (node.kind) {
    case Structure::Kind::kLeaf:
      return ConvertLeaf(node.leaf, value, ours, row);
    case Structure::Kind::kTuple:
    case Structure::Kind::kNamedTuple: {
      const bool right_type =
          node.kind == Structure::Kind::kTuple ? PyTuple_CheckExact(value) : Py_TYPE(value) == node.type;
      if (!right_type || static_cast<std::size_t>(PyTuple_GET_SIZE(value)) != node.children.size()) return false;
      for (std::size_t i = 0; i < node.children.size(); ++i) {
        PyObject* const item = PyTuple_GET_ITEM(value, static_cast<Py_ssize_t>(i));
        if (!ConvertNode(node.children[i], item, HeldOnceBy(ours, item), row)) return false;
      }
      return true;
    }
    case Structure::Kind::kDict: {
      if (Py_TYPE(value) != node.type || static_cast<std::size_t>(PyDict_Size(value)) != node.children.size()) return false;
      // Most sources write the keys in the same order as the signature, and the same objects, since Python interns names. Where
      // they do not, each key is looked up.
      Py_ssize_t position = 0;
      bool in_order = true;
      for (std::size_t i = 0; i < node.children.size(); ++i) {
        PyObject *key = nullptr, *item = nullptr;  // borrowed
        in_order = in_order && PyDict_Next(value, &position, &key, &item) && key == node.keys[i];
        if (!in_order) item = PyDict_GetItemWithError(value, node.keys[i]);
        if (item == nullptr) return false;
        const bool held_once = HeldOnceBy(ours, item);
        Py_INCREF(item);  // converting may free the GIL, and another thread may then empty the dict
        const bool converted = ConvertNode(node.children[i], item, held_once, row);
        Py_DECREF(item);
        if (!converted) return false;
      }
      return true;
    }
  }
  return false;
}

template <typename Row>
bool Converter::ConvertLeaf(std::size_t index, PyObject* value, bool ours, Row& row) const {
  const Leaf& leaf = leaves_[index];
  const ComponentSpec& spec = leaf.spec;
  Place<Row> place{row, index, spec.dtype};
  if (spec.dtype == DType::kString) return ConvertText(spec, index, value, row);
  if (leaf.descr == nullptr) return false;

  // The exact types first: they are one comparison each.
  const bool scalar_fits = spec.Accepts<npy_intp>(0, nullptr);
  if (PyLong_CheckExact(value)) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    return scalar_fits && overflow == 0 && StorePythonInt(number, rules_, place);
  }
  if (PyFloat_CheckExact(value)) {
    return scalar_fits && StorePythonFloat(PyFloat_AS_DOUBLE(value), rules_, place);
  }
  if (PyArray_Check(value)) return ConvertArray(index, reinterpret_cast<PyArrayObject*>(value), ours, row);
  if (PyBool_Check(value)) {
    if (!scalar_fits) return false;
    if (spec.dtype == DType::kBool) return place.Store(value == Py_True);
    return rules_ == Rules::kNumpy && StorePythonInt(value == Py_True, rules_, place);
  }
  if (leaf.scalar != nullptr && Py_TYPE(value) == leaf.scalar) {
    if (!scalar_fits) return false;
    Py_INCREF(value);  // Room() may free the GIL, and another thread take the value out of its dict
    std::byte* const to = row.Room(index, spec.dtype, 0, nullptr, static_cast<std::size_t>(PyDataType_ELSIZE(leaf.descr)));
    if (to != nullptr) PyArray_ScalarAsCtype(value, to);
    Py_DECREF(value);
    return to != nullptr;
  }
  // Eager tensors, lists of numbers, other NumPy scalars: NumPy makes arrays of them. With the other rules a cast may have to be
  // refused, and the long way words that; and objects with an `__array__` of their own must be asked only once.
  if (rules_ != Rules::kNumpy || !IsPlain(value)) return false;
  PyObject* array = PyArray_FROM_O(value);
  if (array == nullptr) return false;
  const bool converted = ConvertArray(index, reinterpret_cast<PyArrayObject*>(array), HeldOnceBy(true, array), row);
  Py_DECREF(array);
  return converted;
}

template <typename Row>
bool Converter::ConvertArray(std::size_t index, PyArrayObject* array, bool ours, Row& row) const {
  const Leaf& leaf = leaves_[index];
  if (leaf.descr == nullptr || !leaf.spec.Accepts(PyArray_NDIM(array), PyArray_DIMS(array))) return false;
  PyArray_Descr* descr = PyArray_DESCR(array);
  if (descr != leaf.descr && !PyArray_EquivTypes(descr, leaf.descr)) {
    // Casts between plain numbers are NumPy's `astype`. A cast that warns (NaN to an integer) is left to the long way when
    // warnings are errors: CopyArray() then fails, and the exception is cleared.
    if (rules_ != Rules::kNumpy || !IsNumeric(descr) || !IsNumeric(leaf.descr)) return false;
  }
  row.Notice(index, array);
  const std::size_t bytes = BytesAs(array, leaf.descr);
  const bool lasting = ours && HoldsBytesOf(array, leaf.descr);
  if (lasting && row.Adopt(index, leaf.spec.dtype, array, bytes)) return true;
  Py_INCREF(array);  // as above
  std::byte* const to = row.Room(index, leaf.spec.dtype, PyArray_NDIM(array), PyArray_DIMS(array), bytes);
  const bool converted = to != nullptr && ((lasting && bytes >= kLargeCopy && row.CopyLater(index, array, to, bytes)) ||
                                           CopyArray(array, leaf.descr, to, row.read_back(index)));
  Py_DECREF(array);
  return converted;
}

template <typename Row>
bool Converter::ConvertPrepared(PyObject* sequence, Row& row) const {
  if (!PyList_CheckExact(sequence) || static_cast<std::size_t>(PyList_GET_SIZE(sequence)) != leaves_.size()) {
    PyErr_SetString(PyExc_SystemError, "fastgen: a prepared element must be a list of one value for each component");
    return false;
  }
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    PyObject* const value = PyList_GET_ITEM(sequence, static_cast<Py_ssize_t>(i));
    if (!ConvertPreparedComponent(i, value, HeldOnceBy(Py_REFCNT(sequence) == 1, value), row)) return false;
  }
  return true;
}

template <typename Row>
bool Converter::ConvertPreparedComponent(std::size_t index, PyObject* value, bool ours, Row& row) const {
  if (!PyArray_Check(value)) return false;
  auto* const array = reinterpret_cast<PyArrayObject*>(value);
  const ComponentSpec& spec = leaves_[index].spec;
  return spec.dtype == DType::kString ? ConvertArrayOfStrings(spec, index, array, row) : ConvertArray(index, array, ours, row);
}

bool Converter::FillFromPrepared(PyObject* sequence, Frame* frame, Slabs& slabs) const {
  if (!PyList_CheckExact(sequence) || static_cast<std::size_t>(PyList_GET_SIZE(sequence)) != leaves_.size()) {
    PyErr_SetString(PyExc_SystemError, "fastgen: a prepared element must be a list of one value for each component");
    return false;
  }
  ElementRow row(frame, slabs);
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
      filled = ConvertPreparedComponent(i, value, HeldOnceBy(Py_REFCNT(sequence) == 1, value), row);
    }
  }
  SumBytes(frame);
  if (!filled) {
    if (PyErr_Occurred() == nullptr) {
      PyErr_SetString(PyExc_SystemError, "fastgen: a prepared component does not have the dtype or shape of its signature");
    }
    frame->Clear();
  }
  return filled;
}

template bool Converter::TryConvert(PyObject*, Batch&) const;
template bool Converter::ConvertPrepared(PyObject*, Batch&) const;

bool Converter::TryConvert(PyObject* element, Frame* frame, Slabs& slabs) const {
  ElementRow row(frame, slabs);
  if (!TryConvert(element, row)) {
    frame->Clear();
    return false;
  }
  SumBytes(frame);
  return true;
}

}  // namespace fastgen
