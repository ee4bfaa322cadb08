// Weights of 16 bits (F16, BF16) on the tensor cores. An activation is a sum of numbers of the weights' own format, the
// planes, and the products of a slice of 128 columns are summed by the matrix instruction in float32, from zero:
// one accumulator, in order of columns, the small planes before the large one. The same instructions for 1 row and 2,048.
//
//   F16   v = dy * (high + low): dy a power of two per row and group of 256 columns that brings the largest |v| into
//         2^14 .. 2^15; 22 bits of each number, and 2^-39 of the largest for small ones
//   BF16  v = high + middle + low, 24 bits; dy = 1
//
// The matrix instruction cuts where other sums round; 128 columns are few enough for that not to matter (linear_test.cu).
//
// A group in memory: for each step of 16 columns 64 B: lane t of a quad finds its words of columns 4t, 4t+1 and 4t+2, 4t+3
// of the high plane, then of the middle (F16: low) one. Then, BF16, the low plane: 32 B a step, two words a lane.
#pragma once

#include <cuda_bf16.h>

#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {

constexpr int kStepColumns = 16;  ///< of one matrix instruction
constexpr int kTileSteps = kTileColumns / kStepColumns;
constexpr int kStepBytes = 512;      ///< of a tile of weights
constexpr int kTwoPlanesStep = 64;   ///< bytes of two planes of a row, of a step
constexpr int kThirdPlaneStep = 32;  ///< of the third
constexpr int kTwoPlanes = kTileSteps * kTwoPlanesStep, kThirdPlane = kTileSteps * kThirdPlaneStep;  ///< of a group
constexpr int kHalfSlices = 2;  ///< slices of a tile

__host__ __device__ constexpr bool has_third_plane(TileKind k) { return k == TileKind::bf16; }
__host__ __device__ constexpr int plane_count(TileKind k) { return has_third_plane(k) ? 3 : 2; }
/// Bytes of one row's planes of a group, for any kind of weights.
__host__ __device__ constexpr int plane_bytes(TileKind k) {
  return is_half(k) ? kTwoPlanes + (has_third_plane(k) ? kThirdPlane : 0) : kPlaneBytes;
}
constexpr int kMostPlaneBytes = plane_bytes(TileKind::bf16);

/// A lane's words of a step, or of the four columns of a run that it splits.
template <TileKind K>
struct SplitWords {
  uint4 two;  ///< x, y: high plane; z, w: the next
  uint2 third;

  SplitWords() = default;
  /// From shared memory, where the step's planes begin for this row.
  __device__ __forceinline__ SplitWords(uint32_t two_at, uint32_t third_at, int t)
      : two(load_shared128(two_at + t * 16)) {
    if constexpr (has_third_plane(K)) third = load_shared64(third_at + t * 8);
  }
};

__device__ __forceinline__ uint32_t as_bits(__nv_bfloat162 h) { return *reinterpret_cast<uint32_t*>(&h); }

/// v: the lane's eight values (norm weight already multiplied in): columns 4 lane .. + 3 and 128 + 4 lane .. + 3.
template <TileKind K>
__device__ __forceinline__ float split_group(const float (&v)[8], SplitWords<K> (&out)[2]) {
  float dy = 1, up = 1;
  if constexpr (K == TileKind::f16) {
    uint32_t top = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) top = max(top, __float_as_uint(v[i]) & 0x7fffffffu);
    // Exponent fields; the limits keep both powers of two normal numbers.
    const uint32_t exponent = min(max(max_over_warp(top) >> 23, 15u), 254u);
    up = __uint_as_float((268 - exponent) << 23), dy = __uint_as_float((exponent - 14) << 23);
  }
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    uint32_t words[3][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float2 rest = {__fmul_rn(v[4 * run + 2 * i], up), __fmul_rn(v[4 * run + 2 * i + 1], up)};
#pragma unroll
      for (int plane = 0; plane < plane_count(K); ++plane) {
        float2 held;
        if constexpr (K == TileKind::f16) {
          const __half2 h = __floats2half2_rn(rest.x, rest.y);
          words[plane][i] = as_bits(h), held = __half22float2(h);
        } else {
          const __nv_bfloat162 h = __floats2bfloat162_rn(rest.x, rest.y);
          words[plane][i] = as_bits(h), held = __bfloat1622float2(h);
        }
        rest = {__fsub_rn(rest.x, held.x), __fsub_rn(rest.y, held.y)};  // exact
      }
    }
    out[run].two = {words[0][0], words[0][1], words[1][0], words[1][1]};
    if constexpr (has_third_plane(K)) out[run].third = {words[2][0], words[2][1]};
  }
  return dy;
}

