// The linear kernels in plain C++: what the vector units must agree with bit by bit, and what runs
// where there are none. It unpacks a group at a time and then follows docs/numerics.md to the
// letter.
#include <math.h>

#include "backend/cpu/isa/linear_kernels.h"
#include "base/half.h"

namespace ponder::backend::cpu::isa {
namespace {

void load_halfs(const uint8_t* p, float* out) {
  for (int i = 0; i < 16; i++) out[i] = half_to_float(uint16_t(p[2 * i] | p[2 * i + 1] << 8));
}

#include "backend/cpu/isa/linear_portable.inc"

/// 16 rows: s += the vectors [first, last) of the group times four values each of one column.
template <int W>
inline void dot(const UnpackedGroup& g, int first, int last, const int8_t (*x)[W][4], int c, int32_t* s) {
  for (int i = first; i < last; i++) {
    const int8_t* v = x[i - first][c];
    for (int r = 0; r < 16; r++) {
      const uint8_t* q = g.q[i][r];
      s[r] += q[0] * v[0] + q[1] * v[1] + q[2] * v[2] + q[3] * v[3];
    }
  }
}

inline void fill(int32_t* s, int32_t value) {
  for (int r = 0; r < 16; r++) s[r] = value;
}

/// Block j of the group for one column: t takes the block's share, with `a` the activations' scale
/// (i14x256: none).
template <Kind K, int W, Form F>
inline void block(const UnpackedGroup& g, int j, const Record<W, F>& x, int c, float* t) {
  constexpr int kShift = offset_shift(K);
  constexpr int kHalves = K == Kind::k16 ? 2 : 1, kVectors = 8 / kHalves;
  float u[16];
  for (int h = 0; h < kHalves; h++) {
    int32_t s[16], low[16];
    const int32_t start = K == Kind::k16 ? x.neg16[2 * j + h][c]
                          : kShift < 0   ? 0
                                         : x.neg32[j][c] * (1 << (kShift < 0 ? 0 : kShift));
    const int first = 8 * j + kVectors * h;
    if constexpr (F == Form::i14x256) {
      fill(s, 0);
      fill(low, start);
      dot<W>(g, first, first + kVectors, x.q + first, c, s);
      dot<W>(g, first, first + kVectors, x.low + first, c, low);
      for (int r = 0; r < 16; r++) s[r] = s[r] * 128 + low[r];
    } else {
      fill(s, start);
      dot<W>(g, first, first + kVectors, x.q + first, c, s);
    }
    const float* scale = g.scale[K == Kind::k16 ? 2 * j + h : j];
    for (int r = 0; r < 16; r++) {
      if constexpr (F == Form::i14x256)
        t[r] = fmaf(float(s[r]), scale[r], t[r]);
      else if (K != Kind::k16)
        t[r] = fmaf(float(s[r]) * scale[r], x.scale[j][c], t[r]);
      else if (h == 0)
        u[r] = float(s[r]) * scale[r];
      else
        t[r] = fmaf(fmaf(float(s[r]), scale[r], u[r]), x.scale[j][c], t[r]);
    }
  }
}

/// The residual of one column.
template <Kind K, int W>
inline void residual(const UnpackedGroup& g, const Record<W, Form::i8x32r1>& x, int c, float* t) {
  constexpr int kShift = offset_shift(K);
  constexpr int kHalves = K == Kind::k16 ? 2 : 1, kVectors = 8 / kHalves;
  const int j = x.residual_block[c];
  float u[16];
  for (int h = 0; h < kHalves; h++) {
    int32_t s[16];
    const int32_t neg = K == Kind::k16 ? x.residual_neg[h][c] : x.residual_neg[0][c] + x.residual_neg[1][c];
    fill(s, kShift < 0 ? 0 : neg * (1 << (kShift < 0 ? 0 : kShift)));
    dot<W>(g, 8 * j + kVectors * h, 8 * j + kVectors * (h + 1), x.residual + kVectors * h, c, s);
    const float* scale = g.scale[K == Kind::k16 ? 2 * j + h : j];
    for (int r = 0; r < 16; r++) {
      if (K != Kind::k16)
        t[r] = fmaf(float(s[r]) * scale[r], x.residual_scale[c], t[r]);
      else if (h == 0)
        u[r] = float(s[r]) * scale[r];
      else
        t[r] = fmaf(fmaf(float(s[r]), scale[r], u[r]), x.residual_scale[c], t[r]);
    }
  }
}

template <Kind K, int W, Form F>
void group(const UnpackedGroup& g, int n, const Record<W, F>& x, float* tile) {
  constexpr bool kSuper = K == Kind::k || K == Kind::k16;
  for (int c = 0; c < W; c++, tile += 16) {
    float t[16];
    for (int r = 0; r < 16; r++) t[r] = kSuper || F == Form::i14x256 ? 0.0f : tile[r];
    for (int j = 0; j < n; j++) block<K, W, F>(g, j, x, c, t);
    if constexpr (F == Form::i8x32r1) residual<K, W>(g, x, c, t);
    for (int r = 0; r < 16; r++) {
      float acc;
      if constexpr (F == Form::i14x256)
        acc = fmaf(kSuper ? t[r] * g.d[r] : t[r], x.scale[0][c], tile[r]);
      else
        acc = kSuper ? fmaf(t[r], g.d[r], tile[r]) : t[r];
      if constexpr (K == Kind::k) {
        int32_t m = 0;
        for (int p = 0; p < 4; p++)
          m += (g.min_pairs[p][r] & 0xffff) * x.sum_pairs[p][c][0] + (g.min_pairs[p][r] >> 16) * x.sum_pairs[p][c][1];
        acc = fmaf(-(float(m) * x.sum_scale[c]), g.dmin[r], acc);
      }
      if constexpr (K == Kind::bm)
        for (int j = 0; j < n; j++) acc = fmaf(g.min[j][r], x.sum[j][c], acc);
      tile[r] = acc;
    }
  }
}

template <Kind K, Form F>
void unpacked(const UnpackedGroup& g, int n, const uint8_t* record, float* tile) {
  group<K, 8, F>(g, n, *reinterpret_cast<const Record<8, F>*>(record), tile);
}

template <Family A, int W, Form F>
void panel(const uint8_t* w, int64_t columns, const uint8_t* x, float* tile) {
  const auto* record = reinterpret_cast<const Record<W, F>*>(x);
  const uint8_t* p = w + front_bytes(A, columns);
  for (int i = 0; i < 16 * W; i++) tile[i] = 0;
  UnpackedGroup g;
  for (; columns > 0; columns -= 256, w += 32, record++) {
    const int n = columns >= 256 ? 8 : int(columns / 32);
    unpack_group<A>(p, w, n, &g);
    group<kind_of(A), W, F>(g, n, *record, tile);
    p += group_bytes(A, n);
  }
}

template <Family A>
inline void load_column(const uint8_t* panel, int64_t k, float* out) {
  if constexpr (A == Family::f16) {
    load_halfs(panel + 32 * k, out);
  } else if constexpr (A == Family::bf16) {
    for (int r = 0; r < 16; r++)
      out[r] = from_bits(uint32_t(panel[32 * k + 2 * r] | panel[32 * k + 2 * r + 1] << 8) << 16);
  } else {
    __builtin_memcpy(out, panel + 64 * k, 64);
  }
}

template <Family A, int W>
void floats(const uint8_t* panel, int64_t columns, const uint8_t* x, float* even, float* odd) {
  const float* v = reinterpret_cast<const float*>(x);
  for (int64_t k = 0; k < columns; k++) {
    float w[16];
    load_column<A>(panel, k, w);
    float* acc = k % 2 == 0 ? even : odd;
    for (int c = 0; c < W; c++)
      for (int r = 0; r < 16; r++) acc[16 * c + r] = fmaf(w[r], v[k * W + c], acc[16 * c + r]);
  }
}

/// The dot() above on 64 rows' worth of bytes that the compiler cannot see through.
uint64_t int8_peak(int64_t n, int32_t* sink) {
  UnpackedGroup g;
  int8_t x[8][1][4];
  for (int i = 0; i < 512; i++) g.q[i / 64][i / 4 % 16][i % 4] = uint8_t(*sink + i);
  for (int i = 0; i < 32; i++) x[i / 4][0][i % 4] = int8_t(*sink + 3 * i);
  int32_t s[16] = {};
  const int64_t steps = n / 512 + 1;
  for (int64_t i = 0; i < steps; i++) {
    dot<1>(g, 0, 8, x, 0, s);
    x[0][0][0] = int8_t(s[i % 16]);
  }
  for (int r = 0; r < 16; r++) *sink ^= s[r];
  return uint64_t(steps) * 512;
}

#define WIDTHS_OF(F, A) {panel<F, 1, A>, panel<F, 2, A>, panel<F, 4, A>, nullptr}
#define FAMILY(F) {WIDTHS_OF(F, Form::i8x32), WIDTHS_OF(F, Form::i8x32r1), WIDTHS_OF(F, Form::i14x256)}
#define KIND(K) {unpacked<K, Form::i8x32>, unpacked<K, Form::i8x32r1>, unpacked<K, Form::i14x256>}
#define FLOATS(F) {floats<F, 1>, floats<F, 2>, floats<F, 4>, floats<F, 8>}

}  // namespace

const LinearKernels kLinearScalar = {
    .quantize = quantize,
    .panel = {FAMILY(Family::q4_0), FAMILY(Family::q4_1), FAMILY(Family::q5_0), FAMILY(Family::q5_1),
              FAMILY(Family::q8_0), FAMILY(Family::q4_k), FAMILY(Family::q5_k), FAMILY(Family::q6_k)},
    .group = {KIND(Kind::b4), KIND(Kind::bm), KIND(Kind::b5), KIND(Kind::bm), KIND(Kind::b8), KIND(Kind::k),
              KIND(Kind::k), KIND(Kind::k16)},
    .unpack = {unpack_one<Family::q4_0>, unpack_one<Family::q4_1>, unpack_one<Family::q5_0>, unpack_one<Family::q5_1>,
               unpack_one<Family::q8_0>, unpack_one<Family::q4_k>, unpack_one<Family::q5_k>, unpack_one<Family::q6_k>},
    .dequantize = dequantize,
    .floats = {FLOATS(Family::f16), FLOATS(Family::bf16), FLOATS(Family::f32)},
    .int8_peak = int8_peak,
    .read = read_memory,
};

}  // namespace ponder::backend::cpu::isa
