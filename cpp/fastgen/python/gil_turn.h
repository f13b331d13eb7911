// How long a producer keeps the GIL.
//
// CPython takes the GIL from a thread when another has waited for 5 ms (sys.setswitchinterval). A producer that made use of that
// would let the program's main thread wait for 5 ms whenever it comes back from TensorFlow, and would take half of the time of a
// main thread that computes in Python. So it passes the GIL on after less, where somebody wants it: then a main thread that
// computes gets some six sevenths of the time, about as much as beside a stock from_generator, which must ask for the GIL anew
// for each element.
#ifndef FASTGEN_PYTHON_GIL_TURN_H_
#define FASTGEN_PYTHON_GIL_TURN_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>

#include "fastgen/python/gil.h"

namespace fastgen {

/// One thread's turns. With the GIL.
class GilTurn {
 public:
  /// Whether it is time to PassOn(); to be asked after each element. Reads the clock only every hundred microseconds or so.
  bool IsOver() {
    if (--elements_to_check_ > 0) return false;
    const auto now = Clock::now();
    const std::int64_t elapsed = std::max<std::int64_t>((now - checked_).count(), 1);
    checked_ = now;
    elements_between_checks_ = std::clamp<std::int64_t>(elements_between_checks_ * kBetweenChecks / elapsed, 1, kMostElements);
    elements_to_check_ = elements_between_checks_;
    return now - begun_ >= length_;
  }

  /// Frees the GIL for a moment, so that a thread that waits for it gets it, and takes it again.
  void PassOn() {
    Clock::time_point freed;
    WithoutGil([&] {
      freed = Clock::now();
      // Whoever waits has been woken; but it must run before this thread asks again, or it finds the GIL taken. Where nobody is
      // known to wait, no more than a look at it.
      if (contended_) std::this_thread::sleep_for(std::chrono::microseconds(20));
      std::this_thread::yield();
    });
    Begin();
    // A GIL that nobody wanted is back within microseconds.
    contended_ = begun_ - freed > std::chrono::microseconds(300);
    length_ = contended_ ? kContended : std::min<Clock::duration>(length_ * 2, kAlone);
  }

  /// The GIL was freed and taken for another reason.
  void Begin() { begun_ = checked_ = Clock::now(); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::int64_t kBetweenChecks = 100'000;  // ns
  static constexpr std::int64_t kMostElements = 256;
  static constexpr Clock::duration kContended = std::chrono::microseconds(700);
  static constexpr Clock::duration kAlone = std::chrono::milliseconds(4);

  std::int64_t elements_between_checks_ = 1;
  std::int64_t elements_to_check_ = 1;
  Clock::time_point begun_ = Clock::now();
  Clock::time_point checked_ = begun_;
  Clock::duration length_ = kContended;
  bool contended_ = false;
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_GIL_TURN_H_
