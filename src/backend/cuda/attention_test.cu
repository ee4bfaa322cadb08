// Attention on the card against double, over head sizes and groupings that models have and odd ones; pages in random
// order, NaN where nothing may be read. A row's bits are the same in any launch: alone, among 16, in a long run, and
// whatever the number of processors that share it. Without a card the tests are skipped.
#include "backend/cuda/attention.h"

#include <gtest/gtest.h>

#include <numeric>

#include "backend/cuda/test_support.cuh"

namespace ponder::backend::cuda::test {
namespace {

struct Heads {
  int n_heads, n_kv_heads, head_dim, rope_dims;
  bool pairs, norms;
  bool q8 = false, bias = false;  ///< pages of int8; keys without their bias
};

void PrintTo(const Heads& h, std::ostream* out) {
  *out << h.n_heads << ":" << h.n_kv_heads << " x " << h.head_dim << (h.q8 ? ", q8" : "") << (h.bias ? ", bias" : "");
}

uint32_t bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

class CudaAttention : public testing::TestWithParam<Heads> {
 protected:
  static constexpr int kTokens = 700;

  void SetUp() override {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) GTEST_SKIP() << "no NVIDIA card here";
    must(read_limits(0, &limits), "read_limits");
    launch.limits = &limits;
    must(cudaStreamCreate(&launch.stream), "stream");
    launch.pdl = limits.compute >= 90;
  }

  /// All tokens of one sequence: q, k, v, pages, tables.
  struct Sequence {
    Heads h;
    int q_size, kv_size;
    std::vector<float> hq, hk, hv, q_gain, k_gain, k_bias;
    std::vector<float2> angles;
    std::vector<int32_t> hpositions, htable;
    Buffer<float> q, k, v, out, dq_gain, dk_gain, dk_bias;
    Buffer<float2> rope;
    Buffer<int32_t> positions, table;
    Buffer<uint8_t> pages, scratch, key_bias;
    AttentionArgs args;

