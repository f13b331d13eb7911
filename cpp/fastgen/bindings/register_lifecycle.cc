#include "fastgen/bindings/register.h"
#include "fastgen/python/lifecycle.h"

namespace fastgen {

void register_lifecycle(pybind11::module_& module) {
  lifecycle::Initialize();
  module.def("_stop_all_producers", &lifecycle::StopAllProducers,
             "Stops every producer; afterwards none can be started. For Python's atexit.");
  // Registered when the module is loaded: later than whatever the program registered before it imported fastgen, and therefore
  // run earlier.
  pybind11::module_::import("atexit").attr("register")(module.attr("_stop_all_producers"));
}

}  // namespace fastgen
