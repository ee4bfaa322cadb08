// RoPE and the write of K and V, and the choice between the attention kernels.
#include "backend/cuda/attention.h"

#include <algorithm>

#include "backend/cuda/attention_parts.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarps = 4;

/// A warp takes one head of one row: q heads first, then k, then v. Lane l owns numbers 8 l .. 8 l + 7.
__global__ void __launch_bounds__(kWarps * 32) rope_and_store_kernel(const __grid_constant__ AttentionArgs a) {
  __shared__ float heads[kWarps][kMaxHeadDim];
  launch_dependents();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.y;
  int head = blockIdx.x * kWarps + warp;
  if (head >= a.n_heads + 2 * a.n_kv_heads) return;
  const bool is_q = head < a.n_heads, is_k = !is_q && head < a.n_heads + a.n_kv_heads;
  if (!is_q) head -= a.n_heads + (is_k ? 0 : a.n_kv_heads);
  wait_for_previous_kernel();
  const int position = a.positions[row];
  if (position < 0) return;

  const float* from = is_q ? a.q + row * a.q_stride : is_k ? a.k + row * a.k_stride : a.v + row * a.v_stride;
  from += head * a.head_dim;
  float* x = heads[warp];
  float squares = 0, v[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int d = lane * 8 + i;
    v[i] = d < a.head_dim ? __ldcg(from + d) : 0.f;
    squares = i == 0 ? __fmul_rn(v[0], v[0]) : __fmaf_rn(v[i], v[i], squares);
  }
  const float* gain = is_q ? a.q_norm : is_k ? a.k_norm : nullptr;
  if (gain != nullptr) {
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) squares = __fadd_rn(squares, __shfl_xor_sync(kAllLanes, squares, o));
    const float rms = __fdiv_rn(1.f, __fsqrt_rn(__fadd_rn(__fdiv_rn(squares, float(a.head_dim)), a.norm_epsilon)));
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (lane * 8 + i < a.head_dim) v[i] = __fmul_rn(__fmul_rn(v[i], rms), gain[lane * 8 + i]);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) x[lane * 8 + i] = v[i];
  __syncwarp();
  if (is_q || is_k) {
    const float2* angles = a.rope + int64_t(position) * (a.rope_dims / 2);
    const int half = a.rope_dims / 2;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int d = lane * 8 + i;
      if (d >= a.rope_dims) continue;
      const bool first = a.rope_pairs ? d % 2 == 0 : d < half;
      const int pair = a.rope_pairs ? d / 2 : d % half, other = a.rope_pairs ? d ^ 1 : first ? d + half : d - half;
      const float2 cs = angles[pair];
      // (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin)
      const float cross = __fmul_rn(x[other], cs.y);
      v[i] = __fmaf_rn(v[i], cs.x, first ? -cross : cross);
    }
  }
  if (is_q) {
    float* to = a.q + row * a.q_stride + head * a.head_dim;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (lane * 8 + i < a.head_dim) to[lane * 8 + i] = v[i];
    return;
  }
  const int padded = padded_head_dim(a.head_dim);
  if (lane * 8 >= padded) return;
  const int page = a.page_table[row * a.page_table_stride + position / kBlockTokens];
  uint8_t* to = a.pages + page * a.page_stride + (int64_t(head) * 2 + (is_k ? 0 : 1)) * kv_part_bytes(padded);
  uint4 halves;
  halves.x = as_bits(__floats2half2_rn(v[0], v[1]));
  halves.y = as_bits(__floats2half2_rn(v[2], v[3]));
  halves.z = as_bits(__floats2half2_rn(v[4], v[5]));
  halves.w = as_bits(__floats2half2_rn(v[6], v[7]));
  *reinterpret_cast<uint4*>(to + (lane * kBlockTokens + position % kBlockTokens) * 16) = halves;
}

bool valid(const AttentionArgs& a) {
  return a.n_rows > 0 && a.n_kv_heads > 0 && a.n_heads % a.n_kv_heads == 0 && a.head_dim > 0 &&
         a.head_dim <= kMaxHeadDim && a.rope_dims % 2 == 0 && a.rope_dims <= a.head_dim && a.max_position >= 0;
}

/// Rows first .. first + n - 1 of args.
AttentionArgs part_of(const AttentionArgs& args, int first, int n) {
  AttentionArgs part = args;
  part.n_rows = n;
  part.positions += first;
  part.page_table += first * args.page_table_stride;
  part.q += first * args.q_stride;
  part.out += first * args.out_stride;
  return part;
}

cudaError_t attend_by_ones(const AttentionArgs& args, int first, int n, const Launch& launch) {
  for (int i = 0; i < n; i += kSplitRows) {
    const AttentionArgs part = part_of(args, first + i, std::min(kSplitRows, n - i));
    if (const cudaError_t e = attend_split(part, launch); e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t rope_and_store(const AttentionArgs& args, const Launch& launch) {
  if (!valid(args)) return cudaErrorInvalidValue;
  const int heads = args.n_heads + 2 * args.n_kv_heads;
  return launch_kernel(rope_and_store_kernel, dim3(unsigned((heads + kWarps - 1) / kWarps), unsigned(args.n_rows)),
                       dim3(kWarps * 32), 0, launch, args);
}

cudaError_t attend(const AttentionArgs& args, const Launch& launch) {
  if (!valid(args)) return cudaErrorInvalidValue;
  constexpr int kLeastRun = 16;  // a shorter one gains nothing by sharing
  if (args.runs == nullptr) return attend_by_ones(args, 0, args.n_rows, launch);
  int waiting = 0;  // rows before the run at hand that go by ones
  int end = 0;
  for (int i = 0; i < args.n_runs; ++i) {
    const RowRun run = args.runs[i];
    if (run.first != end || run.n < 1 || run.first + run.n > args.n_rows) return cudaErrorInvalidValue;
    end = run.first + run.n;
    if (run.n < kLeastRun) continue;
    if (run.first > waiting)
      if (const cudaError_t e = attend_by_ones(args, waiting, run.first - waiting, launch); e != cudaSuccess) return e;
    waiting = run.first;
    const cudaError_t e = attend_run(args, run, launch);
    if (e == cudaErrorNotSupported) continue;
    if (e != cudaSuccess) return e;
    waiting = end;
  }
  return attend_by_ones(args, waiting, args.n_rows - waiting, launch);
}

}  // namespace ponder::backend::cuda
