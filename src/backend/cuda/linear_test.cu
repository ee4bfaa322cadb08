// Linear layers on the card against the arithmetic of linear.h on the host: equal bits where that arithmetic is fully
// written out, and 1e-6 relative to double on the same quantised activations. Real shapes, odd tails, every format,
// 1 to 40 rows; a row's bits do not depend on the rows beside it. Without a card the tests are skipped.
#include "backend/cuda/linear.h"

#include <gtest/gtest.h>

#include "backend/cuda/test_support.cuh"

namespace ponder::backend::cuda::test {
namespace {

void check(bool ok, const std::string& what) { EXPECT_TRUE(ok) << what; }

struct Card {
  Launch launch;
  DeviceLimits limits;
  Card() {
    must(read_limits(0, &limits), "read_limits");
    must(cudaStreamCreate(&launch.stream), "cudaStreamCreate");
    launch.limits = &limits;
    launch.pdl = limits.compute >= 90;
  }
};

uint32_t bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

/// Sampled rows of y against the host.
void compare(const std::string& name, const TestMatrix& w, const std::vector<HostRow>& x, const std::vector<float>& y,
             int stride, const float* bias, const float* residual) {
  int wrong_bits = 0, n = 0;
  double error = 0, size = 0;
  const int step = std::max(1, w.rows / 61);
  for (size_t r = 0; r < x.size(); ++r)
    for (int o = 0; o < w.rows; o += (o + step < w.rows - 1 || o == w.rows - 1) ? step : w.rows - 1 - o) {
      const HostDot dot = host_dot(w, o, x[r]);
      float want = dot.exact * x[r].rms;
      double real = dot.real * double(x[r].rms);
      if (bias != nullptr) want += bias[o], real += double(bias[o]);
      const float before = residual != nullptr ? residual[r * size_t(stride) + size_t(o)] : 0.f;
      if (residual != nullptr) want = before + want, real += double(before);
      const float got = y[r * size_t(stride) + size_t(o)];
      wrong_bits += bits(got) != bits(want);
      error += (double(got) - real) * (double(got) - real), size += real * real, ++n;
    }
  const double relative = std::sqrt(error / size);
  check(wrong_bits == 0,
        name + ": " + std::to_string(wrong_bits) + " of " + std::to_string(n) + " outputs differ in bits");
  check(relative < 1e-6, name + ": relative error " + std::to_string(relative));
}

void test_rows(Card& s, const char* type, int rows, int columns, int n, bool norm, Epilogue epilogue) {
  const std::string name = std::string(type) + " " + std::to_string(rows) + "x" + std::to_string(columns) +
                           " n=" + std::to_string(n) + (norm ? " norm" : "") +
                           (epilogue == Epilogue::add ? " add" : "");
  TestMatrix w(type, rows, columns, 1);
  const int x_stride = (columns + 7) / 4 * 4, y_stride = rows + 3;
  const std::vector<float> x = random_floats(size_t(n) * size_t(x_stride), 2), gain = random_floats(size_t(columns), 3),
                           bias = random_floats(size_t(rows), 4),
                           before = random_floats(size_t(n) * size_t(y_stride), 5);
  Buffer<float> dx(x), dgain(gain), dbias(bias), dy(before);
  Buffer<uint8_t> scratch(linear_scratch_bytes(n, columns, rows));
  LinearArgs a;
  a.x = dx.get(), a.x_stride = x_stride;
  if (norm) a.norm_weight = dgain.get(), a.epsilon = 1e-6f;
  a.w[0] = w.matrix, a.bias[0] = dbias.get(), a.y[0] = dy.get(), a.y_stride[0] = y_stride;
  a.epilogue = epilogue, a.n_rows = n, a.scratch = scratch.get();
  must(linear(a, s.launch), name.c_str());
  must(cudaDeviceSynchronize(), name.c_str());
  std::vector<HostRow> hx;
  for (int r = 0; r < n; ++r)
    hx.emplace_back(x.data() + size_t(r) * size_t(x_stride), norm ? gain.data() : nullptr, 1e-6f, columns);
  compare(name, w, hx, dy.host(), y_stride, bias.data(), epilogue == Epilogue::add ? before.data() : nullptr);
}

/// q, k and v of one row, three formats as they occur together; then gate and up.
void test_many_matrices(Card& s, const char* qk, const char* v, int n) {
  const int columns = 1536;
  TestMatrix a(qk, 1552, columns, 6), b(qk, 256, columns, 7), c(v, 264, columns, 8);
  const std::vector<float> x = random_floats(size_t(n) * columns, 9), gain = random_floats(columns, 10);
  Buffer<float> dx(x), dgain(gain), ya(size_t(n) * 1552), yb(size_t(n) * 256), yc(size_t(n) * 264),
      yg(size_t(n) * 1552);
  Buffer<uint8_t> scratch(linear_scratch_bytes(n, columns, 4096));
  LinearArgs args;
  args.x = dx.get(), args.x_stride = columns, args.norm_weight = dgain.get(), args.epsilon = 1e-5f;
  args.n_matrices = 3, args.n_rows = n, args.scratch = scratch.get();
  args.w[0] = a.matrix, args.w[1] = b.matrix, args.w[2] = c.matrix;
  args.y[0] = ya.get(), args.y[1] = yb.get(), args.y[2] = yc.get();
  args.y_stride[0] = 1552, args.y_stride[1] = 256, args.y_stride[2] = 264;
  const std::string name = std::string("q, k: ") + qk + ", v: " + v + " n=" + std::to_string(n);
  must(linear(args, s.launch), name.c_str());
  must(cudaDeviceSynchronize(), name.c_str());
  std::vector<HostRow> hx;
  for (int r = 0; r < n; ++r) hx.emplace_back(x.data() + size_t(r) * columns, gain.data(), 1e-5f, columns);
  compare(name + " (q)", a, hx, ya.host(), 1552, nullptr, nullptr);
  compare(name + " (k)", b, hx, yb.host(), 256, nullptr, nullptr);
  compare(name + " (v)", c, hx, yc.host(), 264, nullptr, nullptr);

  TestMatrix up(v, 1552, columns, 11);
  args.n_matrices = 2, args.w[1] = up.matrix, args.y[0] = yg.get(), args.y_stride[0] = 1552;
  for (const Epilogue e : {Epilogue::silu, Epilogue::gelu}) {
    args.epilogue = e;
    yg.poison();
    must(linear(args, s.launch), "gate and up");
    must(cudaDeviceSynchronize(), "gate and up");
    const std::vector<float> got = yg.host();
    double error = 0, size = 0;
    for (int r = 0; r < n; ++r)
      for (int o = 0; o < 1552; o += 17) {
        const double g = host_dot(a, o, hx[size_t(r)]).real * double(hx[size_t(r)].rms),
                     u = host_dot(up, o, hx[size_t(r)]).real * double(hx[size_t(r)].rms);
        const double act = e == Epilogue::silu
                               ? g / (1 + std::exp(-g))
                               : 0.5 * g * (1 + std::tanh(0.7978845608028654 * (g + 0.044715 * g * g * g)));
        const double want = act * u, d = double(got[size_t(r) * 1552 + size_t(o)]) - want;
        error += d * d, size += want * want;
      }
    check(std::sqrt(error / size) < 2e-6, name + " gated: relative error " + std::to_string(std::sqrt(error / size)));
  }
}

/// Rows of 2 .. 16 and more, computed together, equal the rows computed alone.
void test_sameness(Card& s, const char* type, int rows, int columns) {
  constexpr int kMost = 150;
  TestMatrix w(type, rows, columns, 12);
  const std::vector<float> x = random_floats(size_t(kMost) * size_t(columns), 13),
                           gain = random_floats(size_t(columns), 14);
  Buffer<float> dx(x), dgain(gain), one(size_t(kMost) * size_t(rows)), many(size_t(kMost) * size_t(rows));
  Buffer<uint8_t> scratch(linear_scratch_bytes(kMost, columns, rows));
  LinearArgs a;
  a.x_stride = columns, a.norm_weight = dgain.get(), a.epsilon = 1e-6f;
  a.w[0] = w.matrix, a.y_stride[0] = rows, a.scratch = scratch.get();
  for (int r = 0; r < kMost; ++r) {
    a.x = dx.get() + size_t(r) * size_t(columns), a.y[0] = one.get() + size_t(r) * size_t(rows), a.n_rows = 1;
    must(linear(a, s.launch), "one row");
  }
  must(cudaDeviceSynchronize(), "one row");
  const std::vector<float> want = one.host();
  const int own_shared = s.limits.shared_per_block;
  for (const int n :
       {2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 40, 64, 65, 150, -16, -17, -40}) {  // < 0: with less shared memory
    s.limits.shared_per_block = n >= 0 ? own_shared : n == -40 ? 99 << 10 : 64 << 10;
    many.poison();
    a.x = dx.get(), a.y[0] = many.get(), a.n_rows = std::abs(n);
    const std::string name = std::string(type) + " " + std::to_string(rows) + "x" + std::to_string(columns) +
                             " rows together: " + std::to_string(n);
    must(linear(a, s.launch), name.c_str());
    must(cudaDeviceSynchronize(), name.c_str());
    const std::vector<float> got = many.host();
    size_t differing = 0;
    for (size_t i = 0; i < size_t(std::abs(n)) * size_t(rows); ++i) differing += bits(got[i]) != bits(want[i]);
    check(differing == 0, name + ": " + std::to_string(differing) + " differ from the row alone");
  }
}

void test_embedding(Card& s, const char* type) {
  TestMatrix w(type, 40, 512, 15);
  const std::vector<int32_t> ids = {0, 39, 17, -1, 40};
  Buffer<int32_t> dids(ids);
  Buffer<float> out(ids.size() * 512);
  must(dequantize_rows(w.matrix, dids.get(), int(ids.size()), 1.f, out.get(), 512, s.launch), "dequantize_rows");
  must(cudaDeviceSynchronize(), "dequantize_rows");
  const std::vector<float> got = out.host();
  std::vector<float> want(512);
  size_t differing = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < 40)
      w.format->dequantize(w.block(ids[i], 0), want.data(), 512 / w.format->block_size);
    else
      std::fill(want.begin(), want.end(), 0.f);
    for (size_t c = 0; c < 512; ++c) differing += got[i * 512 + c] != want[c];
  }
  check(differing == 0, std::string("embedding of ") + type + ": " + std::to_string(differing) + " numbers differ");
}

