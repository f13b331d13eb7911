// Whether the system is short of memory: what is kept for speed alone is given up then.
#ifndef FASTGEN_CORE_MEMORY_PRESSURE_H_
#define FASTGEN_CORE_MEMORY_PRESSURE_H_

#include <cstdint>

namespace fastgen {

/// What is left of a bounded amount of memory, in bytes. Of nothing known, `limit` is 0.
struct MemoryState {
  std::uint64_t available = 0;
  std::uint64_t limit = 0;

  /// Less than a sixteenth is left.
  bool scarce() const { return available < limit / 16; }
  /// What part is left; all of it where nothing is known.
  double share() const { return limit == 0 ? 1.0 : static_cast<double>(available) / static_cast<double>(limit); }
};

/// The machine's memory (/proc/meminfo) or that of a control group around this process (version 1 or 2), whichever has the
/// smaller part left. File pages that the kernel would give up count as available. `root` stands before each path. Allocates
/// nothing and never fails: what cannot be read sets no limit.
MemoryState ReadMemoryState(const char* root = "");

/// How many bytes this process may use at most: the machine's memory, or the smallest limit of a control group around it. 0 where
/// nothing is known. As ReadMemoryState() otherwise.
std::uint64_t ReadMemoryLimit(const char* root = "");

/// Whether memory is scarce. From any thread; costs a look at the clock, and each tenth of a second one of those who ask reads the
/// files.
bool UnderMemoryPressure();
/// The last answer of UnderMemoryPressure(), to anybody. It may be old: for places where even the clock is too slow.
bool MemoryPressureLastSeen();

/// Replaces where memory is read from, for tests; nullptr stands for the system. The next to ask reads it.
void SetMemoryReader(MemoryState (*reader)());

}  // namespace fastgen

#endif  // FASTGEN_CORE_MEMORY_PRESSURE_H_
