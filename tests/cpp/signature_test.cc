#include "fastgen/core/signature.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace fastgen {
namespace {

constexpr std::int64_t kAny = ComponentSpec::kUnknownLength;

ComponentSpec OfShape(std::vector<std::int64_t> dims) { return {DType::kFloat32, true, std::move(dims)}; }

bool Accepts(const ComponentSpec& spec, const std::vector<std::int64_t>& lengths) {
  return spec.Accepts(static_cast<int>(lengths.size()), lengths.data());
}

TEST(ComponentSpec, WithoutARankTakesEveryShape) {
  const ComponentSpec spec{DType::kFloat32, false, {}};
  EXPECT_TRUE(Accepts(spec, {}));
  EXPECT_TRUE(Accepts(spec, {0}));
  EXPECT_TRUE(Accepts(spec, {1, 2, 3, 4, 5, 6, 7}));
}

TEST(ComponentSpec, OfAScalarTakesScalarsOnly) {
  EXPECT_TRUE(Accepts(OfShape({}), {}));
  EXPECT_FALSE(Accepts(OfShape({}), {1}));
  EXPECT_TRUE(OfShape({}).Accepts<std::int64_t>(0, nullptr)) << "a scalar has no lengths to look at";
}

TEST(ComponentSpec, WantsEveryKnownLength) {
  EXPECT_TRUE(Accepts(OfShape({2, 3}), {2, 3}));
  EXPECT_FALSE(Accepts(OfShape({2, 3}), {3, 2}));
  EXPECT_FALSE(Accepts(OfShape({2, 3}), {2, 4}));
  EXPECT_FALSE(Accepts(OfShape({0}), {1}));
}

TEST(ComponentSpec, TakesAnyLengthWhereNoneIsKnown) {
  EXPECT_TRUE(Accepts(OfShape({kAny, 3}), {0, 3}));
  EXPECT_TRUE(Accepts(OfShape({kAny, 3}), {1'000'000'000'000, 3}));
  EXPECT_FALSE(Accepts(OfShape({kAny, 3}), {5, 4}));
  EXPECT_TRUE(Accepts(OfShape({kAny, kAny}), {5, 4}));
}

TEST(ComponentSpec, WantsTheKnownRank) {
  EXPECT_FALSE(Accepts(OfShape({kAny}), {}));
  EXPECT_FALSE(Accepts(OfShape({kAny}), {1, 1}));
  EXPECT_FALSE(Accepts(OfShape({2, 3}), {2}));
}

TEST(ComponentSpec, ReadsLengthsOfAnyIntegerType) {
  const std::int32_t narrow[] = {2, 3};
  const long wide[] = {2, 3};
  EXPECT_TRUE(OfShape({2, kAny}).Accepts(2, narrow));
  EXPECT_TRUE(OfShape({2, kAny}).Accepts(2, wide));
}

}  // namespace
}  // namespace fastgen
