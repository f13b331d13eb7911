#include "fastgen/core/memory_pressure.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fastgen {
namespace {

constexpr std::int64_t kNanosecondsBetweenSamples = 100'000'000;

/// Enough of each file for the lines that are looked for.
constexpr std::size_t kFileBytes = 8192;

/// Buffers on the stack rather than streams and strings: this runs where memory has run out, and where nothing may be thrown.
struct Text {
  char data[kFileBytes];

  bool Read(const char* path) {
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    std::size_t size = 0;
    ssize_t got = 0;
    do {
      got = ::read(file, data + size, sizeof(data) - 1 - size);
      if (got > 0) size += static_cast<std::size_t>(got);
    } while ((got > 0 && size < sizeof(data) - 1) || (got < 0 && errno == EINTR));
    ::close(file);
    data[size] = '\0';
    return size > 0;
  }

  /// The number behind a word that starts a line.
  bool Find(const char* word, std::uint64_t* number) const {
    const std::size_t length = std::strlen(word);
    for (const char* line = data; line != nullptr && *line != '\0'; line = NextLine(line)) {
      if (std::strncmp(line, word, length) == 0 && line[length] == ' ') return ToNumber(line + length, number);
    }
    return false;
  }

  static const char* NextLine(const char* line) {
    line = std::strchr(line, '\n');
    return line == nullptr ? nullptr : line + 1;
  }

  /// False for what is no number: "max" is a group's word for having no limit.
  static bool ToNumber(const char* text, std::uint64_t* number) {
    char* end = nullptr;
    *number = std::strtoull(text, &end, 10);
    return end != text;
  }
};

/// Picks one of two that are known.
using Choice = bool (*)(const MemoryState& state, const MemoryState& best);

bool IsTighter(const MemoryState& state, const MemoryState& best) { return state.share() < best.share(); }
bool IsSmaller(const MemoryState& state, const MemoryState& best) { return state.limit < best.limit; }

void Keep(Choice better, MemoryState* best, const MemoryState& state) {
  if (state.limit > 0 && (best->limit == 0 || better(state, *best))) *best = state;
}

MemoryState Machine(const char* root) {
  char path[PATH_MAX];
  std::snprintf(path, sizeof(path), "%s/proc/meminfo", root);
  Text text;
  MemoryState state;
  if (!text.Read(path) || !text.Find("MemAvailable:", &state.available) || !text.Find("MemTotal:", &state.limit)) return {};
  return {state.available * 1024, state.limit * 1024};
}

/// The names of what a version of control groups says.
struct Names {
  const char* mount;
  const char* limit;
  const char* used;
  const char* reclaimable;  // in memory.stat
};
constexpr Names kVersion1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Names kVersion2{"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};

bool ReadNumber(const char* folder, const char* file, std::uint64_t* number) {
  char path[PATH_MAX];
  Text text;
  if (std::snprintf(path, sizeof(path), "%s/%s", folder, file) >= static_cast<int>(sizeof(path))) return false;
  return text.Read(path) && Text::ToNumber(text.data, number);
}

MemoryState Group(const char* folder, const Names& names) {
  MemoryState state;
  std::uint64_t used = 0;
  if (!ReadNumber(folder, names.limit, &state.limit) || !ReadNumber(folder, names.used, &used)) return {};
  state.available = used < state.limit ? state.limit - used : 0;
  if (!state.scarce()) return state;
  // A busy group is always full: of file pages. To count them is costly for the kernel, so it is asked only where it matters.
  char path[PATH_MAX];
  Text text;
  std::uint64_t reclaimable = 0;
  if (std::snprintf(path, sizeof(path), "%s/memory.stat", folder) < static_cast<int>(sizeof(path)) && text.Read(path) &&
      text.Find(names.reclaimable, &reclaimable)) {
    state.available += reclaimable;
  }
  return state;
}

/// The groups that a process is in, from the innermost outwards: each may set a limit. Inside a container the path may be one of
/// the world outside; then the folders that it names are missing, and the outermost is the container's own.
MemoryState Groups(Choice better, const char* root, const Names& names, const char* path, std::size_t path_length) {
  char folder[PATH_MAX];
  const std::size_t mount_length = std::strlen(root) + std::strlen(names.mount);
  std::size_t length = mount_length + path_length;
  if (length >= sizeof(folder)) return {};
  std::snprintf(folder, sizeof(folder), "%s%s%.*s", root, names.mount, static_cast<int>(path_length), path);
  MemoryState best;
  for (;;) {
    Keep(better, &best, Group(folder, names));
    if (length <= mount_length) return best;
    while (length > mount_length && folder[--length] != '/') {
    }
    folder[length] = '\0';
  }
}

/// Whether the controllers in a line of /proc/self/cgroup ("4:memory:/path") name memory.
bool NamesMemory(const char* controllers, const char* end) {
  while (controllers < end) {
    const auto* comma = static_cast<const char*>(std::memchr(controllers, ',', static_cast<std::size_t>(end - controllers)));
    const char* stop = comma == nullptr ? end : comma;
    if (stop - controllers == 6 && std::strncmp(controllers, "memory", 6) == 0) return true;
    controllers = stop + 1;
  }
  return false;
}

std::int64_t Now() {
  // The coarse clock ticks every few milliseconds and costs a fifth of the exact one.
  struct timespec now;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

MemoryState ReadSystem() { return ReadMemoryState(); }

MemoryState ReadAll(Choice better, const char* root) {
  MemoryState best = Machine(root);
  char path[PATH_MAX];
  std::snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
  Text text;
  if (!text.Read(path)) return best;
  for (const char* line = text.data; line != nullptr && *line != '\0'; line = Text::NextLine(line)) {
    const char* controllers = std::strchr(line, ':');
    const char* end = controllers == nullptr ? nullptr : std::strchr(controllers + 1, ':');
    if (end == nullptr) break;
    const bool unified = end == controllers + 1;  // "0::/path"
    if (!unified && !NamesMemory(controllers + 1, end)) continue;
    const std::size_t length = std::strcspn(end + 1, "\n");
    Keep(better, &best, Groups(better, root, unified ? kVersion2 : kVersion1, end + 1, length));
  }
  return best;
}

// Relaxed throughout: an answer orders nothing, and who reads an old one is right a moment later. The exchange of `next_sample`
// lets one thread of several read the files; its partners are the loads before it, in the other threads.
std::atomic<MemoryState (*)()> memory_reader{&ReadSystem};
std::atomic<std::int64_t> next_sample{0};
std::atomic<bool> last_seen{false};

}  // namespace

MemoryState ReadMemoryState(const char* root) { return ReadAll(&IsTighter, root); }

std::uint64_t ReadMemoryLimit(const char* root) { return ReadAll(&IsSmaller, root).limit; }

bool UnderMemoryPressure() {
  const std::int64_t now = Now();
  std::int64_t due = next_sample.load(std::memory_order_relaxed);
  if (now >= due &&
      next_sample.compare_exchange_strong(due, now + kNanosecondsBetweenSamples, std::memory_order_relaxed)) {
    last_seen.store(memory_reader.load(std::memory_order_relaxed)().scarce(), std::memory_order_relaxed);
  }
  return MemoryPressureLastSeen();
}

bool MemoryPressureLastSeen() { return last_seen.load(std::memory_order_relaxed); }

void SetMemoryReader(MemoryState (*reader)()) {
  memory_reader.store(reader != nullptr ? reader : &ReadSystem, std::memory_order_relaxed);
  next_sample.store(0, std::memory_order_relaxed);
}

}  // namespace fastgen
