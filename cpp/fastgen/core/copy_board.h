// Large copies that a waiting consumer takes off the producer's hands.
//
// The producer's thread makes elements and copies them, one after the other; while a batch is made, the consumer that waits for it
// has a processor and nothing to do. So the producer puts up its large copies here, cut into pieces, and goes on to the next
// element. Either side claims pieces, the consumer while it waits and the producer when it cannot go on before they are done:
//
//   producer                                       consumer, in Channel::Next()
//   Offer(): unclaimed = pieces   --------------->  Claim(): unclaimed - 1, by compare-and-swap; then copies the piece
//   (makes the next element)
//   FinishAll(): Claim() and copy what is left
//                wait for what the other has    <-- copied + 1
//
// A piece is copied by whoever counted it down, so by exactly one side. docs/ring.md tells why no wake-up is lost and no copy torn.
#ifndef FASTGEN_CORE_COPY_BOARD_H_
#define FASTGEN_CORE_COPY_BOARD_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "fastgen/core/counters.h"
#include "fastgen/core/parking.h"
#include "fastgen/core/ring.h"

namespace fastgen {

/// One producer's thread and one consumer's at a time. Nothing here blocks but FinishAll(). `from` and `to` are used from Offer()
/// until the offer is finished, and not a moment longer: a consumer that has claimed a piece copies it to the end before it does
/// anything else. The producer must call FinishAll() before it hands on or gives up what it has offered, also after the channel
/// was closed; then either side may go.
class CopyBoard {
 public:
  /// Offers that are not finished at a time. One is being copied while the next is made; more would only keep arrays alive, and
  /// what was written long ago has left the cache before it is copied.
  static constexpr std::uint64_t kMostOffers = 2;
  /// What one claim copies, about: some 10 us. Small enough to be shared by two sides, and soon done when somebody waits for it;
  /// large enough that claiming costs nothing beside it.
  static constexpr std::size_t kPieceBytes = std::size_t{128} << 10;
  /// So many offers without any help, one after the other, and the board declines the next kShortestPause; after each further one
  /// without help twice as many, kLongestPause at most.
  static constexpr std::uint64_t kPatience = 3;
  static constexpr std::uint64_t kShortestPause = 8;
  static constexpr std::uint64_t kLongestPause = 512;

  /// `consumer` is where the consumer sleeps. What it waits for there must include HasPiece().
  explicit CopyBoard(ParkingSpot* consumer) : consumer_(consumer) {}
  CopyBoard(const CopyBoard&) = delete;
  CopyBoard& operator=(const CopyBoard&) = delete;

  // Producer's thread only ------------------------------------------------------------------------------------------

  /// Puts up a copy. False, and nothing happened, when nobody is there to help, helping has proved to be of no use lately, or too
  /// many offers are not finished yet: then the caller copies. `past_cache`: with CopyStreaming().
  bool Offer(const std::byte* from, std::byte* to, std::size_t bytes, bool past_cache = false);
  /// How many offers were ever put up.
  std::uint64_t offers() const { return offers_; }
  /// How many of them are finished, in their order: what the first so many read from may be dropped. Never blocks.
  std::uint64_t FinishedOffers();
  /// Copies what nobody has claimed, and waits until all offers are finished.
  void FinishAll();

  // Consumer's thread only ------------------------------------------------------------------------------------------

  /// The consumer has nothing to do from now on, and tells the producer so; unless it was interrupted lately, see Help().
  void BeginWait();
  /// It goes. What is on the board is the producer's to finish.
  void EndWait();
  /// Whether there is a piece that Help() would copy, read so that it can decide to sleep: step (2) of parking.h.
  bool HasPiece() const;
  /// Claims one piece and copies it. False when there is none.
  bool HelpOnce();
  /// Copies pieces as long as there are any and `enough()` does not hold, and after each looks out for another one for a while: to
  /// be woken for it would take longer than to copy it. Returns at once when there is none to begin with.
  ///
  /// A thread that is interrupted here for long shares its processor with others. It would do harm: the producer waits for the
  /// piece that it holds, and by working it loses its place before those others, so that it comes late to the next frame. So it
  /// stays away for a multiple of that time.
  template <typename Enough>
  void Help(const Enough& enough) {
    auto last = std::chrono::steady_clock::now();
    while (helping_ && !enough() && HelpOnce()) {
      Clock(&last);
      const auto until = last + kLookOut;
      for (unsigned turns = 1; helping_ && last < until && !HasPiece() && !enough(); ++turns) {
        SpinPause();
        // Somebody else may need this processor, the producer first of all.
        if (turns % kTurnsBeforeYielding == 0) std::this_thread::yield();
        Clock(&last);
      }
    }
  }