    explicit Sequence(const Heads& heads)
        : h(heads),
          q_size(h.n_heads * h.head_dim),
          kv_size(h.n_kv_heads * h.head_dim),
          hq(random_floats(size_t(kTokens * q_size), 1, 2)),
          hk(random_floats(size_t(kTokens * kv_size), 2, 2)),
          hv(random_floats(size_t(kTokens * kv_size), 3)),
          q_gain(random_floats(size_t(h.head_dim), 4)),
          k_gain(random_floats(size_t(h.head_dim), 5)),
          k_bias(random_floats(size_t(kv_size), 6, 3)),
          angles(size_t(kTokens * h.rope_dims / 2)),
          hpositions(kTokens),
          htable(size_t(kTokens) * 16),
          q(hq),
          k(hk),
          v(hv),
          out(size_t(kTokens * q_size)),
          dq_gain(q_gain),
          dk_gain(k_gain),
          dk_bias(k_bias),
          rope(angles.size()),
          positions(kTokens),
          table(htable.size()),
          pages(16 * kv_layer_bytes(h.n_kv_heads, h.head_dim, h.q8)),
          scratch(attention_scratch_bytes(h.n_heads, h.n_kv_heads, h.head_dim, kTokens - 1)),
          key_bias(key_bias_bytes(h.n_kv_heads, h.head_dim)) {
      for (int p = 0; p < kTokens; ++p)
        for (int i = 0; i < h.rope_dims / 2; ++i) {
          const double angle = p * std::pow(10000.0, -2.0 * i / h.rope_dims);
          angles[size_t(p * (h.rope_dims / 2) + i)] = make_float2(float(std::cos(angle)), float(std::sin(angle)));
        }
      rope.set(angles);
      std::iota(hpositions.begin(), hpositions.end(), 0);
      positions.set(hpositions);
      for (int r = 0; r < kTokens; ++r)
        for (int b = 0; b < 16; ++b) htable[size_t(r * 16 + b)] = (b * 7 + 3) % 16;
      table.set(htable);
      must(cudaMemset(scratch.get(), 0, attention_scratch_bytes(h.n_heads, h.n_kv_heads, h.head_dim, kTokens - 1)),
           "memset");
      args.n_heads = h.n_heads, args.n_kv_heads = h.n_kv_heads, args.head_dim = h.head_dim;
      args.scale = float(1 / std::sqrt(double(h.head_dim)));
      args.n_rows = kTokens, args.positions = positions.get(), args.page_table = table.get(),
      args.page_table_stride = 16;
      args.max_position = kTokens - 1;
      args.q = q.get(), args.q_stride = q_size, args.k = k.get(), args.k_stride = kv_size, args.v = v.get(),
      args.v_stride = kv_size;
      args.pages = pages.get(), args.page_stride = int64_t(kv_layer_bytes(h.n_kv_heads, h.head_dim, h.q8));
      args.q8 = h.q8;
      args.rope = rope.get(), args.rope_dims = h.rope_dims, args.rope_pairs = h.pairs;
      if (h.norms) args.q_norm = dq_gain.get(), args.k_norm = dk_gain.get(), args.norm_epsilon = 1e-6f;
      args.out = out.get(), args.out_stride = q_size, args.scratch = scratch.get();
      if (h.bias) {
        must(make_key_bias(args, dk_bias.get(), key_bias.get(), nullptr), "make_key_bias");
        must(cudaStreamSynchronize(nullptr), "make_key_bias");
        args.key_bias = key_bias.get();
      }
    }
    /// A head as a page keeps it.
    std::vector<double> stored(const std::vector<double>& x) const {
      std::vector<double> y(x.size());
      for (size_t first = 0; first < x.size(); first += h.q8 ? 32 : 1) {
        const size_t end = std::min(x.size(), first + (h.q8 ? 32 : 1));
        double peak = 0;
        for (size_t i = first; i < end; ++i) peak = std::max(peak, std::abs(x[i]));
        const double scale = double(half_to_float(float_to_half(float(peak / 127))));
        for (size_t i = first; i < end; ++i)
          y[i] = h.q8 ? std::nearbyint(x[i] / scale) * scale : double(half_to_float(float_to_half(float(x[i]))));
      }
      return y;
    }
    std::vector<double> key(int position, int kv) const {
      std::vector<double> y =
          stored(rotated(hk.data() + size_t(position * kv_size + kv * h.head_dim), k_gain, position));
      if (h.bias) {
        const std::vector<double> b = rotated(k_bias.data() + size_t(kv * h.head_dim), k_gain, position);
        for (size_t i = 0; i < y.size(); ++i) y[i] += b[i];
      }
      return y;
    }
    std::vector<double> rotated(const float* x, const std::vector<float>& gain, int position) const {
      std::vector<double> y(x, x + h.head_dim);
      if (h.norms) {
        double s = 0;
        for (double f : y) s += f * f;
        const double r = 1 / std::sqrt(s / h.head_dim + 1e-6);
        for (int i = 0; i < h.head_dim; ++i) y[size_t(i)] *= r * double(gain[size_t(i)]);
      }
      const int half = h.rope_dims / 2;
      for (int i = 0; i < half; ++i) {
        const size_t a = size_t(h.pairs ? 2 * i : i), b = size_t(h.pairs ? 2 * i + 1 : i + half);
        const float2 cs = angles[size_t(position * half + i)];
        const double u = y[a], w = y[b];
        y[a] = u * double(cs.x) - w * double(cs.y), y[b] = w * double(cs.x) + u * double(cs.y);
      }
      return y;
    }
    /// One head of one row, K and V as pages keep them.
    std::vector<double> reference(int row, int head) const {
      const int kv = head / (h.n_heads / h.n_kv_heads);
      const std::vector<double> query = rotated(hq.data() + size_t(row * q_size + head * h.head_dim), q_gain, row);
      std::vector<double> scores, out(size_t(h.head_dim), 0.0);
      double top = -1e300, sum = 0;
      for (int p = 0; p <= row; ++p) {
        const std::vector<double> k = key(p, kv);
        double s = 0;
        for (int i = 0; i < h.head_dim; ++i) s += query[size_t(i)] * k[size_t(i)];
        scores.push_back(s * double(args.scale));
        top = std::max(top, scores.back());
      }
      for (int p = 0; p <= row; ++p) {
        const double w = std::exp(scores[size_t(p)] - top);
        sum += w;
        const auto at = hv.begin() + p * kv_size + kv * h.head_dim;
        const std::vector<double> v = stored(std::vector<double>(at, at + h.head_dim));
        for (int i = 0; i < h.head_dim; ++i) out[size_t(i)] += w * v[size_t(i)];
      }
      for (double& f : out) f /= sum;
      return out;
    }
  };

  void finish(const char* what) { must(cudaStreamSynchronize(launch.stream), what); }

