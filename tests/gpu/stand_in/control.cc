// What the tests set and read.
#include <cstdint>

#include "copy_engine.h"
#include "host_memory.h"

#define STAND_IN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using fastgen::stand_in::Engines;
using fastgen::stand_in::PinnedAllocator;

}  // namespace

STAND_IN_EXPORT void stand_in_set_longest_delay_us(std::int64_t delay) { Engines::Global().longest_delay_us = delay; }
STAND_IN_EXPORT void stand_in_set_broken(bool broken) { Engines::Global().broken = broken; }
STAND_IN_EXPORT void stand_in_set_host_limit(std::uint64_t bytes) { PinnedAllocator::Global().set_limit(bytes); }
STAND_IN_EXPORT void stand_in_hold_allocations(bool hold) { PinnedAllocator::Global().Hold(hold); }

STAND_IN_EXPORT bool stand_in_is_pinned(const void* address) { return PinnedAllocator::Global().Contains(address); }
STAND_IN_EXPORT std::uint64_t stand_in_holding_allocation() { return PinnedAllocator::Global().holding() ? 1 : 0; }
STAND_IN_EXPORT std::uint64_t stand_in_given_up_holding() { return PinnedAllocator::Global().given_up(); }
STAND_IN_EXPORT std::uint64_t stand_in_pinned_copies() { return Engines::Global().pinned_copies; }
STAND_IN_EXPORT std::uint64_t stand_in_pinned_bytes() { return Engines::Global().pinned_bytes; }
STAND_IN_EXPORT std::uint64_t stand_in_pageable_copies() { return Engines::Global().pageable_copies; }
STAND_IN_EXPORT std::uint64_t stand_in_pageable_bytes() { return Engines::Global().pageable_bytes; }
STAND_IN_EXPORT std::uint64_t stand_in_host_in_use() { return PinnedAllocator::Global().in_use(); }
STAND_IN_EXPORT std::uint64_t stand_in_host_peak() { return PinnedAllocator::Global().peak(); }
STAND_IN_EXPORT std::uint64_t stand_in_host_allocations() { return PinnedAllocator::Global().allocations(); }
STAND_IN_EXPORT std::uint64_t stand_in_host_waits() { return PinnedAllocator::Global().waits(); }
