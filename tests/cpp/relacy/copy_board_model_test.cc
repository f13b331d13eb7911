// Each piece is copied by one side and once, before anybody uses it; and neither side sleeps while there is something to do.
#include "modelled_core.h"

namespace fastgen::model {
namespace {

constexpr std::chrono::nanoseconds kForever = std::chrono::hours(1);
constexpr unsigned kProducer = 0;
constexpr unsigned kConsumer = 1;

template <typename Derived>
struct BoardModel : rl::test_suite<Derived, 2> {
  std::unique_ptr<ParkingSpot> parking;
  std::unique_ptr<CopyBoard> board;
  std::unique_ptr<Pieces> pieces;

  void before() {
    parking = std::make_unique<ParkingSpot>();
    board = std::make_unique<CopyBoard>(parking.get());
    pieces = std::make_unique<Pieces>();
    board->BeginWait();
  }
  void after() {
    board.reset();
    parking.reset();
    pieces.reset();
  }

  void thread(unsigned index) {
    Derived& self = static_cast<Derived&>(*this);
    index == kProducer ? self.Produce() : self.Consume();
  }

  bool Offer(unsigned first, unsigned count) {
    for (unsigned piece = first; piece < first + count; ++piece) pieces->Write(piece, static_cast<int>(piece) + 1);
    return board->Offer(Pieces::From(first), Pieces::To(first), count * Pieces::kBytes);
  }

  /// The offer that these belong to is finished: their array is dropped, the slab is used.
  void ExpectCopied(unsigned first, unsigned count) {
    for (unsigned piece = first; piece < first + count; ++piece) {
      RL_ASSERT(pieces->times_copied(piece) == 1);
      RL_ASSERT(pieces->Read(piece) == static_cast<int>(piece) + 1);
      pieces->Write(piece, 0);
    }
  }
};

/// More offers than there are places, so that places are used again while a claim may be on its way. The producer copies by itself
/// what the board does not take.
template <unsigned kOffers, unsigned kPiecesEach>
struct Sharing : BoardModel<Sharing<kOffers, kPiecesEach>> {
  using BoardModel<Sharing>::board;

  void Produce() {
    unsigned dropped = 0;
    const auto drop = [&](std::uint64_t finished) {
      for (; dropped < finished; ++dropped) this->ExpectCopied(dropped * kPiecesEach, kPiecesEach);
    };
    while (board->offers() < kOffers) {
      if (!this->Offer(static_cast<unsigned>(board->offers()) * kPiecesEach, kPiecesEach)) board->FinishAll();
      drop(board->FinishedOffers());
    }
    board->FinishAll();
    RL_ASSERT(board->FinishedOffers() == kOffers);
    drop(kOffers);
  }

  void Consume() {
    for (int turn = 0; turn < 6; ++turn) {
      if (!board->HelpOnce()) Yield();
    }
  }
};

/// Nobody but the consumer copies; it sleeps whenever it finds nothing.
template <bool kLookAgain>
struct Waking : BoardModel<Waking<kLookAgain>> {
  static constexpr unsigned kOffers = 2;

  void Produce() {
    for (unsigned i = 0; i < kOffers; ++i) RL_ASSERT(this->Offer(i, 1));
  }
  void Consume() {
    for (unsigned helped = 0; helped < kOffers; ++helped) {
      while (!this->board->HelpOnce()) this->parking->Park([this] { return kLookAgain && this->board->HasPiece(); }, kForever);
    }
  }
};

/// The consumer may have claimed the last piece, and the producer sleeps until that is copied. More than once: Relacy shows no old
/// value of an atomic that was written only once.
template <unsigned kOffers, unsigned kPiecesEach>
struct Finishing : BoardModel<Finishing<kOffers, kPiecesEach>> {
  void Produce() {
    for (unsigned first = 0; first < kOffers * kPiecesEach; first += kPiecesEach) {
      RL_ASSERT(this->Offer(first, kPiecesEach));
      this->board->FinishAll();
      this->ExpectCopied(first, kPiecesEach);
    }
  }
  void Consume() {
    for (unsigned turn = 0; turn < 2 * kOffers * kPiecesEach; ++turn) this->board->HelpOnce();
  }
};

Weakened Without(bool Weakened::*operation) {
  Weakened weaker;
  weaker.*operation = true;
  return weaker;
}

/// What is seq_cst in the code comes down in two steps: seq_cst to release, release to relaxed.
Weakened RelaxedStoreOf(unsigned thread) {
  Weakened weaker = WithoutReleaseOf(1u << thread);
  weaker.index_store = true;
  return weaker;
}

/// Any one of the four operations of the parking protocol, taken away alone.
template <typename Model>
bool DeadlocksWithoutAnySeqCst() {
  for (const auto operation : {&Weakened::flag_store, &Weakened::index_load, &Weakened::index_store, &Weakened::flag_load}) {
    if (!Fails<Model>(rl::test_result_deadlock, Without(operation))) return false;
  }
  return true;
}

}  // namespace
}  // namespace fastgen::model

int main(int argc, char** argv) {
  using namespace fastgen::model;
  constexpr auto kRace = rl::test_result_data_race;
  return Main(argc, argv, {
    {"EachPieceIsCopiedOnce", [] { return Passes<Sharing<4, 2>>(Random(200'000)); }},
    {"EachPieceIsCopiedOnceExhaustively", [] { return Passes<Sharing<1, 2>>(Bounded(3)) && Passes<Sharing<3, 1>>(Bounded(2)); }},
    {"ASleepingConsumerIsWoken", [] { return Passes<Waking<true>>(Random(200'000)); }},
    {"ASleepingConsumerIsWokenExhaustively", [] { return Passes<Waking<true>>(Bounded(4)); }},
    {"ASleepingProducerIsWoken", [] { return Passes<Finishing<3, 3>>(Random(200'000)); }},
    {"ASleepingProducerIsWokenExhaustively", [] { return Passes<Finishing<1, 1>>(Bounded(4)) && Passes<Finishing<2, 2>>(Bounded(2)); }},
    {"ClaimingInTwoStepsCopiesTwice", [] {
      // Whatever Relacy notices first of it: two copies of one piece are a race.
      return Fails<Sharing<4, 2>>(kRace, Without(&Weakened::compare_and_swap));
    }},
    {"RelaxedOfferIsARace", [] { return Fails<Sharing<4, 2>>(kRace, RelaxedStoreOf(kProducer)); }},
    {"RelaxedClaimIsARace", [] { return Fails<Sharing<4, 2>>(kRace, WithoutAcquireOf(1u << kConsumer)); }},
    {"RelaxedCountIsARace", [] { return Fails<Sharing<4, 2>>(kRace, RelaxedStoreOf(kConsumer)); }},
    {"RelaxedFinishIsARace", [] { return Fails<Sharing<4, 2>>(kRace, WithoutAcquireOf(1u << kProducer)); }},
    {"WithoutLookingAgainTheConsumerSleepsForEver", [] { return Fails<Waking<false>>(rl::test_result_deadlock, {}); }},
    {"WithoutSeqCstTheConsumerSleepsForEver", [] { return DeadlocksWithoutAnySeqCst<Waking<true>>(); }},
    {"WithoutSeqCstTheProducerSleepsForEver", [] { return DeadlocksWithoutAnySeqCst<Finishing<3, 3>>(); }},
  });
}
