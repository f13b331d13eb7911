#include "fastgen/core/copy_board.h"

#include <algorithm>
#include <cstring>

#include "fastgen/core/streaming_copy.h"

namespace fastgen {
namespace {

using std::chrono::steady_clock;

/// As in the channel, a sleeper looks around now and then. Not needed for correctness.
constexpr std::chrono::nanoseconds kLookAround = std::chrono::seconds(1);

constexpr std::size_t DivideRoundingUp(std::size_t n, std::size_t divisor) { return (n + divisor - 1) / divisor; }

}  // namespace

bool CopyBoard::Offer(const std::byte* from, std::byte* to, std::size_t bytes, bool past_cache) {
  if (!ConsumerHelps()) return false;
  if (offers_ - finished_ == kMostOffers && offers_ - FinishedOffers() == kMostOffers) return false;
  // Finished: nobody has claimed anything here, and what the consumer read has happened before the load in FinishedOffers().
  Place& place = PlaceOf(offers_);
  place.from = from;
  place.to = to;
  place.bytes = bytes;
  place.past_cache = past_cache;
  place.pieces = std::max<std::size_t>(DivideRoundingUp(bytes, kPieceBytes), 1);
  // Of one size, and in whole cache lines.
  place.piece_bytes = DivideRoundingUp(DivideRoundingUp(bytes, place.pieces), kCacheLine) * kCacheLine;
  place.copied_by_producer = 0;
  place.copied.store(0, std::memory_order_relaxed);  // visible to whoever claims, by the next store
  ++offers_;
  // Pairs with the compare-and-swap in Claim(), so that the place and the bytes to copy are visible there, and with the load in
  // HasPiece(): step (3) of parking.h.
  place.unclaimed.store(place.pieces, std::memory_order_seq_cst);
  consumer_->Unpark();
  return true;
}

bool CopyBoard::ConsumerHelps() {
  // Relaxed: see BeginWait().
  if (consumer_waits_.load(std::memory_order_relaxed) == 0) return false;
  if (offers_to_decline_ == 0) return true;
  --offers_to_decline_;
  return false;
}

void CopyBoard::Judge(bool helped) {
  if (helped) {
    without_help_ = 0;
    pause_ = kShortestPause;
  } else if (++without_help_ >= kPatience) {
    offers_to_decline_ = pause_;
    pause_ = std::min(pause_ * 2, kLongestPause);
  }
}

bool CopyBoard::Claim(Place* place, std::uint64_t* piece) {
  // Relaxed: the number counts only if it is still the same below.
  std::uint64_t unclaimed = place->unclaimed.load(std::memory_order_relaxed);
  do {
    if (unclaimed == 0) return false;
    // Acquire: pairs with the store in Offer(), also when the other side has counted down in between. Whatever offer stands here
    // by now, if the number is right, then one of its pieces was not claimed, and is from here on: the offer cannot be finished
    // before that piece is copied.
  } while (!place->unclaimed.compare_exchange_weak(unclaimed, unclaimed - 1, std::memory_order_acquire,
                                                   std::memory_order_relaxed));
  *piece = place->pieces - unclaimed;
  return true;
}

void CopyBoard::Copy(const Place& place, std::uint64_t piece) {
  const std::size_t begin = std::min(piece * place.piece_bytes, place.bytes);
  const std::size_t end = std::min(begin + place.piece_bytes, place.bytes);
  if (place.past_cache) {
    CopyStreaming(place.to + begin, place.from + begin, end - begin);
  } else {
    std::memcpy(place.to + begin, place.from + begin, end - begin);
  }
}

std::uint64_t CopyBoard::FinishedOffers() {
  while (finished_ < offers_) {
    const Place& place = PlaceOf(finished_);
    // Pairs with HelpOnce(): the consumer is done with the array, and its bytes have arrived.
    const std::uint64_t helped = place.copied.load(std::memory_order_acquire);
    if (place.copied_by_producer + helped < place.pieces) break;
    Judge(helped > 0);
    ++finished_;
  }
  return finished_;
}

void CopyBoard::FinishAll() {
  // The latest first: the consumer begins with the oldest, and what was written last is still in this processor's cache.
  for (std::uint64_t offer = offers_; offer-- > finished_;) {
    Place& place = PlaceOf(offer);
    for (std::uint64_t piece; Claim(&place, &piece); ++place.copied_by_producer) Copy(place, piece);
  }
  if (FinishedOffers() == offers_) return;
  const auto begin = steady_clock::now();
  do {
    SpinPause();
    if (FinishedOffers() == offers_) return;
  } while (steady_clock::now() - begin < kFinishLookOut);
  const auto finished = [this] {
    for (std::uint64_t offer = finished_; offer < offers_; ++offer) {
      const Place& place = PlaceOf(offer);
      // Step (2) of parking.h; pairs with HelpOnce().
      if (place.copied_by_producer + place.copied.load(std::memory_order_seq_cst) < place.pieces) return false;
    }
    return true;
  };
  while (FinishedOffers() < offers_) producer_parking_.Park(finished, kLookAround);
}

void CopyBoard::BeginWait() {
  if (steady_clock::now() < stay_away_until_) return;
  helping_ = true;
  // Relaxed, and orders nothing: the load in ConsumerHelps() may see an old answer. Then a copy is not offered, or is offered to
  // nobody and finished by the producer.
  consumer_waits_.store(1, std::memory_order_relaxed);
}

void CopyBoard::EndWait() {
  helping_ = false;
  consumer_waits_.store(0, std::memory_order_relaxed);
}

void CopyBoard::Clock(steady_clock::time_point* last) {
  const auto now = steady_clock::now();
  const auto taken = now - *last;
  *last = now;
  if (taken < kInterruption) return;
  // Again and again, with little done in between: a machine that is busy, not one that was busy for a moment.
  const bool again = pieces_helped_.value() - helped_when_interrupted_ < kUndisturbedPieces;
  stay_away_ = again ? std::min(stay_away_ * 2, kLongestStayAway) : kShortestStayAway;
  helped_when_interrupted_ = pieces_helped_.value();
  stay_away_until_ = now + taken * stay_away_;
  EndWait();
}

bool CopyBoard::HasPiece() const {
  // Pairs with the store in Offer().
  const auto has_piece = [](const Place& place) { return place.unclaimed.load(std::memory_order_seq_cst) != 0; };
  return helping_ && std::any_of(places_.begin(), places_.end(), has_piece);
}

bool CopyBoard::HelpOnce() {
  // The places are filled in turn, and so emptied in turn: the oldest offer first.
  for (std::uint64_t tried = 0; tried < kMostOffers; ++tried, ++next_place_) {
    Place& place = PlaceOf(next_place_);
    std::uint64_t piece;
    if (!Claim(&place, &piece)) continue;
    Copy(place, piece);
    pieces_helped_.Add(1);
    // Release: the producer that counts this piece sees its bytes, and may drop the array and use the place again. Seq_cst, because
    // it may sleep in FinishAll(): step (3) of parking.h.
    place.copied.fetch_add(1, std::memory_order_seq_cst);
    producer_parking_.Unpark();
    return true;
  }
  return false;
}

}  // namespace fastgen
