// Collation: elements written one after the other into the place in a batch where they will stand.
#ifndef FASTGEN_PYTHON_BATCH_H_
#define FASTGEN_PYTHON_BATCH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fastgen/core/block.h"
#include "fastgen/core/copy_board.h"
#include "fastgen/core/frame.h"
#include "fastgen/core/slabs.h"
#include "fastgen/core/status.h"
#include "fastgen/core/streaming_copy.h"
#include "fastgen/python/array_copy.h"
#include "fastgen/python/strings.h"
#include "fastgen/python/structure.h"

namespace fastgen {

/// The batch that a producer is filling. Each component has one slab, and each element is copied once: from the user's array into
/// its row there. Elements come one at a time: components are stored, in any order, and Commit() makes the row count; a row
/// that is not committed is overwritten by the next.
///
/// Where an element's shape differs from the first one's, the batch is ragged: it ends in TensorFlow's error, but only when it
/// would have been full, because TensorFlow looks at the shapes last. Until then elements are converted into Scratch().
///
/// A source that writes in place asks for the next row's memory first: Slot() gives NumPy views of it. They become read-only when
/// the row is committed. Should somebody hold another view of that memory then, who could still write, the batch moves to other
/// memory, and slots are views of memory of their own from then on, copied like any array.
///
/// Needs the GIL, except the destructor, which may run anywhere.
class Batch {
 public:
  /// `leaves` must outlive the batch. `stacked`: along a new first axis; a batch of one element may go without.
  /// `copy_board`: where large copies may be put up; `slabs`: where the memory comes from. They must outlive the batch too.
  Batch(const std::vector<Leaf>& leaves, std::int64_t size, bool stacked, CopyBoard* copy_board, Slabs& slabs);
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  std::int64_t rows() const { return rows_; }
  bool full() const { return rows_ == size_; }
  bool ragged() const { return ragged_; }

  // A row, as the converter sees it (see ElementRow) ------------------------------------------------------------------

  template <typename T>
  bool StoreScalar(std::size_t index, DType dtype, T value) {
    Column& column = columns_[index];
    std::byte* to = nullptr;
    if (rows_ < column.scalar_rows) {
      to = column.base + static_cast<std::size_t>(rows_) * sizeof(T);
    } else {
      to = Room(index, dtype, 0, nullptr, sizeof(T));
      if (to == nullptr) return false;
    }
    std::memcpy(to, &value, sizeof(T));
    return true;
  }

  /// Null without an exception where the shape is another than the first row's: the batch is ragged from then on.
  std::byte* Room(std::size_t index, DType dtype, int rank, const npy_intp* lengths, std::size_t bytes);

  /// Tells which array component `index` comes from.
  void Notice(std::size_t index, PyArrayObject* array) {
    Column& column = columns_[index];
    if (column.slot == reinterpret_cast<PyObject*>(array)) column.slot_yielded = true;
  }

  /// When the consumer will have read what is now written to component `index`.
  ReadBack read_back(std::size_t index) const {
    return columns_[index].slab->size() >= kStreamedFrom ? ReadBack::kLate : ReadBack::kSoon;
  }

  /// A batch's bytes lie side by side, so an array is never taken as it lies.
  static constexpr bool Adopt(std::size_t, DType, PyArrayObject*, std::size_t) { return false; }

  /// Copies an array's bytes to a row's room while the source makes its next element, if somebody is there to do it. The caller
  /// holds the only reference to the array but for ours.
  bool CopyLater(std::size_t index, PyArrayObject* array, std::byte* to, std::size_t bytes);

  bool StoreStrings(std::size_t index, int rank, const npy_intp* lengths, PyObject* const* strings, std::size_t count);

  // The whole element -------------------------------------------------------------------------------------------------

  /// The row counts; its slots become read-only. `element` is what it was filled from. Throws std::bad_alloc.
  void Commit(PyObject* element);
  /// Where elements are converted when the batch is ragged.
  Frame* Scratch();
  /// The element in Scratch() counts.
  void CommitScratch(PyObject* element);

  /// A writable view of component `index` in the next row, the same until the row is committed; None for components whose shape the
  /// signature leaves open, and strings. A new reference, or null with a Python exception set.
  PyObject* Slot(std::size_t index);
  /// What the source was given: an element of slots. Kept until the row is committed.
  void KeepHandedOut(PyObject* slots);
  /// Whether slots have been found shared, once after it has happened.
  bool TakeSharedSlots() { return std::exchange(report_shared_, false); }

  // The whole batch ---------------------------------------------------------------------------------------------------

  /// Moves what was committed into the frame, or the error that the batch is ragged; empty afterwards. Throws std::bad_alloc. Frees
  /// the GIL while copies are not finished; so do Commit() and Clear().
  void Finish(Frame* frame);
  /// Drops what was committed.
  void Clear();

 private:
  struct Column {
    // The shape of one row: from the first element.
    std::vector<std::int64_t> lengths;
    std::size_t row_bytes = 0;
    // Numbers: rows [0, capacity) of the slab.
    BlockRef slab;
    std::byte* base = nullptr;
    std::int64_t capacity = 0;
    std::int64_t scalar_rows = 0;  // as `capacity`, where rows have rank 0
    // Slots, all owned: what keeps the slab for all views of it; an array over the next row; and the view of it that the source
    // is writing to.
    PyObject* slab_owner = nullptr;
    PyObject* slot_base = nullptr;
    PyObject* slot = nullptr;
    bool slot_yielded = false;
    // Strings.
    StringGatherer strings;
    std::size_t strings_per_row = 0;
  };

  bool HasShape(const Column& column, int rank, const npy_intp* lengths) const;
  void Begin(Column& column, int rank, const npy_intp* lengths);
  void Reserve(Column& column, std::int64_t rows);
  std::int64_t FirstCapacity(std::size_t row_bytes) const;
  void NoteShape(std::size_t index, const Component& component);
  PyObject* MakeSlot(std::size_t index);
  bool IsShared(const Column& column, PyObject* element) const;
  void SettleSlots(PyObject* element);
  void DropCopied();
  void FinishCopies();
  static void ForgetSlot(Column& column);
  static void ForgetSlots(Column& column);

  const std::vector<Leaf>& leaves_;
  const std::int64_t size_;
  const bool stacked_;
  std::vector<Column> columns_;
  CopyBoard* const copy_board_;
  Slabs& slabs_;
  // Owned: what offer number i, modulo the size, reads from. Offers may be finished before their arrays are dropped: at most all
  // but one, when the next is put up.
  std::array<PyObject*, 2 * CopyBoard::kMostOffers> copied_later_{};
  std::uint64_t dropped_copies_ = 0;                              // offers whose array has been dropped
  std::int64_t rows_ = 0;
  std::int64_t most_rows_ = 0;  // that a batch has had so far

  bool in_place_ = true;          // slots lie in the slabs
  bool has_slots_ = false;        // some slot of the next row has been handed out
  bool report_shared_ = false;
  PyObject* handed_out_ = nullptr;  // owned

  bool ragged_ = false;
  std::size_t ragged_component_ = 0;
  std::string ragged_text_;
  Frame scratch_{};
  std::vector<Component> scratch_components_;
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_BATCH_H_
