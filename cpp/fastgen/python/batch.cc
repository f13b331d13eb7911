#include "fastgen/python/batch.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "fastgen/core/slab_pool.h"

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

}  // namespace

Batch::Batch(const std::vector<Leaf>& leaves, std::int64_t size) : leaves_(leaves), size_(size), columns_(leaves.size()) {}

Batch::~Batch() { scratch_.Clear(); }

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

void Batch::Reserve(Column& column, std::int64_t rows) {
  rows = std::min(rows, size_);
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(rows), column.row_bytes, &bytes)) throw std::bad_alloc();
  BlockRef larger = SlabPool::Global().Get(std::max<std::size_t>(bytes, 1));
  if (column.slab) {
    std::memcpy(larger->data(), column.base, static_cast<std::size_t>(rows_) * column.row_bytes);
  }
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

void Batch::Commit() { ++rows_; }

Frame* Batch::Scratch() {
  scratch_components_.resize(leaves_.size(), Component{});
  scratch_.components = scratch_components_.data();
  scratch_.num_components = static_cast<std::uint32_t>(leaves_.size());
  return &scratch_;
}

void Batch::CommitScratch() {
  for (std::size_t i = 0; i < leaves_.size(); ++i) NoteShape(i, scratch_.components[i]);
  scratch_.Clear();
  ++rows_;
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
    std::int64_t* const dims = out.SetRank(static_cast<int>(column.lengths.size()) + 1);
    dims[0] = rows_;
    std::copy(column.lengths.begin(), column.lengths.end(), dims + 1);
    if (out.dtype == DType::kString) {
      column.strings.Truncate(static_cast<std::size_t>(rows_) * column.strings_per_row);
      const std::uint64_t bytes = column.strings.byte_size();
      out.SetBlock(Component::Storage::kStrings, column.strings.Take(), bytes);
    } else {
      const std::uint64_t bytes = static_cast<std::uint64_t>(rows_) * column.row_bytes;
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
  rows_ = 0;
  ragged_ = false;
  ragged_text_.clear();
  scratch_.Clear();
  for (Column& column : columns_) {
    column.strings.Clear();
    // A slab from which rows have been read stays; scalars must ask for it again, because its shape may change.
    column.scalar_rows = 0;
  }
}

}  // namespace fastgen
