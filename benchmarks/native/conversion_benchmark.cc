// What it costs to make a frame, or a row of a batch, out of what a source yields: a Python module, because the values are Python's.
// `run(arguments)` takes Google Benchmark's options.
#include <benchmark/benchmark.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fastgen/core/copy_board.h"
#include "fastgen/core/frame.h"
#include "fastgen/core/slab_pool.h"
#include "fastgen/core/parking.h"
#include "fastgen/python/batch.h"
#include "fastgen/python/converter.h"
#include "fastgen/python/lifecycle.h"
#include "fastgen/python/python_api.h"
#include "fastgen/python/structure.h"

namespace py = pybind11;

namespace {

using fastgen::Batch;
using fastgen::Component;
using fastgen::Converter;
using fastgen::DType;
using fastgen::Frame;
using fastgen::Leaf;
using fastgen::Rules;
using fastgen::SlabPool;
using fastgen::Structure;

Leaf MakeLeaf(DType dtype, int numpy_type, std::vector<std::int64_t> lengths) {
  Leaf leaf;
  leaf.spec = {dtype, /*known_rank=*/true, std::move(lengths)};
  leaf.descr = PyArray_DescrFromType(numpy_type);  // kept for the process's life
  leaf.scalar = leaf.descr->typeobj;
  return leaf;
}

/// A frame as a ring holds it, for a benchmark to fill again and again.
class ReusedFrame {
 public:
  explicit ReusedFrame(std::size_t components) : components_(components, Component{}) {
    frame_.components = components_.data();
    frame_.num_components = static_cast<std::uint32_t>(components);
  }
  ~ReusedFrame() { frame_.Clear(); }
  ReusedFrame(const ReusedFrame&) = delete;
  ReusedFrame& operator=(const ReusedFrame&) = delete;

  Frame* get() { return &frame_; }

 private:
  std::vector<Component> components_;
  Frame frame_{};
};

/// A frame for each element.
void Measure(benchmark::State& state, const Converter& converter, const py::object& element) {
  ReusedFrame frame(converter.num_components());
  for (auto _ : state) {
    if (!converter.TryConvert(element.ptr(), frame.get(), SlabPool::Global())) {
      state.SkipWithError("declined");
      break;
    }
    frame.get()->Clear();
    fastgen::lifecycle::DropTextsNow();  // as a producer does now and then
  }
}

/// A batch, with the board that it puts copies on, and nobody there to take them.
class BatchOf {
 public:
  BatchOf(const Converter& converter, std::int64_t size)
      : batch_(converter.leaves(), size, /*stacked=*/true, &board_, SlabPool::Global()), frame_(converter.num_components()) {}

  Batch& batch() { return batch_; }

  /// The row counts; a full batch is handed over, as a frame that nobody wants.
  void Commit(PyObject* element) {
    batch_.Commit(element);
    if (!batch_.full()) return;
    batch_.Finish(frame_.get());
    frame_.get()->Clear();
    fastgen::lifecycle::DropTextsNow();
  }

