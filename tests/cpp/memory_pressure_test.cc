// What is read out of the system's files, and who reads them when.
#include "fastgen/core/memory_pressure.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support.h"

namespace fastgen {
namespace {

using testing::Await;
using testing::LittleMemory;
using testing::MemoryIs;
using testing::PlentyOfMemory;

constexpr std::uint64_t kMegabyte = 1024 * 1024;

/// Stands in for the system's root.
class Root {
 public:
  Root() {
    std::string name = ::testing::TempDir() + "fastgen_root_XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~Root() { std::filesystem::remove_all(path_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  void Write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = path_ + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void WriteMachine(std::uint64_t total_kilobytes, std::uint64_t available_kilobytes) const {
    Write("/proc/meminfo", "MemTotal:       " + std::to_string(total_kilobytes) + " kB\nMemFree:          1 kB\nMemAvailable:   " +
                               std::to_string(available_kilobytes) + " kB\nSwapTotal: 5 kB\n");
  }
  /// A group of version 2.
  void WriteGroup(const std::string& path, const std::string& max, std::uint64_t current, std::uint64_t inactive_file = 0) const {
    const std::string folder = "/sys/fs/cgroup" + path;
    Write(folder + "/memory.max", max + "\n");
    Write(folder + "/memory.current", std::to_string(current) + "\n");
    Write(folder + "/memory.stat", "anon 7\ntotal_inactive_file 3\ninactive_file " + std::to_string(inactive_file) + "\nfile 9\n");
  }
  /// A group of version 1.
  void WriteOldGroup(const std::string& path, std::uint64_t limit, std::uint64_t usage, std::uint64_t inactive_file = 0) const {
    const std::string folder = "/sys/fs/cgroup/memory" + path;
    Write(folder + "/memory.limit_in_bytes", std::to_string(limit) + "\n");
    Write(folder + "/memory.usage_in_bytes", std::to_string(usage) + "\n");
    Write(folder + "/memory.stat", "inactive_file 3\ntotal_inactive_file " + std::to_string(inactive_file) + "\n");
  }

  MemoryState Read() const { return ReadMemoryState(path_.c_str()); }
  std::uint64_t ReadLimit() const { return ReadMemoryLimit(path_.c_str()); }

