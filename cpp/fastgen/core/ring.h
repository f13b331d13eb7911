// The bounded lock-free queue between exactly one producer and one consumer.
//
//      head_ (consumer writes)                tail_ (producer writes)
//        |                                      |
//   ---- [ published, not yet consumed ........ ] [ free slots ................ ] ----
//        ^ Front()/Pop()                          ^ Reserve()/Publish()
//
// Both indices run freely (64 bits never wrap in practice) and are masked only where a slot is addressed. Slots are filled and
// read in place: an element is never copied from a temporary into the ring.
//
// docs/ring.md tells how the memory ordering was chosen and proved.
#ifndef FASTGEN_CORE_RING_H_
#define FASTGEN_CORE_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace fastgen {

/// What one core invalidates in another at a time. A constant of our own: `std::hardware_destructive_interference_size` changes
/// with compiler flags, and with it the layout that both libraries must agree on.
inline constexpr std::size_t kCacheLine = 64;

/// The smallest power of two that is at least `n` (and at least 1).
constexpr std::size_t RoundUpToPowerOfTwo(std::size_t n) {
  std::size_t power = 1;
  while (power < n) power <<= 1;
  return power;
}

/// `Atomic` is std::atomic but for model checking (tests/cpp/relacy).
template <typename T, template <typename> class Atomic = std::atomic>
class Ring {
 public:
  /// Room for at least `capacity` items (rounded up to a power of two). Slots are value-initialised.
  explicit Ring(std::size_t capacity)
      : mask_(RoundUpToPowerOfTwo(capacity) - 1), slots_(new T[mask_ + 1]()) {}
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  std::size_t capacity() const { return mask_ + 1; }

  /// Visits every slot with its position, whatever its state. Only while neither thread uses the ring.
  template <typename Visitor>
  void ForEachSlot(const Visitor& visit) {
    for (std::size_t i = 0; i <= mask_; ++i) visit(i, slots_[i]);
  }

  // Producer's thread only ------------------------------------------------------------------------------------------

  /// The slot to fill next, or nullptr when the ring is full. Asking twice gives the same slot.
  T* Reserve() {
    if (tail_copy_ - head_cache_ > mask_) {
      // Pairs with the store in Pop(): what the consumer did to the slot has happened before it is filled again.
      head_cache_ = head_.load(std::memory_order_acquire);
      if (tail_copy_ - head_cache_ > mask_) return nullptr;
    }
    return &slots_[tail_copy_ & mask_];
  }

  /// Hands the reserved slot to the consumer. `order` is release where the consumer polls; a consumer that may sleep needs
  /// seq_cst (see parking.h).
  void Publish(std::memory_order order = std::memory_order_release) {
    // Pairs with the load in Front() and, when seq_cst, with the one in PublishedSinceSeqCst().
    tail_.store(++tail_copy_, order);
  }

  /// How many items were ever published.
  std::uint64_t published() const { return tail_copy_; }

  // Consumer's thread only ------------------------------------------------------------------------------------------

  /// The oldest published slot, or nullptr when there is none. Asking twice gives the same slot.
  T* Front() {
    if (head_copy_ == tail_cache_) {
      // Pairs with the store in Publish(): the slot's contents are visible.
      tail_cache_ = tail_.load(std::memory_order_acquire);
      if (head_copy_ == tail_cache_) return nullptr;
    }
    return &slots_[head_copy_ & mask_];
  }

  /// Gives the front slot back to the producer.
  void Pop() {
    // Pairs with the load in Reserve().
    head_.store(++head_copy_, std::memory_order_release);
  }

  /// How many items were ever consumed.
  std::uint64_t consumed() const { return head_copy_; }

  /// Whether anything is there to consume, read so that it can decide to sleep: it takes part in the single total order with
  /// the seq_cst store in Publish() (see parking.h).
  bool HasItemSeqCst() const { return tail_.load(std::memory_order_seq_cst) != head_copy_; }

  // Any thread ------------------------------------------------------------------------------------------------------

  /// How many items lie in the ring; exact only when both threads are at rest. Never less than nothing: head first, and acquire
  /// (pairs with the store in Pop()), so that the tail is at least what the consumer had seen of it.
  std::size_t size() const {
    const std::uint64_t head = head_.load(std::memory_order_acquire);
    return static_cast<std::size_t>(tail_.load(std::memory_order_relaxed) - head);
  }

 private:
  // Read by both, written by neither.
  alignas(kCacheLine) const std::size_t mask_;
  const std::unique_ptr<T[]> slots_;

  // The producer's two lines: the index that the consumer reads; and, where the consumer's reading does not take them away, the
  // producer's own copy of it and what it last saw of the other's.
  alignas(kCacheLine) Atomic<std::uint64_t> tail_{0};
  alignas(kCacheLine) std::uint64_t tail_copy_ = 0;
  std::uint64_t head_cache_ = 0;

  // The consumer's, likewise.
  alignas(kCacheLine) Atomic<std::uint64_t> head_{0};
  alignas(kCacheLine) std::uint64_t head_copy_ = 0;
  std::uint64_t tail_cache_ = 0;
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_RING_H_
