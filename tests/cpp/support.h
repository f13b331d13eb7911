// What several tests need: blocks that can be counted, and frames that carry one number.
#ifndef FASTGEN_TESTS_CPP_SUPPORT_H_
#define FASTGEN_TESTS_CPP_SUPPORT_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "fastgen/core/block.h"
#include "fastgen/core/channel.h"
#include "fastgen/core/frame.h"
#include "fastgen/core/memory_pressure.h"

namespace fastgen::testing {

/// Longer than any test may run: who waits this long was forgotten, and the test's time-out says so.
inline constexpr std::chrono::nanoseconds kForever = std::chrono::hours(1);
inline constexpr std::chrono::nanoseconds kNoWait{0};

/// A block without memory that tells how many of its kind live.
class CountedBlock final : public Block {
 public:
  static BlockRef Make() { return BlockRef(new CountedBlock); }
  static int alive() { return alive_.load(); }

 private:
  CountedBlock() : Block(nullptr, 0) { alive_.fetch_add(1); }
  ~CountedBlock() override { alive_.fetch_sub(1); }
  void Dispose() override { delete this; }

  static inline std::atomic<int> alive_{0};
};

inline MemoryState PlentyOfMemory() { return {100, 100}; }
inline MemoryState LittleMemory() { return {1, 100}; }

/// What the system's memory is, for a scope; plenty afterwards, wherever the tests run.
class MemoryIs {
 public:
  explicit MemoryIs(MemoryState (*reader)()) { Set(reader); }
  ~MemoryIs() { Set(&PlentyOfMemory); }
  MemoryIs(const MemoryIs&) = delete;
  MemoryIs& operator=(const MemoryIs&) = delete;

 private:
  static void Set(MemoryState (*reader)()) {
    SetMemoryReader(reader);
    UnderMemoryPressure();  // whoever looks at the last answer sees this one
  }
};

/// Lets the other threads run until `condition` holds.
template <typename Condition>
void Await(const Condition& condition) {
  while (!condition()) std::this_thread::yield();
}

inline ReadAhead Frames(std::int64_t frames) { return {frames, ReadAhead::kNoByteLimit}; }
inline ReadAhead Autotuned(std::size_t byte_budget = ReadAhead::kDefaultByteBudget) { return {ReadAhead::kAutotune, byte_budget}; }

inline void Fill(Frame* frame, std::int64_t number, std::uint64_t byte_size = sizeof(std::int64_t)) {
  Component& component = frame->components[0];
  component.dtype = DType::kInt64;
  component.storage = Component::Storage::kInline;
  component.byte_size = sizeof(number);
  component.SetRank(0);
  std::memcpy(component.inline_bytes, &number, sizeof(number));
  frame->byte_size = byte_size;
}

inline std::int64_t NumberIn(const Frame& frame) {
  std::int64_t number = 0;
  std::memcpy(&number, frame.components[0].inline_bytes, sizeof(number));
  return number;
}

/// Publishes a frame if there is room for it. `byte_size` is what the frame claims to weigh.
inline bool TrySend(Channel& channel, std::int64_t number, std::uint64_t byte_size = sizeof(std::int64_t)) {
  Frame* frame = channel.TryReserve();
  if (frame == nullptr) return false;
  Fill(frame, number, byte_size);
  channel.Publish();
  return true;
}

/// Publishes a frame, waiting for room. False when the channel was closed.
inline bool Send(Channel& channel, std::int64_t number) {
  while (!TrySend(channel, number)) {
    if (!channel.WaitForRoom()) return false;
  }
  return true;
}

/// Publishes as many frames as there is room for, and says how many those were.
inline int SendAll(Channel& channel, std::uint64_t byte_size = sizeof(std::int64_t)) {
  int sent = 0;
  while (TrySend(channel, sent, byte_size)) ++sent;
  return sent;
}

/// Takes the frame that is there and gives it back; nothing when there is none.
inline std::optional<std::int64_t> TryTake(Channel& channel) {
  Frame* frame = nullptr;
  if (channel.TryNext(&frame) != Channel::Outcome::kFrame) return std::nullopt;
  const std::int64_t number = NumberIn(*frame);
  channel.Release();
  return number;
}

/// Takes what is there, and says how many frames those were.
inline int TakeAll(Channel& channel) {
  int taken = 0;
  while (TryTake(channel)) ++taken;
  return taken;
}

}  // namespace fastgen::testing

#endif  // FASTGEN_TESTS_CPP_SUPPORT_H_
