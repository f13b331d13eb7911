#include "fastgen/python/strings.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "fastgen/core/slab_pool.h"
#include "fastgen/python/lifecycle.h"

namespace fastgen {
namespace {

/// From here on a string is held rather than copied: to hold one costs a reference taken here and dropped later, about as much
/// as to copy a kilobyte.
constexpr std::size_t kLong = 1024;

/// Short texts share chunks. The first is small, so that what is gathered takes about as much memory as it counts.
constexpr std::size_t kFirstChunk = std::size_t{4} << 10;
constexpr std::size_t kLargestChunk = std::size_t{64} << 10;

constexpr std::size_t kFirstCapacity = 64;

/// Most components are one short string, or a few: one slab of just their size, and no bookkeeping.
constexpr std::size_t kFewStrings = 48;

struct Text {
  const char* data = nullptr;
  Py_ssize_t size = 0;
};

bool ReadText(PyObject* string, Text* text) {
  if (PyBytes_Check(string)) {
    *text = {PyBytes_AS_STRING(string), PyBytes_GET_SIZE(string)};
    return true;
  }
  if (PyUnicode_Check(string)) {
    text->data = PyUnicode_AsUTF8AndSize(string, &text->size);  // kept by the string
    return text->data != nullptr;
  }
  PyErr_Format(PyExc_TypeError, "Unsupported object type %s", Py_TYPE(string)->tp_name);
  return false;
}

/// To drop one of these runs no code of the user's.
bool MayBeHeld(PyObject* string) { return PyBytes_CheckExact(string) || PyUnicode_CheckExact(string); }

/// A table, the chunks its short texts lie in, and references to the strings of the long ones.
class StringBlock final : public Block {
 public:
  StringBlock(BlockRef table, std::vector<BlockRef> chunks, std::vector<PyObject*> held)
      : Block(table->data(), table->size()), table_(std::move(table)), chunks_(std::move(chunks)), held_(std::move(held)) {}

 private:
  void Dispose() override {
    lifecycle::DropTextsLater(std::move(held_));
    delete this;
  }

  const BlockRef table_;
  const std::vector<BlockRef> chunks_;
  std::vector<PyObject*> held_;
};

}  // namespace

StringGatherer::~StringGatherer() { lifecycle::DropTextsLater(std::move(held_)); }

bool StringGatherer::Add(PyObject* const* strings, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* const string = strings[i];
    Text text;
    if (!ReadText(string, &text)) return false;
    const auto size = static_cast<std::size_t>(text.size);
    if (size < kLong || !MayBeHeld(string)) {
      char* const to = RoomForText(size);
      std::memcpy(to, text.data, size);
      Append(to, size);
    } else {
      held_.push_back(string);  // may throw, so the reference comes after it
      Py_INCREF(string);
      Append(text.data, size);
    }
  }
  return true;
}

char* StringGatherer::RoomForText(std::size_t size) {
  if (size > free_bytes_) {
    const std::size_t chunk = std::max(size, std::min(kFirstChunk << std::min<std::size_t>(chunks_.size(), 8), kLargestChunk));
    chunks_.push_back(SlabPool::Global().Get(chunk));
    free_ = reinterpret_cast<char*>(chunks_.back()->data());
    free_bytes_ = chunk;
  }
  char* const room = free_;
  free_ += size;
  free_bytes_ -= size;
  return room;
}

void StringGatherer::Append(const char* data, std::size_t size) {
  if (count_ == capacity_) {
    const std::size_t capacity = std::max(kFirstCapacity, 2 * capacity_);
    BlockRef larger = SlabPool::Global().Get(StringTable::SizeOfTable(capacity));
    if (count_ > 0) std::memcpy(larger->data(), table_->data(), StringTable::SizeOfTable(count_));
    table_ = std::move(larger);
    capacity_ = capacity;
  }
  entries()[count_++] = {data, size};
  text_bytes_ += size;
}

void StringGatherer::Truncate(std::size_t count) {
  while (count_ > count) text_bytes_ -= entries()[--count_].size;
}

void StringGatherer::Clear() {
  for (PyObject* string : held_) Py_DECREF(string);
  held_.clear();
  chunks_.clear();
  count_ = free_bytes_ = 0;
  text_bytes_ = 0;
  free_ = nullptr;
}

BlockRef StringGatherer::Take() {
  if (table_.get() == nullptr) table_ = SlabPool::Global().Get(1);  // no strings at all
  BlockRef block(new StringBlock(std::move(table_), std::move(chunks_), std::move(held_)));
  chunks_.clear();
  held_.clear();
  count_ = capacity_ = free_bytes_ = 0;
  text_bytes_ = 0;
  free_ = nullptr;
  return block;
}

bool StoreStrings(PyObject* const* strings, std::size_t count, Component* out) {
  out->dtype = DType::kString;
  try {
    if (count <= kFewStrings) {
      Text texts[kFewStrings];
      std::size_t total = StringTable::SizeOfTable(count);
      for (std::size_t i = 0; i < count; ++i) {
        if (!ReadText(strings[i], &texts[i])) return false;
        total += static_cast<std::size_t>(texts[i].size);
      }
      if (total < kLong) {
        out->SetBlock(Component::Storage::kStrings, SlabPool::Global().Get(total), total);
        StringTableWriter writer(out->held.data, count);
        for (std::size_t i = 0; i < count; ++i) writer.Append(texts[i].data, static_cast<std::size_t>(texts[i].size));
        return true;
      }
    }
    StringGatherer gatherer;
    if (!gatherer.Add(strings, count)) return false;
    const std::uint64_t bytes = gatherer.byte_size();
    out->SetBlock(Component::Storage::kStrings, gatherer.Take(), bytes);
    return true;
  } catch (const std::bad_alloc&) {
    // No C++ exception leaves this function: it would pass by the references that its callers have to drop.
    PyErr_NoMemory();
    return false;
  }
}

}  // namespace fastgen
