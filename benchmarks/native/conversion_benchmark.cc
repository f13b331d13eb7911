// What it costs to make a frame out of what a source yields: a Python module, because the values are Python's. `run(arguments)`
// takes Google Benchmark's options.
#include <benchmark/benchmark.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "fastgen/core/frame.h"
#include "fastgen/python/converter.h"
#include "fastgen/python/python_api.h"

namespace py = pybind11;

namespace {

using fastgen::Component;
using fastgen::Converter;
using fastgen::DType;
using fastgen::Frame;
using fastgen::Leaf;
using fastgen::Rules;
using fastgen::Structure;

Leaf MakeLeaf(DType dtype, int numpy_type, std::vector<std::int64_t> lengths) {
  Leaf leaf;
  leaf.spec = {dtype, /*known_rank=*/true, std::move(lengths)};
  leaf.descr = PyArray_DescrFromType(numpy_type);  // kept for the process's life
  leaf.scalar = leaf.descr->typeobj;
  return leaf;
}

void Measure(benchmark::State& state, const Converter& converter, const py::object& element) {
  std::vector<Component> components(converter.num_components(), Component{});
  Frame frame{};
  frame.components = components.data();
  frame.num_components = static_cast<std::uint32_t>(components.size());
  for (auto _ : state) {
    if (!converter.TryConvert(element.ptr(), &frame)) {
      state.SkipWithError("declined");
      break;
    }
    frame.Clear();
  }
}

void ConvertPythonInt(benchmark::State& state) {
  Measure(state, Converter({}, {MakeLeaf(DType::kInt64, NPY_INT64, {})}, Rules::kNumpy), py::int_(12345));
}
BENCHMARK(ConvertPythonInt);

void ConvertNumpyScalar(benchmark::State& state) {
  Measure(state, Converter({}, {MakeLeaf(DType::kFloat32, NPY_FLOAT32, {})}, Rules::kNumpy),
          py::module_::import("numpy").attr("float32")(1.5));
}
BENCHMARK(ConvertNumpyScalar);

/// An array of `state.range(0)` floats.
void ConvertArray(benchmark::State& state) {
  Measure(state, Converter({}, {MakeLeaf(DType::kFloat32, NPY_FLOAT32, {-1})}, Rules::kNumpy),
          py::module_::import("numpy").attr("zeros")(state.range(0), "float32"));
  state.SetBytesProcessed(state.iterations() * state.range(0) * 4);
}
BENCHMARK(ConvertArray)->Arg(16)->Arg(256)->Arg(10'000)->Arg(224 * 224 * 3);

void ConvertString(benchmark::State& state) {
  Measure(state, Converter({}, {MakeLeaf(DType::kString, NPY_OBJECT, {})}, Rules::kNumpy), py::str("a short string"));
}
BENCHMARK(ConvertString);

void ConvertDictOfTen(benchmark::State& state) {
  Structure structure;
  structure.kind = Structure::Kind::kDict;
  structure.type = &PyDict_Type;
  std::vector<Leaf> leaves;
  py::dict element;
  py::list keys;  // the structure borrows them
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
  Measure(state, Converter(std::move(structure), std::move(leaves), Rules::kNumpy), element);
}
BENCHMARK(ConvertDictOfTen);

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
