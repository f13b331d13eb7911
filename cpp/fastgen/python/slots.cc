#include "fastgen/python/slots.h"

namespace fastgen {
namespace {

struct Slots {
  PyObject_HEAD
  SlotOwner* owner;       // null when the pass is over
  unsigned long thread;
};

PyObject* Next(PyObject* self) {
  auto* const slots = reinterpret_cast<Slots*>(self);
  if (slots->owner == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "`slots` belongs to a pass over the source that has ended. Use the one that the generator "
                                        "was called with, and only until it returns.");
    return nullptr;
  }
  if (slots->thread != PyThread_get_thread_ident()) {
    PyErr_SetString(PyExc_RuntimeError, "`slots` may only be asked by the thread that runs the generator. The arrays that it gives "
                                        "may be filled by other threads, until they are yielded.");
    return nullptr;
  }
  return slots->owner->NextSlots();
}

void Deallocate(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyType_Slot type_slots[] = {
    {Py_tp_doc, const_cast<char*>("Views of the memory in which the next elements will stand, one element at a time.")},
    {Py_tp_iter, reinterpret_cast<void*>(&PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(&Next)},
    {Py_tp_dealloc, reinterpret_cast<void*>(&Deallocate)},
    {0, nullptr},
};

PyType_Spec type_spec = {"fastgen.Slots", sizeof(Slots), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, type_slots};

}  // namespace

PyObject* MakeSlots(SlotOwner* owner) {
  static PyObject* const type = PyType_FromSpec(&type_spec);  // for the process's life
  if (type == nullptr) return nullptr;
  auto* const slots = PyObject_New(Slots, reinterpret_cast<PyTypeObject*>(type));
  if (slots == nullptr) return nullptr;
  slots->owner = owner;
  slots->thread = PyThread_get_thread_ident();
  return reinterpret_cast<PyObject*>(slots);
}

void DetachSlots(PyObject* slots) { reinterpret_cast<Slots*>(slots)->owner = nullptr; }

}  // namespace fastgen
