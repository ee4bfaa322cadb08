// Attention of many consecutive rows of one sequence: prefill. A thread block takes 16 rows a warp of one head and goes
// through the blocks of 64 tokens that any of them sees; K and V of a block are read once for all its warps. Per row the
// operations are those of attention_split.cu, one for one: both halves of q against K, the block's own maximum, the sums
// of V and of ones, then the merges; so the bits agree, which attention_test.cu checks.
#include "backend/cuda/attention_bytes.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarpRows = 16;
constexpr int kStages = 2;

/// The halves of q as A fragments, in shared memory: [warp][step][lane][high 16 bytes, low 16 bytes].
__host__ __device__ constexpr int q_bytes(int head_dim, int warps) { return warps * head_dim / 16 * 32 * 32; }

/// Of a value that differs by quads only, the greatest of the warp.
__device__ __forceinline__ int max_over_quads(int v) {
#pragma unroll
  for (int o = 4; o < 32; o <<= 1) v = max(v, __shfl_xor_sync(kAllLanes, v, o));
  return v;
}

/// Shared memory: two blocks of K and V as halves, or one and two as bytes with the turns of their pages; then q.
template <int kHeadDim, bool kQ8>
__host__ __device__ constexpr int kv_bytes() {
  return kQ8 ? 2 * kv_part_bytes(kHeadDim) + kStages * (2 * byte_part_bytes(kHeadDim) + turn_bytes(kHeadDim))
             : kStages * 2 * kv_part_bytes(kHeadDim);
}

