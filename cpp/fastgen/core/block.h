// Memory that outlives whoever filled it: reference-counted, and given back from whichever thread drops it last.
#ifndef FASTGEN_CORE_BLOCK_H_
#define FASTGEN_CORE_BLOCK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace fastgen {

/// Bytes with an owner. A Block starts with one reference. Any thread may take and drop references; Dispose() runs on the thread
/// that drops the last one, which may be anywhere, so it must not touch Python.
class Block {
 public:
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// Whether a device can read the bytes by itself: the system does not move them.
  bool pinned() const { return pinned_; }

  void Ref() { references_.fetch_add(1, std::memory_order_relaxed); }
  void Unref() {
    // Release: what this holder did to the bytes; acquire: what all the others did, before the memory is used again. Pairs with
    // itself in the other holders.
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) Dispose();
  }

 protected:
  Block(std::byte* data, std::size_t size, bool pinned = false) : data_(data), size_(size), pinned_(pinned) {}
  virtual ~Block() = default;

  /// Gives the memory back, and this object with it.
  virtual void Dispose() = 0;

  /// For owners that recycle the object: one reference again, and perhaps another length.
  void Reset(std::size_t size) {
    size_ = size;
    references_.store(1, std::memory_order_relaxed);
  }

  std::byte* data_;
  std::size_t size_;

 private:
  std::atomic<std::uint32_t> references_{1};
  const bool pinned_;
};

/// Owns one reference to a Block.
class BlockRef {
 public:
  BlockRef() = default;
  /// Takes over the caller's reference.
  explicit BlockRef(Block* block) : block_(block) {}
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() {
    if (block_ != nullptr) block_->Unref();
  }

  Block* get() const { return block_; }
  Block* operator->() const { return block_; }
  explicit operator bool() const { return block_ != nullptr; }
  /// Hands the reference to the caller.
  Block* release() { return std::exchange(block_, nullptr); }

 private:
  Block* block_ = nullptr;
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_BLOCK_H_
