// Times linear layers on the card: shapes of R1-Distill-Qwen-7B, random weights in the file's formats, rotated over more
// memory than the L2 cache holds, as graphs of launches with programmatic dependency. Prints microseconds, bytes of
// weights per second and the share of the measured read bandwidth.
//   cuda_bench [part of a name | all] [rows ...]
#include <algorithm>
#include <memory>

#include "backend/cuda/linear.h"
#include "backend/cuda/test_support.cuh"

namespace ponder::backend::cuda::test {
namespace {

struct Card {
  Launch launch;
  DeviceLimits limits;
  double bandwidth = 0;
};

__global__ void fill_random(uint32_t* words, size_t n, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += size_t(gridDim.x) * blockDim.x) {
    uint32_t h = uint32_t(i) * 2654435761u ^ seed;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13;
    words[i] = h;
  }
}
/// Makes the half-precision scales small and finite: the tile's own places of them.
__global__ void tame_scales(uint8_t* tiles, size_t n, TileKind kind) {
  const size_t tile = blockIdx.x * size_t(blockDim.x) + threadIdx.x;
  if (tile >= n) return;
  uint8_t* t = tiles + tile * tile_bytes(kind);
  const auto put = [&](int at) {
    *reinterpret_cast<uint16_t*>(t + at) = uint16_t(0x0400 | (*reinterpret_cast<uint16_t*>(t + at) & 0x3ff));
  };
  if (kind == TileKind::q4_k || kind == TileKind::q5_k) {
    const int base = tile_bytes(kind) - 256;
    for (int r = 0; r < 16; ++r) put(base + r * 16), put(base + r * 16 + 2);
  } else if (kind == TileKind::q6_k) {
    for (int r = 0; r < 16; ++r) put(3328 + r * 2);
  } else if (!is_float(kind)) {
    const int base = kind == TileKind::q8_0 ? 4096 : kind == TileKind::q5_0 || kind == TileKind::q5_1 ? 2560 : 2048;
    for (int i = base; i < tile_bytes(kind); i += 2) put(i);
  } else {
    for (int i = 0; i < tile_bytes(kind); i += kind == TileKind::f32 ? 4 : 2)
      if (kind == TileKind::f32)
        *reinterpret_cast<uint32_t*>(t + i) = 0x3a000000u | (*reinterpret_cast<uint32_t*>(t + i) & 0x807fffffu);
      else
        put(i);
  }
}

struct Weights {
  Buffer<uint8_t> data;
  Matrix matrix;
  Weights(TileKind kind, int rows, int columns, uint32_t seed)
      : data(packed_bytes(kind, rows, columns)), matrix{data.get(), kind, rows, columns} {
    const size_t bytes = packed_bytes(kind, rows, columns), tiles = bytes / size_t(tile_bytes(kind));
    fill_random<<<1024, 256>>>(reinterpret_cast<uint32_t*>(data.get()), bytes / 4, seed);
    tame_scales<<<unsigned((tiles + 127) / 128), 128>>>(data.get(), tiles, kind);
    must(cudaDeviceSynchronize(), "random weights");
  }
};

/// Median milliseconds of a graph of what `record` launches.
template <typename Record>
double time_graph(Card& s, const Record& record, int repeats = 9) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  must(cudaStreamBeginCapture(s.launch.stream, cudaStreamCaptureModeGlobal), "capture");
  record();
  must(cudaStreamEndCapture(s.launch.stream, &graph), "end of capture");
  must(cudaGraphInstantiate(&exec, graph, 0), "graph");
  cudaEvent_t a, b;
  must(cudaEventCreate(&a), "event"), must(cudaEventCreate(&b), "event");
  std::vector<float> times;
  for (int i = 0; i < repeats + 2; ++i) {
    must(cudaEventRecord(a, s.launch.stream), "record");
    must(cudaGraphLaunch(exec, s.launch.stream), "launch");
    must(cudaEventRecord(b, s.launch.stream), "record");
    must(cudaEventSynchronize(b), "run");
    float ms;
    must(cudaEventElapsedTime(&ms, a, b), "time");
    if (i >= 2) times.push_back(ms);
  }
  must(cudaGraphExecDestroy(exec), "graph"), must(cudaGraphDestroy(graph), "graph");
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

__global__ void read_all(const uint4* p, size_t n, uint32_t* out) {
  uint32_t acc = 0;
  const size_t step = size_t(gridDim.x) * blockDim.x;
  size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x;
  for (; i + 3 * step < n; i += 4 * step) {
    const uint4 a = __ldcs(p + i), b = __ldcs(p + i + step), c = __ldcs(p + i + 2 * step), d = __ldcs(p + i + 3 * step);
    acc ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
  }
  if (acc == 0x12345) *out = acc;
}

struct Shape {
  const char* name;
  TileKind kinds[3];
  int rows[3], n_matrices, columns;
  bool norm;
  Epilogue epilogue;
};

struct Layer {
  std::vector<std::unique_ptr<Weights>> copies[3];
};

void bench_shape(Card& s, const Shape& shape, const std::vector<int>& counts, Buffer<float>& x, Buffer<float>& y,
                 Buffer<float>& gain, Buffer<uint8_t>& scratch) {
  size_t bytes = 0;
  for (int m = 0; m < shape.n_matrices; ++m) bytes += packed_bytes(shape.kinds[m], shape.rows[m], shape.columns);
  const int copies = std::max(3, int((300u << 20) / bytes));
  Layer layer;
  for (int m = 0; m < shape.n_matrices; ++m)
    for (int c = 0; c < copies; ++c)
      layer.copies[m].push_back(
          std::make_unique<Weights>(shape.kinds[m], shape.rows[m], shape.columns, uint32_t(c * 3 + m)));
  double one = 0;
  for (const int n : counts) {
    const auto record = [&] {
      for (int c = 0; c < copies; ++c) {
        LinearArgs a;
        a.x = x.get(), a.x_stride = shape.columns;
        if (shape.norm) a.norm_weight = gain.get(), a.epsilon = 1e-6f;
        a.n_matrices = shape.n_matrices, a.epilogue = shape.epilogue, a.n_rows = n, a.scratch = scratch.get();
        size_t at = 0;
        for (int m = 0; m < shape.n_matrices; ++m) {
          a.w[m] = layer.copies[m][size_t(c)]->matrix;
          a.y[m] = y.get() + at, a.y_stride[m] = shape.rows[m];
          at += size_t(shape.rows[m]) * size_t(n);
        }
        must(linear(a, s.launch), shape.name);
      }
    };
    const double us = time_graph(s, record) * 1e3 / copies;
    if (n == counts[0]) one = us;
    std::printf("%-22s n=%-3d %8.2f us %6.0f GB/s %5.1f%%  x%.2f\n", shape.name, n, us, double(bytes) / us / 1e3,
                double(bytes) / us / 1e3 / s.bandwidth * 100, us / one);
    std::fflush(stdout);
  }
}

int run(int argc, char** argv) {
  Card s;
  must(read_limits(0, &s.limits), "limits");
  must(cudaStreamCreate(&s.launch.stream), "stream");
  s.launch.limits = &s.limits;
  s.launch.pdl = s.limits.compute >= 90;
  {
    const size_t n = size_t(2) << 30;
    Buffer<uint8_t> p(n);
    Buffer<uint32_t> out(1);
    fill_random<<<1024, 256>>>(reinterpret_cast<uint32_t*>(p.get()), n / 4, 1);
    double best = 1e9;
    for (const int blocks : {1, 2, 4})
      best = std::min(best, time_graph(s, [&] {
                        read_all<<<s.limits.n_sms * blocks, 512, 0, s.launch.stream>>>(
                            reinterpret_cast<const uint4*>(p.get()), n / 16, out.get());
                      }));
    s.bandwidth = double(n) / best / 1e6;
    std::printf("read bandwidth %.0f GB/s, %d SMs\n", s.bandwidth, s.limits.n_sms);
  }
  using enum TileKind;
  const Shape shapes[] = {
      {"qkv q4_k", {q4_k, q4_k, q4_k}, {3584, 512, 512}, 3, 3584, true, Epilogue::store},
      {"qkv q4_k+q6_k", {q4_k, q4_k, q6_k}, {3584, 512, 512}, 3, 3584, true, Epilogue::store},
      {"o q4_k", {q4_k}, {3584}, 1, 3584, false, Epilogue::add},
      {"gate+up q4_k", {q4_k, q4_k}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"down q4_k", {q4_k}, {3584}, 1, 18944, false, Epilogue::add},
      {"down q6_k", {q6_k}, {3584}, 1, 18944, false, Epilogue::add},
      {"head q6_k", {q6_k}, {152064}, 1, 3584, true, Epilogue::store},
      {"gate+up q5_k", {q5_k, q5_k}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"gate+up q8_0", {q8_0, q8_0}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"gate+up q4_0", {q4_0, q4_0}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"gate+up q4_1", {q4_1, q4_1}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"gate+up q5_0", {q5_0, q5_0}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"o f16", {f16}, {3584}, 1, 3584, false, Epilogue::add},
      {"down f16", {f16}, {3584}, 1, 18944, false, Epilogue::add},
  };
  std::vector<int> counts;
  for (int i = 2; i < argc; ++i) counts.push_back(std::atoi(argv[i]));
  if (counts.empty()) counts = {1};
  const int most = *std::max_element(counts.begin(), counts.end());
  Buffer<float> x(random_floats(size_t(most) * 18944, 1)), y(size_t(most) * 160000), gain(random_floats(18944, 2));
  size_t scratch_bytes = 0;
  for (const Shape& shape : shapes) {
    int outputs = 0;
    for (int m = 0; m < shape.n_matrices; ++m) outputs += shape.rows[m];
    scratch_bytes = std::max(scratch_bytes, linear_scratch_bytes(most, shape.columns, outputs));
  }
  Buffer<uint8_t> scratch(scratch_bytes);
  const std::string only = argc > 1 ? argv[1] : "";
  for (const Shape& shape : shapes)
    if (only.empty() || only == "all" || std::string(shape.name).find(only) != std::string::npos)
      bench_shape(s, shape, counts, x, y, gain, scratch);
  return 0;
}

}  // namespace
}  // namespace ponder::backend::cuda::test

int main(int argc, char** argv) { return ponder::backend::cuda::test::run(argc, argv); }
