// How far the producer may run ahead: credit, the window that tunes itself, and its budget of bytes.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "fastgen/core/channel.h"
#include "support.h"

namespace fastgen {
namespace {

using testing::Autotuned;
using testing::Await;
using testing::CountedBlock;
using testing::Frames;
using testing::kForever;
using testing::kNoWait;
using testing::LittleMemory;
using testing::MemoryIs;
using testing::PlentyOfMemory;
using testing::Send;
using testing::SendAll;
using testing::TakeAll;
using testing::TrySend;
using testing::TryTake;
using Outcome = Channel::Outcome;

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

const MemoryIs unless_said_otherwise(&PlentyOfMemory);

/// The consumer finds the ring empty and asks for more; the window grows when it may.
void WaitInVain(Channel& channel) {
  Frame* frame = nullptr;
  ASSERT_EQ(channel.Next(&frame, kNoWait), Outcome::kEmpty);
}

std::uint64_t Window(const Channel& channel) { return channel.statistics().window; }

/// Lets an autotuned window grow as far as light frames let it.
void Grow(Channel& channel) {
  for (int i = 0; i < 10; ++i) {
    SendAll(channel, 1000);
    TakeAll(channel);
    WaitInVain(channel);
  }
  ASSERT_EQ(Window(channel), 1024u);
}

// A fixed window ------------------------------------------------------------------------------------------------------

TEST(ChannelWindow, BoundsTheReadAhead) {
  for (const int ahead : {1, 2, 3, 5, 8, 100}) {
    Channel channel(1, Frames(ahead));
    EXPECT_EQ(SendAll(channel), ahead);
    EXPECT_EQ(channel.TryReserve(), nullptr);
    EXPECT_EQ(TakeAll(channel), ahead);
    const int sent = SendAll(channel);
    EXPECT_LE(sent, ahead);
    EXPECT_GT(sent, ahead / 2) << "whatever is left of the credit, more than half a window";
  }
}

TEST(ChannelWindow, OfNoFramesHoldsTheOneThatWasAskedFor) {
  Channel channel(1, Frames(0));
  EXPECT_EQ(SendAll(channel), 1);
}

TEST(ChannelWindow, IsNeverExceededWhileBothSidesRun) {
  for (const int ahead : {1, 3, 7}) {
    Channel channel(1, Frames(ahead));
    std::thread producer([&] {
      for (int i = 0; i < 3'000; ++i) ASSERT_TRUE(Send(channel, i));
      channel.Finish();
    });
    Frame* frame = nullptr;
    std::uint64_t consumed = 0;
    while (channel.Next(&frame, kForever) == Outcome::kFrame) {
      ASSERT_LE(channel.statistics().frames_published, consumed + static_cast<std::uint64_t>(ahead));
      channel.Release();
      ++consumed;
    }
    producer.join();
  }
}

TEST(ChannelWindow, AFullRingGivesItsProducerRoomAtHalf) {
  Channel channel(1, Frames(8));
  SendAll(channel);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(TryTake(channel), i);
    EXPECT_EQ(channel.TryReserve(), nullptr) << "one wake-up for each frame is what the window is to spare us";
  }
  EXPECT_EQ(TryTake(channel), 3);
  EXPECT_EQ(SendAll(channel), 4);
}

TEST(ChannelWindow, AProducerWithoutRoomSleepsOnceForHalfAWindow) {
  constexpr int kFrames = 800;
  Channel channel(1, Frames(8));
  std::thread producer([&] {
    for (int i = 0; i < kFrames; ++i) ASSERT_TRUE(Send(channel, i));
  });
  for (int i = 0; i < kFrames;) {
    // Take only from a full ring, or what is left at the end.
    Await([&] { return channel.statistics().frames_published >= static_cast<std::uint64_t>(std::min(i + 8, kFrames)); });
    for (const int half = i + 4; i < half; ++i) EXPECT_EQ(TryTake(channel), i);
  }
  producer.join();
  EXPECT_LE(channel.statistics().producer_waits, static_cast<std::uint64_t>(kFrames / 4));
}

TEST(ChannelWindow, WaitForRoomReturnsOnlyWithRoom) {
  Channel channel(1, Frames(2));
  std::thread producer([&] {
    for (int i = 0; i < 500; ++i) {
      ASSERT_TRUE(channel.WaitForRoom());
      ASSERT_TRUE(TrySend(channel, i));
    }
    channel.Finish();
  });
  Frame* frame = nullptr;
  while (channel.Next(&frame, kForever) == Outcome::kFrame) channel.Release();
  producer.join();
}

// AUTOTUNE ------------------------------------------------------------------------------------------------------------

TEST(ChannelAutotune, StartsSmall) {
  Channel channel(1, Autotuned());
  EXPECT_EQ(SendAll(channel), 4);
  EXPECT_EQ(Window(channel), 4u);
}

TEST(ChannelAutotune, DoesNotGrowWhenTheConsumerWaitsForTheFirstFrame) {
  Channel channel(1, Autotuned());
  WaitInVain(channel);
  EXPECT_EQ(SendAll(channel), 4);
}

TEST(ChannelAutotune, GrowsWhenTheConsumerWaits) {
  Channel channel(1, Autotuned());
  int window = 4;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(SendAll(channel), window);
    TakeAll(channel);
    WaitInVain(channel);
    window *= 2;
    EXPECT_EQ(Window(channel), static_cast<std::uint64_t>(window));
  }
}

TEST(ChannelAutotune, DoesNotGrowWhenTheConsumerFindsFrames) {
  Channel channel(1, Autotuned());
  for (int i = 0; i < 100; ++i) {
    SendAll(channel);
    TakeAll(channel);
  }
  EXPECT_EQ(Window(channel), 4u);
}

TEST(ChannelAutotune, GrowsOnceForEachFrameThatIsMissing) {
  Channel channel(1, Autotuned());
  SendAll(channel);
  TakeAll(channel);
  for (int i = 0; i < 5; ++i) WaitInVain(channel);
  EXPECT_EQ(Window(channel), 8u);
}

TEST(ChannelAutotune, StopsGrowingAtItsLargestWindow) {
  for (const std::size_t components : {1, 64, 100'000}) {
    Channel channel(components, Autotuned());
    for (int i = 0; i < 20; ++i) {
      while (channel.TryReserve() != nullptr) channel.Publish();
      TakeAll(channel);
      WaitInVain(channel);
    }
    const std::uint64_t expected = components == 1 ? 1024 : components == 64 ? 64 : 16;
    EXPECT_EQ(Window(channel), expected) << components << " components";
    std::uint64_t sent = 0;
    for (; channel.TryReserve() != nullptr; ++sent) channel.Publish();
    EXPECT_EQ(sent, expected) << components << " components";
  }
}

TEST(ChannelAutotune, GrowsNoFurtherThanTheByteBudget) {
  Channel channel(1, Autotuned(10 * kMegabyte));
  for (int i = 0; i < 20; ++i) {
    SendAll(channel, kMegabyte);
    TakeAll(channel);
    WaitInVain(channel);
  }
  EXPECT_EQ(Window(channel), 10u);
  EXPECT_LE(SendAll(channel, kMegabyte), 11);
}

TEST(ChannelAutotune, ShrinksWhenFramesGrowHeavier) {
  Channel channel(1, Autotuned(64 * kMegabyte));
  Grow(channel);
  for (int i = 0; i < 2'000; ++i) {
    SendAll(channel, 8 * kMegabyte);
    TryTake(channel);
  }
  EXPECT_EQ(Window(channel), 8u);
}

TEST(ChannelAutotune, MayGrowAgainWhenFramesGrowLighter) {
  Channel channel(1, Autotuned(64 * kMegabyte));
  SendAll(channel, 64 * kMegabyte);
  TakeAll(channel);
  for (int i = 0; i < 300; ++i) {
    SendAll(channel, 1000);
    TakeAll(channel);
    WaitInVain(channel);
  }
  EXPECT_EQ(Window(channel), 1024u);
}

TEST(ChannelAutotune, WaitingBytesStayWithinTheBudgetEvenWhenFramesSuddenlyGrowHeavier) {
  Channel channel(1, Autotuned(64 * kMegabyte));
  Grow(channel);
  // Credit for 1024 small frames is out, and the consumer cannot know yet that they will be large.
  EXPECT_EQ(SendAll(channel, 8 * kMegabyte), 9) << "the budget, and the frame that overran it";
  // From here on it flows: what is taken makes room.
  for (int i = 0; i < 3'000; ++i) {
    ASSERT_TRUE(TryTake(channel));
    ASSERT_LE(SendAll(channel, 8 * kMegabyte), 5);
  }
}

TEST(ChannelAutotune, WaitingBytesStayWithinTheBudgetFromTheFirstFrame) {
  Channel channel(1, Autotuned(64 * kMegabyte));
  EXPECT_EQ(SendAll(channel, 1000 * kMegabyte), 1);
}

TEST(ChannelAutotune, OneFrameMayAlwaysWait) {
  Channel channel(1, Autotuned(0));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(SendAll(channel, kMegabyte), 1);
    EXPECT_EQ(TakeAll(channel), 1);
  }
}

TEST(ChannelAutotune, AConsumerThatWaitsGetsItsFrameWhateverItWeighs) {
  // Sizes that jump about a small budget, two threads: a producer that were left asleep would stop this for good.
  constexpr int kFrames = 20'000;
  Channel channel(1, Autotuned(100));
  std::thread producer([&] {
    for (int i = 0; i < kFrames; ++i) {
      while (!TrySend(channel, i, static_cast<std::uint64_t>(i % 7 == 0 ? 1000 : i % 5))) ASSERT_TRUE(channel.WaitForRoom());
    }
    channel.Finish();
  });
  Frame* frame = nullptr;
  int consumed = 0;
  while (channel.Next(&frame, kForever) == Outcome::kFrame) {
    channel.Release();
    ++consumed;
  }
  producer.join();
  EXPECT_EQ(consumed, kFrames);
}

// A byte budget for a fixed window ------------------------------------------------------------------------------------

TEST(ChannelByteBudget, IsNoneForAFixedWindowUnlessGiven) {
  Channel channel(1, Frames(16));
  EXPECT_EQ(SendAll(channel, 1000 * kMegabyte), 16);
}

TEST(ChannelByteBudget, HoldsBesideTheLimitOfFrames) {
  Channel heavy(1, ReadAhead{16, 4 * kMegabyte});
  EXPECT_EQ(SendAll(heavy, kMegabyte), 5) << "the budget, and the frame that overran it";
  Channel light(1, ReadAhead{16, 4 * kMegabyte});
  EXPECT_EQ(SendAll(light, 1), 16);
}

TEST(ChannelByteBudget, LetsOneFrameWaitWhateverItWeighs) {
  Channel channel(1, ReadAhead{16, 1});
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(SendAll(channel, kMegabyte), 1);
    EXPECT_EQ(TakeAll(channel), 1);
  }
}

