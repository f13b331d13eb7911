#include "fastgen/bindings/register.h"
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
}

}  // namespace fastgen
