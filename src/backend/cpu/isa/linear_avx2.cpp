// The AVX2 level of the linear kernels. Half panels (8 rows are the 8 lanes) times up to 4 columns
// fit 16 registers. Every family is first unpacked to bytes (a group of 256 columns in L1, or a
// whole panel for 8 columns and more), so that one kernel per Kind is enough. vpmaddubsw adds pairs
// in int16; how many of those sums fit follows from the bits of the weights: 5 bits, four (4 * 2 *
// 31 * 127 = 31,496); 6 bits, two (32,004); 8 bits: weights as |w|, activations with w's sign, one
// (2 * 128 * 127 = 32,512). The integers are those of the other levels, hence the same bits.
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {
namespace {

#define PONDER_INLINE __attribute__((always_inline)) inline

inline __m256 load_half8(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void load_halfs(const uint8_t* p, float* out) {
  _mm256_storeu_ps(out, load_half8(p));
  _mm256_storeu_ps(out + 8, load_half8(p + 16));
}

#include "backend/cpu/isa/linear_portable.inc"

inline __m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
inline __m256i word(const void* p) { return _mm256_set1_epi32(*static_cast<const int32_t*>(p)); }
inline __m256 real(const float& f) { return _mm256_set1_ps(f); }
inline __m256 to_float(__m256i v) { return _mm256_cvtepi32_ps(v); }

/// s[c] += vectors [0, V) at w (8 rows of each) times the four values a vector of columns c0 .. c0
/// + NC.
template <Kind K, int V, int NC, int W>
PONDER_INLINE void dot(const uint8_t* w, const int8_t (*x)[W][4], int c0, __m256i* s) {
  const __m256i one = _mm256_set1_epi16(1);
  if constexpr (K == Kind::b8) {
    const __m256i bias = _mm256_set1_epi8(-128);
#pragma GCC unroll 8
    for (int i = 0; i < V; i++) {
      const __m256i v = _mm256_xor_si256(load(w + 64 * i), bias), a = _mm256_abs_epi8(v);
#pragma GCC unroll 4
      for (int c = 0; c < NC; c++)
        s[c] = _mm256_add_epi32(
            s[c], _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_sign_epi8(word(x[i][c0 + c]), v)), one));
    }
  } else {
    constexpr int kSum = K == Kind::k16 ? 2 : 4;
#pragma GCC unroll 4
    for (int i = 0; i < V; i += kSum) {
      __m256i p[NC];
#pragma GCC unroll 4
      for (int k = 0; k < kSum; k++) {
        const __m256i v = load(w + 64 * (i + k));
#pragma GCC unroll 4
        for (int c = 0; c < NC; c++) {
          const __m256i m = _mm256_maddubs_epi16(v, word(x[i + k][c0 + c]));
          p[c] = k == 0 ? m : _mm256_add_epi16(p[c], m);
        }
      }
#pragma GCC unroll 4
      for (int c = 0; c < NC; c++) s[c] = _mm256_add_epi32(s[c], _mm256_madd_epi16(p[c], one));
    }
  }
}

/// The accumulators' start: minus offset times the sum of the activations (b8 works on signed
/// weights: none).
template <Kind K>
PONDER_INLINE __m256i start(int32_t neg) {
  if constexpr (offset_shift(K) < 0 || K == Kind::b8)
    return _mm256_setzero_si256();
  else
    return _mm256_slli_epi32(_mm256_set1_epi32(neg), offset_shift(K));
}

/// Rows 8 * half .. + 8 of a group of n blocks times columns c0 .. c0 + NC.
template <Kind K, int NC, int W, Form F>
PONDER_INLINE void half_group(const UnpackedGroup& g, int n, const Record<W, F>& x, int half, int c0, float* tile) {
  constexpr bool kSuper = K == Kind::k || K == Kind::k16, kWide = F == Form::i14x256;
  constexpr int kHalves = K == Kind::k16 ? 2 : 1, kVectors = 8 / kHalves;
  const int r = 8 * half;
  const uint8_t* q = &g.q[0][r][0];
  tile += 16 * c0 + r;
  __m256 t[NC];
#pragma GCC unroll 4
  for (int c = 0; c < NC; c++) t[c] = kSuper || kWide ? _mm256_setzero_ps() : _mm256_loadu_ps(tile + 16 * c);

#pragma GCC unroll 1
  for (int j = 0; j < n; j++) {
    __m256 u[NC];
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; h++) {
      __m256i s[NC], low[NC];
      const int first = 8 * j + 4 * h;
#pragma GCC unroll 4
      for (int c = 0; c < NC; c++) {
        const int32_t neg = kHalves == 2 ? x.neg16[2 * j + h][c0 + c] : x.neg32[j][c0 + c];
        s[c] = kWide ? _mm256_setzero_si256() : start<K>(neg);
        if constexpr (kWide) low[c] = start<K>(neg);
      }
      dot<K, kVectors, NC, W>(q + 64 * first, x.q + first, c0, s);
      if constexpr (kWide) {
        dot<K, kVectors, NC, W>(q + 64 * first, x.low + first, c0, low);
#pragma GCC unroll 4
        for (int c = 0; c < NC; c++) s[c] = _mm256_add_epi32(_mm256_slli_epi32(s[c], 7), low[c]);
      }
      const __m256 f = _mm256_load_ps(g.scale[kHalves * j + h] + r);
#pragma GCC unroll 4
      for (int c = 0; c < NC; c++) {
        if constexpr (kWide)
          t[c] = _mm256_fmadd_ps(to_float(s[c]), f, t[c]);
        else if constexpr (kHalves == 1)
          t[c] = _mm256_fmadd_ps(_mm256_mul_ps(to_float(s[c]), f), real(x.scale[j][c0 + c]), t[c]);
        else if (h == 0)
          u[c] = _mm256_mul_ps(to_float(s[c]), f);
        else
          t[c] = _mm256_fmadd_ps(_mm256_fmadd_ps(to_float(s[c]), f, u[c]), real(x.scale[j][c0 + c]), t[c]);
      }
    }
  }

  if constexpr (F == Form::i8x32r1) {
#pragma GCC unroll 4
    for (int c = 0; c < NC; c++) {
      const int j = x.residual_block[c0 + c];
      const __m256 a = real(x.residual_scale[c0 + c]);
      __m256 u = _mm256_setzero_ps();
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; h++) {
        __m256i s =
            start<K>(kHalves == 2 ? x.residual_neg[h][c0 + c] : x.residual_neg[0][c0 + c] + x.residual_neg[1][c0 + c]);
        dot<K, kVectors, 1, W>(q + 64 * (8 * j + 4 * h), x.residual + 4 * h, c0 + c, &s);
        const __m256 f = _mm256_load_ps(g.scale[kHalves * j + h] + r);
        if constexpr (kHalves == 1)
          t[c] = _mm256_fmadd_ps(_mm256_mul_ps(to_float(s), f), a, t[c]);
        else if (h == 0)
          u = _mm256_mul_ps(to_float(s), f);
        else
          t[c] = _mm256_fmadd_ps(_mm256_fmadd_ps(to_float(s), f, u), a, t[c]);
      }
    }
  }

