// A tile of weights times 2 to 16 rows of activations (tile_dot.cuh says how): NT groups of four rows.
#pragma once

#include "backend/cuda/tile_dot.cuh"

namespace ponder::backend::cuda {

/// Where a lane finds its activations in shared memory, for each group of four rows. Rows past the last repeat it: their
/// results are dropped.
template <int NT>
struct RowsView {
  uint32_t planes[NT];  ///< at the lane's words of row 4 i + g / 2, first tile
  uint32_t sums[NT];  ///< K-quants: at the lane's sums of planes of the same row; else at the block sums of row 4 i + t
  int dy[NT];         ///< index of row 4 i + t's first
  const float* factors;
};
/// Bytes of sums that a tile needs per row.
__host__ __device__ constexpr int sums_bytes(TileKind k) { return is_k_quant(k) ? 64 : 32; }

/// Half-precision pairs of small integers (0 .. 1023), exact.
__device__ __forceinline__ uint32_t halves_of(uint32_t low, uint32_t high) {
  return as_bits(__hsub2(as_half2(low | high << 16 | 0x64006400u), as_half2(0x64006400u)));
}
/// Two signed bytes, one in each half of the word's low bytes after an exclusive or with 0x80.
__device__ __forceinline__ uint32_t halves_of_signed(uint32_t biased) {
  return as_bits(__hsub2(as_half2((biased & 0x00ff00ffu) | 0x64006400u), as_half2(0x64806480u)));
}

/// Adds to acc[i][0] (row g of the tile) and acc[i][1] (row g + 8) the products with activation row 4 i + t.
template <TileKind K, int NT>
__device__ __forceinline__ void dot_rows(uint32_t tile, const RowsView<NT>& x, int column, int lane,
                                         float (&acc)[NT][2]) {
  const int g = lane >> 2, t = lane & 3;
  Fragments<K> a(tile, lane);
  const uint32_t scales = tile + scales_offset(K);
  const auto factor = [&](int i) { return x.factors[x.dy[i] + column]; };
  const auto words = [&](int i, int b) { return load_shared64(x.planes[i] + column * kPlaneBytes + b * 64); };

  if constexpr (is_k_quant(K)) {
    int sum[NT][2] = {};
    uint32_t m0, m1, m2, m3;  // A fragment of the minimums, or of Q6_K's scales
    float d_g, d_h, low_g, low_h;
    if constexpr (K == TileKind::q6_k) {
      const uint4 scales_g = load_shared128(scales + g * 16), scales_h = load_shared128(scales + 128 + g * 16);
      const auto scale = [](const uint4& s, int j) {
        const uint32_t w = j % 4 == 0 ? s.x : j % 4 == 1 ? s.y : j % 4 == 2 ? s.z : s.w;
        return int(w << (24 - 8 * (j / 4))) >> 24;
      };
#pragma unroll
      for (int b = 0; b < 8; ++b) {
        const uint4 f = a.block(b);
#pragma unroll
        for (int i = 0; i < NT; ++i) {
          const uint2 w = words(i, b);
          int first[4] = {}, second[4] = {};
          mma_bytes_k16(first, f.x, f.y, w.x);
          mma_bytes_k16(second, f.z, f.w, w.y);
          sum[i][0] += (first[0] * 64 + first[1]) * scale(scales_g, 2 * b) +
                       (second[0] * 64 + second[1]) * scale(scales_g, 2 * b + 1);
          sum[i][1] += (first[2] * 64 + first[3]) * scale(scales_h, 2 * b) +
                       (second[2] * 64 + second[3]) * scale(scales_h, 2 * b + 1);
        }
      }
      // Scales 2t, 2t+1 and 8 more: neighbouring words, bytes t / 2 and t / 2 + 2.
      const auto pairs = [&](int row, uint32_t* first, uint32_t* second) {
        const uint2 w = load_shared64(scales + row * 16 + (t & 1) * 8);
        const uint32_t u = w.x ^ 0x80808080u, v = w.y ^ 0x80808080u;
        const uint32_t low = (u >> (8 * (t >> 1))) & 0xff, low2 = (v >> (8 * (t >> 1))) & 0xff;
        const uint32_t high = (u >> (8 * (t >> 1) + 16)) & 0xff, high2 = (v >> (8 * (t >> 1) + 16)) & 0xff;
        *first = halves_of_signed(low | low2 << 16);
        *second = halves_of_signed(high | high2 << 16);
      };
      pairs(g, &m0, &m2);
      pairs(g + 8, &m1, &m3);
      const auto d_of = [&](int row) {
        return half_bits_to_float(load_shared32(scales + 256 + (row & ~1) * 2) >> ((row & 1) * 16) & 0xffff);
      };
      d_g = d_of(g), d_h = d_of(g + 8), low_g = low_h = 0;
    } else {
      const uint4 header_g = load_shared128(scales + g * 16), header_h = load_shared128(scales + 128 + g * 16);
      const auto scale = [](const uint4& h, int b) {
        const int t2 = b % 4, up = b / 4;
        return int(((h.y >> (8 * t2 + 4 * up)) & 15) | (((h.w >> (8 * t2 + 2 * up)) & 3) << 4));
      };
#pragma unroll
      for (int b = 0; b < 8; ++b) {
        const uint4 f = a.block(b);
        const int scale_g = scale(header_g, b), scale_h = scale(header_h, b);
#pragma unroll
        for (int i = 0; i < NT; ++i) {
          const uint2 w = words(i, b);
          int c[4] = {};
          mma_bytes<false>(c, f, w.x, w.y);
          sum[i][0] += (c[0] * 64 + c[1]) * scale_g;
          sum[i][1] += (c[2] * 64 + c[3]) * scale_h;
        }
      }
      const KHeader hg(header_g, t), hh(header_h, t);
      m0 = halves_of(uint32_t(hg.min[0]), uint32_t(hg.min[0])),
      m1 = halves_of(uint32_t(hh.min[0]), uint32_t(hh.min[0]));
      m2 = halves_of(uint32_t(hg.min[1]), uint32_t(hg.min[1])),
      m3 = halves_of(uint32_t(hh.min[1]), uint32_t(hh.min[1]));
      d_g = hg.d, d_h = hh.d, low_g = -hg.dmin, low_h = -hh.dmin;
    }
#pragma unroll
    for (int i = 0; i < NT; ++i) {
      const uint2 s = load_shared64(x.sums[i] + column * 64);
      float c[4] = {};
      mma_halves(c, m0, m1, m2, m3, s.x, s.y);
      const float dy = factor(i);
      if constexpr (K == TileKind::q6_k) {
        // 32 * sum scale * sum(q): exact, as an integer.
        sum[i][0] -= 32 * (int(c[0]) * 64 + int(c[1]));
        sum[i][1] -= 32 * (int(c[2]) * 64 + int(c[3]));
      } else {
        // fma(64, high, low) rounds the exact sum once, as the conversion of the integer does.
        acc[i][0] = __fmaf_rn(dy, __fmul_rn(low_g, __fmaf_rn(64.f, c[0], c[1])), acc[i][0]);
        acc[i][1] = __fmaf_rn(dy, __fmul_rn(low_h, __fmaf_rn(64.f, c[2], c[3])), acc[i][1]);
      }
      acc[i][0] = __fmaf_rn(dy, __fmul_rn(d_g, float(sum[i][0])), acc[i][0]);
      acc[i][1] = __fmaf_rn(dy, __fmul_rn(d_h, float(sum[i][1])), acc[i][1]);
    }
  } else {
    // s_t needs blocks t and t + 4: the first half's products wait in s.
    float s[NT][4][2];
    const uint4 dg = load_shared128(scales + g * 16), dh = load_shared128(scales + 128 + g * 16);
    uint4 mg = {}, mh = {};
    if constexpr (has_min(K)) mg = load_shared128(scales + 256 + g * 16), mh = load_shared128(scales + 384 + g * 16);
    const auto nth = [](const uint4& h, int b) {
      const uint32_t w = b / 2 == 0 ? h.x : b / 2 == 1 ? h.y : b / 2 == 2 ? h.z : h.w;
      return half_bits_to_float(b % 2 ? w >> 16 : w & 0xffff);
    };
    constexpr int kZero = zero_point(K);
#pragma unroll
    for (int b = 0; b < 8; ++b) {
      const uint4 f = a.block(b);
      const float scale_g = nth(dg, b), scale_h = nth(dh, b);
#pragma unroll
      for (int i = 0; i < NT; ++i) {
        const uint2 w = words(i, b);
        int c[4] = {};
        mma_bytes<K == TileKind::q8_0>(c, f, w.x, w.y);
        int one_g = c[0] * 64 + c[1], one_h = c[2] * 64 + c[3];
        if constexpr (kZero != 0) {
          const int sum = int(load_shared32(x.sums[i] + column * 32 + b * 4));
          one_g -= kZero * sum, one_h -= kZero * sum;
        }
        if (b < 4) {
          s[i][b][0] = __fmul_rn(scale_g, float(one_g));
          s[i][b][1] = __fmul_rn(scale_h, float(one_h));
        } else {
          float &u = s[i][b & 3][0], &v = s[i][b & 3][1];
          u = __fmaf_rn(scale_g, float(one_g), u);
          v = __fmaf_rn(scale_h, float(one_h), v);
          if constexpr (has_min(K)) {
            const float first = float(int(load_shared32(x.sums[i] + column * 32 + (b - 4) * 4)));
            const float second = float(int(load_shared32(x.sums[i] + column * 32 + b * 4)));
            u = __fmaf_rn(nth(mg, b), second, __fmaf_rn(nth(mg, b - 4), first, u));
            v = __fmaf_rn(nth(mh, b), second, __fmaf_rn(nth(mh, b - 4), first, v));
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < NT; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        acc[i][r] = __fmaf_rn(
            factor(i), __fadd_rn(__fadd_rn(s[i][0][r], s[i][1][r]), __fadd_rn(s[i][2][r], s[i][3][r])), acc[i][r]);
  }
}

}  // namespace ponder::backend::cuda