/// planes: of the group, plane_bytes(K).
template <TileKind K>
__device__ __forceinline__ void store_split(const SplitWords<K> (&words)[2], int lane, uint8_t* planes) {
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    *reinterpret_cast<uint4*>(planes + run * (kTwoPlanes / 2) + lane * 16) = words[run].two;
    if constexpr (has_third_plane(K))
      *reinterpret_cast<uint2*>(planes + kTwoPlanes + run * (kThirdPlane / 2) + lane * 8) = words[run].third;
  }
}

/// c += a step of weights (16 rows) times one plane of eight rows of activations; plane 0 is the smallest, and first in the
/// order. c[0], c[1]: weight row g, activation rows 2t, 2t + 1; c[2], c[3]: weight row g + 8.
template <TileKind K>
__device__ __forceinline__ void mma_plane(float* c, const uint4& a, const SplitWords<K>& x, int plane) {
  const int size = plane + 3 - plane_count(K);
  const uint32_t b0 = size == 0   ? x.third.x
                      : size == 1 ? x.two.z
                                  : x.two.x,
                 b1 = size == 0   ? x.third.y
                      : size == 1 ? x.two.w
                                  : x.two.y;
  if constexpr (K == TileKind::f16)
    mma_halves(c, a.x, a.y, a.z, a.w, b0, b1);
  else
    mma_bfloats(c, a, b0, b1);
}
template <TileKind K>
__device__ __forceinline__ void mma_planes(float* c, const uint4& a, const SplitWords<K>& x) {
#pragma unroll
  for (int plane = 0; plane < plane_count(K); ++plane) mma_plane<K>(c, a, x, plane);
}

/// One tile in shared memory times one row: acc[s] is slice s of the tile; lanes t = 0, 1 of a quad hold row g + 8 t.
template <TileKind K>
__device__ __forceinline__ void dot_one_split(uint32_t tile, uint32_t planes, float dy, int lane,
                                              float (&acc)[kHalfSlices]) {
  const int t = lane & 3;
  float c[kHalfSlices][4] = {};
#pragma unroll
  for (int i = 0; i < kTileSteps / kHalfSlices; ++i)
#pragma unroll
    for (int s = 0; s < kHalfSlices; ++s) {
      const int step = s * (kTileSteps / kHalfSlices) + i;
      const SplitWords<K> x(planes + step * kTwoPlanesStep, planes + kTwoPlanes + step * kThirdPlaneStep, t);
      mma_planes<K>(c[s], load_shared128(tile + step * kStepBytes + lane * 16), x);  // eight columns, all of this row
    }
#pragma unroll
  for (int s = 0; s < kHalfSlices; ++s) acc[s] = __fmul_rn(dy, t == 1 ? c[s][2] : c[s][0]);
}

/// The same for NT / 2 groups of eight rows: acc[s][2 j + h][0] is weight row g, activation row 8 j + 2 t + h; [1] is weight
/// row g + 8. x.planes(j): the group's planes of activation row 8 j + g; x.dy(i): the factor of acc[.][i].
template <TileKind K, int NT, typename View>
__device__ __forceinline__ void dot_rows_split(uint32_t tile, const View& x, int lane,
                                               float (&acc)[kHalfSlices][NT][2]) {
  static_assert(NT % 2 == 0);
  float c[kHalfSlices][NT / 2][4] = {};
#pragma unroll
  for (int i = 0; i < kTileSteps / kHalfSlices; ++i)
#pragma unroll
    for (int s = 0; s < kHalfSlices; ++s) {
      const int step = s * (kTileSteps / kHalfSlices) + i;
      const uint4 a = load_shared128(tile + step * kStepBytes + lane * 16);
#pragma unroll
      for (int j = 0; j < NT / 2; ++j) {
        const uint32_t planes = x.planes(j);
        mma_planes<K>(
            c[s][j], a,
            SplitWords<K>(planes + step * kTwoPlanesStep, planes + kTwoPlanes + step * kThirdPlaneStep, lane & 3));
      }
    }
#pragma unroll
  for (int i = 0; i < NT; ++i) {
    const float dy = x.dy(i);
#pragma unroll
    for (int s = 0; s < kHalfSlices; ++s) {
      acc[s][i][0] = __fmul_rn(dy, c[s][i / 2][i % 2]);
      acc[s][i][1] = __fmul_rn(dy, c[s][i / 2][2 + i % 2]);
    }
  }
}

}  // namespace ponder::backend::cuda
