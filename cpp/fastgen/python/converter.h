// From what a source yields to the components of a row, for the values that are common. A row is where the components of one
// element go: a frame of its own (ElementRow), or the next row of a batch (Batch).
//
// The rule that makes this simple to trust: a conversion here either does exactly what TensorFlow's own routines would do, or
// declines without side effects; what is declined goes the long way through those routines (python/fastgen/_elements.py), which
// also words every error.
#ifndef FASTGEN_PYTHON_CONVERTER_H_
#define FASTGEN_PYTHON_CONVERTER_H_

#include <cstddef>
#include <utility>
#include <vector>

#include "fastgen/core/frame.h"
#include "fastgen/core/slabs.h"
#include "fastgen/python/python_api.h"
#include "fastgen/python/structure.h"

namespace fastgen {

/// Which of TensorFlow's two ways of conversion a signature takes. They differ in what they cast.
enum class Rules {
  kNumpy,   // np.asarray(value).astype(dtype): casts and wraps
  kEager,   // tf.convert_to_tensor(value, dtype): refuses most casts
  kStrict,  // as kNumpy, but only where no value changes
  kNever,   // composite components: nothing is converted here
};

/// Knows a signature; immutable. All methods need the GIL.
class Converter {
 public:
  Converter(Structure structure, std::vector<Leaf> leaves, Rules rules)
      : structure_(std::move(structure)), leaves_(std::move(leaves)), rules_(rules) {}

  std::size_t num_components() const { return leaves_.size(); }
  const std::vector<Leaf>& leaves() const { return leaves_; }
  const Structure& structure() const { return structure_; }

  /// Fills the row and says true; or declines: false, no Python exception set, and the row perhaps half filled.
  template <typename Row>
  bool TryConvert(PyObject* element, Row& row) const;

  /// Fills the row from one value for each component, as the long way left them: NumPy arrays of exactly the component's dtype.
  /// False with a Python exception set, or without one where the row declined it.
  template <typename Row>
  bool ConvertPrepared(PyObject* sequence, Row& row) const;

  /// As the first, into a frame of its own, which is empty where it declines. Large components go to `slabs`.
  bool TryConvert(PyObject* element, Frame* frame, Slabs& slabs) const;

  /// As ConvertPrepared(), into a frame of its own; a value may also be an int that is the address of a Block which holds a tensor
  /// of the shim's. Takes over those blocks. False with a Python exception set.
  bool FillFromPrepared(PyObject* sequence, Frame* frame, Slabs& slabs) const;

 private:
  // `ours`: whether the one reference by which we hold a value is the only one, so that nobody can see or change it after us.
  template <typename Row>
  bool ConvertNode(const Structure& node, PyObject* value, bool ours, Row& row) const;
  template <typename Row>
  bool ConvertLeaf(std::size_t index, PyObject* value, bool ours, Row& row) const;
  template <typename Row>
  bool ConvertPreparedComponent(std::size_t index, PyObject* value, bool ours, Row& row) const;
  template <typename Row>
  bool ConvertArray(std::size_t index, PyArrayObject* array, bool ours, Row& row) const;

  const Structure structure_;
  const std::vector<Leaf> leaves_;
  const Rules rules_;
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_CONVERTER_H_
