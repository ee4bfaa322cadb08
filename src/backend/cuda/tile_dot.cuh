// A tile of 16 rows x 256 columns (layout.h) in shared memory, times the 256 activations of one row or of a few.
//
// One row: the matrix instruction has 8 columns to fill. Two planes of four blocks fill them: in the instruction for
// block b of a half (b = 0..3 or 4..7) only columns 2b and 2b + 1 of B are not zero, so that all four instructions of a
// half add into one accumulator and lane (g, t) ends with both planes' exact sums of rows g and g + 8 for block t (and
// t + 4): the scales are then applied once per lane and block. (Q6_K: sub-blocks of 16, four accumulators.)
// Many rows: columns 2c and 2c + 1 are the planes of row c, four rows an instruction.
// All integer sums are exact, the few float operations are written out: both ways give the same bits (linear.h).
#pragma once

#include "backend/cuda/layout.h"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {

__host__ __device__ constexpr bool is_k_quant(TileKind k) { return k <= TileKind::q6_k; }
__host__ __device__ constexpr bool has_min(TileKind k) {
  return k == TileKind::q4_k || k == TileKind::q5_k || k == TileKind::q4_1 || k == TileKind::q5_1;
}
__host__ __device__ constexpr bool has_high_bits(TileKind k) {
  return k == TileKind::q5_k || k == TileKind::q5_0 || k == TileKind::q5_1 || k == TileKind::q6_k;
}
/// What is subtracted from a stored quant.
__host__ __device__ constexpr int zero_point(TileKind k) {
  return k == TileKind::q4_0 ? 8 : k == TileKind::q5_0 ? 16 : k == TileKind::q6_k ? 32 : 0;
}
__host__ __device__ constexpr int scales_offset(TileKind k) {
  return k == TileKind::q8_0 ? 4096 : k == TileKind::q6_k ? 3072 : has_high_bits(k) ? 2560 : 2048;
}

/// A lane's A fragments of a tile: block(b) for b = 0 .. 7 (a constant after unrolling).
template <TileKind K>
struct Fragments {
  uint32_t at;
  uint4 part, high[K == TileKind::q6_k ? 2 : 1];

  Fragments() = default;
  __device__ __forceinline__ Fragments(uint32_t tile, int lane) : at(tile + lane * 16) {
    if constexpr (has_high_bits(K)) high[0] = load_shared128(at + 2048);
    if constexpr (K == TileKind::q6_k) high[1] = load_shared128(at + 2560);
  }
  __device__ __forceinline__ void reload(int b) {
    if constexpr (K != TileKind::q8_0) part = load_shared128(at + b / 2 * 512);
  }
  __device__ __forceinline__ uint32_t word(uint32_t q, uint32_t h, int b) const {
    uint32_t v = (b % 2 ? q >> 4 : q) & 0x0f0f0f0fu;
    if constexpr (K == TileKind::q6_k) {
      const int f = b % 4;
      v |= (f < 2 ? h << (4 - 2 * f) : h >> (2 * f - 4)) & 0x30303030u;
    } else if constexpr (has_high_bits(K)) {
      v |= (b <= 4 ? h << (4 - b) : h >> (b - 4)) & 0x10101010u;
    }
    return v;
  }
  /// Blocks b and b + 1 (b even) must be asked for one after the other, or b alone after reload(b).
  __device__ __forceinline__ uint4 block(int b) {
    if constexpr (K == TileKind::q8_0) return load_shared128(at + b * 512);
    if (b % 2 == 0) reload(b);
    uint4 h = {0, 0, 0, 0};
    if constexpr (K == TileKind::q6_k)
      h = high[b / 4];
    else if constexpr (has_high_bits(K))
      h = high[0];
    return {word(part.x, h.x, b), word(part.y, h.y, b), word(part.z, h.z, b), word(part.w, h.w, b)};
  }
};

/// Q4_K, Q5_K: scales and minimums of blocks t and t + 4, d and dmin of one row.
struct KHeader {
  int scale[2], min[2];
  float d, dmin;
  __device__ __forceinline__ KHeader(uint4 h, int t) {
    const uint32_t s = h.y >> (8 * t), m = h.z >> (8 * t), top = h.w >> (8 * t);
    scale[0] = int((s & 15) | ((top & 3) << 4));
    scale[1] = int(((s >> 4) & 15) | ((top & 12) << 2));
    min[0] = int((m & 15) | (top & 0x30));
    min[1] = int(((m >> 4) & 15) | ((top & 0xc0) >> 2));
    const float2 f = __half22float2(as_half2(h.x));
    d = f.x;
    dmin = f.y;
  }
};

__device__ __forceinline__ float half_bits_to_float(uint32_t bits) {
  return __half2float(__ushort_as_half(uint16_t(bits)));
}

