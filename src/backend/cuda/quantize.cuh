// Activations as 12-bit integers in two planes of bytes: one warp, one group of 256 columns of one row at a time.
// Every kernel that quantises uses quantize_group(), so a row's integers do not depend on who made them.
//
// A group in memory ("planes", 512 B): for each block b of 32 columns 64 B: the high plane's 32 bytes, then the low
// plane's. Within a plane the eight words of four columns lie in the order 0 4 1 5 2 6 3 7: a lane's two B words of
// mma.m16n8k32 (columns 4t.. and 16+4t..) are one 8-byte load.
// A lane of the warp owns columns 4 lane .. + 3 and 128 + 4 lane .. + 3 of the group: blocks lane / 8 and 4 + lane / 8.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "backend/cuda/layout.h"
#include "backend/cuda/ptx.cuh"

namespace ponder::backend::cuda {

constexpr int kPlaneBytes = 512;  ///< of a group

/// What beside the planes one row's dot products need of a group. 64 bytes.
struct GroupSums {
  int32_t block[8];     ///< sums of q over blocks of 32 columns
  int16_t sixteen[16];  ///< over 16 columns
};
/// What many rows' products need: sums over 16 columns of each plane, exact in half precision, in the order of a
/// lane's B words of mma.m16n8k16 (sums 2t, 2t+1, 2t+8, 2t+9 are numbers 4t .. 4t+3); and the sums of blocks.
struct GroupSumsMany {
  __half plane[2][16];  ///< high, low
  int32_t block[8];
};

struct QuantizedLane {
  uint32_t high[2], low[2];  ///< four bytes each, for the lane's two runs of columns
  int block[2];              ///< sums of q over the run's block of 32 (the same in its 8 lanes)
  int sixteen[2];            ///< over the run's 16 columns (the same in 4 lanes)
  float dy;
};

__device__ __forceinline__ uint32_t max_over_warp(uint32_t v) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kAllLanes, v);
#else
  for (int o = 16; o > 0; o >>= 1) v = max(v, __shfl_xor_sync(kAllLanes, v, o));
  return v;
#endif
}

__device__ __forceinline__ uint32_t pack_bytes(int a, int b, int c, int d) {
  return __byte_perm(__byte_perm(uint32_t(a), uint32_t(b), 0x0040), __byte_perm(uint32_t(c), uint32_t(d), 0x0040),
                     0x5410);
}

/// v: the lane's eight values (norm weight already multiplied in).
__device__ __forceinline__ QuantizedLane quantize_group(const float (&v)[8]) {
  uint32_t top = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) top = max(top, __float_as_uint(v[i]) & 0x7fffffffu);
  const float peak = __uint_as_float(max_over_warp(top));
  QuantizedLane out;
  out.dy = __fmul_rn(peak, 1.f / 2047.f);
  const float inverse = peak > 1e-30f ? __fdiv_rn(2047.f, peak) : 0.f;
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    int high[4], low[4], sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits.
      const float shifted = __fadd_rn(__fmul_rn(v[4 * run + i], inverse), 12582912.f);
      const int q = __float_as_int(shifted) - 0x4b400000;
      high[i] = (q + 32) >> 6;
      low[i] = q - high[i] * 64;
      sum += q;
    }
    out.high[run] = pack_bytes(high[0], high[1], high[2], high[3]);
    out.low[run] = pack_bytes(low[0], low[1], low[2], low[3]);
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    out.sixteen[run] = sum;
    out.block[run] = sum + __shfl_xor_sync(kAllLanes, sum, 4);
  }
  return out;
}

/// Byte offset in a group's planes of the lane's high word of run 0; run 1 is 256 further, the low plane 32.
__device__ __forceinline__ int plane_offset(int lane) {
  const int word = lane & 7;
  return (lane >> 3) * 64 + ((word & 3) * 2 + (word >> 2)) * 4;
}

__device__ __forceinline__ void store_planes(const QuantizedLane& q, int lane, uint8_t* planes) {
  uint8_t* p = planes + plane_offset(lane);
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    *reinterpret_cast<uint32_t*>(p + 256 * run) = q.high[run];
    *reinterpret_cast<uint32_t*>(p + 256 * run + 32) = q.low[run];
  }
}

__device__ __forceinline__ void store_sums(const QuantizedLane& q, int lane, GroupSums* sums) {
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    if ((lane & 3) == 0) sums->sixteen[8 * run + lane / 4] = int16_t(q.sixteen[run]);
    if ((lane & 7) == 0) sums->block[4 * run + lane / 8] = q.block[run];
  }
}

__device__ __forceinline__ void store_sums(const QuantizedLane& q, int lane, GroupSumsMany* sums) {
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    int high = __dp4a(int(q.high[run]), 0x01010101, 0);
    high += __shfl_xor_sync(kAllLanes, high, 1);
    high += __shfl_xor_sync(kAllLanes, high, 2);
    if ((lane & 3) == 0) {
      const int j = lane / 4, at = j / 2 * 4 + 2 * run + j % 2;  // sum 8 run + j
      sums->plane[0][at] = __int2half_rn(high);
      sums->plane[1][at] = __int2half_rn(q.sixteen[run] - 64 * high);
    }
    if ((lane & 7) == 0) sums->block[4 * run + lane / 8] = q.block[run];
  }
}

/// The lane's eight numbers of a row's group, zeros past `columns`. x must not be written by this kernel.
__device__ __forceinline__ void load_group(const float* x, int first_column, int columns, int lane, float (&v)[8]) {
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    const int c = first_column + run * 128 + lane * 4;
    if (c + 3 < columns) {
      const float4 f = __ldcg(reinterpret_cast<const float4*>(x + c));
      v[4 * run] = f.x, v[4 * run + 1] = f.y, v[4 * run + 2] = f.z, v[4 * run + 3] = f.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) v[4 * run + i] = c + i < columns ? __ldcg(x + c + i) : 0.f;
    }
  }
}

/// Sum of squares of a group, the same in all lanes.
__device__ __forceinline__ float square_sum(const float (&v)[8]) {
  float s = __fmul_rn(v[0], v[0]);
#pragma unroll
  for (int i = 1; i < 8; ++i) s = __fmaf_rn(v[i], v[i], s);
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) s = __fadd_rn(s, __shfl_xor_sync(kAllLanes, s, o));
  return s;
}

/// 1 / sqrt(mean + epsilon) from the groups' sums of squares, added in order.
__device__ __forceinline__ float rms_factor(const float* group_sums, int groups, int columns, float epsilon) {
  float s = group_sums[0];
  for (int i = 1; i < groups; ++i) s = __fadd_rn(s, group_sums[i]);
  return __fdiv_rn(1.f, __fsqrt_rn(__fadd_rn(__fdiv_rn(s, float(columns)), epsilon)));
}

}  // namespace ponder::backend::cuda