#pragma GCC unroll 4
  for (int c = 0; c < NC; c++) {
    __m256 acc = t[c];
    if constexpr (kWide)
      acc = _mm256_fmadd_ps(kSuper ? _mm256_mul_ps(t[c], _mm256_load_ps(g.d + r)) : t[c], real(x.scale[0][c0 + c]),
                            _mm256_loadu_ps(tile + 16 * c));
    else if constexpr (kSuper)
      acc = _mm256_fmadd_ps(t[c], _mm256_load_ps(g.d + r), _mm256_loadu_ps(tile + 16 * c));
    if constexpr (K == Kind::k) {
      __m256i m = _mm256_setzero_si256();
#pragma GCC unroll 4
      for (int p = 0; p < 4; p++)
        m = _mm256_add_epi32(m, _mm256_madd_epi16(load(g.min_pairs[p] + r), word(x.sum_pairs[p][c0 + c])));
      acc = _mm256_fnmadd_ps(_mm256_mul_ps(to_float(m), real(x.sum_scale[c0 + c])), _mm256_load_ps(g.dmin + r), acc);
    }
    if constexpr (K == Kind::bm)
      for (int j = 0; j < n; j++) acc = _mm256_fmadd_ps(_mm256_load_ps(g.min[j] + r), real(x.sum[j][c0 + c]), acc);
    _mm256_storeu_ps(tile + 16 * c, acc);
  }
}

template <Kind K, int W, Form F>
PONDER_INLINE void group(const UnpackedGroup& g, int n, const Record<W, F>& x, float* tile) {
  constexpr int kColumns = W < 4 ? W : 4;
#pragma GCC unroll 1
  for (int c0 = 0; c0 < W; c0 += kColumns)
#pragma GCC unroll 1
    for (int half = 0; half < 2; half++) half_group<K, kColumns, W, F>(g, n, x, half, c0, tile);
}

template <Kind K, Form F>
void spread_panel(const UnpackedGroup* g, int64_t columns, const uint8_t* x, float* tile) {
  const auto* record = reinterpret_cast<const Record<8, F>*>(x);
  for (int i = 0; i < 16 * 8; i++) tile[i] = 0;
  for (; columns > 0; columns -= 256, g++, record++)
    group<K, 8, F>(*g, columns >= 256 ? 8 : int(columns / 32), *record, tile);
}

template <Family A, int W, Form F>
void packed_panel(const uint8_t* w, int64_t columns, const uint8_t* x, float* tile) {
  const auto* record = reinterpret_cast<const Record<W, F>*>(x);
  const uint8_t* p = w + front_bytes(A, columns);
  for (int i = 0; i < 16 * W; i++) tile[i] = 0;
  UnpackedGroup g;
  for (; columns > 0; columns -= 256, w += 32, record++) {
    const int n = columns >= 256 ? 8 : int(columns / 32);
    for (int64_t i = 0; i < group_bytes(A, 8); i += 64)
      _mm_prefetch(reinterpret_cast<const char*>(p + 2304 + i), _MM_HINT_T0);
    unpack_group<A>(p, w, n, &g);
    group<kind_of(A), W, F>(g, n, *record, tile);
    p += group_bytes(A, n);
  }
}

