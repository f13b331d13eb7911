#include "fastgen/bindings/register.h"
#include "fastgen/python/lifecycle.h"
#include "fastgen/python/signals.h"

namespace fastgen {

void register_lifecycle(pybind11::module_& module) {
  lifecycle::Initialize();
  module.def(
      "set_interrupt_policy", 
      [](const pybind11::object& should_give_up, const pybind11::object& may_raise) {
        signals::Initialize(should_give_up.ptr(), may_raise.ptr());
      },
      pybind11::arg("should_give_up"), pybind11::arg("may_raise"),
      "Sets what decides whether waits end for a SIGINT, and when KeyboardInterrupt may be raised.");
  module.def("_stop_all_producers", &lifecycle::StopAllProducers,
             "Stops every producer; afterwards none can be started. For Python's atexit.");
  // Registered when the module is loaded: later than whatever the program registered before it imported fastgen, and therefore
  // run earlier.
  pybind11::module_::import("atexit").attr("register")(module.attr("_stop_all_producers"));
}

}  // namespace fastgen
