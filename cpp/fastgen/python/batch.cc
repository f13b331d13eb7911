#include "fastgen/python/batch.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "fastgen/core/slab_pool.h"
#include "fastgen/python/gil.h"
#include "fastgen/python/lifecycle.h"
#include "fastgen/python/slab_request.h"

namespace fastgen {
namespace {

/// A batch whose size nobody knows yet begins with at most so much memory: batch(1_000_000) is also written by people who mean
/// "all there is".
constexpr std::size_t kFirstBytes = std::size_t{64} << 20;

/// As TensorFlow prints a shape: [2,3].
template <typename Length>
std::string DescribeShape(std::size_t rank, const Length* lengths) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (axis > 0) text += ',';
    text += std::to_string(lengths[axis]);
  }
  return text + ']';
}

void DropSlab(PyObject* capsule) { static_cast<Block*>(PyCapsule_GetPointer(capsule, nullptr))->Unref(); }

/// What keeps a slab for the arrays over it. Null with a Python exception set.
PyObject* MakeOwner(Block& slab) {
  PyObject* const owner = PyCapsule_New(&slab, nullptr, &DropSlab);
  if (owner != nullptr) slab.Ref();
  return owner;
}

/// A view of `data`, based on `owner`. Takes over neither. Null with a Python exception set.
PyObject* MakeView(PyArray_Descr* descr, int rank, const npy_intp* lengths, std::byte* data, int flags, PyObject* owner) {
  Py_INCREF(descr);
  PyObject* const view = PyArray_NewFromDescr(&PyArray_Type, descr, rank, lengths, nullptr, data, flags, nullptr);
  if (view == nullptr) return nullptr;
  Py_INCREF(owner);
  if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(view), owner) == 0) return view;
  Py_DECREF(view);
  return nullptr;
}

}  // namespace

Batch::Batch(const std::vector<Leaf>& leaves, std::int64_t size, bool stacked, CopyBoard* copy_board, Slabs& slabs)
    : leaves_(leaves), size_(size), stacked_(stacked), columns_(leaves.size()), copy_board_(copy_board), slabs_(slabs) {}

Batch::~Batch() {
  scratch_.Clear();
  for (Column& column : columns_) {
    lifecycle::DropLater(column.slot);
    lifecycle::DropLater(column.slot_base);
    lifecycle::DropLater(column.slab_owner);
  }
  lifecycle::DropLater(handed_out_);
  const bool being_copied = copied_later_ != decltype(copied_later_){};
  for (PyObject* const array : copied_later_) lifecycle::DropLater(array);
  for (Column& column : columns_) {
    // Only where the interpreter's end has taken the producer's thread away: somebody may be writing there.
    if (being_copied) column.slab.release();
  }
}

bool Batch::HasShape(const Column& column, int rank, const npy_intp* lengths) const {
  return static_cast<std::size_t>(rank) == column.lengths.size() &&
         std::equal(column.lengths.begin(), column.lengths.end(), lengths);
}

std::byte* Batch::Room(std::size_t index, DType, int rank, const npy_intp* lengths, std::size_t bytes) {
  Column& column = columns_[index];
  if (rows_ > 0 && !HasShape(column, rank, lengths)) {
    ragged_ = true;
    return nullptr;
  }
  try {
    if (rows_ == 0) {
      column.row_bytes = bytes;
      Begin(column, rank, lengths);
    }
    if (rows_ >= column.capacity) Reserve(column, std::max(rows_ + 1, 2 * column.capacity));
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return nullptr;
  }
  return column.base + static_cast<std::size_t>(rows_) * column.row_bytes;
}

void Batch::Begin(Column& column, int rank, const npy_intp* lengths) {
  column.lengths.assign(lengths, lengths + rank);
  // The slab of a batch that was dropped serves again. But it is cut into rows of another length now.
  const std::size_t had = column.slab ? column.slab->size() : 0;
  const std::int64_t wanted = FirstCapacity(column.row_bytes);
  column.capacity = column.row_bytes == 0 ? wanted : static_cast<std::int64_t>(had / column.row_bytes);
  if (had == 0 || column.capacity < wanted) {
    column.slab = BlockRef();
    column.capacity = 0;
    Reserve(column, wanted);
  }
  column.scalar_rows = rank == 0 ? column.capacity : 0;
}

std::int64_t Batch::FirstCapacity(std::size_t row_bytes) const {
  const std::int64_t affordable = static_cast<std::int64_t>(kFirstBytes / std::max<std::size_t>(row_bytes, 1));
  return std::min(size_, std::max({affordable, most_rows_, std::int64_t{1}}));
}