template <Family A>
inline __m256 load_column(const uint8_t* panel, int64_t k, int half) {
  if constexpr (A == Family::f16)
    return load_half8(panel + 32 * k + 16 * half);
  else if constexpr (A == Family::bf16)
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(panel + 32 * k + 16 * half))), 16));
  else
    return _mm256_load_ps(reinterpret_cast<const float*>(panel + 64 * k + 32 * half));
}

/// Even and odd columns have a sum each; they are added at the end.
template <Family A, int W>
void floats(const uint8_t* panel, int64_t columns, const uint8_t* x, float* tile) {
  constexpr int NC = W < 4 ? W : 4;
  for (int c0 = 0; c0 < W; c0 += NC) {
    for (int half = 0; half < 2; half++) {
      const float* v = reinterpret_cast<const float*>(x) + c0;
      __m256 even[NC], odd[NC];
#pragma GCC unroll 4
      for (int c = 0; c < NC; c++) even[c] = odd[c] = _mm256_setzero_ps();
      int64_t k = 0;
      for (; k + 2 <= columns; k += 2, v += 2 * W) {
        _mm_prefetch(reinterpret_cast<const char*>(panel + 32 * k + 2304), _MM_HINT_T0);
        const __m256 w0 = load_column<A>(panel, k, half), w1 = load_column<A>(panel, k + 1, half);
#pragma GCC unroll 4
        for (int c = 0; c < NC; c++) {
          even[c] = _mm256_fmadd_ps(w0, real(v[c]), even[c]);
          odd[c] = _mm256_fmadd_ps(w1, real(v[W + c]), odd[c]);
        }
      }
      if (k < columns) {
        const __m256 w0 = load_column<A>(panel, k, half);
#pragma GCC unroll 4
        for (int c = 0; c < NC; c++) even[c] = _mm256_fmadd_ps(w0, real(v[c]), even[c]);
      }
#pragma GCC unroll 4
      for (int c = 0; c < NC; c++) _mm256_storeu_ps(tile + 16 * (c0 + c) + 8 * half, _mm256_add_ps(even[c], odd[c]));
    }
  }
}

uint64_t int8_peak(int64_t n, int32_t* sink) {
  __m256i s[8], w = _mm256_set1_epi32(*sink | 0x01010101);
  const __m256i v = _mm256_set1_epi32(0x02020202);
  for (auto& a : s) a = _mm256_setzero_si256();
  const int64_t steps = n / (8 * 32) + 1;
  for (int64_t i = 0; i < steps; i++) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
      asm volatile("" : "+x"(w));
      s[k] = _mm256_add_epi16(s[k], _mm256_maddubs_epi16(w, v));
    }
  }
  alignas(32) int32_t lanes[8];
  for (auto& a : s) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), a);
    *sink += lanes[0] & 0xffff;
  }
  return uint64_t(steps) * 8 * 32;
}

#define WIDTHS(F, A) {packed_panel<F, 1, A>, packed_panel<F, 2, A>, packed_panel<F, 4, A>, nullptr}
#define FAMILY(F) {WIDTHS(F, Form::i8x32), WIDTHS(F, Form::i8x32r1), WIDTHS(F, Form::i14x256)}
#define SPREAD(K) {spread_panel<K, Form::i8x32>, spread_panel<K, Form::i8x32r1>, spread_panel<K, Form::i14x256>}
#define FLOATS(F) {floats<F, 1>, floats<F, 2>, floats<F, 4>, floats<F, 8>}

}  // namespace

const LinearKernels kLinearAvx2 = {
    .quantize = quantize,
    .panel = {FAMILY(Family::q4_0), FAMILY(Family::q4_1), FAMILY(Family::q5_0), FAMILY(Family::q5_1),
              FAMILY(Family::q8_0), FAMILY(Family::q4_k), FAMILY(Family::q5_k), FAMILY(Family::q6_k)},
    .unpacked = {SPREAD(Kind::b4), SPREAD(Kind::bm), SPREAD(Kind::b5), SPREAD(Kind::bm), SPREAD(Kind::b8),
                 SPREAD(Kind::k), SPREAD(Kind::k), SPREAD(Kind::k16)},
    .unpack = {unpack_panel<Family::q4_0>, unpack_panel<Family::q4_1>, unpack_panel<Family::q5_0>,
               unpack_panel<Family::q5_1>, unpack_panel<Family::q8_0>, unpack_panel<Family::q4_k>,
               unpack_panel<Family::q5_k>, unpack_panel<Family::q6_k>},
    .dequantize = dequantize,
    .floats = {FLOATS(Family::f16), FLOATS(Family::bf16), FLOATS(Family::f32)},
    .int8_peak = int8_peak,
    .read = read_memory,
};

}  // namespace ponder::backend::cpu::isa
#endif
