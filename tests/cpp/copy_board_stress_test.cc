// Copies of all sizes, put up by one thread and copied by two, every byte checked. Arrays are overwritten as soon as they are said to
// be finished, so that a copy that comes too late, or twice, shows. Instrumented builds do the same with fewer.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iostream>
#include <random>
#include <thread>
#include <vector>

#include "fastgen/core/channel.h"
#include "fastgen/core/copy_board.h"
#include "support.h"

namespace fastgen {
namespace {

using std::chrono::microseconds;
using testing::Fill;

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kFewer = 10;
#elif defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kFewer = 3;
#else
constexpr std::uint64_t kFewer = 1;
#endif

constexpr std::size_t kMostWords = 100'000;  // 800 KB, seven pieces

/// Each word of each array is its own.
std::uint64_t Word(std::uint64_t array, std::size_t i) { return (array << 32 | i) * 0x9E3779B97F4A7C15u; }

/// Makes arrays and copies them into one large target each, by the board or by itself.
class Copier {
 public:
  Copier(CopyBoard* board, std::uint32_t seed) : board_(*board), random_(seed) {
    for (auto& source : sources_) source.words.resize(kMostWords);
    for (auto& target : targets_) target.resize(kMostWords + 1);
  }

  /// Several arrays of any size; all have arrived, and not a byte behind them, or it counts them as wrong.
  void MakeBatch() {
    const std::uint64_t first = made_;
    std::vector<std::size_t> sizes(1 + random_() % kMostArrays);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      sizes[i] = 1 + random_() % (random_() % 2 == 0 ? kMostWords : kMostWords / 8);
      MakeArray(sizes[i], targets_[i].data());
      ScribbleOverFinished();
    }
    // Now and then the consumer is given time to do all of it.
    for (int turns = random_() % 2 == 0 ? 0 : 100; turns > 0 && board_.FinishedOffers() < board_.offers(); --turns) {
      std::this_thread::yield();
    }
    board_.FinishAll();
    ScribbleOverFinished();
    for (std::size_t i = 0; i < sizes.size(); ++i) Check(first + i, targets_[i], sizes[i]);
  }

  std::uint64_t made() const { return made_; }
  std::uint64_t wrong() const { return wrong_; }

 private:
  static constexpr std::size_t kMostArrays = 6;

  struct Source {
    std::vector<std::uint64_t> words;
    bool offered = false;
  };

  void MakeArray(std::size_t words, std::uint64_t* to) {
    // There is always one that is not on the board.
    Source& source = *std::find_if(sources_.begin(), sources_.end(), [](const Source& each) { return !each.offered; });
    for (std::size_t i = 0; i < words; ++i) source.words[i] = Word(made_, i);
    const std::size_t bytes = words * sizeof(std::uint64_t);
    if (board_.Offer(reinterpret_cast<const std::byte*>(source.words.data()), reinterpret_cast<std::byte*>(to), bytes)) {
      // To take this offer, the board may have found that the oldest one is finished.
      ScribbleOverFinished();
      source.offered = true;
      offered_.push_back(&source);
    } else {
      std::memcpy(to, source.words.data(), bytes);
    }
    ++made_;
  }

  void ScribbleOverFinished() {
    for (; scribbled_ < board_.FinishedOffers() && !offered_.empty(); ++scribbled_) {
      Source& source = *offered_.front();
      offered_.pop_front();
      std::memset(source.words.data(), 0xEE, kMostWords * sizeof(std::uint64_t));
      source.offered = false;
    }
  }

  void Check(std::uint64_t array, std::vector<std::uint64_t>& target, std::size_t words) {
    for (std::size_t i = 0; i < words; ++i) {
      if (target[i] != Word(array, i)) ++wrong_;
      target[i] = 0;
    }
    if (target[words] != 0) ++wrong_;
  }

  CopyBoard& board_;
  std::mt19937 random_;
  std::array<Source, CopyBoard::kMostOffers + 1> sources_;
  std::array<std::vector<std::uint64_t>, kMostArrays> targets_;
  std::deque<Source*> offered_;  // not finished, the oldest first
  std::uint64_t made_ = 0;
  std::uint64_t scribbled_ = 0;
  std::uint64_t wrong_ = 0;
};

void Report(const Copier& copier, const CopyBoard& board) {
  EXPECT_EQ(copier.wrong(), 0u);
  std::cout << copier.made() << " arrays: " << board.offers() << " offered, the consumer copied " << board.pieces_helped()
            << " pieces\n";
}

TEST(CopyBoardStress, AConsumerThatNeverRests) {
  ParkingSpot parking;
  CopyBoard board(&parking);
  Copier copier(&board, 1);
  std::atomic<bool> done{false};
  std::thread consumer([&] {
    board.BeginWait();
    while (!done.load()) {
      if (!board.HelpOnce()) std::this_thread::yield();
    }
    board.EndWait();
  });
  while (copier.made() < 20'000 / kFewer) copier.MakeBatch();
  done.store(true);
  consumer.join();
  Report(copier, board);
}

TEST(CopyBoardStress, AConsumerThatComesAndGoes) {
  // On the channel, as a dataset's iterator does it: waits of all lengths, by one thread after the other.
  Channel channel(1, ReadAhead{2, ReadAhead::kNoByteLimit});
  Copier copier(&channel.copy_board(), 2);
  std::thread producer([&] {
    while (copier.made() < 20'000 / kFewer) {
      copier.MakeBatch();
      Frame* frame = nullptr;
      while ((frame = channel.TryReserve()) == nullptr) ASSERT_TRUE(channel.WaitForRoom());
      Fill(frame, static_cast<std::int64_t>(copier.made()));
      channel.Publish();
    }
    channel.Finish();
  });
  std::mt19937 random(3);
  for (bool ended = false; !ended;) {
    std::thread consumer([&] {
      for (int waits = 0; waits < 200 && !ended; ++waits) {
        Frame* frame = nullptr;
        const auto outcome = channel.Next(&frame, microseconds(random() % 4 == 0 ? 0 : random() % 1000));
        if (outcome == Channel::Outcome::kFrame) channel.Release();
        if (outcome == Channel::Outcome::kEnd) ended = true;
        if (random() % 16 == 0) std::this_thread::sleep_for(microseconds(random() % 200));
      }
    });
    consumer.join();
  }
  producer.join();
  Report(copier, channel.copy_board());
}

}  // namespace
}  // namespace fastgen