bool Batch::CopyLater(std::size_t index, PyArrayObject* array, std::byte* to, std::size_t bytes) {
  DropCopied();
  if (!OwnsMemoryAlone(array)) return false;
  const std::uint64_t offer = copy_board_->offers();
  const auto* const from = static_cast<const std::byte*>(PyArray_DATA(array));
  if (!copy_board_->Offer(from, to, bytes, read_back(index) == ReadBack::kLate)) return false;
  Py_INCREF(array);
  copied_later_[offer % copied_later_.size()] = reinterpret_cast<PyObject*>(array);
  return true;
}

void Batch::DropCopied() {
  const std::uint64_t finished = copy_board_->FinishedOffers();
  for (; dropped_copies_ < finished; ++dropped_copies_) Py_CLEAR(copied_later_[dropped_copies_ % copied_later_.size()]);
}

void Batch::FinishCopies() {
  if (dropped_copies_ == copy_board_->offers()) return;
  WithoutGil([this] { copy_board_->FinishAll(); });
  DropCopied();
}

void Batch::Reserve(Column& column, std::int64_t rows) {
  FinishCopies();  // into the slab that is left
  rows = std::min(rows, size_);
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(rows), column.row_bytes, &bytes)) throw std::bad_alloc();
  BlockRef larger = GetSlab(slabs_, std::max<std::size_t>(bytes, 1));
  if (column.slab) {
    std::memcpy(larger->data(), column.base, static_cast<std::size_t>(rows_) * column.row_bytes);
  }
  ForgetSlots(column);  // they are views of the old one
  column.slab = std::move(larger);
  column.base = column.slab->data();
  column.capacity = rows;
  if (column.lengths.empty()) column.scalar_rows = rows;
}

bool Batch::StoreStrings(std::size_t index, int rank, const npy_intp* lengths, PyObject* const* strings, std::size_t count) {
  Column& column = columns_[index];
  if (rows_ > 0 && !HasShape(column, rank, lengths)) {
    ragged_ = true;
    return false;
  }
  try {
    if (rows_ == 0) {
      column.lengths.assign(lengths, lengths + rank);
      column.strings_per_row = count;
    }
    // What an element left there that failed in a later component.
    column.strings.Truncate(static_cast<std::size_t>(rows_) * column.strings_per_row);
    return column.strings.Add(strings, count);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
}

void Batch::Commit(PyObject* element) {
  ++rows_;
  if (dropped_copies_ != copy_board_->offers()) DropCopied();
  if (has_slots_) SettleSlots(element);
}

Frame* Batch::Scratch() {
  scratch_components_.resize(leaves_.size(), Component{});
  scratch_.components = scratch_components_.data();
  scratch_.num_components = static_cast<std::uint32_t>(leaves_.size());
  return &scratch_;
}

void Batch::CommitScratch(PyObject* element) {
  for (std::size_t i = 0; i < leaves_.size(); ++i) NoteShape(i, scratch_.components[i]);
  scratch_.Clear();
  ++rows_;
  if (has_slots_) SettleSlots(element);
}

void Batch::NoteShape(std::size_t index, const Component& component) {
  const std::vector<std::int64_t>& first = columns_[index].lengths;
  const std::size_t rank = component.rank;
  if (rank == first.size() && std::equal(first.begin(), first.end(), component.dims())) return;
  // TensorFlow goes through the batch component by component, and names the first that differs.
  if (!ragged_text_.empty() && index >= ragged_component_) return;
  ragged_component_ = index;
  ragged_text_ = "Cannot batch tensors with different shapes in component " + std::to_string(index) +
                 ". First element had shape " + DescribeShape(first.size(), first.data()) + " and element " +
                 std::to_string(rows_) + " had shape " + DescribeShape(rank, component.dims()) + ".";
}

void Batch::Finish(Frame* frame) {
  FinishCopies();
  if (ragged_) {
    frame->SetError(Status(Code::kInvalidArgument, ragged_text_));
    frame->elements = static_cast<std::uint64_t>(rows_);
    Clear();
    return;
  }
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    Column& column = columns_[i];
    Component& out = frame->components[i];
    out.dtype = leaves_[i].spec.dtype;
    std::int64_t* dims = out.SetRank(static_cast<int>(column.lengths.size()) + (stacked_ ? 1 : 0));
    if (stacked_) *dims++ = rows_;
    std::copy(column.lengths.begin(), column.lengths.end(), dims);
    if (out.dtype == DType::kString) {
      column.strings.Truncate(static_cast<std::size_t>(rows_) * column.strings_per_row);
      const std::uint64_t bytes = column.strings.byte_size();
      out.SetBlock(Component::Storage::kStrings, column.strings.Take(), bytes);
    } else {
      const std::uint64_t bytes = static_cast<std::uint64_t>(rows_) * column.row_bytes;
      ForgetSlots(column);
      out.SetBlock(Component::Storage::kBlock, std::move(column.slab), bytes);
      column.slab = BlockRef();
      column.capacity = column.scalar_rows = 0;
    }
    frame->byte_size += out.byte_size;
  }
  frame->elements = static_cast<std::uint64_t>(rows_);
  most_rows_ = std::max(most_rows_, rows_);
  rows_ = 0;
}

