// Times linear layers on the card: shapes of R1-Distill-Qwen-7B, random weights in the file's formats, rotated over more
// memory than the L2 cache holds, as graphs of launches with programmatic dependency. Prints microseconds, bytes of
// weights per second and the share of the measured read bandwidth.
//   cuda_bench [part of a name | all | token] [rows ...]
#include <algorithm>
#include <memory>

#include "backend/cuda/attention.h"
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

/// A step of R1-Distill-Qwen-7B: 28 layers, half of them with Q6_K value and down matrices, and the head. Up to 16 rows are
/// sequences of their own at `depth`; more are one prompt after `depth` tokens, of which the last row gets logits.
void bench_token(Card& s, int n, int depth) {
  using enum TileKind;
  constexpr int kHidden = 3584, kFfn = 18944, kLayers = 28, kKv = 512, kVocab = 152064;
  struct Weight {
    std::unique_ptr<Weights> q, k, v, o, gate, up, down;
  };
  std::vector<Weight> layers(kLayers);
  size_t bytes = 0;
  for (int l = 0; l < kLayers; ++l) {
    const TileKind more = l % 2 == 0 ? q6_k : q4_k;
    const auto make = [&](TileKind kind, int rows, int columns, int i) {
      bytes += packed_bytes(kind, rows, columns);
      return std::make_unique<Weights>(kind, rows, columns, uint32_t(l * 8 + i));
    };
    Weight& w = layers[size_t(l)];
    w.q = make(q4_k, kHidden, kHidden, 0), w.k = make(q4_k, kKv, kHidden, 1), w.v = make(more, kKv, kHidden, 2);
    w.o = make(q4_k, kHidden, kHidden, 3), w.gate = make(q4_k, kFfn, kHidden, 4), w.up = make(q4_k, kFfn, kHidden, 5);
    w.down = make(more, kHidden, kFfn, 6);
  }
  Weights head(q6_k, kVocab, kHidden, 999);
  bytes += packed_bytes(q6_k, kVocab, kHidden);
  const bool prompt = n > 16;
  const int last = depth + (prompt ? n : 1) - 1, pages = last / kBlockTokens + 1, stride = pages,
            sequences = prompt ? 1 : n, outputs = prompt ? 1 : n;
  const size_t layer_bytes = kv_layer_bytes(4, 128);
  Buffer<float> x(random_floats(size_t(n) * kHidden, 1)), gain(random_floats(kHidden, 2)),
      bias(random_floats(kHidden, 3)), q(size_t(n) * kHidden), k(size_t(n) * kKv), v(size_t(n) * kKv),
      mixed(size_t(n) * kHidden), h(size_t(n) * kFfn), logits(size_t(outputs) * kVocab);
  Buffer<uint8_t> kv(size_t(pages) * layer_bytes * kLayers * size_t(sequences)),
      scratch(std::max({linear_scratch_bytes(n, kFfn, kHidden), linear_scratch_bytes(n, kHidden, 2 * kFfn),
                        linear_scratch_bytes(outputs, kHidden, kVocab)})),
      attention_scratch(attention_scratch_bytes(28, 4, 128, last));
  must(cudaMemset(kv.get(), 0, size_t(pages) * layer_bytes * kLayers * size_t(sequences)), "clear");
  must(cudaMemset(attention_scratch.get(), 0, attention_scratch_bytes(28, 4, 128, last)), "clear");
  std::vector<int32_t> table(size_t(n) * size_t(stride)), positions(size_t(n), depth);
  for (size_t i = 0; i < table.size(); ++i) table[i] = int32_t(prompt ? i % size_t(stride) : i);
  if (prompt)
    for (int i = 0; i < n; ++i) positions[size_t(i)] = depth + i;
  const RowRun whole = {0, n};
  Buffer<int32_t> dtable(table), dpositions(positions);
  Buffer<float2> rope(std::vector<float2>(size_t(last + 1) * 64, make_float2(0.8f, 0.6f)));
  const auto record = [&](bool linears, bool attention) {
    LinearArgs a;
    a.n_rows = n, a.scratch = scratch.get();
    for (int l = 0; l < kLayers; ++l) {
      Weight& w = layers[size_t(l)];
      LinearArgs p = a;
      p.x = x.get(), p.x_stride = kHidden, p.norm_weight = gain.get(), p.epsilon = 1e-6f;
      p.n_matrices = 3, p.w[0] = w.q->matrix, p.w[1] = w.k->matrix, p.w[2] = w.v->matrix;
      p.y[0] = q.get(), p.y[1] = k.get(), p.y[2] = v.get(), p.y_stride[0] = kHidden,
      p.y_stride[1] = p.y_stride[2] = kKv;
      p.bias[0] = p.bias[1] = p.bias[2] = bias.get();
      if (linears) must(linear(p, s.launch), "qkv");
      AttentionArgs t;
      t.n_heads = 28, t.n_kv_heads = 4, t.head_dim = 128, t.scale = 0.088f, t.n_rows = n;
      t.positions = dpositions.get(), t.page_table = dtable.get(), t.page_table_stride = stride, t.max_position = last;
      t.q = q.get(), t.q_stride = kHidden, t.k = k.get(), t.k_stride = kKv, t.v = v.get(), t.v_stride = kKv;
      t.pages = kv.get() + size_t(l) * layer_bytes, t.page_stride = int64_t(layer_bytes) * kLayers;
      t.rope = rope.get(), t.rope_dims = 128, t.out = mixed.get(), t.out_stride = kHidden,
      t.scratch = attention_scratch.get();
      if (prompt) t.runs = &whole, t.n_runs = 1;
      if (attention) must(rope_store_attend(t, s.launch), "attention");
      if (!linears) continue;
      LinearArgs o = a;
      o.x = mixed.get(), o.x_stride = kHidden, o.w[0] = w.o->matrix, o.y[0] = x.get(), o.y_stride[0] = kHidden,
      o.epilogue = Epilogue::add;
      must(linear(o, s.launch), "o");
      LinearArgs g = a;
      g.x = x.get(), g.x_stride = kHidden, g.norm_weight = gain.get(), g.epsilon = 1e-6f, g.n_matrices = 2;
      g.w[0] = w.gate->matrix, g.w[1] = w.up->matrix, g.y[0] = h.get(), g.y_stride[0] = kFfn,
      g.epilogue = Epilogue::silu;
      must(linear(g, s.launch), "gate and up");
      LinearArgs d = a;
      d.x = h.get(), d.x_stride = kFfn, d.w[0] = w.down->matrix, d.y[0] = x.get(), d.y_stride[0] = kHidden,
      d.epilogue = Epilogue::add;
      must(linear(d, s.launch), "down");
    }
    if (!linears) return;
    LinearArgs e = a;
    e.n_rows = outputs, e.x = x.get() + size_t(n - outputs) * kHidden, e.x_stride = kHidden, e.norm_weight = gain.get(),
    e.epsilon = 1e-6f;
    e.w[0] = head.matrix, e.y[0] = logits.get(), e.y_stride[0] = kVocab;
    must(linear(e, s.launch), "head");
  };
  const double all = time_graph(s, [&] { record(true, true); }),
               no_attention = time_graph(s, [&] { record(true, false); }),
               attention = time_graph(s, [&] { record(false, true); });
  std::printf(
      "token n=%-2d depth %-6d %.3f ms = %.0f t/s (%.0f GB/s, %.1f%%); without attention %.3f ms, attention alone %.3f "
      "ms\n",
      n, depth, all, n * 1e3 / all, double(bytes) / all / 1e6, double(bytes) / all / 1e6 / s.bandwidth * 100,
      no_attention, attention);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  Card s;
  must(read_limits(0, &s.limits), "limits");
  must(cudaStreamCreate(&s.launch.stream), "stream");
  s.launch.limits = &s.limits;
  s.launch.pdl = s.limits.compute >= 90;
  if (const char* compute = std::getenv("CUDA_BENCH_COMPUTE"))
    s.limits.compute = std::atoi(compute);  // kernels of an older card
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
      {"qkv f16", {f16, f16, f16}, {3584, 512, 512}, 3, 3584, true, Epilogue::store},
      {"gate+up f16", {f16, f16}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"down f16", {f16}, {3584}, 1, 18944, false, Epilogue::add},
      {"head f16", {f16}, {152064}, 1, 3584, true, Epilogue::store},
      {"o bf16", {bf16}, {3584}, 1, 3584, false, Epilogue::add},
      {"gate+up bf16", {bf16, bf16}, {18944, 18944}, 2, 3584, true, Epilogue::silu},
      {"down bf16", {bf16}, {3584}, 1, 18944, false, Epilogue::add},
      {"down f32", {f32}, {3584}, 1, 18944, false, Epilogue::add},
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
  if (only == "token") {
    const char* only_depth = std::getenv("CUDA_BENCH_DEPTH");
    for (const int n : counts)
      for (const int depth : {n > 16 ? 0 : 512, 8192}) {
        if (only_depth == nullptr)
          bench_token(s, n, depth);
        else if (depth == 8192)
          bench_token(s, n, std::atoi(only_depth));
      }
    return 0;
  }
  for (const Shape& shape : shapes)
    if (only.empty() || only == "all" || std::string(shape.name).find(only) != std::string::npos)
      bench_shape(s, shape, counts, x, y, gain, scratch);
  return 0;
}

}  // namespace
}  // namespace ponder::backend::cuda::test

int main(int argc, char** argv) { return ponder::backend::cuda::test::run(argc, argv); }
