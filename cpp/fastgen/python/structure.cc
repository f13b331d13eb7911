#include "fastgen/python/structure.h"

namespace fastgen {
namespace {

PyObject* PackTuple(const Structure& node, PyObject* const* leaves) {
  PyObject* const tuple = PyTuple_New(static_cast<Py_ssize_t>(node.children.size()));
  if (tuple == nullptr) return nullptr;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    PyObject* const item = Pack(node.children[i], leaves);
    if (item == nullptr) {
      Py_DECREF(tuple);
      return nullptr;
    }
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), item);
  }
  return tuple;
}

PyObject* PackDict(const Structure& node, PyObject* const* leaves) {
  PyObject* const dict = PyObject_CallNoArgs(reinterpret_cast<PyObject*>(node.type));
  if (dict == nullptr) return nullptr;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    PyObject* const item = Pack(node.children[i], leaves);
    const bool stored = item != nullptr && PyDict_SetItem(dict, node.keys[i], item) == 0;
    Py_XDECREF(item);
    if (!stored) {
      Py_DECREF(dict);
      return nullptr;
    }
  }
  return dict;
}

}  // namespace

PyObject* Pack(const Structure& node, PyObject* const* leaves) {
  switch (node.kind) {
    case Structure::Kind::kLeaf:
      Py_INCREF(leaves[node.leaf]);
      return leaves[node.leaf];
    case Structure::Kind::kTuple:
      return PackTuple(node, leaves);
    case Structure::Kind::kNamedTuple: {
      PyObject* const items = PackTuple(node, leaves);
      if (items == nullptr) return nullptr;
      PyObject* const packed = PyObject_CallObject(reinterpret_cast<PyObject*>(node.type), items);
      Py_DECREF(items);
      return packed;
    }
    case Structure::Kind::kDict:
      return PackDict(node, leaves);
  }
  return nullptr;
}

}  // namespace fastgen