 private:
  std::string path_;
};

// What is read --------------------------------------------------------------------------------------------------------

TEST(MemoryState, IsScarceBelowASixteenth) {
  EXPECT_FALSE((MemoryState{100, 1600}.scarce()));
  EXPECT_TRUE((MemoryState{99, 1600}.scarce()));
  EXPECT_TRUE((MemoryState{0, 1600}.scarce()));
  EXPECT_FALSE(MemoryState{}.scarce()) << "nothing is known";
}

TEST(MemoryState, OfThisMachineIsKnown) {
  const MemoryState state = ReadMemoryState();
  EXPECT_GT(state.limit, 0u);
  EXPECT_GT(state.available, 0u);
  EXPECT_LE(state.available, state.limit);
}

TEST(MemoryState, IsTheMachines) {
  const Root root;
  root.WriteMachine(1000, 300);
  EXPECT_EQ(root.Read().limit, 1000u * 1024);
  EXPECT_EQ(root.Read().available, 300u * 1024);
}

TEST(MemoryState, WithoutFilesNothingIsKnown) {
  const Root root;
  EXPECT_EQ(root.Read().limit, 0u);
  root.Write("/proc/meminfo", "MemTotal: 1000 kB\n");
  EXPECT_EQ(root.Read().limit, 0u) << "an old kernel does not say what is available";
  root.Write("/proc/meminfo", "");
  root.Write("/proc/self/cgroup", "0::\n:::\nnonsense\n");
  EXPECT_EQ(root.Read().limit, 0u);
}

TEST(MemoryState, IsTheGroupsWhereThatIsTighter) {
  const Root root;
  root.WriteMachine(1'000'000, 900'000);
  root.Write("/proc/self/cgroup", "0::/user/job\n");
  root.WriteGroup("/user/job", std::to_string(100 * kMegabyte), 60 * kMegabyte);
  EXPECT_EQ(root.Read().limit, 100 * kMegabyte);
  EXPECT_EQ(root.Read().available, 40 * kMegabyte);
  root.WriteMachine(1'000'000, 100'000);
  EXPECT_EQ(root.Read().limit, 1'000'000u * 1024) << "now the machine has the smaller part left";
}

TEST(MemoryState, AGroupWithoutALimitSetsNone) {
  const Root root;
  root.WriteMachine(1'000'000, 900'000);
  root.Write("/proc/self/cgroup", "0::/job\n");
  root.WriteGroup("/job", "max", 60 * kMegabyte);
  EXPECT_EQ(root.Read().limit, 1'000'000u * 1024);
}

TEST(MemoryState, EachGroupAroundTheProcessMayLimitIt) {
  const Root root;
  root.Write("/proc/self/cgroup", "0::/outer/inner/own\n");
  root.WriteGroup("/outer/inner/own", "max", kMegabyte);
  root.WriteGroup("/outer/inner", std::to_string(100 * kMegabyte), 50 * kMegabyte);
  root.WriteGroup("/outer", std::to_string(200 * kMegabyte), 199 * kMegabyte);
  EXPECT_EQ(root.Read().limit, 200 * kMegabyte);
  EXPECT_TRUE(root.Read().scarce());
}

TEST(MemoryState, AContainerSeesItsOwnGroupAtTheMount) {
  const Root root;
  root.Write("/proc/self/cgroup", "0::/a/path/of/the/world/outside\n");
  root.WriteGroup("", std::to_string(100 * kMegabyte), 99 * kMegabyte);
  EXPECT_EQ(root.Read().available, kMegabyte);
  EXPECT_TRUE(root.Read().scarce());
}

TEST(MemoryLimit, IsTheSmallestHoweverMuchOfItIsLeft) {
  const Root root;
  EXPECT_EQ(root.ReadLimit(), 0u);
  root.WriteMachine(64 * 1024, 1024);
  EXPECT_EQ(root.ReadLimit(), 64 * kMegabyte);
  root.Write("/proc/self/cgroup", "0::/outer/inner\n");
  root.WriteGroup("/outer", std::to_string(16 * kMegabyte), 0);
  root.WriteGroup("/outer/inner", "max", 15 * kMegabyte);
  EXPECT_EQ(root.ReadLimit(), 16 * kMegabyte);
}

TEST(MemoryState, FilePagesOfAGroupAreAvailable) {
  const Root root;
  root.Write("/proc/self/cgroup", "0::/job\n");
  root.WriteGroup("/job", std::to_string(100 * kMegabyte), 99 * kMegabyte, 50 * kMegabyte);
  EXPECT_EQ(root.Read().available, 51 * kMegabyte);
  root.WriteGroup("/job", std::to_string(100 * kMegabyte), 120 * kMegabyte);
  EXPECT_EQ(root.Read().available, 0u) << "a limit may be lowered below what is used";
}

TEST(MemoryState, GroupsOfTheFirstVersion) {
  const Root root;
  root.Write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/job\n3:memoryless:/y\n0::/\n");
  root.WriteOldGroup("/docker/job", 100 * kMegabyte, 99 * kMegabyte, 2 * kMegabyte);
  root.WriteOldGroup("", 9'223'372'036'854'771'712u, 500 * kMegabyte);
  EXPECT_EQ(root.Read().limit, 100 * kMegabyte);
  EXPECT_EQ(root.Read().available, 3 * kMegabyte);
  root.Write("/proc/self/cgroup", "4:hugetlb:/docker/job\n3:memoryless:/docker/job\n");
  EXPECT_EQ(root.Read().limit, 0u) << "none of these is the memory's";
}

TEST(MemoryState, APathThatIsTooLongIsIgnored) {
  const Root root;
  root.WriteMachine(1000, 300);
  root.Write("/proc/self/cgroup", "0::/" + std::string(5000, 'x') + "\n");
  EXPECT_EQ(root.Read().limit, 1000u * 1024);
}

// When it is read -----------------------------------------------------------------------------------------------------

std::atomic<int> reads{0};
MemoryState CountedRead() {
  reads.fetch_add(1);
  return LittleMemory();
}

TEST(MemoryPressure, IsSeenByWhoeverAsks) {
  {
    const MemoryIs little(&LittleMemory);
    EXPECT_TRUE(UnderMemoryPressure());
    EXPECT_TRUE(MemoryPressureLastSeen());
  }
  const MemoryIs plenty(&PlentyOfMemory);
  EXPECT_FALSE(UnderMemoryPressure());
  EXPECT_FALSE(MemoryPressureLastSeen());
}

TEST(MemoryPressure, IsReadTenTimesASecondAtMost) {
  const auto start = std::chrono::steady_clock::now();
  reads.store(0);
  const MemoryIs counted(&CountedRead);
  constexpr int kThreads = 3;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(UnderMemoryPressure());
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto tenths = (std::chrono::steady_clock::now() - start) / std::chrono::milliseconds(100);
  EXPECT_LE(reads.load(), 2 + tenths);
}

std::atomic<bool> little_is_left{true};

TEST(MemoryPressure, EndsBySomebodyAsking) {
  little_is_left.store(true);
  const MemoryIs changing([] { return little_is_left.load() ? LittleMemory() : PlentyOfMemory(); });
  EXPECT_TRUE(UnderMemoryPressure());
  little_is_left.store(false);
  Await([] { return !UnderMemoryPressure(); });
  EXPECT_FALSE(MemoryPressureLastSeen());
}

}  // namespace
}  // namespace fastgen