TEST(ChannelByteBudget, LetsTheProducerGoOnBeforeTheRingIsEmpty) {
  Channel channel(1, ReadAhead{16, 4 * kMegabyte});
  ASSERT_EQ(SendAll(channel, kMegabyte), 5);
  std::thread producer([&] { EXPECT_TRUE(channel.WaitForRoom()); });
  Await([&] { return channel.statistics().producer_waits == 1; });
  while (channel.statistics().frames_consumed < 3) TryTake(channel);
  producer.join();  // by two frames that are left and nobody who asks for more
  EXPECT_GE(SendAll(channel, kMegabyte), 2);
}

TEST(ChannelByteBudget, GivesTheWholeWindowBackAsSoonAsFramesAreLight) {
  Channel channel(1, ReadAhead{16, 4 * kMegabyte});
  for (int i = 0; i < 3; ++i) {
    SendAll(channel, kMegabyte);
    TakeAll(channel);
  }
  EXPECT_EQ(Window(channel), 4u);
  for (int i = 0; i < 100; ++i) {
    SendAll(channel, 1);
    TakeAll(channel);
  }
  EXPECT_EQ(Window(channel), 16u) << "without that the consumer ever had to wait";
  EXPECT_GT(SendAll(channel, 1), 8);
}

TEST(ChannelByteBudget, TellsWhatWaits) {
  Channel channel(1, Frames(16));
  EXPECT_EQ(channel.statistics().buffered_bytes, 0u);
  for (int i = 1; i <= 5; ++i) TrySend(channel, i, 100);
  EXPECT_EQ(channel.statistics().buffered_bytes, 500u);
  TryTake(channel);
  EXPECT_EQ(channel.statistics().buffered_bytes, 400u);
  TakeAll(channel);
  EXPECT_EQ(channel.statistics().buffered_bytes, 0u);
}

