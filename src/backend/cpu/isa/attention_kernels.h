// Attention over 16 lanes, once for all instruction sets. Scores: lanes are tokens, so a K block of 16 tokens needs no
// horizontal sums; a micro tile of queries (rows x heads of one KV head) stays in registers while K streams by. Values:
// lanes are dimensions. A number's operations depend only on its own row: over d ascending for a score, over tokens
// ascending for a value, so tiles may be cut anywhere (docs/numerics.md).
// Masked slots are never multiplied: a tile runs over the tokens that all its queries see, then each query goes on alone.
#pragma once

#include "backend/cpu/isa/kv_pages.h"

namespace ponder::backend::cpu {
namespace {

constexpr int kPartialPages = kPartialTokens / kPageTokens;

// scores[q][t] of NQ queries (qt: [head_dim][16]) for blocks of 16 tokens, NB at a time, of one page's K; `next`: what is
// read after it.
template <int NQ, int NB, class Format>
void score_blocks(const uint8_t* k, const uint8_t* next, const float* places, int head_dim, const float* qt,
                  float* scores, int n_blocks) {
  using Keys = typename Format::Keys;
  static_assert(NB <= 2);
  for (int b = 0; b < n_blocks; b += NB) {
    Keys keys[2] = {Keys(k, next, head_dim, places, b, NB), Keys(k, next, head_dim, places, b + NB - 1, NB)};
    Lanes s[NQ][NB];
    for (int q = 0; q < NQ; ++q)
      for (int j = 0; j < NB; ++j) s[q][j] = Lanes::zero();
    for (int d0 = 0; d0 < head_dim; d0 += kByteGroup) {
      const int d1 = head_dim - d0 < kByteGroup ? head_dim : d0 + kByteGroup;
      for (int j = 0; j < NB; ++j) keys[j].group(d0);
      for (int d = d0; d < d1; ++d) {
        Lanes x[NB];
        for (int j = 0; j < NB; ++j) {
          x[j] = keys[j].load(d);
          keys[j].fetch(d);
        }
        for (int q = 0; q < NQ; ++q) {
          const Lanes f = Lanes::set1(qt[d * kTokenLanes + q]);
          for (int j = 0; j < NB; ++j) s[q][j] = fma(x[j], f, s[q][j]);
        }
      }
    }
    for (int q = 0; q < NQ; ++q)
      for (int j = 0; j < NB; ++j) s[q][j].store(scores + q * kPartialTokens + (b + j) * kTokenLanes);
  }
}

// Queries (qt: [head_dim][16]) as a page of keys without bias wants them: turned back by its first position.
inline void turn_back(const float* qt, const KeyBias& bias, int page, int head_dim, float* out) {
  const int half = bias.rope_dims / 2;
  const float* c = bias.starts + int64_t(page) * bias.rope_dims;
  const float* s = c + half;
  for (int i = 0; i < half; ++i) {
    const int first = (bias.pairs ? 2 * i : i) * kTokenLanes,
              second = (bias.pairs ? 2 * i + 1 : i + half) * kTokenLanes;
    const Lanes a = Lanes::load(qt + first), b = Lanes::load(qt + second);
    const Lanes cosine = Lanes::set1(c[i]), sine = Lanes::set1(s[i]);
    fma(a, cosine, b * sine).store(out + first);
    fma(b, cosine, Lanes::zero() - a * sine).store(out + second);
  }
  for (int d = bias.rope_dims; d < head_dim; ++d) Lanes::load(qt + d * kTokenLanes).store(out + d * kTokenLanes);
}

// acc[q][d] += p[q][t] * v[t][d] for t in [t0, t1), ND vectors of d from d0 on at a time.
template <int NQ, int ND, class Values>
void add_values(const Values& v, int d0, const float* p, float* acc, int t0, int t1, bool fresh) {
  constexpr int kAhead = 8;  // tokens
  Lanes a[NQ][ND];
  for (int q = 0; q < NQ; ++q)
    for (int j = 0; j < ND; ++j) a[q][j] = fresh ? Lanes::zero() : Lanes::load(acc + int64_t(q) * v.stride + j * 16);
  for (int t = t0; t < t1;) {
    const int page_end = (t / kPageTokens + 1) * kPageTokens, end = page_end < t1 ? page_end : t1;
    const auto after = page_end < t1 ? v.row(page_end) : v.row(t);
    for (auto row = v.row(t); t < end; ++t, row += v.stride) {
      const auto later = t + kAhead < page_end ? row + kAhead * v.stride : after + (t + kAhead - page_end) * v.stride;
      Lanes x[ND];
      for (int j = 0; j < ND; ++j) {
        x[j] = v.load(row, t, d0 + j * 16);
        prefetch(later + d0 + j * 16);
      }
      for (int q = 0; q < NQ; ++q) {
        const Lanes f = Lanes::set1(p[q * kPartialTokens + t]);
        for (int j = 0; j < ND; ++j) a[q][j] = fma(x[j], f, a[q][j]);
      }
    }
  }
  for (int q = 0; q < NQ; ++q)
    for (int j = 0; j < ND; ++j) a[q][j].store(acc + int64_t(q) * v.stride + j * 16);
}

constexpr int vectors_for(int n_queries) {
  int n = 8;
  while (n > 1 && n * n_queries > Lanes::kAccumulators) n /= 2;
  return n;
}

template <int NQ, class Values>
void values(const Values& v, const float* p, float* acc, int t0, int t1, bool fresh) {
  constexpr int kVectors = vectors_for(NQ);
  int d = 0;
  for (; d + kVectors * 16 <= v.stride; d += kVectors * 16) add_values<NQ, kVectors>(v, d, p, acc + d, t0, t1, fresh);
  for (; d < v.stride; d += 16) add_values<NQ, 1>(v, d, p, acc + d, t0, t1, fresh);
}

// Turns the scores of one query's first n tokens into exponentials; returns their sum.
inline float soften(float* scores, int n, float* largest) {
  const Lanes low = Lanes::set1(-__builtin_inff());
  Lanes m = low;
  for (int t = 0; t < n; t += 16) {
    const Lanes s = Lanes::load(scores + t);
    m = max(m, n - t >= 16 ? s : Lanes::first_n(n - t, s, low));
  }
  *largest = m.largest();
  const Lanes top = Lanes::set1(*largest);
  Lanes sum = Lanes::zero();
  for (int t = 0; t < n; t += 16) {
    Lanes e = exp_lanes(Lanes::load(scores + t) - top);
    if (n - t < 16) e = Lanes::first_n(n - t, e, Lanes::zero());
    e.store(scores + t);
    sum = sum + e;
  }
  return sum.sum();
}

// One micro tile: queries [q0, q0 + NQ) of the item against one partial that starts at token t0.
template <int NQ, class Format>
void micro_tile(const AttentionItem& item, int t0, int q0, const AttentionState& out, float* scratch) {
  constexpr int kBlocks = NQ * 2 <= Lanes::kQueries ? 2 : 1;
  float* scores = scratch;
  float* qt = scores + kMicroQueries * kPartialTokens;
  float* turned = qt + item.head_dim * kTokenLanes;
  for (int q = 0; q < NQ; ++q)
    for (int d = 0; d < item.head_dim; ++d) qt[d * kTokenLanes + q] = item.queries[q0 + q][d];

  int seen[NQ];  // tokens of this partial that each query sees
  for (int q = 0; q < NQ; ++q) {
    const int n = item.limits[q0 + q] - t0;
    seen[q] = n < kPartialTokens ? n : kPartialTokens;
  }
  typename Format::Values v(item.head_dim, turned + item.head_dim * kTokenLanes);
  const int page0 = t0 / kPageTokens;
  for (int i = 0; i * kPageTokens < seen[NQ - 1]; ++i) {
    const uint8_t* page = item.pages[page0 + i];
    v.page(i, page + item.v_offset);
    const int left = seen[NQ - 1] - i * kPageTokens;
    const int blocks = (left < kPageTokens ? left + kTokenLanes - 1 : kPageTokens) / kTokenLanes;
    const bool apart = item.bias.places != nullptr;
    if (apart) turn_back(qt, item.bias, page0 + i, item.head_dim, turned);
    const uint8_t* next = (i + 1) * kPageTokens < seen[NQ - 1] ? item.pages[page0 + i + 1] + item.k_offset
                                                               : item.pages[page0] + item.v_offset;
    score_blocks<NQ, kBlocks, Format>(page + item.k_offset, next, item.bias.places, item.head_dim, apart ? turned : qt,
                                      scores + i * kPageTokens, blocks);
  }
  for (int q = 0; q < NQ; ++q) out.sum[q0 + q] = soften(scores + q * kPartialTokens, seen[q], &out.largest[q0 + q]);

  float* acc = out.acc + int64_t(q0) * item.v_stride;
  values<NQ>(v, scores, acc, 0, seen[0], true);
  for (int q = 0; q < NQ; ++q)
    if (seen[q] > seen[0])
      values<1>(v, scores + q * kPartialTokens, acc + int64_t(q) * item.v_stride, seen[0], seen[q], false);
}

using MicroTile = void (*)(const AttentionItem&, int, int, const AttentionState&, float*);
template <class T, int... N>
struct MicroTiles {
  MicroTile f[sizeof...(N)] = {micro_tile<N + 1, T>...};
};
template <int... N>
struct Numbers {};
template <int N, int... Rest>
struct Count : Count<N - 1, N - 1, Rest...> {};
template <int... Rest>
struct Count<0, Rest...> {
  using type = Numbers<Rest...>;
};
template <class T, int... N>
constexpr MicroTiles<T, N...> micro_tiles(Numbers<N...>) {
  return {};
}

int attention_partial(const AttentionItem& item, int index, const AttentionState& out, float* scratch) {
  using Sizes = Count<Lanes::kQueries>::type;
  static constexpr auto kHalf = micro_tiles<Plain<uint16_t>>(Sizes());
  static constexpr auto kFloat = micro_tiles<Plain<float>>(Sizes());
  static constexpr auto kBytes = micro_tiles<Bytes>(Sizes());
  const auto* tile = item.stored == Stored::f16 ? kHalf.f : item.stored == Stored::f32 ? kFloat.f : kBytes.f;
  const int t0 = index * kPartialTokens;
  int first = 0;
  while (first < item.n_queries && item.limits[first] <= t0) ++first;
  const int n = item.n_queries - first;
  const int tiles = (n + Lanes::kQueries - 1) / Lanes::kQueries;
  for (int i = 0; i < tiles; ++i) {  // tiles of nearly equal size
    const int begin = first + n * i / tiles, end = first + n * (i + 1) / tiles;
    tile[end - begin - 1](item, t0, begin, out, scratch);
  }
  return first;
}

void attention_merge(const AttentionItem& item, int first, const AttentionState& into, const AttentionState& later) {
  for (int q = first; q < item.n_queries; ++q) {
    const float top = into.largest[q] > later.largest[q] ? into.largest[q] : later.largest[q];
    const float old_part = exp1(into.largest[q] - top), new_part = exp1(later.largest[q] - top);
    into.largest[q] = top;
    into.sum[q] = fma1(later.sum[q], new_part, into.sum[q] * old_part);
    const Lanes f = Lanes::set1(old_part), g = Lanes::set1(new_part);
    float* a = into.acc + int64_t(q) * item.v_stride;
    const float* b = later.acc + int64_t(q) * item.v_stride;
    for (int d = 0; d < item.v_stride; d += 16) fma(Lanes::load(b + d), g, Lanes::load(a + d) * f).store(a + d);
  }
}

void attention_finish(const AttentionItem& item, const AttentionState& state, float* const* out) {
  for (int q = 0; q < item.n_queries; ++q) {
    const Lanes f = Lanes::set1(1.f / state.sum[q]);
    for_row(item.head_dim, [&](int d, int m) {
      store_part(out[q] + d, m, Lanes::load(state.acc + int64_t(q) * item.v_stride + d) * f);
    });
  }
}

constexpr VectorKernels make_kernels(const char* isa) {
  return {isa,
          rms_norm,
          add,
          scale,
          gate,
          exp_row,
          rope_halves,
          rope_pairs,
          write_k,
          write_v,
          attention_partial,
          attention_merge,
          attention_finish};
}

}  // namespace
}  // namespace ponder::backend::cpu
