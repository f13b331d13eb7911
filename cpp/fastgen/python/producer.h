// The background thread that owns one pass over one source: pull, convert, publish.
#ifndef FASTGEN_PYTHON_PRODUCER_H_
#define FASTGEN_PYTHON_PRODUCER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "fastgen/core/channel.h"
#include "fastgen/core/status.h"
#include "fastgen/python/python_api.h"
#include "fastgen/python/python_source.h"

namespace fastgen {

/// Held by its own thread and by its stream, whichever lives longer. Python objects of a pass live in this object rather than on
/// the thread's stack: when the interpreter ends, it may unwind that stack, and nothing must be dropped then.
class Producer : public std::enable_shared_from_this<Producer> {
 public:
  /// `arguments` are taken over.
  Producer(std::shared_ptr<PythonSource> source, std::vector<Component> arguments);
  ~Producer();
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  /// Starts the thread. Never with the GIL needed. An error when the interpreter is exiting or no thread can be had.
  Status Start();

  Channel& channel() { return channel_; }

  /// True when the source has been closed and the thread is done with Python.
  bool WaitUntilFinished(std::chrono::steady_clock::time_point deadline);
  /// Whether the calling thread is this producer's.
  bool OnOwnThread() const { return thread_id_.load(std::memory_order_acquire) == PyThread_get_thread_ident(); }
  /// The thread's identifier as Python knows it; 0 before it runs.
  unsigned long thread_id() const { return thread_id_.load(std::memory_order_acquire); }

  /// The error that every call after the end repeats: the source could not even be called. Read it only after the channel's end.
  const Status& lasting_error() const { return lasting_error_; }

 private:
  static void Run(std::shared_ptr<Producer> self);

  // All with the GIL.
  void RunWithGil();
  bool OpenSource();
  void PullAll();
  bool MakeRoom();
  void Pull(Frame* frame);
  bool Fill(PyObject* element, Frame* frame);
  Status DescribeException(Origin origin);
  void CloseSource();
  PyObject* ArgumentsForPython();

  const std::shared_ptr<PythonSource> source_;
  std::vector<Component> arguments_;
  Channel channel_;
  Status lasting_error_;
  std::atomic<unsigned long> thread_id_{0};

  // The thread's own.
  PyObject* context_ = nullptr;
  PyObject* iterator_ = nullptr;
  std::uint64_t index_ = 0;           // of the next element
  bool wait_for_demand_ = false;      // the source has raised: no further ahead until the user has seen it
  bool exhausted_ = false;

  std::mutex finished_mutex_;
  std::condition_variable finished_changed_;
  bool finished_ = false;  // guarded by finished_mutex_
};

}  // namespace fastgen

#endif  // FASTGEN_PYTHON_PRODUCER_H_