// Memory pressure -----------------------------------------------------------------------------------------------------

TEST(ChannelMemoryPressure, HalvesTheWindowWithEachHalfThatIsConsumed) {
  Channel channel(1, Autotuned());
  Grow(channel);
  const MemoryIs little(&LittleMemory);
  while (SendAll(channel) > 0) {
  }
  for (std::uint64_t window = 512; window >= 1; window /= 2) {
    // Twice as much is still in the ring, and half of it goes.
    for (std::uint64_t i = 0; i < window; ++i) ASSERT_TRUE(TryTake(channel));
    EXPECT_EQ(Window(channel), window);
    EXPECT_EQ(SendAll(channel), 0) << "what waits is as much as may wait by now";
  }
}

TEST(ChannelMemoryPressure, LeavesOneFrame) {
  Channel channel(1, Autotuned());
  const MemoryIs little(&LittleMemory);
  for (int i = 0; i < 100; ++i) {
    EXPECT_GT(SendAll(channel), 0);
    EXPECT_GT(TakeAll(channel), 0);
    WaitInVain(channel);
  }
  EXPECT_EQ(Window(channel), 1u);
  EXPECT_EQ(SendAll(channel), 1);
}

TEST(ChannelMemoryPressure, DoesNotLetTheWindowGrow) {
  Channel channel(1, Autotuned());
  SendAll(channel);
  TakeAll(channel);
  const MemoryIs little(&LittleMemory);
  WaitInVain(channel);
  EXPECT_EQ(Window(channel), 4u);
}

