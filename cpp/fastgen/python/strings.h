// Python's strings as a component's bytes: `str` as UTF-8, `bytes` as they are.
//
// Short strings are copied. Long ones are not: the component holds the Python object, whose text never changes, until TensorFlow
// has made its own copy of it. So a long string is copied once on its way, and never with the GIL.
#ifndef FASTGEN_PYTHON_STRINGS_H_
#define FASTGEN_PYTHON_STRINGS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fastgen/core/block.h"
#include "fastgen/core/frame.h"
#include "fastgen/python/python_api.h"

namespace fastgen {

/// Gathers strings into one StringTable. All methods need the GIL, except the destructor, which may run anywhere.
class StringGatherer {
 public:
  StringGatherer() = default;
  ~StringGatherer();
  StringGatherer(const StringGatherer&) = delete;
  StringGatherer& operator=(const StringGatherer&) = delete;

  /// Adds strings. False when one is neither `str` nor `bytes` or has no UTF-8 form, with a Python exception set; strings before
  /// it have been added then. Throws std::bad_alloc.
  bool Add(PyObject* const* strings, std::size_t count);

  /// How many strings there are, and how many bytes table and texts take.
  std::size_t count() const { return count_; }
  std::uint64_t byte_size() const { return count_ * sizeof(StringTable::Entry) + text_bytes_; }

  /// Forgets all strings after the first `count`. Their texts go with the others: this is for the few that failed half way.
  void Truncate(std::size_t count);
  /// Drops all of it.
  void Clear();

  /// Hands over the table, as a block that keeps the texts alive; empty afterwards. Throws std::bad_alloc.
  BlockRef Take();

 private:
  StringTable::Entry* entries() const { return reinterpret_cast<StringTable::Entry*>(table_->data()); }
  char* RoomForText(std::size_t size);
  void Append(const char* data, std::size_t size);

  BlockRef table_;                 // entries, with room for `capacity_`
  std::size_t count_ = 0;
  std::size_t capacity_ = 0;
  std::uint64_t text_bytes_ = 0;
  std::vector<BlockRef> chunks_;   // where the short strings' texts lie
  char* free_ = nullptr;           // room in the last chunk
  std::size_t free_bytes_ = 0;
  std::vector<PyObject*> held_;    // the long strings
};

/// Copies or holds `count` strings as the whole of a component whose shape the caller has set. Needs the GIL. False with a Python
/// exception set.
bool StoreStrings(PyObject* const* strings, std::size_t count, Component* out);

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_STRINGS_H_