bool no_card() {
  int n = 0;
  return cudaGetDeviceCount(&n) != cudaSuccess || n == 0;
}

class CudaLinear : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (no_card()) GTEST_SKIP() << "no NVIDIA card here";
  }
  bool k_quant() const { return quant::find_format(std::string_view(GetParam()))->block_size == 256; }
};

TEST_P(CudaLinear, Embedding) {
  Card s;
  test_embedding(s, GetParam());
}

TEST_P(CudaLinear, OneRow) {
  Card s;
  test_rows(s, GetParam(), 512, 3584, 1, true, Epilogue::store);
  test_rows(s, GetParam(), 100, k_quant() ? 256 : 32, 1, false, Epilogue::store);
  test_rows(s, GetParam(), 3584, k_quant() ? 1280 : 896, 1, true, Epilogue::add);
  test_rows(s, GetParam(), 272, 18944, 1, false, Epilogue::add);
}

TEST_P(CudaLinear, ManyRows) {
  Card s;
  test_rows(s, GetParam(), 272, 18944, 6, false, Epilogue::add);
  test_rows(s, GetParam(), 100, k_quant() ? 768 : 96, 16, true, Epilogue::add);
}

TEST_P(CudaLinear, RowsTogetherAsAlone) {
  Card s;
  test_sameness(s, GetParam(), 1024 + 16, 3584);
  test_sameness(s, GetParam(), 200, k_quant() ? 8960 : 4864);
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaLinear,
                         testing::Values("Q4_K", "Q6_K", "Q5_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
                         [](const auto& info) { return std::string(info.param); });

/// Float weights: against double, and rows together as alone. `magnitude` of the inputs; every seventh number is a thousand
/// times smaller, so that a common scale must not cost it its digits.
void test_floats(Card& s, const char* type, int rows, int columns, bool norm, Epilogue epilogue, float magnitude = 1) {
  constexpr int kMost = 150;
  const std::string name = std::string(type) + " " + std::to_string(rows) + "x" + std::to_string(columns);
  TestMatrix w(type, rows, columns, 16);
  std::vector<float> weights(size_t(rows) * size_t(columns));
  w.format->dequantize(w.raw.data(), weights.data(), weights.size());
  const int x_stride = (columns + 3) / 4 * 4;
  std::vector<float> x = random_floats(size_t(kMost) * size_t(x_stride), 17, magnitude);
  for (size_t i = 0; i < x.size(); i += 7) x[i] *= 1e-3f;
  const std::vector<float> gain = random_floats(size_t(columns), 18), bias = random_floats(size_t(rows), 19, magnitude),
                           before = random_floats(size_t(kMost) * size_t(rows), 20);
  Buffer<float> dx(x), dgain(gain), dbias(bias), dy(before);
  Buffer<uint8_t> scratch(linear_scratch_bytes(kMost, columns, rows));
  LinearArgs a;
  a.x = dx.get(), a.x_stride = x_stride;
  if (norm) a.norm_weight = dgain.get(), a.epsilon = 1e-6f;
  a.w[0] = w.matrix, a.bias[0] = dbias.get(), a.y[0] = dy.get(), a.y_stride[0] = rows;
  a.epilogue = epilogue, a.scratch = scratch.get();
  const int own_shared = s.limits.shared_per_block;
  const auto run = [&](int first, int n) {
    LinearArgs part = a;
    part.x += first * x_stride, part.y[0] += first * rows, part.n_rows = n;
    must(linear(part, s.launch), name.c_str());
  };
  for (int r = 0; r < kMost; ++r) run(r, 1);
  must(cudaDeviceSynchronize(), name.c_str());
  const std::vector<float> alone = dy.host();
  double error = 0, size = 0;
  for (int r = 0; r < kMost; r += 13) {
    const float* row = x.data() + size_t(r) * size_t(x_stride);
    double squares = 0;
    for (int c = 0; c < columns; ++c) squares += double(row[c]) * double(row[c]);
    const double factor = norm ? 1 / std::sqrt(squares / columns + 1e-6) : 1;
    for (int o = 0; o < rows; o += 3) {
      double sum = 0;
      for (int c = 0; c < columns; ++c)
        sum += double(weights[size_t(o) * size_t(columns) + size_t(c)]) * double(row[c]) *
               (norm ? double(gain[size_t(c)]) : 1);
      const size_t at = size_t(r) * size_t(rows) + size_t(o);
      const double want = sum * factor + double(bias[size_t(o)]) + (epilogue == Epilogue::add ? double(before[at]) : 0);
      const double d = double(alone[at]) - want;
      error += d * d, size += want * want;
    }
  }
  std::printf("  %s: relative error %.2e\n", name.c_str(), std::sqrt(error / size));
  check(std::sqrt(error / size) < 1e-6, name + ": relative error " + std::to_string(std::sqrt(error / size)));
  for (int n : {2, 3, 4, 5, 8, 9, 16, 17, 40, 128, 150, -1, -2, -16, -99, -100}) {  // < 0: with less shared memory
    s.limits.shared_per_block = n >= 0 ? own_shared : n == -99 ? 99 << 10 : 64 << 10;
    n = std::abs(n);
    dy.set(before);
    run(0, n);
    must(cudaDeviceSynchronize(), name.c_str());
    const std::vector<float> got = dy.host();
    size_t differing = 0;
    for (size_t i = 0; i < size_t(n) * size_t(rows); ++i) differing += bits(got[i]) != bits(alone[i]);
    check(differing == 0, name + " rows together: " + std::to_string(n) + ", shared memory " +
                              std::to_string(s.limits.shared_per_block) + ": " + std::to_string(differing) + " differ");
  }
  s.limits.shared_per_block = own_shared;
}

TEST(CudaLinearMatrices, FloatWeights) {
  if (no_card()) GTEST_SKIP() << "no NVIDIA card here";
  Card s;
  for (const char* type : {"F16", "BF16", "F32"}) {
    test_embedding(s, type);
    test_floats(s, type, 264, 3584, true, Epilogue::store);
    test_floats(s, type, 100, 18944, false, Epilogue::add);
    test_floats(s, type, 37, 100, true, Epilogue::add);
    for (const float magnitude : {1e-20f, 1e9f}) test_floats(s, type, 40, 1000, false, Epilogue::store, magnitude);
  }
}

/// Two matrices and one of perhaps another format in one launch equal the matrices alone; gate and up.
void test_float_matrices(Card& s, const char* ab, const char* type_c, int n) {
  constexpr int kColumns = 1536, kOutputs[3] = {1552, 264, 1552};
  TestMatrix a(ab, kOutputs[0], kColumns, 21), b(ab, kOutputs[1], kColumns, 22), c(type_c, kOutputs[2], kColumns, 23);
  const std::string name =
      std::string(ab) + ", " + ab + ", " + type_c + " together, rows: " + std::to_string(n) + ", matrix ";
  Buffer<float> x(random_floats(size_t(n) * kColumns, 24)), gain(random_floats(kColumns, 25));
  Buffer<uint8_t> scratch(linear_scratch_bytes(n, kColumns, 4096));
  LinearArgs args;
  args.x = x.get(), args.x_stride = kColumns, args.norm_weight = gain.get(), args.epsilon = 1e-5f;
  args.n_rows = n, args.scratch = scratch.get();
  const auto launch = [&](std::initializer_list<const TestMatrix*> matrices, std::initializer_list<float*> y) {
    args.n_matrices = 0;
    for (const TestMatrix* m : matrices) args.w[args.n_matrices++] = m->matrix;
    for (size_t i = 0; i < y.size(); ++i) args.y[i] = y.begin()[i], args.y_stride[i] = matrices.begin()[i]->rows;
    must(linear(args, s.launch), name.c_str());
    must(cudaDeviceSynchronize(), name.c_str());
  };
  const TestMatrix* all[3] = {&a, &b, &c};
  std::vector<float> alone[3];
  for (int m = 0; m < 3; ++m) {
    Buffer<float> y(size_t(n) * size_t(kOutputs[m]));
    launch({all[m]}, {y.get()});
    alone[m] = y.host();
  }
  Buffer<float> ya(alone[0].size()), yb(alone[1].size()), yc(alone[2].size());
  launch({&a, &b, &c}, {ya.get(), yb.get(), yc.get()});
  const std::vector<float> together[3] = {ya.host(), yb.host(), yc.host()};
  for (int m = 0; m < 3; ++m) {
    size_t differing = 0;
    for (size_t i = 0; i < alone[m].size(); ++i) differing += bits(together[m][i]) != bits(alone[m][i]);
    check(differing == 0, name + std::to_string(m) + ": " + std::to_string(differing) + " differ from it alone");
  }
  args.epilogue = Epilogue::silu;
  launch({&a, &c}, {ya.get()});
  const std::vector<float> gated = ya.host();
  double error = 0, size = 0;
  for (size_t i = 0; i < gated.size(); ++i) {
    const double gate = double(alone[0][i]), want = gate / (1 + std::exp(-gate)) * double(alone[2][i]);
    error += (double(gated[i]) - want) * (double(gated[i]) - want), size += want * want;
  }
  check(std::sqrt(error / size) < 1e-6, name + "0 gating 2: relative error " + std::to_string(std::sqrt(error / size)));
}

TEST(CudaLinearMatrices, FloatWeightsTogether) {
  if (no_card()) GTEST_SKIP() << "no NVIDIA card here";
  Card s;
  for (const int n : {1, 3, 16, 40, 131}) {
    test_float_matrices(s, "F16", "F16", n);
    test_float_matrices(s, "BF16", "BF16", n);
    test_float_matrices(s, "F16", "BF16", n);
    test_float_matrices(s, "F16", "F32", n);
    test_float_matrices(s, "F16", "Q4_K", n);
  }
}

TEST(CudaLinearMatrices, FormatsMixed) {
  if (no_card()) GTEST_SKIP() << "no NVIDIA card here";
  Card s;
  for (const int n : {1, 2, 13, 40, 131}) {
    test_many_matrices(s, "Q4_K", "Q6_K", n);
    test_many_matrices(s, "Q5_K", "Q5_K", n);
    test_many_matrices(s, "Q8_0", "Q8_0", n);
    test_many_matrices(s, "Q5_0", "Q4_1", n);
  }
}

}  // namespace
}  // namespace ponder::backend::cuda::test
