// Streaming copies are copies, whatever the alignment and the length.
#include "fastgen/core/streaming_copy.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace fastgen {
namespace {

TEST(StreamingCopy, CopiesAllAndNothingElse) {
  constexpr std::size_t kMargin = 64;
  constexpr std::byte kUntouched{0xEE};
  for (const std::size_t bytes : {0, 1, 15, 16, 63, 64, 65, 127, 128, 129, 1000, 4096, 100'003}) {
    for (const std::size_t to_offset : {0, 1, 16, 33, 63}) {
      for (const std::size_t from_offset : {0, 5, 32}) {
        std::vector<std::byte> from(bytes + 2 * kMargin), to(bytes + 2 * kMargin, kUntouched);
        for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 31 + 7);
        CopyStreaming(to.data() + to_offset, from.data() + from_offset, bytes);
        for (std::size_t i = 0; i < to.size(); ++i) {
          const bool copied = i >= to_offset && i < to_offset + bytes;
          ASSERT_EQ(to[i], copied ? from[i - to_offset + from_offset] : kUntouched) << bytes << " bytes, at " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastgen
