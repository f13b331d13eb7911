#include "fastgen/core/frame.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "failing_new.h"
#include "support.h"

namespace fastgen {
namespace {

using testing::CountedBlock;
using testing::OutOfMemory;

/// All zeroes, as a channel hands them out.
struct ZeroedComponent {
  Component component;
  ZeroedComponent() { std::memset(static_cast<void*>(&component), 0, sizeof(component)); }
  ~ZeroedComponent() { component.Clear(); }
  Component* operator->() { return &component; }
};

void SetShape(Component* component, const std::vector<std::int64_t>& lengths) {
  std::int64_t* dims = component->SetRank(static_cast<int>(lengths.size()));
  for (const std::int64_t length : lengths) *dims++ = length;
}

std::vector<std::int64_t> ShapeOf(const Component& component) {
  return {component.dims(), component.dims() + component.rank};
}

// Components ----------------------------------------------------------------------------------------------------------

TEST(Component, AllZeroesAreEmpty) {
  ZeroedComponent component;
  EXPECT_EQ(component->storage, Component::Storage::kNone);
  EXPECT_EQ(component->dtype, DType::kInvalid);
  EXPECT_EQ(component->rank, 0);
  EXPECT_EQ(component->num_values(), 1) << "a scalar's";
  component->Clear();
}

TEST(Component, KeepsShapesOfEveryRank) {
  for (int rank = 0; rank <= 32; ++rank) {
    ZeroedComponent component;
    std::vector<std::int64_t> lengths;
    for (int axis = 0; axis < rank; ++axis) lengths.push_back(axis % 3 + 1);
    SetShape(&component.component, lengths);
    EXPECT_EQ(ShapeOf(component.component), lengths);
    EXPECT_EQ(component->dims() == component->inline_dims, rank <= Component::kInlineRank);
  }
}

TEST(Component, CountsItsValues) {
  ZeroedComponent component;
  SetShape(&component.component, {2, 3, 4});
  EXPECT_EQ(component->num_values(), 24);
  component->Clear();
  SetShape(&component.component, {2, 0, 4, 5, 6, 7});
  EXPECT_EQ(component->num_values(), 0);
}

TEST(Component, CanBeFilledAgainAfterClear) {
  ZeroedComponent component;
  for (int i = 0; i < 3; ++i) {
    SetShape(&component.component, {1, 2, 3, 4, 5, 6});
    component->SetBlock(Component::Storage::kBlock, CountedBlock::Make(), 10);
    EXPECT_EQ(CountedBlock::alive(), 1);
    component->Clear();
    EXPECT_EQ(CountedBlock::alive(), 0);
    SetShape(&component.component, {7});
    EXPECT_EQ(ShapeOf(component.component), std::vector<std::int64_t>{7});
    component->Clear();
  }
}

TEST(Component, ClearingTwiceDropsOnce) {
  ZeroedComponent component;
  for (const auto storage : {Component::Storage::kBlock, Component::Storage::kStrings, Component::Storage::kOpaque}) {
    BlockRef block = CountedBlock::Make();
    block->Ref();
    component->SetBlock(storage, BlockRef(block.get()), 0);
    component->Clear();
    component->Clear();
    EXPECT_EQ(CountedBlock::alive(), 1) << "the other reference is ours";
  }
  EXPECT_EQ(CountedBlock::alive(), 0);
}

TEST(Component, InlineBytesLieInTheComponent) {
  ZeroedComponent component;
  component->storage = Component::Storage::kInline;
  EXPECT_EQ(component->bytes(), component->inline_bytes);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(component->bytes()) % 16, 0u);
}

TEST(Component, BytesMayBeginInTheMiddleOfTheirBlock) {
  ZeroedComponent component;
  std::byte elsewhere{};
  component->SetBlock(Component::Storage::kBlock, CountedBlock::Make(), 1, &elsewhere);
  EXPECT_EQ(component->bytes(), &elsewhere);
  component->Clear();
  EXPECT_EQ(CountedBlock::alive(), 0);
}

TEST(Component, TakingTheBlockKeepsTheShape) {
  ZeroedComponent component;
  SetShape(&component.component, {1, 2, 3, 4, 5});
  component->SetBlock(Component::Storage::kBlock, CountedBlock::Make(), 120);
  {
    const BlockRef taken = component->TakeBlock();
    EXPECT_TRUE(taken);
    EXPECT_EQ(ShapeOf(component.component), (std::vector<std::int64_t>{1, 2, 3, 4, 5}));
    component->Clear();
    EXPECT_EQ(CountedBlock::alive(), 1) << "taken means taken";
  }
  EXPECT_EQ(CountedBlock::alive(), 0);
}

TEST(Component, StaysWholeWhenThereIsNoMemoryForItsShape) {
  ZeroedComponent component;
  SetShape(&component.component, {11, 12, 13, 14});  // leaves numbers where a pointer would be
  component->Clear();
  bool thrown = false;
  try {
    const OutOfMemory out_of_memory;
    component->SetRank(6);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  EXPECT_TRUE(thrown);
  component->Clear();  // must not free what was never allocated
  EXPECT_EQ(component->rank, 0);
}

// Strings -------------------------------------------------------------------------------------------------------------

TEST(StringTable, FindsEachString) {
  const std::vector<std::string> texts = {"one", "", std::string("with\0zero", 9), "", "the last"};
  std::size_t bytes = StringTable::SizeOfTable(texts.size());
  for (const std::string& text : texts) bytes += text.size();
  std::vector<StringTable::Entry> memory(bytes / sizeof(StringTable::Entry) + 1);
  auto* base = reinterpret_cast<std::byte*>(memory.data());
  StringTableWriter writer(base, texts.size());
  for (const std::string& text : texts) writer.Append(text.data(), text.size());

  const StringTable table(base);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(std::string_view(table.data(i), table.size(i)), texts[i]) << i;
  }
}

TEST(StringTable, TextsMayLieElsewhere) {
  const std::string first = "here", second = "and there";
  const StringTable::Entry entries[] = {{first.data(), first.size()}, {second.data(), second.size()}};
  const StringTable table(reinterpret_cast<const std::byte*>(entries));
  EXPECT_EQ(std::string_view(table.data(1), table.size(1)), second);
}

// Frames --------------------------------------------------------------------------------------------------------------

struct TwoComponents {
  Component components[2];
  Frame frame;
  TwoComponents() {
    std::memset(static_cast<void*>(this), 0, sizeof(*this));
    frame.components = components;
    frame.num_components = 2;
  }
};

TEST(Frame, ClearDropsAllItHolds) {
  TwoComponents two;
  Frame& frame = two.frame;
  frame.components[0].SetBlock(Component::Storage::kBlock, CountedBlock::Make(), 8);
  frame.components[1].SetBlock(Component::Storage::kOpaque, CountedBlock::Make(), 8);
  frame.components[1].SetRank(9);
  frame.byte_size = 16;
  frame.elements = 3;
  frame.Clear();
  EXPECT_EQ(CountedBlock::alive(), 0);
  EXPECT_EQ(frame.byte_size, 0u);
  EXPECT_EQ(frame.elements, 0u);
  EXPECT_EQ(frame.error, nullptr);
}

TEST(Frame, AnErrorTakesTheElementsPlace) {
  TwoComponents two;
  Frame& frame = two.frame;
  frame.components[0].SetBlock(Component::Storage::kBlock, CountedBlock::Make(), 8);
  frame.SetError(Status(Code::kInternal, "first"));
  EXPECT_EQ(CountedBlock::alive(), 0);
  frame.SetError(Status(Code::kAborted, "second"));
  ASSERT_NE(frame.error, nullptr);
  EXPECT_EQ(frame.error->message(), "second");
  frame.Clear();
  EXPECT_EQ(frame.error, nullptr);
}

// Blocks --------------------------------------------------------------------------------------------------------------

TEST(BlockRef, OwnsOneReference) {
  BlockRef first = CountedBlock::Make();
  BlockRef second = std::move(first);
  EXPECT_FALSE(first);
  EXPECT_TRUE(second);
  second = CountedBlock::Make();
  EXPECT_EQ(CountedBlock::alive(), 1);
  Block* released = second.release();
  EXPECT_FALSE(second);
  EXPECT_EQ(CountedBlock::alive(), 1);
  released->Unref();
  EXPECT_EQ(CountedBlock::alive(), 0);
}

TEST(DType, SizesAreThoseOfDenseValues) {
  EXPECT_EQ(SizeOf(DType::kBool), 1u);
  EXPECT_EQ(SizeOf(DType::kHalf), 2u);
  EXPECT_EQ(SizeOf(DType::kFloat32), 4u);
  EXPECT_EQ(SizeOf(DType::kInt64), 8u);
  EXPECT_EQ(SizeOf(DType::kComplex128), 16u);
  EXPECT_EQ(SizeOf(DType::kString), 0u);
  EXPECT_EQ(SizeOf(DType::kVariant), 0u);
  EXPECT_EQ(SizeOf(static_cast<DType>(12345)), 0u);
}

}  // namespace
}  // namespace fastgen
