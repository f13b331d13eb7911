#include "fastgen/bindings/register.h"
#include "fastgen/python/lifecycle.h"
#include "fastgen/python/signals.h"

namespace fastgen {

void register_lifecycle(pybind11::module_& module) {
  lifecycle::Initialize();
  module.def(
      "set_interrupt_policy", 
      [](const pybind11::object& main_thread_is_stuck, const pybind11::object& may_raise) {
        signals::Initialize(main_thread_is_stuck.ptr(), may_raise.ptr());
      },
      pybind11::arg("main_thread_is_stuck"), pybind11::arg("may_raise"),
      "Sets how the native side finds out what a SIGINT should do.");
  module.def("_stop_all_producers", &lifecycle::StopAllProducers,
             "Stops every producer; afterwards none can be started. For Python's atexit.");
  // Registered when the module is loaded: later than whatever the program registered before it imported fastgen, and therefore
  // run earlier.
  pybind11::module_::import("atexit").attr("register")(module.attr("_stop_all_producers"));
}

}  // namespace fastgen
