// Norm and RoPE of one head by one warp; used by the kernel that does nothing else and by decode's attention, so that
// the numbers are the same.
#pragma once

#include "backend/cuda/attention_parts.cuh"

namespace ponder::backend::cuda {

/// Numbers 8 lane .. + 7 of the head at `from`, zeros past head_dim. Issued where it stands: the loads must be under way
/// before the row's position is known.
__device__ __forceinline__ void load_head(const AttentionArgs& a, const float* from, int lane, float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    v[i] = 0.f;
    if (lane * 8 + i < a.head_dim) asm volatile("ld.global.cg.f32 %0,[%1];" : "=f"(v[i]) : "l"(from + lane * 8 + i));
  }
}

/// A loaded head, normed by `gain` if there is one, rotated if `rotate`. `staging`: kMaxHeadDim floats of shared memory of
/// this warp.
__device__ __forceinline__ void prepare_head(const AttentionArgs& a, int position, const float* gain, bool rotate,
                                             float* staging, int lane, float (&v)[8]) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) squares = i == 0 ? __fmul_rn(v[0], v[0]) : __fmaf_rn(v[i], v[i], squares);
  if (gain != nullptr) {
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) squares = __fadd_rn(squares, __shfl_xor_sync(kAllLanes, squares, o));
    const float rms = __fdiv_rn(1.f, __fsqrt_rn(__fadd_rn(__fdiv_rn(squares, float(a.head_dim)), a.norm_epsilon)));
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (lane * 8 + i < a.head_dim) v[i] = __fmul_rn(__fmul_rn(v[i], rms), gain[lane * 8 + i]);
  }
  if (!rotate) return;
  __syncwarp();  // the staging's last readers
#pragma unroll
  for (int i = 0; i < 8; ++i) staging[lane * 8 + i] = v[i];
  __syncwarp();
  const int half = a.rope_dims / 2;
  const float2* angles = a.rope + int64_t(position) * half;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int d = lane * 8 + i;
    if (d >= a.rope_dims) continue;
    const bool first = a.rope_pairs ? d % 2 == 0 : d < half;
    const int pair = a.rope_pairs ? d / 2
                     : first      ? d
                                  : d - half,
              other = a.rope_pairs ? d ^ 1
                      : first      ? d + half
                                   : d - half;
    const float2 cs = angles[pair];
    // (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin)
    const float cross = __fmul_rn(staging[other], cs.y);
    v[i] = __fmaf_rn(v[i], cs.x, first ? -cross : cross);
  }
}

/// Eight numbers as they are stored.
__device__ __forceinline__ uint4 to_chunk(const float (&v)[8]) {
  return {as_bits(__floats2half2_rn(v[0], v[1])), as_bits(__floats2half2_rn(v[2], v[3])),
          as_bits(__floats2half2_rn(v[4], v[5])), as_bits(__floats2half2_rn(v[6], v[7]))};
}

/// Where the lane's chunk of a token's K (or V) is stored.
__device__ __forceinline__ uint4* chunk_address(const AttentionArgs& a, int row, int position, int kv_head, bool is_k,
                                                int lane) {
  uint8_t* block = const_cast<uint8_t*>(block_address(a, row, position / kBlockTokens, kv_head));
  return reinterpret_cast<uint4*>(block + (is_k ? 0 : kv_part_bytes(padded_head_dim(a.head_dim)))) +
         lane * kBlockTokens + position % kBlockTokens;
}

}  // namespace ponder::backend::cuda
