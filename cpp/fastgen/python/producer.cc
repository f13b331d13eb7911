#include "fastgen/python/producer.h"

#include <pthread.h>

#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "fastgen/python/gil.h"
#include "fastgen/python/lifecycle.h"
#include "fastgen/python/numpy_memory.h"

namespace fastgen {
namespace {

/// Sources that run no bytecode (range, map over a C function) never offer the GIL to others; so it is offered for them.
constexpr std::uint64_t kElementsPerTurn = 256;

/// The source raised StopIteration where an exception was found: the end, as for `next()`.
bool TakeStopIteration() {
  if (PyErr_Occurred() != nullptr && !PyErr_ExceptionMatches(PyExc_StopIteration)) return false;
  PyErr_Clear();
  return true;
}

}  // namespace

Producer::Producer(std::shared_ptr<PythonSource> source, std::vector<Component> arguments)
    : source_(std::move(source)),
      arguments_(std::move(arguments)),
      channel_(source_->converter().num_components(), source_->options().read_ahead) {}

Producer::~Producer() {
  for (Component& argument : arguments_) argument.Clear();
  // Null unless the thread was ended from outside; then these are references that nobody can drop any more.
  lifecycle::DropLater(iterator_);
  lifecycle::DropLater(context_);
}

Status Producer::Start() {
  if (!lifecycle::Register(shared_from_this())) {
    return Status(Code::kCancelled, "The Python interpreter is shutting down: no further element can be made.");
  }
  try {
    std::thread(&Producer::Run, shared_from_this()).detach();
  } catch (const std::system_error& error) {
    lifecycle::Unregister(this);
    return Status(Code::kResourceExhausted,
                  std::string("Could not start a background thread for the source (") + error.what() +
                      "). Lower the number of sources that run at the same time.");
  }
  return Status();
}

bool Producer::WaitUntilFinished(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock<std::mutex> lock(finished_mutex_);
  return finished_changed_.wait_until(lock, deadline, [this] { return finished_; });
}

void Producer::Run(std::shared_ptr<Producer> self) {
  pthread_setname_np(pthread_self(), "fastgen");
  self->thread_id_.store(PyThread_get_thread_ident(), std::memory_order_release);
  if (!lifecycle::Exiting()) WithGil([&self] { self->RunWithGil(); });
  self->channel_.Finish();
  lifecycle::Unregister(self.get());
  {
    const std::lock_guard<std::mutex> lock(self->finished_mutex_);
    self->finished_ = true;
  }
  self->finished_changed_.notify_all();
}

void Producer::RunWithGil() {
  context_ = PyContext_Copy(source_->functions().context);
  if (context_ == nullptr || PyContext_Enter(context_) != 0) {
    lasting_error_ = DescribeException(Origin::kCall);
    return;
  }
  if (!numpy_memory::Install()) {
    lasting_error_ = DescribeException(Origin::kCall);
  } else if (OpenSource()) {
    PullAll();
  }
  CloseSource();
  lifecycle::DropNow();  // the GIL is here anyway
}

bool Producer::OpenSource() {
  PyObject* arguments = ArgumentsForPython();
  if (arguments != nullptr) {
    iterator_ = PyObject_CallOneArg(source_->functions().open, arguments);
    Py_DECREF(arguments);
  }
  if (iterator_ != nullptr) return true;
  if (!TakeStopIteration()) lasting_error_ = DescribeException(Origin::kCall);
  return false;
}

void Producer::PullAll() {
  while (!exhausted_) {
    if (channel_.closed() || !MakeRoom()) return;
    Frame* frame = channel_.TryReserve();
    if (frame == nullptr) continue;
    Pull(frame);
    if (!exhausted_) channel_.Publish();
    if (index_ % kElementsPerTurn == 0) WithoutGil([] {});  // a thread that waits gets its turn
  }
}

bool Producer::MakeRoom() {
  bool open = true;
  if (wait_for_demand_ || channel_.on_demand()) {
    wait_for_demand_ = false;
    WithoutGil([&] { open = channel_.WaitForDemand(); });  // whoever consumes may need the GIL to get there
  } else if (channel_.TryReserve() == nullptr) {
    WithoutGil([&] { open = channel_.WaitForRoom(); });  // as above
  }
  return open;
}

void Producer::Pull(Frame* frame) {
  PyObject* element = Py_TYPE(iterator_)->tp_iternext(iterator_);
  if (element == nullptr) {
    if (TakeStopIteration()) {
      exhausted_ = true;
      return;
    }
    frame->SetError(DescribeException(Origin::kNext));
    frame->is_source_element = false;
    // A generator has ended now, but another iterator may go on: so does tf.data. It is asked again only once the user has seen
    // the error and wants more, or one that always fails would fail for ever into the ring.
    wait_for_demand_ = true;
    return;
  }
  if (!Fill(element, frame)) {
    // A StopIteration out of an element's own code (`__array__`) is an error too: an iteration must not end for it in silence.
    frame->SetError(DescribeException(Origin::kElement));
  }
  ++index_;
  Py_DECREF(element);
}

bool Producer::Fill(PyObject* element, Frame* frame) {
  try {
    if (source_->converter().TryConvert(element, frame)) return true;
    PyObject* prepared =
        PyObject_CallFunction(source_->functions().prepare, "OK", element, static_cast<unsigned long long>(index_));
    if (prepared == nullptr) return false;
    const bool filled = source_->converter().FillFromPrepared(prepared, frame);
    Py_DECREF(prepared);
    return filled;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
}

Status Producer::DescribeException(Origin origin) {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Status status(Code::kInternal, "fastgen could not describe an exception of the source.");
  PyObject* described = PyObject_CallFunction(source_->functions().describe, "OiK", value, static_cast<int>(origin),
                                              static_cast<unsigned long long>(index_));
  int code = 0;
  const char* text = nullptr;
  Py_ssize_t size = 0;
  long long id = 0;
  if (described != nullptr && PyArg_ParseTuple(described, "is#L", &code, &text, &size, &id)) {
    status = Status(static_cast<Code>(code), std::string(text, static_cast<std::size_t>(size)), id);
  } else {
    PyErr_WriteUnraisable(value);  // prints why, and goes on
  }
  Py_XDECREF(described);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(traceback);
  return status;
}

void Producer::CloseSource() {
  // A generator that nobody else holds is closed by this: its `finally` blocks run here, on the thread that ran the rest of it.
  Py_CLEAR(iterator_);
  if (PyContext_Exit(context_) != 0) PyErr_Clear();
  Py_CLEAR(context_);
}

PyObject* Producer::ArgumentsForPython() {
  PyObject* list = PyList_New(static_cast<Py_ssize_t>(arguments_.size()));
  if (list == nullptr) return nullptr;
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    Component& argument = arguments_[i];
    PyObject* shape = PyTuple_New(argument.rank);
    for (int axis = 0; axis < argument.rank; ++axis) {
      PyTuple_SET_ITEM(shape, axis, PyLong_FromLongLong(argument.dims()[axis]));
    }
    PyObject* content = nullptr;
    if (argument.storage == Component::Storage::kStrings) {
      const auto count = static_cast<std::size_t>(argument.num_values());
      const StringTable table(argument.bytes(), count);
      content = PyList_New(static_cast<Py_ssize_t>(count));
      for (std::size_t j = 0; j < count; ++j) {
        PyList_SET_ITEM(content, static_cast<Py_ssize_t>(j),
                        PyBytes_FromStringAndSize(table.data(j), static_cast<Py_ssize_t>(table.size(j))));
      }
    } else {
      content = PyByteArray_FromStringAndSize(reinterpret_cast<const char*>(argument.bytes()),
                                              static_cast<Py_ssize_t>(argument.byte_size));
    }
    PyObject* entry = Py_BuildValue("(iNN)", static_cast<int>(argument.dtype), shape, content);
    if (entry == nullptr) {
      Py_DECREF(list);
      return nullptr;
    }
    PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), entry);
    argument.Clear();
  }
  return list;
}

}  // namespace fastgen
