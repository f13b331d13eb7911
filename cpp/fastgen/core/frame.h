// What travels: one element, its components with dtype, shape and bytes; or, in an element's place, the error that it met.
#ifndef FASTGEN_CORE_FRAME_H_
#define FASTGEN_CORE_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fastgen/core/block.h"
#include "fastgen/core/dtype.h"
#include "fastgen/core/status.h"

namespace fastgen {

/// One tensor on its way, as large as one cache line. All-zero bytes are an empty component, so that a ring's slots need not be
/// touched before they are used. Whoever fills a component owns what it refers to until Clear().
struct Component {
  enum class Storage : std::uint8_t {
    kNone = 0,     // nothing yet
    kInline = 1,   // `byte_size` bytes in `inline_bytes`
    kBlock = 2,    // `byte_size` bytes at block->data()
    kStrings = 3,  // a table of strings in the block, see StringTable
    kOpaque = 4,   // the block is a tensor of the other side, which only it can open
  };

  static constexpr std::size_t kInlineBytes = 16;
  static constexpr int kInlineRank = 4;

  DType dtype;
  Storage storage;
  std::uint8_t rank;
  std::uint64_t byte_size;
  union {
    alignas(16) std::byte inline_bytes[kInlineBytes];
    Block* block;
  };
  union {
    std::int64_t inline_dims[kInlineRank];
    std::int64_t* heap_dims;
  };

  /// The lengths of the axes: `rank` of them.
  const std::int64_t* dims() const { return rank <= kInlineRank ? inline_dims : heap_dims; }

  /// Sets the rank and returns the lengths to fill in. The component must have had no shape before.
  std::int64_t* SetRank(int new_rank) {
    // The rank last: should there be no memory, Clear() must not free what lies where the pointer would be.
    if (new_rank > kInlineRank) heap_dims = new std::int64_t[static_cast<std::size_t>(new_rank)];
    rank = static_cast<std::uint8_t>(new_rank);
    return new_rank <= kInlineRank ? inline_dims : heap_dims;
  }

  std::int64_t num_values() const {
    std::int64_t product = 1;
    for (int axis = 0; axis < rank; ++axis) product *= dims()[axis];
    return product;
  }

  const std::byte* bytes() const { return storage == Storage::kInline ? inline_bytes : block->data(); }

  /// Takes over the block's reference.
  void SetBlock(Storage how, BlockRef owned, std::uint64_t size) {
    storage = how;
    byte_size = size;
    block = owned.release();
  }

  /// Hands the block to the caller; the component keeps its shape.
  BlockRef TakeBlock() {
    BlockRef taken(block);
    storage = Storage::kNone;
    return taken;
  }

  /// Drops what is held: empty again.
  void Clear() {
    if (storage >= Storage::kBlock) block->Unref();
    if (rank > kInlineRank) delete[] heap_dims;
    storage = Storage::kNone;
    rank = 0;
  }
};

static_assert(sizeof(Component) == 64, "one cache line a component");
static_assert(std::is_trivially_destructible_v<Component>, "slots are released as raw memory");

/// How the strings of a component lie in its block: `count` end offsets, counted from the first byte after the table, then the
/// strings' bytes, one after the other. Reads only.
class StringTable {
 public:
  StringTable(const std::byte* base, std::size_t count)
      : ends_(reinterpret_cast<const std::uint64_t*>(base)), text_(base + SizeOfTable(count)) {}

  static constexpr std::size_t SizeOfTable(std::size_t count) { return count * sizeof(std::uint64_t); }

  const char* data(std::size_t i) const { return reinterpret_cast<const char*>(text_) + Begin(i); }
  std::size_t size(std::size_t i) const { return ends_[i] - Begin(i); }

 private:
  std::size_t Begin(std::size_t i) const { return i == 0 ? 0 : ends_[i - 1]; }

  const std::uint64_t* ends_;
  const std::byte* text_;
};

/// One element or one error. All-zero bytes are an empty frame.
struct Frame {
  Component* components;       // as many as the signature has
  std::uint32_t num_components;
  bool is_source_element;      // counts as one of the source's elements (an error out of the source itself does not)
  Status* error;               // owned; when set, the components are empty
  std::uint64_t byte_size;     // of all components: what the frame costs while it waits; unchanged from Publish() to Release()

  void SetError(Status status) {
    Clear();
    error = new Status(std::move(status));
  }

  void Clear() {
    for (std::uint32_t i = 0; i < num_components; ++i) components[i].Clear();
    delete error;
    error = nullptr;
    byte_size = 0;
    is_source_element = true;
  }
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_FRAME_H_
