// The iterator that a source which writes in place is called with: each item is an element of slots, NumPy views of the memory in
// which the next element will stand.
#ifndef FASTGEN_PYTHON_SLOTS_H_
#define FASTGEN_PYTHON_SLOTS_H_

#include "fastgen/python/python_api.h"

namespace fastgen {

/// Who owns the memory. All with the GIL.
class SlotOwner {
 public:
  /// A new reference to an element of slots, or null with a Python exception set.
  virtual PyObject* NextSlots() = 0;

 protected:
  ~SlotOwner() = default;
};

/// A new iterator over the owner's slots, for the calling thread only; null with a Python exception set.
PyObject* MakeSlots(SlotOwner* owner);

/// The pass is over: from now on the iterator, which its source may have kept, raises an error instead of asking its owner.
void DetachSlots(PyObject* slots);

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_SLOTS_H_