void Batch::Clear() {
  FinishCopies();
  has_slots_ = false;
  Py_CLEAR(handed_out_);
  rows_ = 0;
  ragged_ = false;
  ragged_text_.clear();
  scratch_.Clear();
  for (Column& column : columns_) {
    column.strings.Clear();
    const bool had_slots = column.slab_owner != nullptr;
    ForgetSlots(column);
    if (had_slots) {  // the source may still write to views of this slab
      column.slab = BlockRef();
      column.capacity = 0;
    }
    // A slab from which rows have been read stays; scalars must ask for it again, because its shape may change.
    column.scalar_rows = 0;
  }
}

PyObject* Batch::Slot(std::size_t index) {
  const Leaf& leaf = leaves_[index];
  Column& column = columns_[index];
  if (column.slot == nullptr) {
    if (leaf.spec.dtype == DType::kString || leaf.descr == nullptr || !leaf.spec.IsFullyDefined()) Py_RETURN_NONE;
    column.slot = MakeSlot(index);
    if (column.slot == nullptr) return nullptr;
    has_slots_ = true;
  }
  Py_INCREF(column.slot);
  return column.slot;
}

PyObject* Batch::MakeSlot(std::size_t index) {
  const Leaf& leaf = leaves_[index];
  Column& column = columns_[index];
  const int rank = static_cast<int>(leaf.spec.dims.size());
  npy_intp lengths[NPY_MAXDIMS];
  auto bytes = static_cast<std::size_t>(PyDataType_ELSIZE(leaf.descr));
  for (int axis = 0; axis < rank; ++axis) {
    lengths[axis] = static_cast<npy_intp>(leaf.spec.dims[static_cast<std::size_t>(axis)]);
    bytes *= static_cast<std::size_t>(lengths[axis]);
  }
  if (!in_place_) {
    Py_INCREF(leaf.descr);
    return PyArray_NewFromDescr(&PyArray_Type, leaf.descr, rank, lengths, nullptr, nullptr, 0, nullptr);
  }
  std::byte* const to = Room(index, leaf.spec.dtype, rank, lengths, bytes);
  if (to == nullptr) return nullptr;
  if (column.slab_owner == nullptr) column.slab_owner = MakeOwner(*column.slab.get());
  if (column.slab_owner == nullptr) return nullptr;
  // The base is read-only: NumPy lets whoever has a view of a writable base make the view writable again.
  column.slot_base = MakeView(leaf.descr, rank, lengths, to, NPY_ARRAY_CARRAY_RO, column.slab_owner);
  if (column.slot_base == nullptr) return nullptr;
  return MakeView(leaf.descr, rank, lengths, to, NPY_ARRAY_CARRAY, column.slot_base);
}

void Batch::KeepHandedOut(PyObject* slots) {
  Py_INCREF(slots);
  Py_XSETREF(handed_out_, slots);
}

bool Batch::IsShared(const Column& column, PyObject* element) const {
  // NumPy makes the base of a view's view that of the view: one reference is ours, one the slot's, each other one a view that the
  // source has made and may write through.
  if (Py_REFCNT(column.slot_base) > 2) return true;
  // The slot itself is referred to by this column, by the element of slots that was handed out, and by a variable of the source;
  // and once more by what was yielded, if that is another object. A slot that is the whole element is also held by zip() and
  // enumerate(), which keep their last result.
  Py_ssize_t expected = 3;
  if (column.slot_yielded && element != handed_out_) ++expected;
  if (element == column.slot) expected += 2;
  // A memoryview refers to the slot as a variable does, and may write. NumPy notes that there has been one, not whether it is gone.
  const auto* const fields = reinterpret_cast<const PyArrayObject_fields*>(column.slot);
  if (fields->_buffer_info != nullptr) --expected;
  return Py_REFCNT(column.slot) > expected;
}

void Batch::SettleSlots(PyObject* element) {
  has_slots_ = false;
  for (Column& column : columns_) {
    if (column.slot == nullptr) continue;
    if (column.slot_base != nullptr && IsShared(column, element)) {
      in_place_ = false;
      report_shared_ = true;
      Reserve(column, column.capacity);
    }
    ForgetSlot(column);
  }
  Py_CLEAR(handed_out_);
}

void Batch::ForgetSlot(Column& column) {
  if (column.slot_base != nullptr && column.slot != nullptr) {
    PyArray_CLEARFLAGS(reinterpret_cast<PyArrayObject*>(column.slot), NPY_ARRAY_WRITEABLE);
  }
  Py_CLEAR(column.slot);
  Py_CLEAR(column.slot_base);
  column.slot_yielded = false;
}

void Batch::ForgetSlots(Column& column) {
  ForgetSlot(column);
  Py_CLEAR(column.slab_owner);
}

}  // namespace fastgen