  Launch launch;
  DeviceLimits limits;
};

TEST_P(CudaAttention, AgainstDoubleAndTheSameInEveryLaunch) {
  Sequence s(GetParam());
  must(rope_and_store(s.args, launch), "rope_and_store");
  finish("rope_and_store");

  // Rows by ones, as they come in decode.
  must(attend(s.args, launch), "attend by ones");
  finish("attend by ones");
  const std::vector<float> ones = s.out.host();
  double error = 0, size = 0;
  for (const int row : {0, 1, 15, 63, 64, 200, 255, 256, 511, 699})
    for (int head = 0; head < s.h.n_heads; head += 3) {
      const std::vector<double> want = s.reference(row, head);
      for (int i = 0; i < s.h.head_dim; ++i) {
        const double d = double(ones[size_t(row * s.q_size + head * s.h.head_dim + i)]) - want[size_t(i)];
        error += d * d, size += want[size_t(i)] * want[size_t(i)];
      }
    }
  // Bytes are expanded to halves; with a bias the sum is rounded to one, where the reference is not.
  EXPECT_LT(std::sqrt(error / size), s.h.bias ? 1e-2 : s.h.q8 ? 3e-3 : 3e-4);
  std::printf("  relative L2 %.2e\n", std::sqrt(error / size));

  const auto differing = [&](const std::vector<float>& got, int first, int n) {
    size_t count = 0;
    for (size_t i = size_t(first) * size_t(s.q_size); i < size_t(first + n) * size_t(s.q_size); ++i)
      count += bits(got[i]) != bits(ones[i]);
    return count;
  };
  // One long run, and a run between single rows.
  for (const auto& runs :
       {std::vector<RowRun>{{0, kTokens}}, std::vector<RowRun>{{0, 1}, {1, 5}, {6, 300}, {306, 394}}}) {
    s.out.poison();
    s.args.runs = runs.data(), s.args.n_runs = int(runs.size());
    must(attend(s.args, launch), "attend a run");
    finish("attend a run");
    EXPECT_EQ(differing(s.out.host(), 0, kTokens), 0u);
  }
  s.args.runs = nullptr;
  // Another number of processors: other splits; the last row alone.
  for (const int sms : {1, 7, 20, 1000}) {
    s.out.poison();
    DeviceLimits other = limits;
    other.n_sms = sms;
    if (sms == 7) other.shared_per_block = 64 << 10;  // a card with little shared memory
    Launch l = launch;
    l.limits = &other;
    must(attend(s.args, l), "attend on fewer processors");
    finish("attend on fewer processors");
    EXPECT_EQ(differing(s.out.host(), 0, kTokens), 0u) << sms << " processors";
    AttentionArgs last = s.args;
    last.n_rows = 1, last.positions += kTokens - 1, last.page_table += (kTokens - 1) * 16,
    last.q += (kTokens - 1) * s.q_size;
    last.out += (kTokens - 1) * s.q_size;
    s.out.poison();
    must(attend(last, l), "the last row");
    finish("the last row");
    EXPECT_EQ(differing(s.out.host(), kTokens - 1, 1), 0u) << sms << " processors";
    // The same where rows may be long: the results of blocks are merged by another kernel.
    const size_t bytes = attention_scratch_bytes(s.h.n_heads, s.h.n_kv_heads, s.h.head_dim, 8191);
    Buffer<uint8_t> scratch(bytes);
    must(cudaMemset(scratch.get(), 0, bytes), "memset");
    AttentionArgs may_be_long = s.args;
    may_be_long.max_position = 8191, may_be_long.scratch = scratch.get();
    s.out.poison();
    must(attend(may_be_long, l), "rows that may be long");
    finish("rows that may be long");
    EXPECT_EQ(differing(s.out.host(), 0, kTokens), 0u) << "may be long, " << sms << " processors";
  }
}

TEST_P(CudaAttention, LongRowsAsInARun) {
  // 16 rows after 40,000 tokens, by ones and as a run, whose kernel merges in registers.
  const Heads h = GetParam();
  if (h.head_dim > 128) GTEST_SKIP() << "runs of such heads go by ones";
  constexpr int kRows = 16, kLast = 40'000, kPages = kLast / kBlockTokens + 1;
  const int q_size = h.n_heads * h.head_dim;
  std::vector<uint16_t> halves(size_t(kPages) * kv_layer_bytes(h.n_kv_heads, h.head_dim, h.q8) / 2);
  const std::vector<float> noise = random_floats(99'991, 6, 1);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = float_to_half(noise[i % noise.size()]);
  Buffer<uint16_t> pages(halves);
  std::vector<int32_t> table(size_t(kRows) * kPages), positions(kRows);
  for (size_t i = 0; i < table.size(); ++i) table[i] = int32_t(i % kPages);
  for (int i = 0; i < kRows; ++i) positions[size_t(i)] = kLast - kRows + 1 + i;
  Buffer<int32_t> dtable(table), dpositions(positions);
  Buffer<float> q(random_floats(size_t(kRows * q_size), 7, 2)), out(size_t(kRows * q_size));
  const size_t bytes = attention_scratch_bytes(h.n_heads, h.n_kv_heads, h.head_dim, kLast);
  Buffer<uint8_t> scratch(bytes);
  must(cudaMemset(scratch.get(), 0, bytes), "memset");
  AttentionArgs a;
  a.n_heads = h.n_heads, a.n_kv_heads = h.n_kv_heads, a.head_dim = h.head_dim, a.n_rows = kRows;
  a.scale = float(1 / std::sqrt(double(h.head_dim)));
  a.positions = dpositions.get(), a.page_table = dtable.get(), a.page_table_stride = kPages, a.max_position = kLast;
  a.q = q.get(), a.q_stride = q_size, a.out = out.get(), a.out_stride = q_size, a.scratch = scratch.get();
  a.pages = reinterpret_cast<uint8_t*>(pages.get()),
  a.page_stride = int64_t(kv_layer_bytes(h.n_kv_heads, h.head_dim, h.q8));
  a.q8 = h.q8;  // then the noise is bytes and scales
  const RowRun whole = {0, kRows};
  a.runs = &whole, a.n_runs = 1;
  must(attend(a, launch), "a run");
  finish("a run");
  const std::vector<float> want = out.host();
  a.runs = nullptr;
  for (const int sms : {1, 132, 4000}) {
    DeviceLimits other = limits;
    other.n_sms = sms;
    Launch l = launch;
    l.limits = &other;
    out.poison();
    must(attend(a, l), "long rows");
    finish("long rows");
    const std::vector<float> got = out.host();
    size_t count = 0;
    for (size_t i = 0; i < want.size(); ++i) count += bits(got[i]) != bits(want[i]);
    EXPECT_EQ(count, 0u) << sms << " processors";
  }
}

TEST_P(CudaAttention, OneRowInOneKernel) {
  // Token by token, as decode goes, against the two kernels one after the other.
  Sequence two(GetParam()), one(GetParam());
  must(rope_and_store(two.args, launch), "rope_and_store");
  must(attend(two.args, launch), "attend");
  for (int r = 0; r < kTokens; ++r) {
    AttentionArgs row = one.args;
    row.n_rows = 1, row.positions += r, row.page_table += r * 16, row.q += r * one.q_size, row.k += r * one.kv_size;
    row.v += r * one.kv_size, row.out += r * one.q_size;
    must(rope_store_attend(row, launch), "rope_store_attend");
  }
  finish("rope_store_attend");
  const std::vector<float> want = two.out.host(), got = one.out.host();
  size_t count = 0;
  for (size_t i = 0; i < want.size(); ++i) count += bits(got[i]) != bits(want[i]);
  EXPECT_EQ(count, 0u);
  const std::vector<uint8_t> stored = two.pages.host(), also = one.pages.host();
  EXPECT_TRUE(stored == also) << "K and V are stored differently";
}

TEST_P(CudaAttention, AbsentRowsAndForeignMemory) {
  Sequence s(GetParam());
  // Row 2 is not there; the pages hold NaN (0xff) where nothing was stored.
  s.hpositions = {0, 1, -1};
  s.positions.set(s.hpositions);
  s.args.n_rows = 3;
  must(rope_and_store(s.args, launch), "rope_and_store");
  must(attend(s.args, launch), "attend");
  finish("attend");
  const std::vector<float> got = s.out.host();
  for (int i = 0; i < s.q_size; ++i) {
    EXPECT_TRUE(std::isfinite(got[size_t(i)]) && std::isfinite(got[size_t(s.q_size + i)]));
    EXPECT_TRUE(std::isnan(got[size_t(2 * s.q_size + i)])) << "a row that is not there was written";
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaAttention,
                         testing::Values(Heads{28, 4, 128, 128, false, false}, Heads{9, 3, 64, 64, true, false},
                                         Heads{14, 2, 64, 64, false, false}, Heads{16, 8, 128, 128, false, true},
                                         Heads{4, 4, 40, 20, false, false}, Heads{12, 1, 96, 96, true, false},
                                         Heads{4, 2, 256, 128, false, false}));
INSTANTIATE_TEST_SUITE_P(
    Bytes, CudaAttention,
    testing::Values(Heads{28, 4, 128, 128, false, false, true, true}, Heads{9, 3, 64, 64, true, false, true},
                    Heads{14, 2, 64, 64, false, false, true, true}, Heads{16, 8, 128, 128, false, true, true},
                    Heads{4, 4, 40, 20, false, false, true, true}, Heads{12, 1, 96, 96, true, false, true, true},
                    Heads{4, 2, 256, 128, false, false, true, true}));

}  // namespace
}  // namespace ponder::backend::cuda::test
