// A ring of frames, plus sleeping, closing and in-order errors: all that stands between one producer and one consumer.
#ifndef FASTGEN_CORE_CHANNEL_H_
#define FASTGEN_CORE_CHANNEL_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "fastgen/core/copy_board.h"
#include "fastgen/core/counters.h"
#include "fastgen/core/frame.h"
#include "fastgen/core/parking.h"
#include "fastgen/core/ring.h"

namespace fastgen {

/// How far the producer may run ahead of the consumer.
struct ReadAhead {
  static constexpr std::int64_t kAutotune = -1;
  static constexpr std::size_t kNoByteLimit = SIZE_MAX;
  static constexpr std::size_t kDefaultByteBudget = std::size_t{64} << 20;

  /// Frames ahead: kAutotune lets the channel choose, 0 means that a frame is made only when it is asked for.
  std::int64_t frames = kAutotune;
  /// The bytes that waiting frames may hold: while they hold more, no further frame is made. So the frame that oversteps it is the
  /// last for a while, and one frame may always wait.
  std::size_t byte_budget = kDefaultByteBudget;
  /// With kAutotune, the frames that may wait at first and at most.
  std::uint64_t first_autotuned_frames = 4;
  std::size_t most_autotuned_frames = 1024;
};

/// One producer thread and one consumer thread; Close() and statistics() from any thread. Frames and errors arrive in the order
/// in which they were published, none lost and none twice. After Close() both sides return at once; frames still in the ring are
/// dropped. Destroy a channel only when neither side uses it.
///
/// The flow is governed by credit: the consumer says up to which frame the producer may publish (`allowed_`) and renews it only
/// when half of the window has been consumed. A producer that found the ring full is thus woken when it is half empty, not at
/// each pop, and a pop costs no fence. The byte budget is watched by the producer, who is the first to know what a frame weighs;
/// the consumer learns it frame by frame and keeps the window small enough that the budget is seldom met.
///
/// A window that tunes itself also heeds the system: while memory is scarce (memory_pressure.h) it halves with each half window
/// that is consumed, down to one frame, and grows again only afterwards.
class Channel {
 public:
  enum class Outcome { kFrame, kEmpty, kEnd, kClosed };

  Channel(std::size_t components_per_frame, const ReadAhead& read_ahead,
          std::chrono::nanoseconds spin = std::chrono::nanoseconds{0});
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Producer's thread only ------------------------------------------------------------------------------------------

  /// The frame to fill next, empty; nullptr when the producer must wait (or the channel is closed). Never blocks.
  Frame* TryReserve();
  /// Publishes the reserved frame and wakes a consumer that waits for it.
  void Publish();
  /// Blocks until TryReserve() would succeed. False when the channel was closed.
  bool WaitForRoom();
  /// Blocks until the consumer waits for the very next frame: until everything published was consumed and more is wanted. False
  /// when the channel was closed.
  bool WaitForDemand();
  /// Whether WaitForDemand() would return at once.
  bool HasDemand() const { return asked_.load(std::memory_order_seq_cst) > ring_.published(); }
  /// No frame will follow. The consumer reaches the end after the frames already published.
  void Finish();
  /// Where large copies may be put up for the consumer, while it waits in Next(). Finish them before what they fill is published or
  /// cleared.
  CopyBoard& copy_board() { return copy_board_; }

  // Consumer's thread only ------------------------------------------------------------------------------------------

  /// The oldest frame, without waiting. The frame stays the consumer's until Release().
  Outcome TryNext(Frame** frame);
  /// The oldest frame, waiting at most `timeout` for it, and helping the producer with its copies meanwhile. May return kEmpty
  /// early, when the wait was interrupted.
  Outcome Next(Frame** frame, std::chrono::nanoseconds timeout);
  /// Gives the frame of the last kFrame outcome back, cleared.
  void Release();

  // Any thread ------------------------------------------------------------------------------------------------------

  /// Ends it for both sides: sleepers wake, and every later call says so.
  void Close();
  bool closed() const { return (state_.load(std::memory_order_acquire) & kClosed) != 0; }
  /// Makes the Next() in progress, or else the following one, return early if it has nothing to return, so that its caller can
  /// look around.
  void InterruptConsumer();
  Statistics statistics() const;
  /// Whether frames are made only on demand.
  bool on_demand() const { return on_demand_; }

 private:
  static constexpr std::uint32_t kFinished = 1;
  static constexpr std::uint32_t kClosed = 2;
  static constexpr std::uint32_t kInterrupted = 4;

  template <typename Ready>
  bool ProducerWaits(const Ready& ready);
  bool OverBudget();
  void Ask();
  void WaitAndHelp(std::chrono::nanoseconds timeout);
  bool AwaitsBytes() const;
  void Grant();
  void RenewCredit();
  void Retune(std::uint64_t frame_bytes);

  const bool on_demand_;
  const bool autotune_;
  const std::size_t byte_budget_;
  const std::chrono::nanoseconds spin_;
  Ring<Frame> ring_;
  const std::uint64_t most_frames_;  // of any window
  const std::unique_ptr<void, void (*)(void*)> component_memory_;

  // Written by the consumer, read by the producer. `allowed_` pairs with the loads in TryReserve() and WaitForRoom(), `asked_`
  // with the loads in HasDemand() and OverBudget(); both are counts of frames and stored seq_cst before
  // producer_parking_.Unpark().
  alignas(kCacheLine) std::atomic<std::uint64_t> allowed_{0};
  std::atomic<std::uint64_t> asked_{0};
  // Bits: kFinished (set by the producer), kClosed (by anybody), kInterrupted (by anybody, cleared by the consumer). Written
  // seq_cst before the sleepers are unparked, and read seq_cst by what they wait for.
  std::atomic<std::uint32_t> state_{0};

  // The producer's own.
  alignas(kCacheLine) std::uint64_t allowed_cache_ = 0;
  std::uint64_t consumed_bytes_cache_ = 0;
  Counter published_;
  Counter published_bytes_;
  Counter errors_;
  Counter producer_waits_;

  // The consumer's own.
  alignas(kCacheLine) std::uint64_t granted_ = 0;
  std::uint64_t window_;
  std::uint64_t largest_window_;  // that the byte budget affords
  std::uint64_t mean_frame_bytes_ = 0;
  std::atomic<std::uint64_t> window_seen_{0};  // a copy for statistics()
  Counter consumed_;
  Counter bytes_;  // also read by OverBudget(), after `allowed_` or `asked_`
  Counter consumer_waits_;

  // On lines of their own: the other side looks at them at each publish.
  alignas(kCacheLine) ParkingSpot producer_parking_;
  alignas(kCacheLine) ParkingSpot consumer_parking_;

  CopyBoard copy_board_{&consumer_parking_};
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_CHANNEL_H_