template <int kHeadDim, bool kQ8>
__global__ void __launch_bounds__(256, 1) attend_run_kernel(const __grid_constant__ AttentionArgs a, RowRun run) {
  constexpr int kSteps = kHeadDim / 16, kColumns = kHeadDim / 8;
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  const int warps = blockDim.x >> 5, warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int head = blockIdx.y, kv_head = head / (a.n_heads / a.n_kv_heads);
  uint8_t* q_shared = shared + kv_bytes<kHeadDim, kQ8>() + warp * q_bytes(kHeadDim, 1);
  clear_padding<kHeadDim>(a, shared, kQ8 ? 1 : kStages);
  wait_for_previous_kernel();

  // The last tiles have the most to do: they go first.
  const int tile = gridDim.x - 1 - blockIdx.x, tile_rows = warps * kWarpRows;
  const int last_row = run.first + min(run.n, (tile + 1) * tile_rows) - 1;
  int rows[2], position[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = tile * tile_rows + warp * kWarpRows + g + 8 * r;
    rows[r] = run.first + i;
    position[r] = i < run.n ? a.positions[rows[r]] : -1;
  }
  const int n_blocks = a.positions[last_row] / kBlockTokens + 1;
  const int warp_last = max(max_over_quads(position[0]), max_over_quads(position[1]));

  const uint32_t stages = shared_address(shared);
  uint8_t* bytes = shared + 2 * kv_part_bytes(kHeadDim);  // of q8
  uint8_t* turns = bytes + kStages * 2 * byte_part_bytes(kHeadDim);
  const uint8_t* table = kQ8 && a.key_bias != nullptr ? bias_table(a, kv_head) : nullptr;
  const auto copy = [&](int block, int stage) {
    if (block < n_blocks) {
      const uint8_t* from = block_address(a, run.first, block, kv_head);
      if constexpr (kQ8) {
        copy_block_bytes(a, shared_address(bytes + stage * 2 * byte_part_bytes(kHeadDim)), from);
        if (table != nullptr)
          for (int d = threadIdx.x; d < kHeadDim; d += blockDim.x)
            put_turn(turns + stage * turn_bytes(kHeadDim), kHeadDim, d, page_turn(a, block, d));
      } else {
        copy_block<kHeadDim>(a, stages + stage * 2 * kv_part_bytes(kHeadDim), from,
                             a.positions[last_row] + 1 - block * kBlockTokens);
      }
    }
    copy_commit();
  };
  copy(0, 0);
  for (int j = 0; j < kSteps; ++j) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // a0, a1, a2, a3: row g + 8 (i & 1), columns + 8 (i >> 1)
      const int d = 16 * j + 8 * (i >> 1) + 2 * t;
      const float* from = a.q + rows[i & 1] * a.q_stride + int64_t(head) * a.head_dim + d;
      const bool present = position[i & 1] >= 0;
      const float x = present && d < a.head_dim ? __ldcg(from) : 0.f,
                  y = present && d + 1 < a.head_dim ? __ldcg(from + 1) : 0.f;
      split_halves(x, y, &high[i], &low[i]);
    }
    uint4* to = reinterpret_cast<uint4*>(q_shared + (j * 32 + lane) * 32);
    to[0] = uint4{high[0], high[1], high[2], high[3]};
    to[1] = uint4{low[0], low[1], low[2], low[3]};
  }
  __syncwarp();

  float part[kColumns][4], total[kColumns][4];  // rows g (0, 1) and g + 8 (2, 3)
  float part_m[2] = {}, part_l[2] = {}, total_m[2] = {}, total_l[2] = {};
  const float scale = __fmul_rn(a.scale, kLog2E);
  for (int block = 0; block < n_blocks; ++block) {
    copy(block + 1, (block + 1) % kStages);
    copy_wait<1>();
    __syncthreads();
    if constexpr (kQ8) {
      const int stage = block % kStages;
      expand_block<kHeadDim, 1>(a, bytes + stage * 2 * byte_part_bytes(kHeadDim), shared, table,
                                turns + stage * turn_bytes(kHeadDim), a.positions[last_row] + 1 - block * kBlockTokens);
      __syncthreads();
    }
    const uint32_t k = stages + (kQ8 ? 0 : block % kStages) * 2 * kv_part_bytes(kHeadDim),
                   v = k + kv_part_bytes(kHeadDim);
    if (block * kBlockTokens <= warp_last) {
      float score[8][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {  // 32 tokens at a time, for registers' sake
        float high[4][4] = {}, low[4][4] = {};
#pragma unroll
        for (int j = 0; j < kSteps; ++j) {
          const uint4* from = reinterpret_cast<const uint4*>(q_shared + (j * 32 + lane) * 32);
          const uint4 qh = from[0], ql = from[1];
#pragma unroll
          for (int i = 0; i < 4; i += 2) {
            const int matrix = lane / 8, token = 32 * half + 8 * i + (matrix >> 1) * 8 + lane % 8;
            const uint4 b = load_matrices(k + ((2 * j + (matrix & 1)) * kBlockTokens + token) * 16);
            mma_halves(high[i], qh.x, qh.y, qh.z, qh.w, b.x, b.y);
            mma_halves(low[i], ql.x, ql.y, ql.z, ql.w, b.x, b.y);
            mma_halves(high[i + 1], qh.x, qh.y, qh.z, qh.w, b.z, b.w);
            mma_halves(low[i + 1], ql.x, ql.y, ql.z, ql.w, b.z, b.w);
          }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int token = block * kBlockTokens + 32 * half + 8 * i + 2 * t + (e & 1);
            score[4 * half + i][e] =
                token <= position[e >> 1] ? __fmul_rn(__fadd_rn(high[i][e], low[i][e]), scale) : -INFINITY;
          }
      }
      uint32_t p[4][4];
      bool present[2];
      float top[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        present[r] = block * kBlockTokens <= position[r];
        float m = -INFINITY;
#pragma unroll
        for (int i = 0; i < 8; ++i) m = fmaxf(m, fmaxf(score[i][2 * r], score[i][2 * r + 1]));
        m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 1));
        m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 2));
        top[r] = m;
        const float from = present[r] ? m : 0.f;  // a row that sees nothing here: all probabilities are zero
#pragma unroll
        for (int i = 0; i < 8; ++i)
          p[i / 2][2 * (i % 2) + r] = as_bits(__floats2half2_rn(exp2_fast(__fsub_rn(score[i][2 * r], from)),
                                                                exp2_fast(__fsub_rn(score[i][2 * r + 1], from))));
      }
      float ones[4] = {};
