// From what a source yields to the components of a frame, for the values that are common.
//
// The rule that makes this simple to trust: a conversion here either does exactly what TensorFlow's own routines would do, or
// declines without side effects; what is declined goes the long way through those routines (python/fastgen/_elements.py), which
// also words every error.
#ifndef FASTGEN_PYTHON_CONVERTER_H_
#define FASTGEN_PYTHON_CONVERTER_H_

#include <cstddef>
#include <vector>

#include "fastgen/core/frame.h"
#include "fastgen/core/signature.h"
#include "fastgen/python/python_api.h"

namespace fastgen {

/// Which of TensorFlow's two ways of conversion a signature takes. They differ in what they cast.
enum class Rules {
  kNumpy,   // np.asarray(value).astype(dtype): casts and wraps
  kEager,   // tf.convert_to_tensor(value, dtype): refuses most casts
  kStrict,  // as kNumpy, but only where no value changes
  kNever,   // composite components: nothing is converted here
};

/// How components are packed into an element. References are borrowed: the owner of the converter keeps them.
struct Structure {
  enum class Kind { kLeaf, kTuple, kNamedTuple, kDict };

  Kind kind = Kind::kLeaf;
  std::size_t leaf = 0;              // kLeaf: which component
  PyTypeObject* type = nullptr;      // kNamedTuple, kDict: the exact type that an element must have
  std::vector<PyObject*> keys;       // kDict, in the order of the children
  std::vector<Structure> children;
};

/// What one component must become, with NumPy's name for its dtype.
struct Leaf {
  ComponentSpec spec;
  PyArray_Descr* descr = nullptr;    // borrowed; null for types that NumPy does not know
  PyTypeObject* scalar = nullptr;    // borrowed: the type of NumPy's scalars of this dtype, where there is one of its own
};

/// Knows a signature; immutable. All methods need the GIL.
class Converter {
 public:
  Converter(Structure structure, std::vector<Leaf> leaves, Rules rules)
      : structure_(std::move(structure)), leaves_(std::move(leaves)), rules_(rules) {}

  std::size_t num_components() const { return leaves_.size(); }

  /// Fills the frame and says true; or declines: false, no Python exception set, and the frame cleared.
  bool TryConvert(PyObject* element, Frame* frame) const;

  /// Fills the frame from one value for each component, as the long way left them: a NumPy array of exactly the component's
  /// dtype, or an int that is the address of a Block which holds a tensor of the shim's. Takes over those blocks. False with a
  /// Python exception set.
  bool FillFromPrepared(PyObject* sequence, Frame* frame) const;

 private:
  bool ConvertNode(const Structure& node, PyObject* value, Frame* frame) const;
  bool ConvertLeaf(const Leaf& leaf, PyObject* value, Component* out) const;
  bool ConvertArray(const Leaf& leaf, PyArrayObject* array, Component* out) const;

  const Structure structure_;
  const std::vector<Leaf> leaves_;
  const Rules rules_;
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_CONVERTER_H_