 private:
  fastgen::ParkingSpot consumer_;
  fastgen::CopyBoard board_{&consumer_};
  Batch batch_;
  ReusedFrame frame_;
};

/// A row of a batch for each element; the batch's share is counted.
void MeasureRows(benchmark::State& state, const Converter& converter, const py::object& element, std::int64_t size) {
  BatchOf rows(converter, size);
  for (auto _ : state) {
    if (!converter.TryConvert(element.ptr(), rows.batch())) {
      state.SkipWithError("declined");
      break;
    }
    rows.Commit(element.ptr());
  }
}

constexpr std::int64_t kSmallRows = 256;
constexpr std::int64_t kLargeRows = 32;

Converter OneInt() { return Converter({}, {MakeLeaf(DType::kInt64, NPY_INT64, {})}, Rules::kNumpy); }

void ConvertPythonInt(benchmark::State& state) { Measure(state, OneInt(), py::int_(12345)); }
BENCHMARK(ConvertPythonInt);

void ConvertPythonIntIntoBatch(benchmark::State& state) { MeasureRows(state, OneInt(), py::int_(12345), kSmallRows); }
BENCHMARK(ConvertPythonIntIntoBatch);

void ConvertNumpyScalar(benchmark::State& state) {
  Measure(state, Converter({}, {MakeLeaf(DType::kFloat32, NPY_FLOAT32, {})}, Rules::kNumpy),
          py::module_::import("numpy").attr("float32")(1.5));
}
BENCHMARK(ConvertNumpyScalar);

Converter OneArray() { return Converter({}, {MakeLeaf(DType::kFloat32, NPY_FLOAT32, {-1})}, Rules::kNumpy); }

py::object Zeros(std::int64_t size) { return py::module_::import("numpy").attr("zeros")(size, "float32"); }

/// An array of `state.range(0)` floats.
void ConvertArray(benchmark::State& state) {
  Measure(state, OneArray(), Zeros(state.range(0)));
  state.SetBytesProcessed(state.iterations() * state.range(0) * 4);
}
BENCHMARK(ConvertArray)->Arg(16)->Arg(256)->Arg(10'000)->Arg(224 * 224 * 3);

void ConvertArrayIntoBatch(benchmark::State& state) {
  MeasureRows(state, OneArray(), Zeros(state.range(0)), state.range(0) < 1024 ? kSmallRows : kLargeRows);
  state.SetBytesProcessed(state.iterations() * state.range(0) * 4);
}
BENCHMARK(ConvertArrayIntoBatch)->Arg(16)->Arg(256)->Arg(10'000)->Arg(224 * 224 * 3);

Converter OneString() { return Converter({}, {MakeLeaf(DType::kString, NPY_OBJECT, {})}, Rules::kNumpy); }

/// Bytes, of `state.range(0)`: short ones are copied, long ones held.
py::object Bytes(benchmark::State& state) { return py::bytes(std::string(static_cast<std::size_t>(state.range(0)), 'x')); }

void ConvertString(benchmark::State& state) { Measure(state, OneString(), py::str("a short string")); }
BENCHMARK(ConvertString);

void ConvertBytes(benchmark::State& state) { Measure(state, OneString(), Bytes(state)); }
BENCHMARK(ConvertBytes)->Arg(16)->Arg(1000)->Arg(50'000);

void ConvertBytesIntoBatch(benchmark::State& state) {
  MeasureRows(state, OneString(), Bytes(state), state.range(0) < 1024 ? kSmallRows : kLargeRows);
}
BENCHMARK(ConvertBytesIntoBatch)->Arg(16)->Arg(1000)->Arg(50'000);

/// A list of 32 short strings.
py::list Words() {
  py::list words;
  for (int i = 0; i < 32; ++i) words.append(py::str("word" + std::to_string(i)));
  return words;
}

Converter OneListOfStrings() { return Converter({}, {MakeLeaf(DType::kString, NPY_OBJECT, {32})}, Rules::kNumpy); }

void ConvertListOfStrings(benchmark::State& state) { Measure(state, OneListOfStrings(), Words()); }
BENCHMARK(ConvertListOfStrings);

void ConvertListOfStringsIntoBatch(benchmark::State& state) { MeasureRows(state, OneListOfStrings(), Words(), kSmallRows); }
BENCHMARK(ConvertListOfStringsIntoBatch);

/// A dict of ten ints, and its converter. The structure borrows the keys.
struct DictOfTen {
  DictOfTen() {
    structure.kind = Structure::Kind::kDict;
    structure.type = &PyDict_Type;
    for (int i = 0; i < 10; ++i) {
      const py::str key("feature" + std::to_string(i));
      keys.append(key);
      element[key] = i;
      Structure leaf;
      leaf.leaf = static_cast<std::size_t>(i);
      structure.keys.push_back(key.ptr());
      structure.children.push_back(std::move(leaf));
      leaves.push_back(MakeLeaf(DType::kInt64, NPY_INT64, {}));
    }
  }
  Converter MakeConverter() const { return Converter(structure, leaves, Rules::kNumpy); }

  Structure structure;
  std::vector<Leaf> leaves;
  py::list keys;
  py::dict element;
};

void ConvertDictOfTen(benchmark::State& state) {
  const DictOfTen dict;
  Measure(state, dict.MakeConverter(), dict.element);
}
BENCHMARK(ConvertDictOfTen);

void ConvertDictOfTenIntoBatch(benchmark::State& state) {
  const DictOfTen dict;
  MeasureRows(state, dict.MakeConverter(), dict.element, kSmallRows);
}
BENCHMARK(ConvertDictOfTenIntoBatch);

/// The life of a slot of `state.range(0)` floats but for what is written to it: made, yielded, found in its place, committed. With 1
/// as the second argument the source keeps another view of the first slot; from then on slots are copied.
void MakeAndCommitSlot(benchmark::State& state) {
  const Converter converter({}, {MakeLeaf(DType::kFloat32, NPY_FLOAT32, {state.range(0)})}, Rules::kNumpy);
  BatchOf rows(converter, state.range(0) < 1024 ? kSmallRows : kLargeRows);
  py::object kept;
  for (auto _ : state) {
    PyObject* const slot = rows.batch().Slot(0);
    rows.batch().KeepHandedOut(slot);
    if (state.range(1) != 0 && !kept) kept = py::reinterpret_borrow<py::object>(slot)[py::slice(0, 1, 1)];
    const bool converted = converter.TryConvert(slot, rows.batch());
    rows.Commit(slot);
    Py_DECREF(slot);
    if (!converted) {
      state.SkipWithError("declined");
      break;
    }
  }
  const bool shared = rows.batch().TakeSharedSlots();
  if (shared != (state.range(1) != 0)) state.SkipWithError("slots were not in place, or in place though they were shared");
}
BENCHMARK(MakeAndCommitSlot)->ArgNames({"floats", "shared"})->ArgsProduct({{1, 256, 10'000, 224 * 224 * 3}, {0, 1}});

/// What a source pays NumPy for an array of its own: what a slot spares it.
void MakeArray(benchmark::State& state) {
  const npy_intp size = state.range(0);
  for (auto _ : state) Py_XDECREF(PyArray_SimpleNew(1, &size, NPY_FLOAT32));
}
BENCHMARK(MakeArray)->ArgName("floats")->Arg(1)->Arg(256)->Arg(10'000)->Arg(224 * 224 * 3);

void Run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "conversion_benchmark");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  benchmark::RunSpecifiedBenchmarks();
}

}  // namespace

PYBIND11_MODULE(conversion_benchmark, module) {
  if (!fastgen::ImportNumpy()) throw py::error_already_set();
  module.def("run", &Run, py::arg("arguments") = std::vector<std::string>(), "Runs the benchmarks with the GIL held.");
}
