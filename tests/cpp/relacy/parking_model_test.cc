// A consumer that sleeps when the ring is empty is always woken; take any one seq_cst away, and some day it is not.
#include "model.h"

#include "fastgen/core/parking.h"
#include "fastgen/core/ring.h"

namespace fastgen::model {
namespace {

using ParkingSpot = BasicParkingSpot<Atomic, Futex>;
constexpr std::chrono::nanoseconds kForever = std::chrono::hours(1);

/// One publisher fills a ring that never overflows, one consumer sleeps whenever it finds nothing.
struct OnePublisher : rl::test_suite<OnePublisher, 2> {
  static constexpr int kItems = 3;
  std::unique_ptr<Ring<rl::var<int>, Atomic>> ring;
  std::unique_ptr<ParkingSpot> parking;

  void before() {
    ring = std::make_unique<Ring<rl::var<int>, Atomic>>(4);
    parking = std::make_unique<ParkingSpot>();
  }
  void after() {
    ring.reset();
    parking.reset();
  }

  void thread(unsigned index) { index == 0 ? Publish() : Consume(); }

  void Publish() {
    for (int i = 1; i <= kItems; ++i) {
      (*ring->Reserve())($) = i;
      ring->Publish(std::memory_order_seq_cst);
      parking->Unpark();
    }
  }

  void Consume() {
    for (int i = 1; i <= kItems; ++i) {
      rl::var<int>* slot = nullptr;
      while ((slot = ring->Front()) == nullptr) parking->Park([this] { return ring->HasItemSeqCst(); }, kForever);
      RL_ASSERT((*slot)($) == i);
      ring->Pop();
    }
  }
};

/// Two threads have something to say to one sleeper, as when a channel is closed while its producer publishes. One of them takes
/// the flag down, and the other then relies on its wake-up.
struct TwoPublishers : rl::test_suite<TwoPublishers, 3> {
  std::unique_ptr<std::array<Atomic<std::uint64_t>, 2>> states;
  std::unique_ptr<ParkingSpot> parking;

  void before() {
    states.reset(new std::array<Atomic<std::uint64_t>, 2>{Atomic<std::uint64_t>{0}, Atomic<std::uint64_t>{0}});
    parking = std::make_unique<ParkingSpot>();
  }
  void after() {
    states.reset();
    parking.reset();
  }

  void thread(unsigned index) {
    if (index < 2) {
      (*states)[index].store(1, std::memory_order_seq_cst);
      parking->Unpark();
    } else {
      const auto both = [this] { return (*states)[0].load() != 0 && (*states)[1].load() != 0; };
      while (!both()) parking->Park(both, kForever);
    }
  }
};

}  // namespace
}  // namespace fastgen::model

int main(int argc, char** argv) {
  using namespace fastgen::model;
  const auto deadlocks = [](bool Weakened::*operation) {
    Weakened weaker;
    weaker.*operation = true;
    return Fails<OnePublisher>(rl::test_result_deadlock, weaker);
  };
  return Main(argc, argv, {
    {"NoWakeUpIsLost", [] { return Passes<OnePublisher>(Random(200'000)); }},
    {"NoWakeUpIsLostExhaustively", [] { return Passes<OnePublisher>(Bounded(5)); }},
    {"NoWakeUpIsLostBetweenTwoPublishers", [] { return Passes<TwoPublishers>(Random(200'000)); }},
    {"WithoutSeqCstItDeadlocks", [] { return Fails<OnePublisher>(rl::test_result_deadlock, WithoutSeqCst()); }},
    {"WithoutSeqCstFlagStoreItDeadlocks", [=] { return deadlocks(&Weakened::flag_store); }},
    {"WithoutSeqCstIndexLoadItDeadlocks", [=] { return deadlocks(&Weakened::index_load); }},
    {"WithoutSeqCstIndexStoreItDeadlocks", [=] { return deadlocks(&Weakened::index_store); }},
    {"WithoutSeqCstFlagLoadItDeadlocks", [=] { return deadlocks(&Weakened::flag_load); }},
  });
}
