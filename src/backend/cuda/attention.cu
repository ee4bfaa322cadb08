// RoPE and the write of K and V, and the choice between the attention kernels.
#include "backend/cuda/attention.h"

#include <algorithm>

#include "backend/cuda/attention_bytes.cuh"

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
  const float* from = is_q ? a.q + row * a.q_stride : is_k ? a.k + row * a.k_stride : a.v + row * a.v_stride;
  float v[8];
  load_head(a, from + head * a.head_dim, lane, v);
  const int position = a.positions[row];
  if (position < 0) return;
  prepare_head(a, position, is_q ? a.q_norm : is_k ? a.k_norm : nullptr, is_q || is_k, heads[warp], lane, v);
  if (is_q) {
    float* to = a.q + row * a.q_stride + head * a.head_dim;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (lane * 8 + i < a.head_dim) to[lane * 8 + i] = v[i];
  } else if (a.q8) {
    put_bytes(bytes_address(a, row, position, head, is_k), padded_head_dim(a.head_dim), position % kBlockTokens, lane,
              to_bytes(v));
  } else if (lane * 8 < padded_head_dim(a.head_dim)) {
    *chunk_address(a, row, position, head, is_k, lane) = to_chunk(v);
  }
}

/// grid: (chunks, KV heads); a thread has one place of a page.
__global__ void key_bias_kernel(const __grid_constant__ AttentionArgs a, const float* bias, uint4* out) {
  const int chunk = blockIdx.x, head = blockIdx.y, place = threadIdx.x, half = a.rope_dims / 2;
  const auto number = [&](int d) { return d < a.head_dim ? bias[head * a.head_dim + d] : 0.f; };
  float own[8];
  for (int i = 0; i < 8; ++i) {
    const int d = 8 * chunk + i;
    own[i] = number(d);
    if (d >= a.rope_dims) continue;
    const bool first = a.rope_pairs ? d % 2 == 0 : d < half;
    const int other = a.rope_pairs ? d ^ 1 : first ? d + half : d - half;
    const float2 cs = a.rope[int64_t(place) * half + (a.rope_pairs ? d / 2 : first ? d : other)];
    own[i] = own[i] * cs.x + number(other) * (first ? -cs.y : cs.y);
  }
  out[(int64_t(head) * (padded_head_dim(a.head_dim) / 8) + chunk) * kBlockTokens + place] = to_chunk(own);
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
    if (const cudaError_t e = attend_split(part, false, launch); e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t make_key_bias(const AttentionArgs& args, const float* bias, void* out, cudaStream_t stream) {
  key_bias_kernel<<<dim3(unsigned(padded_head_dim(args.head_dim) / 8), unsigned(args.n_kv_heads)), kBlockTokens, 0,
                    stream>>>(args, bias, static_cast<uint4*>(out));
  return cudaGetLastError();
}

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

cudaError_t rope_store_attend(const AttentionArgs& args, const Launch& launch) {
  if (!valid(args)) return cudaErrorInvalidValue;
  if (args.n_rows == 1) return attend_split(args, true, launch);
  const cudaError_t e = rope_and_store(args, launch);
  return e == cudaSuccess ? attend(args, launch) : e;
}

}  // namespace ponder::backend::cuda
