#include "fastgen/bindings/register.h"
#include "fastgen/core/pinned_memory.h"
#include "fastgen/core/slab_pool.h"

namespace fastgen {

void register_memory(pybind11::module_& module) {
  module.def(
      "slab_pool_statistics",
      [] {
        const SlabPool& pool = SlabPool::Global();
        pybind11::dict figures;
        figures["free_bytes"] = pool.free_bytes();
        figures["budget_bytes"] = pool.budget();
        figures["fresh_slabs"] = pool.fresh_slabs();
        return figures;
      },
      "Figures of the pool that all sources share: bytes kept for reuse, their limit, and slabs asked of the system so far.");
  module.def(
      "set_slab_pool_budget", [](std::size_t bytes) { SlabPool::Global().set_budget(bytes); }, pybind11::arg("bytes"),
      "Limits the bytes that the pool keeps for reuse; what is above the limit is freed at once.");
  module.def(
      "pinned_memory_figures",
      [] {
        const PinnedMemory* const memory = PinnedMemory::Connected();
        const PinnedMemory::Figures now = memory != nullptr ? memory->figures() : PinnedMemory::Figures();
        pybind11::dict figures;
        figures["limit_bytes"] = PinnedMemory::process_limit();
        figures["taken_bytes"] = now.taken_bytes;
        figures["free_bytes"] = now.free_bytes;
        figures["slabs"] = now.slabs;
        figures["fallbacks"] = now.fallbacks;
        return figures;
      },
      "Figures of the memory that devices read by themselves; all but the limit are 0 where there is none.");
  module.def(
      "set_pinned_memory_limit", [](std::size_t bytes) { PinnedMemory::set_process_limit(bytes); }, pybind11::arg("bytes"),
      pybind11::call_guard<pybind11::gil_scoped_release>(), "Limits the bytes that are pinned at a time.");
}

}  // namespace fastgen
