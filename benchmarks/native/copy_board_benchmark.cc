// What it costs to put up copies for the consumer, and what it gains: on an idle machine much, on a busy one it must cost nothing.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "fastgen/core/channel.h"
#include "fastgen/core/copy_board.h"
#include "fastgen/core/parking.h"
#include "fastgen/core/slab_pool.h"

namespace fastgen::benchmarks {
namespace {

constexpr std::size_t kImage = 224 * 224 * 3 * 4;  // an image of floats: 602 KB

/// Nobody helps: what a copy costs on top of itself.
void OfferDeclined(benchmark::State& state) {
  ParkingSpot consumer;
  CopyBoard board(&consumer);
  const std::vector<std::byte> from(kImage);
  std::vector<std::byte> to(kImage);
  for (auto _ : state) benchmark::DoNotOptimize(board.Offer(from.data(), to.data(), kImage));
}
BENCHMARK(OfferDeclined)->MinTime(0.2);

/// All of the protocol on one thread, with nothing to copy: offer, claim, copy, count, see that it is finished. In the second
/// variant the producer itself is the one who finishes.
void OfferAndFinish(benchmark::State& state) {
  const bool helped = state.range(0) != 0;
  ParkingSpot consumer;
  CopyBoard board(&consumer);
  board.BeginWait();
  std::byte byte{1};
  std::byte target{0};
  std::uint64_t offered = 0;
  for (auto _ : state) {
    offered += board.Offer(&byte, &target, 1) ? 1 : 0;
    if (helped) board.HelpOnce();
    board.FinishAll();
  }
  state.counters["offered"] = static_cast<double>(offered) / static_cast<double>(state.iterations());
}
BENCHMARK(OfferAndFinish)->ArgName("helped")->Arg(1)->Arg(0)->MinTime(0.2);

/// Threads that want a processor all the time, as many as there are processors.
class BusyMachine {
 public:
  explicit BusyMachine(bool busy) {
    for (unsigned i = 0; busy && i < std::thread::hardware_concurrency(); ++i) {
      threads_.emplace_back([this] {
        while (!done_.load(std::memory_order_relaxed)) SpinPause();
      });
    }
  }
  ~BusyMachine() {
    done_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::vector<std::thread> threads_;
};

/// Makes images and copies them into the slab of a batch, by turns with the board and without it, so that whatever else happens on
/// this machine happens to both.
class BatchMaker {
 public:
  BatchMaker(Channel* channel, std::size_t images) : channel_(*channel), images_(images) {
    for (auto& array : arrays_) array.resize(kImage);
  }

  /// Until the channel is closed.
  void Run() {
    bool with_board = false;
    while (channel_.WaitForRoom()) {
      const auto begin = Clock::now();
      auto now = begin;
      std::size_t batches = 0;
      for (; now - begin < kTurn && channel_.WaitForRoom(); now = Clock::now(), ++batches) Make(with_board);
      Turns& turns = turns_[with_board];
      turns.seconds += std::chrono::duration<double>(now - begin).count();
      turns.images += static_cast<double>(batches * images_);
      with_board = !with_board;
    }
  }

  double MicrosecondsPerImage(bool with_board) const {
    return turns_[with_board].seconds * 1e6 / std::max(turns_[with_board].images, 1.0);
  }
  /// The consumer's share of the copies that could be offered.
  double Helped() const {
    constexpr double kPieces = static_cast<double>((kImage + CopyBoard::kPieceBytes - 1) / CopyBoard::kPieceBytes);
    return static_cast<double>(channel_.copy_board().pieces_helped()) / (std::max(turns_[1].images, 1.0) * kPieces);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kTurn{50};
  struct Turns {
    double seconds = 0;
    double images = 0;
  };

  void Make(bool with_board) {
    Frame* frame = channel_.TryReserve();
    if (frame == nullptr) return;
    CopyBoard& board = channel_.copy_board();
    BlockRef slab = SlabPool::Global().Get(images_ * kImage);
    for (std::size_t i = 0; i < images_; ++i, ++made_) {
      std::byte* const image = arrays_[made_ % kArrays].data();
      std::memset(image, static_cast<int>(made_), kImage);
      std::byte* const to = slab->data() + i * kImage;
      if (!with_board || !board.Offer(image, to, kImage)) std::memcpy(to, image, kImage);
    }
    board.FinishAll();
    frame->components[0].SetBlock(Component::Storage::kBlock, std::move(slab), images_ * kImage);
    channel_.Publish();
  }

  Channel& channel_;
  const std::size_t images_;
  // One more than may be on the board: never one that is still being copied.
  static constexpr std::size_t kArrays = CopyBoard::kMostOffers + 1;
  std::array<std::vector<std::byte>, kArrays> arrays_;
  std::size_t made_ = 0;
  Turns turns_[2];
};

/// The consumer takes the batches and does nothing else. Microseconds for an image: `self` where the producer copies by itself,
/// `board` where copies are put up.
void Batches(benchmark::State& state) {
  const auto images = static_cast<std::size_t>(state.range(1));
  for (auto _ : state) {
    Channel channel(1, ReadAhead{2, ReadAhead::kNoByteLimit});
    BatchMaker maker(&channel, images);
    const BusyMachine machine(state.range(0) != 0);
    std::thread producer([&] { maker.Run(); });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    while (std::chrono::steady_clock::now() < end) {
      Frame* frame = nullptr;
      if (channel.Next(&frame, std::chrono::milliseconds(100)) == Channel::Outcome::kFrame) channel.Release();
    }
    channel.Close();
    producer.join();
    state.counters["self"] = maker.MicrosecondsPerImage(false);
    state.counters["board"] = maker.MicrosecondsPerImage(true);
    state.counters["ratio"] = maker.MicrosecondsPerImage(true) / maker.MicrosecondsPerImage(false);
    state.counters["helped"] = maker.Helped();
  }
}
BENCHMARK(Batches)->ArgNames({"busy", "images"})->ArgsProduct({{0, 1}, {8, 32}})->UseRealTime()->Iterations(1)->Unit(benchmark::kSecond);

}  // namespace
}  // namespace fastgen::benchmarks
