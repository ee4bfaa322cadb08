// What the attention kernels share: where a block of 64 tokens lies, how it comes into shared memory, and how results
// of blocks are merged. The order of every sum is fixed by attention.h.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/attention.h"
#include "backend/cuda/ptx.cuh"

namespace ponder::backend::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kHeadsTogether = 8;  ///< query heads of a KV head that one thread block of the split kernel serves
constexpr int kSplitRows = 16;     ///< rows of one launch of the split kernel

/// K of a block in shared memory: [head_dim / 8][64 tokens][8 halves]; V follows.
__host__ __device__ constexpr int kv_part_bytes(int head_dim) { return head_dim * kBlockTokens * 2; }

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
  return y;
}

/// Four 8 x 8 matrices of halves whose rows' addresses the lanes give (lane i: row i % 8 of matrix i / 8).
__device__ __forceinline__ uint4 load_matrices(uint32_t address) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ uint4 load_matrices_transposed(uint32_t address) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

/// Two numbers as the sum of two pairs of halves each.
__device__ __forceinline__ void split_halves(float a, float b, uint32_t* high, uint32_t* low) {
  const __half2 h = __floats2half2_rn(a, b);
  const float2 back = __half22float2(h);
  *high = as_bits(h);
  *low = as_bits(__floats2half2_rn(__fsub_rn(a, back.x), __fsub_rn(b, back.y)));
}

/// This KV head's K (then V) of a page.
__device__ __forceinline__ const uint8_t* page_address(const AttentionArgs& a, int page, int kv_head) {
  return a.pages + page * a.page_stride + int64_t(kv_head) * int64_t(kv_layer_bytes(1, a.head_dim, a.q8));
}
/// The same of the page that holds block `block` of a row's sequence.
__device__ __forceinline__ const uint8_t* block_address(const AttentionArgs& a, int row, int block, int kv_head) {
  return page_address(a, a.page_table[row * a.page_table_stride + block], kv_head);
}

/// All threads of the block copy K and V of one block; V of tokens past the last visible one becomes zero.
/// kHeadDim is the room per token in shared memory, what the model has may be less.
template <int kHeadDim>
__device__ __forceinline__ void copy_block(const AttentionArgs& a, uint32_t to, const uint8_t* from,
                                           int visible_tokens) {
  const int part = kv_part_bytes(padded_head_dim(a.head_dim));
  for (int i = threadIdx.x * 16; i < part; i += blockDim.x * 16) {
    copy_async16(to + i, from + i);
    copy_async16(to + kv_part_bytes(kHeadDim) + i, from + part + i, i / 16 % kBlockTokens < visible_tokens ? 16 : 0);
  }
}

/// Zeros where the model's heads are shorter than kHeadDim: once, both parts of every stage.
template <int kHeadDim>
__device__ __forceinline__ void clear_padding(const AttentionArgs& a, uint8_t* stages, int n_stages) {
  const int part = kv_part_bytes(padded_head_dim(a.head_dim)), room = kv_part_bytes(kHeadDim);
  for (int s = 0; s < 2 * n_stages; ++s)
    for (int i = part + threadIdx.x * 16; i < room; i += blockDim.x * 16)
      *reinterpret_cast<uint4*>(stages + s * room + i) = uint4{0, 0, 0, 0};
}

/// Merges a later result into an earlier one.
struct Merge {
  float keep, add, top;
  __device__ __forceinline__ Merge(float m, float later) : top(fmaxf(m, later)) {
    keep = exp2_fast(__fsub_rn(m, top));
    add = exp2_fast(__fsub_rn(later, top));
  }
  __device__ __forceinline__ float operator()(float x, float later) const {
    return __fmaf_rn(x, keep, __fmul_rn(later, add));
  }
};

/// With `fresh` (one row only) q, k and v come as projected: norms, RoPE and the store are done on the way.
cudaError_t attend_split(const AttentionArgs& args, bool fresh, const Launch& launch);
/// cudaErrorNotSupported where attend_split has to do it.
cudaError_t attend_run(const AttentionArgs& args, RowRun run, const Launch& launch);

}  // namespace ponder::backend::cuda
