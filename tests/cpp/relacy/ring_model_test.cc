// Relacy looks at every access to a slot: the producer's to fill it and the consumer's to empty it must never meet.
#include "model.h"

#include "fastgen/core/ring.h"

namespace fastgen::model {
namespace {

constexpr int kItems = 4;

template <std::size_t kCapacity>
struct HandOver : rl::test_suite<HandOver<kCapacity>, 2> {
  using Slots = Ring<rl::var<int>, Atomic>;
  std::unique_ptr<Slots> ring;

  void before() { ring = std::make_unique<Slots>(kCapacity); }
  void after() { ring.reset(); }

  void thread(unsigned index) { index == 0 ? Produce() : Consume(); }

  void Produce() {
    for (int i = 1; i <= kItems; ++i) {
      rl::var<int>* slot = nullptr;
      while ((slot = ring->Reserve()) == nullptr) Yield();
      (*slot)($) = i;
      ring->Publish();
    }
  }

  void Consume() {
    for (int i = 1; i <= kItems; ++i) {
      rl::var<int>* slot = nullptr;
      while ((slot = ring->Front()) == nullptr) Yield();
      RL_ASSERT((*slot)($) == i);
      (*slot)($) = 0;  // as Frame::Clear() writes
      ring->Pop();
    }
  }
};

constexpr unsigned kProducer = 1u << 0;
constexpr unsigned kConsumer = 1u << 1;

}  // namespace
}  // namespace fastgen::model

int main(int argc, char** argv) {
  using namespace fastgen::model;
  constexpr auto kRace = rl::test_result_data_race;
  return Main(argc, argv, {
    {"SlotsAreHandedOver", [] {
      return Passes<HandOver<1>>(Random(50'000)) && Passes<HandOver<2>>(Random(50'000)) && Passes<HandOver<4>>(Random(50'000));
    }},
    {"SlotsAreHandedOverExhaustively", [] { return Passes<HandOver<1>>(Bounded(5)) && Passes<HandOver<2>>(Bounded(5)); }},
    // Each of the four orders in ring.h, taken away alone.
    {"RelaxedPublishIsARace", [] { return Fails<HandOver<2>>(kRace, WithoutReleaseOf(kProducer)); }},
    {"RelaxedFrontIsARace", [] { return Fails<HandOver<2>>(kRace, WithoutAcquireOf(kConsumer)); }},
    {"RelaxedPopIsARace", [] { return Fails<HandOver<2>>(kRace, WithoutReleaseOf(kConsumer)); }},
    {"RelaxedReserveIsARace", [] { return Fails<HandOver<2>>(kRace, WithoutAcquireOf(kProducer)); }},
  });
}