/// Adds the tile's products with one row to acc. In: planes and sums of the group. Out: lanes t = 0, 1 of a quad hold
/// row g + 8 t (the other lanes' acc is not meaningful).
template <TileKind K>
__device__ __forceinline__ void dot_one(uint32_t tile, uint32_t planes, uint32_t sums, float dy, int lane, float& acc) {
  const int g = lane >> 2, t = lane & 3;
  const bool odd = t & 1, upper = t & 2;
  Fragments<K> a(tile, lane);
  if constexpr (K == TileKind::q6_k) {
    // Accumulator s holds sub-blocks 4s + t: lanes g < 4 feed the columns of block 2s, the others block 2s + 1; a column
    // is (half of the block, plane).
    const uint32_t first = g < 4 ? ~0u : 0u, low_half = (g >> 1) & 1 ? 0u : ~0u;
    const uint32_t from = planes + (g >> 2) * 64 + (g & 1) * 32 + t * 8 + ((g >> 1) & 1) * 4;
    int c[4][4] = {};
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const uint32_t w = load_shared32(from + s * 128);
      mma_bytes<false>(c[s], a.block(2 * s), w & first & low_half, w & first & ~low_half);
      mma_bytes<false>(c[s], a.block(2 * s + 1), w & ~first & low_half, w & ~first & ~low_half);
    }
    const uint32_t scales = tile + scales_offset(K);
    const uint32_t scales_g = load_shared32(scales + g * 16 + t * 4),
                   scales_h = load_shared32(scales + 128 + g * 16 + t * 4);
    int row_g = 0, row_h = 0;
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const int correction = 32 * load_shared_s16(sums + 32 + (4 * s + t) * 2);
      const int sg = int(scales_g << (24 - 8 * s)) >> 24, sh = int(scales_h << (24 - 8 * s)) >> 24;
      row_g += sg * (c[s][0] * 64 + c[s][1] - correction);
      row_h += sh * (c[s][2] * 64 + c[s][3] - correction);
    }
    int mine = odd ? row_h : row_g;
    mine += __shfl_xor_sync(kAllLanes, odd ? row_g : row_h, 1);
    mine += __shfl_xor_sync(kAllLanes, mine, 2);
    const uint32_t d = load_shared32(scales + 256 + ((g + (odd ? 8 : 0)) & ~1) * 2);
    acc = __fmaf_rn(dy, __fmul_rn(half_bits_to_float(g & 1 ? d >> 16 : d & 0xffff), float(mine)), acc);
  } else {
    int c[2][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint2 w = load_shared64(planes + half * 256 + lane * 8);
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const bool mine = (g >> 1) == b;
        mma_bytes<K == TileKind::q8_0>(c[half], a.block(4 * half + b), mine ? w.x : 0u, mine ? w.y : 0u);
      }
    }
    const int x0 = int(load_shared32(sums + t * 4)), x1 = int(load_shared32(sums + 16 + t * 4));
    const int g0 = c[0][0] * 64 + c[0][1], g1 = c[1][0] * 64 + c[1][1];
    const int h0 = c[0][2] * 64 + c[0][3], h1 = c[1][2] * 64 + c[1][3];
    const uint32_t scales = tile + scales_offset(K);
    if constexpr (is_k_quant(K)) {
      const KHeader hg(load_shared128(scales + g * 16), t), hh(load_shared128(scales + 128 + g * 16), t);
      const int one_g = hg.scale[0] * g0 + hg.scale[1] * g1, one_h = hh.scale[0] * h0 + hh.scale[1] * h1;
      const int two_g = hg.min[0] * x0 + hg.min[1] * x1, two_h = hh.min[0] * x0 + hh.min[1] * x1;
      // Exact sums over the quad: t = 0, 1 end with I1 of rows g, g + 8, t = 2, 3 with I2.
      int one = odd ? one_h : one_g, two = odd ? two_h : two_g;
      one += __shfl_xor_sync(kAllLanes, odd ? one_g : one_h, 1);
      two += __shfl_xor_sync(kAllLanes, odd ? two_g : two_h, 1);
      int mine = upper ? two : one;
      mine += __shfl_xor_sync(kAllLanes, upper ? one : two, 2);
      const float factor = upper ? -(odd ? hh.dmin : hg.dmin) : (odd ? hh.d : hg.d);
      const float term = __fmul_rn(factor, float(mine));
      const float other = __shfl_xor_sync(kAllLanes, term, 2);
      acc = __fmaf_rn(dy, term, __fmaf_rn(dy, other, acc));
    } else {
      constexpr int kZero = zero_point(K);
      const auto row = [&](int i0, int i1, int r) {
        const uint32_t at = scales + r * 16;
        const auto half_at = [](uint32_t p) {
          return half_bits_to_float(load_shared32(p & ~3u) >> ((p & 2) * 8) & 0xffff);
        };
        float s = __fmul_rn(half_at(at + 2 * t), float(i0 - kZero * x0));
        s = __fmaf_rn(half_at(at + 8 + 2 * t), float(i1 - kZero * x1), s);
        if constexpr (has_min(K)) {
          s = __fmaf_rn(half_at(at + 256 + 2 * t), float(x0), s);
          s = __fmaf_rn(half_at(at + 264 + 2 * t), float(x1), s);
        }
        return s;
      };
      const float sg = row(g0, g1, g), sh = row(h0, h1, g + 8);
      float mine = odd ? sh : sg;
      mine = __fadd_rn(mine, __shfl_xor_sync(kAllLanes, odd ? sg : sh, 1));
      mine = __fadd_rn(mine, __shfl_xor_sync(kAllLanes, mine, 2));
      acc = __fmaf_rn(dy, mine, acc);
    }
  }
}

}  // namespace ponder::backend::cuda
