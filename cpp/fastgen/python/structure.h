// What a source's elements are made of, as the signature describes it.
#ifndef FASTGEN_PYTHON_STRUCTURE_H_
#define FASTGEN_PYTHON_STRUCTURE_H_

#include <cstddef>
#include <vector>

#include "fastgen/core/signature.h"
#include "fastgen/python/python_api.h"

namespace fastgen {

/// How components are packed into an element. References are borrowed: the source keeps them.
struct Structure {
  enum class Kind { kLeaf, kTuple, kNamedTuple, kDict };

  Kind kind = Kind::kLeaf;
  std::size_t leaf = 0;              // kLeaf: which component
  PyTypeObject* type = nullptr;      // kNamedTuple, kDict: the exact type that an element must have
  std::vector<PyObject*> keys;       // kDict, in the order of the children
  std::vector<Structure> children;
};

/// An element of that structure, out of one value for each component. A new reference, or null with a Python exception set. Needs the
/// GIL.
PyObject* Pack(const Structure& node, PyObject* const* leaves);

/// What one component must become, with NumPy's name for its dtype.
struct Leaf {
  ComponentSpec spec;
  PyArray_Descr* descr = nullptr;    // borrowed; null for types that NumPy does not know
  PyTypeObject* scalar = nullptr;    // borrowed: the type of NumPy's scalars of this dtype, where there is one of its own
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_STRUCTURE_H_
