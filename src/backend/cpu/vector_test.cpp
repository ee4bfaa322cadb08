// The kernels of vector.h against double arithmetic, and against each other: every level must give the same bits, and
// attention must not depend on how its queries and rows were tiled or on what masked slots hold.
#include "backend/cpu/vector.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "backend/cpu/isa/isa.h"
#include "base/half.h"
#include "base/os/memory.h"

namespace ponder::backend::cpu {
namespace {

std::vector<const VectorKernels*> levels() {
  std::vector<const VectorKernels*> all;
  for (isa::Level level : isa::available()) all.push_back(&vector_kernels(level));
  return all;
}

std::vector<float> numbers(int n, uint32_t seed, float spread = 1.f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> d(0.f, spread);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = d(rng);
  return v;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(VectorKernels, AtLeastOneVectorLevelOnX86) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    EXPECT_GE(levels().size(), 2u);
  }
#endif
}

TEST(VectorKernels, ExpIsAccurateAndTheSameEverywhere) {
  std::vector<float> x;
  for (float v = -90.f; v < 90.f; v += 0.0137f) x.push_back(v);
  x.push_back(-std::numeric_limits<float>::infinity());
  std::vector<float> first;
  for (const auto* k : levels()) {
    std::vector<float> y(x.size());
    k->exp(x.data(), y.data(), int(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(double(std::min(88.f, std::max(-87.f, x[i]))));
      ASSERT_NEAR(y[i] / want, 1.0, 3e-7) << x[i] << " at " << k->isa;
    }
    if (first.empty()) first = y;
    EXPECT_TRUE(same_bits(first, y)) << k->isa;
  }
}

TEST(VectorKernels, NormGateAndRopeAgree) {
  for (int n : {8, 16, 24, 80, 200, 1536}) {
    const auto x = numbers(n, 1, 3.f), g = numbers(n, 2), up = numbers(n, 3);
    std::vector<std::vector<float>> first;
    for (const auto* k : levels()) {
      std::vector<std::vector<float>> got;
      std::vector<float> y(x.size());
      k->rms_norm(x.data(), g.data(), y.data(), n, 1e-6f);
      double ss = 0;
      for (float v : x) ss += double(v) * v;
      for (int i = 0; i < n; ++i)
        ASSERT_NEAR(y[i], x[i] / std::sqrt(ss / n + 1e-6) * g[i], 2e-6 * (1 + std::abs(y[i])));
      got.push_back(y);
      for (Gate kind : {Gate::silu, Gate::gelu_tanh}) {
        k->gate(kind, x.data(), up.data(), y.data(), n);
        for (int i = 0; i < n; ++i) {
          const double v = x[i], u = 0.7978845608028654 * (v + 0.044715 * v * v * v);
          const double want = (kind == Gate::silu ? v / (1 + std::exp(-v)) : v / 2 * (1 + std::tanh(u))) * up[i];
          ASSERT_NEAR(y[i], want, 2e-6 * (1 + std::abs(want)));
        }
        got.push_back(y);
      }
      const int half = n / 2;
      std::vector<float> c, s, c2, s2;
      for (int i = 0; i < half; ++i) {
        c.push_back(std::cos(0.3f * float(i)));
        s.push_back(std::sin(0.3f * float(i)));
        c2.insert(c2.end(), {c.back(), c.back()});
        s2.insert(s2.end(), {-s.back(), s.back()});
      }
      y = x;
      k->rope_halves(y.data(), c.data(), s.data(), n);
      std::vector<float> z = x;
      k->rope_pairs(z.data(), c2.data(), s2.data(), n);
      for (int i = 0; i < half; ++i) {
        ASSERT_NEAR(y[i], double(x[i]) * c[i] - double(x[i + half]) * s[i], 1e-5);
        ASSERT_NEAR(y[i + half], double(x[i + half]) * c[i] + double(x[i]) * s[i], 1e-5);
        ASSERT_NEAR(z[2 * i], double(x[2 * i]) * c[i] - double(x[2 * i + 1]) * s[i], 1e-5);
        ASSERT_NEAR(z[2 * i + 1], double(x[2 * i + 1]) * c[i] + double(x[2 * i]) * s[i], 1e-5);
      }
      got.push_back(y);
      got.push_back(z);
      k->add(y.data(), x.data(), n);
      k->scale(y.data(), 0.37f, n);
      got.push_back(y);
      if (first.empty()) first = got;
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_TRUE(same_bits(first[i], got[i])) << k->isa << " " << n << " " << i;
    }
  }
}

// A sequence of `tokens` with pages as the plan lays them out: K then V, one layer, one head.
struct Cache {
  Cache(const VectorKernels& k, int tokens, int dim, Stored as)
      : head_dim(dim), v_stride(padded_head(dim)), stored(as) {
    v_offset = uint64_t(4 * k_block_bytes(stored, dim));
    const uint64_t bytes = v_offset + uint64_t(v_page_bytes(stored, dim));
    keys = numbers(tokens * dim, 11);
    values = numbers(tokens * dim, 12);
    for (int p = 0; p * 64 < tokens + 64; ++p) {
      storage.emplace_back(bytes, uint8_t(0xff));  // NaNs wherever nothing was written
      pages.push_back(storage.back().data());
    }
    for (int t = 0; t < tokens; ++t) {
      uint8_t* page = storage[size_t(t / 64)].data();
      k.write_k(&keys[size_t(t * dim)], dim, page, t % 64, stored);
      k.write_v(&values[size_t(t * dim)], dim, page + v_offset, t % 64, stored);
    }
  }
  int head_dim, v_stride;
  Stored stored;
  uint64_t v_offset;
  std::vector<float> keys, values;
  std::vector<std::vector<uint8_t>> storage;
  std::vector<const uint8_t*> pages;
};

// What a page keeps of rows of `dim` numbers.
std::vector<float> as_kept(std::vector<float> v, int dim, Stored stored) {
  if (stored == Stored::f32) return v;
  for (size_t row = 0; row < v.size(); row += size_t(dim))
    for (int g = 0; g < dim; g += kByteGroup) {
      float* x = &v[row + size_t(g)];
      const int n = std::min(kByteGroup, dim - g);
      float peak = 0;
      for (int i = 0; i < n; ++i) peak = std::max(peak, std::abs(x[i]));
      const float scale = half_to_float(float_to_half(peak / 127.f));
      for (int i = 0; i < n; ++i)
        x[i] =
            stored == Stored::f16 ? half_to_float(float_to_half(x[i])) : std::nearbyint(x[i] * (1.f / scale)) * scale;
    }
  return v;
}

// All rows of `limits` x `group` heads, `rows_per_tile` rows at once.
std::vector<float> attend(const VectorKernels& k, const Cache& c, const std::vector<float>& q,
                          const std::vector<int32_t>& limits, int group, int rows_per_tile) {
  const int d = c.head_dim, n_rows = int(limits.size());
  std::vector<float> out(q.size());
  auto scratch = os::Arena::allocate(uint64_t(attention_scratch(d)) * 4);
  for (int r0 = 0; r0 < n_rows; r0 += rows_per_tile) {
    const int n = std::min(rows_per_tile, n_rows - r0) * group;
    std::vector<const float*> qs;
    std::vector<float*> outs;
    std::vector<int32_t> lim;
    for (int i = 0; i < n; ++i) {
      qs.push_back(&q[size_t((r0 * group + i) * d)]);
      outs.push_back(&out[size_t((r0 * group + i) * d)]);
      lim.push_back(limits[size_t(r0 + i / group)]);
    }
    AttentionItem item;
    item.pages = c.pages.data();
    item.v_offset = c.v_offset;
    item.stored = c.stored;
    item.head_dim = d;
    item.v_stride = c.v_stride;
    item.n_queries = n;
    item.queries = qs.data();
    item.limits = lim.data();
    const auto size = static_cast<size_t>(n);
    std::vector<float> m(size), s(size), a(size * size_t(c.v_stride)), m2(size), s2(size),
        a2(size * size_t(c.v_stride));
    const AttentionState state{m.data(), s.data(), a.data()}, later{m2.data(), s2.data(), a2.data()};
    for (int p = 0; p * kPartialTokens < lim.back(); ++p) {
      const int first = k.attention_partial(item, p, p == 0 ? state : later, reinterpret_cast<float*>(scratch->data()));
      if (p > 0) k.attention_merge(item, first, state, later);
    }
    k.attention_finish(item, state, outs.data());
  }
  return out;
}

TEST(Attention, MatchesDoubleAndIsTheSameHoweverItIsTiled) {
  for (int dim : {64, 128, 80, 72}) {
    for (int group : {1, 3, 7}) {
      for (Stored stored : {Stored::f16, Stored::f32, Stored::q8}) {
        const int tokens = 530, n_rows = 14;
        std::vector<int32_t> limits;
        for (int r = 0; r < n_rows; ++r) limits.push_back(r < 4 ? 250 + 2 * r : r < 9 ? 508 + r : tokens - 13 + r);
        const auto q = numbers(n_rows * group * dim, 13, 0.3f);
        std::vector<float> first;
        for (const auto* k : levels()) {
          const Cache cache(*k, tokens, dim, stored);
          const auto out = attend(*k, cache, q, limits, group, n_rows);
          if (first.empty()) {
            first = out;
            const auto kept = as_kept(cache.keys, dim, stored), kept_values = as_kept(cache.values, dim, stored);
            for (int r = 0; r < n_rows; ++r)
              for (int g = 0; g < group; ++g) {
                const float* query = &q[size_t((r * group + g) * dim)];
                std::vector<double> w, want(static_cast<size_t>(dim));
                double total = 0;
                for (int t = 0; t < limits[size_t(r)]; ++t) {
                  double s = 0;
                  for (int i = 0; i < dim; ++i) s += double(query[i]) * kept[size_t(t * dim + i)];
                  w.push_back(std::exp(s));
                  total += w.back();
                }
                for (int t = 0; t < limits[size_t(r)]; ++t)
                  for (int i = 0; i < dim; ++i)
                    want[size_t(i)] += w[size_t(t)] / total * kept_values[size_t(t * dim + i)];
                for (int i = 0; i < dim; ++i)
                  ASSERT_NEAR(out[size_t((r * group + g) * dim + i)], want[size_t(i)], 1e-5) << dim << " " << group;
              }
          }
          EXPECT_TRUE(same_bits(first, out)) << k->isa;
          for (int tile : {1, 2, 5})
            EXPECT_TRUE(same_bits(first, attend(*k, cache, q, limits, group, tile))) << k->isa << " tile " << tile;
        }
      }
    }
  }
}

}  // namespace
}  // namespace ponder::backend::cpu
