// Tiles of weights times several rows of activations (tile_dot.cuh says how): RT row tiles, one above the other, times NT
// groups of four rows. The same function serves 2 to 16 rows and prefill; a View says where the activations lie:
//   planes(i)       the lane's words of row 4 i + g / 2 of the group of columns at hand
//   sums(i, bytes)  K-quants: the lane's sums of planes of that row; other kinds: the block sums of row 4 i + t
//   dy(i)           the scale of row 4 i + t
#pragma once

#include "backend/cuda/tile_dot.cuh"

namespace ponder::backend::cuda {

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
__device__ __forceinline__ int byte_of(uint32_t word, int i) { return int((word >> (8 * i)) & 0xff); }

/// Scales of one row of a K-quant tile, ready to be multiplied with.
template <TileKind K>
struct RowScales {
  uint32_t words[K == TileKind::q6_k ? 4 : 2];
  RowScales() = default;
  __device__ __forceinline__ explicit RowScales(uint4 h) {
    if constexpr (K == TileKind::q6_k) {
      words[0] = h.x, words[1] = h.y, words[2] = h.z, words[3] = h.w;
    } else {
      words[0] = (h.y & 0x0f0f0f0fu) | ((h.w & 0x03030303u) << 4);         // blocks 0 .. 3
      words[1] = ((h.y >> 4) & 0x0f0f0f0fu) | ((h.w << 2) & 0x30303030u);  // blocks 4 .. 7
    }
  }
  /// Of block b; Q6_K: of sub-block b.
  __device__ __forceinline__ int operator[](int b) const {
    if constexpr (K == TileKind::q6_k) return int(words[b % 4] << (24 - 8 * (b / 4))) >> 24;
    return byte_of(words[b / 4], b % 4);
  }
};

/// Adds to acc[r][i][0] (row g of tile r) and acc[r][i][1] (row g + 8) the products with activation row 4 i + t.
template <TileKind K, int RT, int NT, typename View>
__device__ __forceinline__ void dot_k_quants(const uint32_t (&tile)[RT], const View& x, int lane,
                                             float (&acc)[RT][NT][2]) {
  const int g = lane >> 2, t = lane & 3;
  int sum[RT][NT][2] = {};
  {
    Fragments<K> a[RT];
    RowScales<K> scale_g[RT], scale_h[RT];
#pragma unroll
    for (int r = 0; r < RT; ++r) {
      a[r] = Fragments<K>(tile[r], lane);
      const uint32_t scales = tile[r] + scales_offset(K);
      scale_g[r] = RowScales<K>(load_shared128(scales + g * 16));
      scale_h[r] = RowScales<K>(load_shared128(scales + 128 + g * 16));
    }
#pragma unroll
    for (int b = 0; b < 8; ++b) {
      uint4 f[RT];
#pragma unroll
      for (int r = 0; r < RT; ++r) f[r] = a[r].block(b);
#pragma unroll
      for (int i = 0; i < NT; ++i) {
        const uint2 w = load_shared64(x.planes(i) + b * 64);
#pragma unroll
        for (int r = 0; r < RT; ++r) {
          if constexpr (K == TileKind::q6_k) {
            int first[4] = {}, second[4] = {};
            mma_bytes_k16(first, f[r].x, f[r].y, w.x);
            mma_bytes_k16(second, f[r].z, f[r].w, w.y);
            sum[r][i][0] +=
                (first[0] * 64 + first[1]) * scale_g[r][2 * b] + (second[0] * 64 + second[1]) * scale_g[r][2 * b + 1];
            sum[r][i][1] +=
                (first[2] * 64 + first[3]) * scale_h[r][2 * b] + (second[2] * 64 + second[3]) * scale_h[r][2 * b + 1];
          } else {
            int c[4] = {};
            mma_bytes<false>(c, f[r], w.x, w.y);
            sum[r][i][0] += (c[0] * 64 + c[1]) * scale_g[r][b];
            sum[r][i][1] += (c[2] * 64 + c[3]) * scale_h[r][b];
          }
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < RT; ++r) {
    const uint32_t scales = tile[r] + scales_offset(K);
    uint32_t m0, m1, m2, m3;  // A fragment of the minimums, or of Q6_K's scales, twice per block or once per sub-block
    float d_g, d_h, low_g = 0, low_h = 0;
    if constexpr (K == TileKind::q6_k) {
      // Scales 2t, 2t+1 and 8 more: neighbouring words, bytes t / 2 and t / 2 + 2.
      const auto pairs = [&](int row, uint32_t* first, uint32_t* second) {
        const uint2 w = load_shared64(scales + row * 16 + (t & 1) * 8);
        const uint32_t u = (w.x ^ 0x80808080u) >> (8 * (t >> 1)), v = (w.y ^ 0x80808080u) >> (8 * (t >> 1));
        *first = halves_of_signed(__byte_perm(u, v, 0x5410));
        *second = halves_of_signed(__byte_perm(u, v, 0x7632));
      };
      pairs(g, &m0, &m2);
      pairs(g + 8, &m1, &m3);
      const auto d_of = [&](int row) {
        return half_bits_to_float(load_shared32(scales + 256 + (row & ~1) * 2) >> ((row & 1) * 16) & 0xffff);
      };
      d_g = d_of(g), d_h = d_of(g + 8);
    } else {
      const KHeader hg(load_shared128(scales + g * 16), t), hh(load_shared128(scales + 128 + g * 16), t);
      m0 = halves_of(uint32_t(hg.min[0]), uint32_t(hg.min[0])),
      m1 = halves_of(uint32_t(hh.min[0]), uint32_t(hh.min[0]));
      m2 = halves_of(uint32_t(hg.min[1]), uint32_t(hg.min[1])),
      m3 = halves_of(uint32_t(hh.min[1]), uint32_t(hh.min[1]));
      d_g = hg.d, d_h = hh.d, low_g = -hg.dmin, low_h = -hh.dmin;
    }
#pragma unroll
    for (int i = 0; i < NT; ++i) {
      const uint2 s = load_shared64(x.sums(i, 64));
      float c[4] = {};
      mma_halves(c, m0, m1, m2, m3, s.x, s.y);
      const float dy = x.dy(i);
      float(&out)[2] = acc[r][i];
      if constexpr (K == TileKind::q6_k) {
        // 32 * sum scale * sum(q): exact, as an integer.
        sum[r][i][0] -= 32 * (int(c[0]) * 64 + int(c[1]));
        sum[r][i][1] -= 32 * (int(c[2]) * 64 + int(c[3]));
      } else {
        // fma(64, high, low) rounds the exact sum once, as the conversion of the integer does.
        out[0] = __fmaf_rn(dy, __fmul_rn(low_g, __fmaf_rn(64.f, c[0], c[1])), out[0]);
        out[1] = __fmaf_rn(dy, __fmul_rn(low_h, __fmaf_rn(64.f, c[2], c[3])), out[1]);
      }
      out[0] = __fmaf_rn(dy, __fmul_rn(d_g, float(sum[r][i][0])), out[0]);
      out[1] = __fmaf_rn(dy, __fmul_rn(d_h, float(sum[r][i][1])), out[1]);
    }
  }
}

/// The same for blocks of 32 with a float scale each.
template <TileKind K, int RT, int NT, typename View>
__device__ __forceinline__ void dot_blocks(const uint32_t (&tile)[RT], const View& x, int lane,
                                           float (&acc)[RT][NT][2]) {
  const int g = lane >> 2;
  constexpr int kZero = zero_point(K);
#pragma unroll
  for (int r = 0; r < RT; ++r) {
    Fragments<K> a(tile[r], lane);
    const uint32_t scales = tile[r] + scales_offset(K);
    const uint4 dg = load_shared128(scales + g * 16), dh = load_shared128(scales + 128 + g * 16);
    uint4 mg = {}, mh = {};
    if constexpr (has_min(K)) mg = load_shared128(scales + 256 + g * 16), mh = load_shared128(scales + 384 + g * 16);
    const auto nth = [](const uint4& h, int b) {
      const uint32_t w = b / 2 == 0 ? h.x : b / 2 == 1 ? h.y : b / 2 == 2 ? h.z : h.w;
      return half_bits_to_float(b % 2 ? w >> 16 : w & 0xffff);
    };
    float s[NT][2], first_two[NT][2], third[NT][2];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int t4 = j / 2, b = t4 + (j % 2) * 4;  // 0, 4, 1, 5, ...: each s_t at once
      a.reload(b);
      const uint4 f = a.block(b);
      const float scale_g = nth(dg, b), scale_h = nth(dh, b);
#pragma unroll
      for (int i = 0; i < NT; ++i) {
        const uint2 w = load_shared64(x.planes(i) + b * 64);
        int c[4] = {};
        mma_bytes<K == TileKind::q8_0>(c, f, w.x, w.y);
        int one_g = c[0] * 64 + c[1], one_h = c[2] * 64 + c[3];
        if constexpr (kZero != 0) {
          const int sum = int(load_shared32(x.sums(i, 32) + b * 4));
          one_g -= kZero * sum, one_h -= kZero * sum;
        }
        if (j % 2 == 0) {
          s[i][0] = __fmul_rn(scale_g, float(one_g));
          s[i][1] = __fmul_rn(scale_h, float(one_h));
          continue;
        }
        float u = __fmaf_rn(scale_g, float(one_g), s[i][0]), v = __fmaf_rn(scale_h, float(one_h), s[i][1]);
        if constexpr (has_min(K)) {
          const float first = float(int(load_shared32(x.sums(i, 32) + (b - 4) * 4)));
          const float second = float(int(load_shared32(x.sums(i, 32) + b * 4)));
          u = __fmaf_rn(nth(mg, b), second, __fmaf_rn(nth(mg, b - 4), first, u));
          v = __fmaf_rn(nth(mh, b), second, __fmaf_rn(nth(mh, b - 4), first, v));
        }
        float(&two)[2] = first_two[i], (&three)[2] = third[i], (&out)[2] = acc[r][i];
        if (t4 == 0) {
          two[0] = u, two[1] = v;
        } else if (t4 == 1) {
          two[0] = __fadd_rn(two[0], u), two[1] = __fadd_rn(two[1], v);
        } else if (t4 == 2) {
          three[0] = u, three[1] = v;
        } else {
          out[0] = __fmaf_rn(x.dy(i), __fadd_rn(two[0], __fadd_rn(three[0], u)), out[0]);
          out[1] = __fmaf_rn(x.dy(i), __fadd_rn(two[1], __fadd_rn(three[1], v)), out[1]);
        }
      }
    }
  }
}

template <TileKind K, int RT, int NT, typename View>
__device__ __forceinline__ void dot_rows(const uint32_t (&tile)[RT], const View& x, int lane, float (&acc)[RT][NT][2]) {
  if constexpr (is_k_quant(K))
    dot_k_quants<K, RT, NT>(tile, x, lane, acc);
  else
    dot_blocks<K, RT, NT>(tile, x, lane, acc);
}

}  // namespace ponder::backend::cuda