#pragma unroll
      for (int j = 0; j < 4; ++j) mma_halves(ones, p[j][0], p[j][1], p[j][2], p[j][3], 0x3c003c00u, 0x3c003c00u);
      const bool first = block % kPartialBlocks == 0;
      float keep[2], add[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const Merge merge(part_m[r], top[r]);
        keep[r] = merge.keep, add[r] = merge.add;
        if (!present[r]) continue;
        part_l[r] = first ? ones[2 * r] : merge(part_l[r], ones[2 * r]);
        part_m[r] = first ? top[r] : merge.top;
      }
#pragma unroll
      for (int i = 0; i < kColumns; i += 2) {
        float c[2][4] = {};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int matrix = lane / 8;
          const uint4 b = load_matrices_transposed(
              v + ((i + (matrix >> 1)) * kBlockTokens + 16 * j + (matrix & 1) * 8 + lane % 8) * 16);
          mma_halves(c[0], p[j][0], p[j][1], p[j][2], p[j][3], b.x, b.y);
          mma_halves(c[1], p[j][0], p[j][1], p[j][2], p[j][3], b.z, b.w);
        }
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int r = e >> 1;
            const float merged = first ? c[n][e] : __fmaf_rn(part[i + n][e], keep[r], __fmul_rn(c[n][e], add[r]));
            if (present[r]) part[i + n][e] = merged;
          }
      }
    }
    if (block % kPartialBlocks == kPartialBlocks - 1 || block + 1 == n_blocks) {
      const int begin = block / kPartialBlocks * kPartialBlocks * kBlockTokens;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (begin > position[r]) continue;
        const Merge merge(total_m[r], part_m[r]);
        const bool first = begin == 0;
#pragma unroll
        for (int i = 0; i < kColumns; ++i)
#pragma unroll
          for (int e = 2 * r; e < 2 * r + 2; ++e) total[i][e] = first ? part[i][e] : merge(total[i][e], part[i][e]);
        total_l[r] = first ? part_l[r] : merge(total_l[r], part_l[r]);
        total_m[r] = first ? part_m[r] : merge.top;
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (position[r] < 0) continue;
    float* out = a.out + rows[r] * a.out_stride + int64_t(head) * a.head_dim;
#pragma unroll
    for (int i = 0; i < kColumns; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (8 * i + 2 * t + e < a.head_dim) out[8 * i + 2 * t + e] = __fdiv_rn(total[i][2 * r + e], total_l[r]);
  }
}

template <int kHeadDim, bool kQ8>
cudaError_t launch_run(const AttentionArgs& args, RowRun run, const Launch& launch) {
  for (int warps = 8; warps >= 1; warps /= 2) {
    const size_t bytes = size_t(kv_bytes<kHeadDim, kQ8>() + q_bytes(kHeadDim, warps));
    if (bytes > size_t(launch.limits->shared_per_block)) continue;
    if (const cudaError_t e = allow_shared(attend_run_kernel<kHeadDim, kQ8>, bytes); e != cudaSuccess) return e;
    const int tiles = (run.n + warps * kWarpRows - 1) / (warps * kWarpRows);
    return launch_kernel(attend_run_kernel<kHeadDim, kQ8>, dim3(unsigned(tiles), unsigned(args.n_heads)),
                         dim3(unsigned(warps * 32)), bytes, launch, args, run);
  }
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t attend_run(const AttentionArgs& args, RowRun run, const Launch& launch) {
  if (args.head_dim <= 64)
    return args.q8 ? launch_run<64, true>(args, run, launch) : launch_run<64, false>(args, run, launch);
  if (args.head_dim <= 128)
    return args.q8 ? launch_run<128, true>(args, run, launch) : launch_run<128, false>(args, run, launch);
  return cudaErrorNotSupported;
}

}  // namespace ponder::backend::cuda