TEST(ChannelMemoryPressure, LetsTheWindowGrowAgainWhenItIsOver) {
  Channel channel(1, Autotuned());
  Grow(channel);
  {
    const MemoryIs little(&LittleMemory);
    while (Window(channel) > 1) {
      SendAll(channel);
      TakeAll(channel);
    }
  }
  Grow(channel);
}

TEST(ChannelMemoryPressure, LeavesAFixedWindowAlone) {
  Channel channel(1, Frames(16));
  const MemoryIs little(&LittleMemory);
  for (int i = 0; i < 10; ++i) {
    SendAll(channel);
    TakeAll(channel);
  }
  EXPECT_EQ(SendAll(channel), 16);
}

std::atomic<int> reads{0};
MemoryState ComesAndGoes() { return reads.fetch_add(1) % 2 == 0 ? LittleMemory() : PlentyOfMemory(); }

TEST(ChannelMemoryPressure, ThatComesAndGoesStopsNobody) {
  constexpr int kFrames = 50'000;
  Channel channel(1, Autotuned());
  const MemoryIs changing(&ComesAndGoes);
  std::thread producer([&] {
    for (int i = 0; i < kFrames; ++i) ASSERT_TRUE(Send(channel, i));
    channel.Finish();
  });
  Frame* frame = nullptr;
  int consumed = 0;
  while (channel.Next(&frame, kForever) == Outcome::kFrame) {
    channel.Release();
    if (++consumed % 64 == 0) SetMemoryReader(&ComesAndGoes);  // read anew by the next to ask
  }
  producer.join();
  EXPECT_EQ(consumed, kFrames);
  EXPECT_GT(reads.load(), 100);
}

}  // namespace
}  // namespace fastgen
