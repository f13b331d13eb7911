// Where the components of one element go that travels alone: each into a component of its frame.
#ifndef FASTGEN_PYTHON_ELEMENT_ROW_H_
#define FASTGEN_PYTHON_ELEMENT_ROW_H_

#include <cstddef>
#include <cstring>
#include <new>

#include "fastgen/core/frame.h"
#include "fastgen/python/array_copy.h"
#include "fastgen/python/numpy_memory.h"
#include "fastgen/python/slab_request.h"
#include "fastgen/python/strings.h"
#include "fastgen/python/structure.h"

namespace fastgen {

/// A row, as the converter sees it: it asks for room for each component and fills it. The other one is Batch. All methods need the
/// GIL.
class ElementRow {
 public:
  /// `slabs`: where room for large components comes from.
  ElementRow(Frame* frame, Slabs& slabs) : frame_(frame), slabs_(slabs) {}

  /// Takes component `index` where that is one value of rank 0.
  template <typename T>
  bool StoreScalar(std::size_t index, DType dtype, T value) {
    static_assert(sizeof(T) <= Component::kInlineBytes);
    Component& out = frame_->components[index];
    out.dtype = dtype;
    out.SetRank(0);
    out.storage = Component::Storage::kInline;
    out.byte_size = sizeof(T);
    std::memcpy(out.inline_bytes, &value, sizeof(T));
    return true;
  }

  /// Room for the bytes of component `index`, an array of that shape. Null with a Python exception set when there is no memory.
  std::byte* Room(std::size_t index, DType dtype, int rank, const npy_intp* lengths, std::size_t bytes) {
    Component& out = frame_->components[index];
    try {
      SetShape(&out, dtype, rank, lengths);
      out.byte_size = bytes;
      if (bytes <= Component::kInlineBytes) {
        out.storage = Component::Storage::kInline;
        return out.inline_bytes;
      }
      // Where slabs are pinned, one that the next array of this size can have: arrays get none but those that are there.
      const std::size_t wanted = slabs_.pinned() ? bytes + numpy_memory::kOffsetInSlab : bytes;
      out.SetBlock(Component::Storage::kBlock, GetSlab(slabs_, wanted), bytes);
      return out.held.data;
    } catch (const std::bad_alloc&) {
      // No C++ exception leaves this class: it would pass by the references that its callers have to drop.
      PyErr_NoMemory();
      return nullptr;
    }
  }

  void Notice(std::size_t, PyArrayObject*) {}

  ReadBack read_back(std::size_t) const { return ReadBack::kSoon; }

  /// Takes an array as it lies in memory, without a copy, if that memory is a slab, and pinned where elements are. The caller knows that nobody else can reach
  /// the array, and drops it unchanged.
  bool Adopt(std::size_t index, DType dtype, PyArrayObject* array, std::size_t bytes) {
    Block* const slab = numpy_memory::SlabOf(array);
    if (slab == nullptr || (slabs_.pinned() && !slab->pinned())) return false;
    Component& out = frame_->components[index];
    try {
      SetShape(&out, dtype, PyArray_NDIM(array), PyArray_DIMS(array));
    } catch (const std::bad_alloc&) {
      return false;  // the copy that is now tried says so
    }
    slab->Ref();
    out.SetBlock(Component::Storage::kBlock, BlockRef(slab), bytes, static_cast<std::byte*>(PyArray_DATA(array)));
    return true;
  }

  /// Copies of a frame's own are not worth the trouble: what could be copied later is taken as it lies.
  static constexpr bool CopyLater(std::size_t, PyArrayObject*, std::byte*, std::size_t) { return false; }

  /// Takes strings as component `index`. False with a Python exception set.
  bool StoreStrings(std::size_t index, int rank, const npy_intp* lengths, PyObject* const* strings, std::size_t count) {
    Component& out = frame_->components[index];
    try {
      SetShape(&out, DType::kString, rank, lengths);
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
      return false;
    }
    return fastgen::StoreStrings(strings, count, &out);
  }

 private:
  static void SetShape(Component* out, DType dtype, int rank, const npy_intp* lengths) {
    out->dtype = dtype;
    std::int64_t* dims = out->SetRank(rank);
    for (int axis = 0; axis < rank; ++axis) dims[axis] = lengths[axis];
  }

  Frame* const frame_;
  Slabs& slabs_;
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_ELEMENT_ROW_H_