  // Any thread ------------------------------------------------------------------------------------------------------

  /// How many pieces the consumer has copied so far.
  std::uint64_t pieces_helped() const { return pieces_helped_.value(); }

 private:
  /// How long a consumer that has helped looks out for the next piece: as long as a quick source may take to make an element.
  static constexpr std::chrono::microseconds kLookOut{50};
  static constexpr unsigned kTurnsBeforeYielding = 128;  // some 5 to 10 us
  /// What takes a consumer so long, a piece or a look, was an interruption; and so many times as long it stays away, so that little
  /// of the time is lost on a busy machine. Each time twice as many, unless it has copied so many pieces in between.
  static constexpr std::chrono::microseconds kInterruption{500};
  static constexpr int kShortestStayAway = 64;
  static constexpr int kLongestStayAway = 1024;
  static constexpr std::uint64_t kUndisturbedPieces = 1024;  // 10 to 20 ms
  /// How long the producer looks out for the end of a piece that the consumer has claimed, before it sleeps.
  static constexpr std::chrono::microseconds kFinishLookOut{50};

  /// One offer, on a line of its own. What is no atomic is written by the producer alone; what claiming sides read of it, only
  /// while nothing is claimed.
  struct alignas(kCacheLine) Place {
    // Pieces that nobody has claimed yet. Stored by Offer() and counted down by Claim(), see there; read by HasPiece().
    std::atomic<std::uint64_t> unclaimed{0};
    // Pieces that the consumer has copied. Raised by HelpOnce(), read by FinishedOffers() and FinishAll(), reset by Offer().
    std::atomic<std::uint64_t> copied{0};
    // Pieces that the producer has copied: its own.
    std::uint64_t copied_by_producer = 0;
    std::uint64_t pieces = 0;
    std::size_t piece_bytes = 0;
    std::size_t bytes = 0;
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
    bool past_cache = false;
  };

  Place& PlaceOf(std::uint64_t offer) { return places_[offer % kMostOffers]; }
  bool ConsumerHelps();
  void Judge(bool helped);
  void Clock(std::chrono::steady_clock::time_point* last);
  static bool Claim(Place* place, std::uint64_t* piece);
  static void Copy(const Place& place, std::uint64_t piece);

  std::array<Place, kMostOffers> places_;

  // The producer's own.
  alignas(kCacheLine) ParkingSpot* const consumer_;
  std::uint64_t offers_ = 0;
  std::uint64_t finished_ = 0;
  std::uint64_t without_help_ = 0;  // one after the other
  std::uint64_t pause_ = kShortestPause;
  std::uint64_t offers_to_decline_ = 0;

  // Written by the consumer, see BeginWait(), and read by ConsumerHelps().
  alignas(kCacheLine) std::atomic<std::uint32_t> consumer_waits_{0};
  // The consumer's own.
  bool helping_ = false;
  std::chrono::steady_clock::time_point stay_away_until_{};
  int stay_away_ = kShortestStayAway / 2;  // doubled before it is used
  std::uint64_t helped_when_interrupted_ = 0;
  std::uint64_t next_place_ = 0;  // where it looks first
  Counter pieces_helped_;

  // Where FinishAll() sleeps; the consumer looks at it after each piece.
  alignas(kCacheLine) ParkingSpot producer_parking_;
};

}  // namespace fastgen

#endif  // FASTGEN_CORE_COPY_BOARD_H_
