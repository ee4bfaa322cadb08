// Speed of the linear layers, by weight format, form of activations, rows and threads:
//   one/...      one panel in the caches, one thread: the kernels' own speed
//   block/...    8 panels times 512 rows, one thread: with the caches' part in prefill
//   decode/...   256 MiB of panels, few rows: bytes per second
//   prefill/...  4480 rows of weights times 512 rows: multiply-adds per second
//   pack/..., quantize/...
// Run with --benchmark_filter=...; timings of a busy machine are worthless (others' spinning halves everything).
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/limits.h"
#include "backend/cpu/linear.h"
#include "base/os/memory.h"
#include "base/os/system.h"
#include "base/thread_pool.h"

namespace ponder::backend::cpu {
namespace {

struct Setup {
  Matrix matrix;
  os::Arena weights, inputs, scratch;
  Activations x;
  std::vector<float> out, floats;
  std::vector<uint8_t> data;  // of the first panels

  Setup(const quant::Format& format, Form form, int64_t rows, int64_t columns, int64_t n, int threads)
      : matrix(Matrix::describe(format, uint64_t(rows), uint64_t(columns)).value()),
        weights(os::Arena::allocate(matrix.packed_bytes() + 8192).value()),
        inputs(os::Arena::allocate(Activations::bytes(form, columns, n)).value()),
        scratch(os::Arena::allocate(matrix.scratch_bytes(form) * uint64_t(threads)).value()),
        x(form, columns, n, inputs.data()),
        out(size_t(rows * n)),
        floats(size_t(columns * n)) {
    std::mt19937 rng(1);
    std::normal_distribution<float> normal;
    const int64_t n_rows = std::min<int64_t>(rows, 2 * kPanelRows);
    std::vector<float> w(static_cast<size_t>(columns));
    data.resize(size_t(n_rows) * format.row_bytes(uint64_t(columns)));
    for (int64_t r = 0; r < n_rows; r++) {
      for (auto& v : w) v = normal(rng);
      format.quantize(w.data(), data.data() + uint64_t(r) * format.row_bytes(uint64_t(columns)),
                      w.size() / format.block_size);
    }
    const int64_t n_panels = n_rows / kPanelRows;
    matrix.pack(data, {0, n_panels}, weights.data());
    for (int64_t p = n_panels; p < matrix.panels(); p++)
      std::memcpy(weights.data() + uint64_t(p) * matrix.panel_bytes(),
                  weights.data() + uint64_t(p % n_panels) * matrix.panel_bytes(), matrix.panel_bytes());
    for (auto& v : floats) v = normal(rng);
    x.begin(n);
    for (int64_t i = 0; i < n; i++) x.set_row(i, floats.data() + i * columns);
  }

  void run(ThreadPool& pool) {
    pool.run([&](int t) {
      const Share s = share_of(matrix.panels(), t, pool.size());
      multiply(matrix, weights.data(), {s.begin, s.end}, x, {out.data() + s.begin * kPanelRows, matrix.rows()},
               scratch.data() + matrix.scratch_bytes(x.form()) * unsigned(t));
    });
  }
};

void count(benchmark::State& state, double macs, double bytes) {
  state.counters["GMAC/s"] = benchmark::Counter(macs * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void run_multiply(benchmark::State& state, const quant::Format* format, Form form, int64_t rows, int64_t columns,
                  int64_t n, int threads) {
  Setup s(*format, form, rows, columns, n, threads);
  ThreadPool pool(threads);
  for (auto _ : state) s.run(pool);
  count(state, double(rows) * double(columns) * double(n), double(s.matrix.packed_bytes()));
}

void run_pack(benchmark::State& state, const quant::Format* format) {
  Setup s(*format, format->is_float ? Form::f32 : Form::i8x32, 2 * kPanelRows, 1536, 1, 1);
  for (auto _ : state) s.matrix.pack(s.data, {0, 2}, s.weights.data());
  count(state, 0, double(s.matrix.packed_bytes()));
}

void run_quantize(benchmark::State& state, Form form, int64_t n) {
  Setup s(*quant::find_format("q8_0"), form, kPanelRows, 1536, n, 1);
  for (auto _ : state)
    for (int64_t i = 0; i < n; i++) s.x.set_row(i, s.floats.data() + i * 1536);
  count(state, 0, double(n) * 1536 * 4);
}

void run_limits(benchmark::State& state) {
  MachineLimits limits;
  for (auto _ : state) limits = measure_limits(int(state.range(0))).value();
  state.counters["GMAC/s"] = limits.int8_gmacs;
  state.counters["GB/s"] = limits.read_gbs;
}

const int kRegistered = [] {
  const int cores = os::physical_cores();
  for (const quant::Format* format : quant::all_formats()) {
    const std::string name = format->name;
    for (Form form : {Form::i8x32, Form::i8x32r1, Form::i14x256, Form::f32}) {
      if (format->is_float && form != Form::f32) continue;
      const std::string kind = name + "/" + to_string(form) + "/";
      for (int64_t n : {1, 2, 4, 8, 16})
        benchmark::RegisterBenchmark(("one/" + kind + std::to_string(n)).c_str(), run_multiply, format, form,
                                     kPanelRows, 1536, n, 1);
      for (int64_t columns : {1536, 8960})
        benchmark::RegisterBenchmark(("block/" + kind + std::to_string(columns)).c_str(), run_multiply, format, form,
                                     8 * kPanelRows, columns, 512, 1);
      for (int64_t n : {1, 2, 4, 8}) {
        const int64_t rows = int64_t(256 << 20) / int64_t(format->row_bytes(1536)) / kPanelRows * kPanelRows;
        benchmark::RegisterBenchmark(("decode/" + kind + std::to_string(n)).c_str(), run_multiply, format, form, rows,
                                     1536, n, cores)
            ->UseRealTime();
      }
      for (int64_t columns : {1536, 8960})
        benchmark::RegisterBenchmark(("prefill/" + kind + std::to_string(columns)).c_str(), run_multiply, format, form,
                                     columns == 1536 ? 4480 : 1536, columns, 512, cores)
            ->UseRealTime()
            ->MinTime(0.3);
    }
    benchmark::RegisterBenchmark(("pack/" + name).c_str(), run_pack, format);
  }
  for (Form form : {Form::i8x32, Form::i8x32r1, Form::i14x256})
    for (int64_t n : {1, 8})
      benchmark::RegisterBenchmark(("quantize/" + std::string(to_string(form)) + "/" + std::to_string(n)).c_str(),
                                   run_quantize, form, n);
  benchmark::RegisterBenchmark("limits", run_limits)->Arg(1)->Arg(cores)->Iterations(1);
  return 0;
}();

}  // namespace
}  // namespace ponder::backend::cpu
