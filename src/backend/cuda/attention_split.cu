// Attention of single rows over all tokens of their sequences: decode. Up to eight query heads of a KV head share each
// block of K and V; blocks are spread over the card and the last thread block of a row and KV head merges the results.
//
// q as two halves fills the matrix instruction: rows g of A are the high halves of head g, rows g + 8 the low ones, so
// that one product gives both parts of the score. Four warps share a block of 64 tokens: for the scores a warp takes 16
// tokens, for the sums of V a quarter of the head.
#include "backend/cuda/attention_bytes.cuh"
#include "backend/cuda/attention_slots.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kMostStages = 2;  ///< blocks of tokens in shared memory; cards with little of it have room for one
constexpr int kStaticBytes = 14 << 10;  ///< shared memory that the kernel declares itself, at most
constexpr int kProbabilityStride = 72;  ///< halves, so that rows lie in different banks

constexpr int blocks_of(int max_position) { return max_position / kBlockTokens + 1; }
constexpr int kMostSplits = 128;
constexpr int kLongPosition = 2048;  ///< from which on slots are merged by a kernel of its own
/// Slots of one row and group: all partials, or up to kMostSplits blocks.
constexpr int slots_for(int max_position) {
  const int blocks = blocks_of(max_position), partials = (blocks + kPartialBlocks - 1) / kPartialBlocks;
  return partials > kMostSplits ? partials : blocks < kMostSplits ? blocks : kMostSplits;
}

/// Merges what lies in the row's slots and writes the output. 16 threads a head.
template <int kHeadDim>
__device__ void merge_slots(const AttentionArgs& a, const float* slots, int n, bool are_blocks, int row, int first_head,
                            int n_heads) {
  constexpr int kPer = kHeadDim / 16;
  const int head = threadIdx.x / 16, d = threadIdx.x % 16 * kPer;
  if (head >= n_heads) return;
  float total[kPer], part[kPer], m = 0, l = 0, part_m = 0, part_l = 0;
  const int group = are_blocks ? kPartialBlocks : 1;
  constexpr int kBatch = 64 / kPer;  // slots asked for together
  for (int begin = 0; begin < n; begin += kBatch) {
    float2 ml[kBatch];
    float o[kBatch][kPer];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (begin + b >= n) break;
      const float* slot = slots + int64_t(begin + b) * slot_floats(kHeadDim);
      ml[b] = __ldcg(reinterpret_cast<const float2*>(slot + kHeadsTogether * kHeadDim) + head);
#pragma unroll
      for (int k = 0; k < kPer; k += 4)
        *reinterpret_cast<float4*>(o[b] + k) = __ldcg(reinterpret_cast<const float4*>(slot + head * kHeadDim + d + k));
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = begin + b;
      if (i >= n) break;
      if (i % group == 0) {
        part_m = ml[b].x, part_l = ml[b].y;
#pragma unroll
        for (int k = 0; k < kPer; ++k) part[k] = o[b][k];
      } else {
        const Merge merge(part_m, ml[b].x);
        part_m = merge.top, part_l = merge(part_l, ml[b].y);
#pragma unroll
        for (int k = 0; k < kPer; ++k) part[k] = merge(part[k], o[b][k]);
      }
      if (i % group != group - 1 && i + 1 != n) continue;
      if (i < group) {
        m = part_m, l = part_l;
#pragma unroll
        for (int k = 0; k < kPer; ++k) total[k] = part[k];
      } else {
        const Merge merge(m, part_m);
        m = merge.top, l = merge(l, part_l);
#pragma unroll
        for (int k = 0; k < kPer; ++k) total[k] = merge(total[k], part[k]);
      }
    }
  }
  float* out = a.out + row * a.out_stride + int64_t(first_head + head) * a.head_dim;
#pragma unroll
  for (int k = 0; k < kPer; ++k)
    if (d + k < a.head_dim) out[d + k] = __fdiv_rn(total[k], l);
}

/// Shared memory: the stages; q8 has a block as halves before them, and two turns and the table of key_bias behind.
template <int kHeadDim, bool kQ8>
__host__ __device__ constexpr int stage_bytes() {
  return 2 * (kQ8 ? byte_part_bytes(kHeadDim) : kv_part_bytes(kHeadDim));
}
template <int kHeadDim, bool kQ8>
__host__ __device__ constexpr int first_stage() {
  return kQ8 ? 2 * kv_part_bytes(kHeadDim) : 0;
}
template <int kHeadDim, int kStages, bool kQ8>
__host__ __device__ constexpr int first_turn() {
  return first_stage<kHeadDim, kQ8>() + kStages * stage_bytes<kHeadDim, kQ8>();
}

/// grid: (splits, KV heads x groups of query heads, rows)
template <int kHeadDim, bool kFresh, int kStages, bool kQ8>
__global__ void __launch_bounds__(kThreads)
    attend_split_kernel(const __grid_constant__ AttentionArgs a, SplitScratch scratch, bool keep_table) {
  constexpr int kSteps = kHeadDim / 16;            // of the scores' products
  constexpr int kColumns = kHeadDim / 8 / kWarps;  // groups of 8 numbers of the head per warp
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ __half probability[kHeadsTogether * kProbabilityStride];
  __shared__ float maxima[kWarps][kHeadsTogether];
  __shared__ int is_last;
  launch_dependents();
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int groups = head_groups(a.n_heads, a.n_kv_heads), kv_head = blockIdx.y / groups, row = blockIdx.z;
  const int per_kv = a.n_heads / a.n_kv_heads, first = blockIdx.y % groups * kHeadsTogether;
  const int first_head = kv_head * per_kv + first, n_heads = min(kHeadsTogether, per_kv - first);
  clear_padding<kHeadDim>(a, shared, kQ8 ? 1 : kStages);
  // The biases of keys, like weights, are there from the beginning.
  [[maybe_unused]] uint8_t* turns = shared + first_turn<kHeadDim, kStages, kQ8>();
  [[maybe_unused]] const uint8_t* table = nullptr;
  if constexpr (kQ8) {
    if (a.key_bias != nullptr) table = bias_table(a, kv_head);
    if (table != nullptr && keep_table) {
      const int bytes = int(key_bias_bytes(1, a.head_dim));
      uint8_t* kept = turns + 2 * turn_bytes(kHeadDim);
      for (int i = threadIdx.x * 16; i < bytes; i += kThreads * 16) copy_async16(shared_address(kept + i), table + i);
      table = kept;
    }
  }
  wait_for_previous_kernel();
  // All that does not depend on the position first: with it one chain of loads less before the first product.
  constexpr int kHeadsPerWarp = kHeadsTogether / kWarps;
  float head[kHeadsPerWarp][8], own[8];
  if constexpr (kFresh) {
#pragma unroll
    for (int i = 0; i < kHeadsPerWarp; ++i)
      if (warp + i * kWarps < n_heads)
        load_head(a, a.q + int64_t(first_head + warp + i * kWarps) * a.head_dim, lane, head[i]);
    if (warp < 2) load_head(a, (warp == 0 ? a.k : a.v) + kv_head * a.head_dim, lane, own);
  }
  const int position = a.positions[row];
  const int likely_page = a.page_table[row * a.page_table_stride + min(int64_t(blockIdx.x), a.page_table_stride - 1)];
  if (position < 0) return;
  const Units units(position, int(gridDim.x));
  const int n_blocks = units.n_blocks, n_units = units.n;
  const bool by_blocks = units.by_blocks;
  const int unit_blocks = by_blocks ? 1 : kPartialBlocks;
  const int working = min(n_units, int(gridDim.x));
  if (int(blockIdx.x) >= working) return;

  // The blocks this thread block goes through, in order.
  struct Place {
    int unit, block;
  };
  const auto next_place = [&](Place p) {
    ++p.block;
    if (p.block == min(n_blocks, (p.unit + 1) * unit_blocks)) p.unit += gridDim.x, p.block = p.unit * unit_blocks;
    return p;
  };
  const uint32_t stages = shared_address(shared) + first_stage<kHeadDim, kQ8>();
  const auto copy = [&](Place p, int stage) {
    if (p.unit < n_units) {
      const uint32_t to = stages + stage * stage_bytes<kHeadDim, kQ8>();
      const uint8_t* from = page_address(
          a, p.block == int(blockIdx.x) ? likely_page : a.page_table[row * a.page_table_stride + p.block], kv_head);
      if constexpr (kQ8) {
        copy_block_bytes(a, to, from);
      } else {
        copy_block<kHeadDim>(a, to, from, position + 1 - p.block * kBlockTokens);
      }
    }
    copy_commit();
  };
  Place now = {int(blockIdx.x), int(blockIdx.x) * unit_blocks};
  copy(now, 0);
  // The next block's turn is fetched when its copy is begun and put in place when this block is done.
  constexpr int kTurns = (kHeadDim + kThreads - 1) / kThreads;
  [[maybe_unused]] float2 turn[kTurns];
  [[maybe_unused]] const auto fetch_turn = [&](Place p) {
    if (table == nullptr || p.unit >= n_units) return;
#pragma unroll
    for (int i = 0; i < kTurns; ++i)
      if (threadIdx.x + i * kThreads < kHeadDim) turn[i] = page_turn(a, p.block, threadIdx.x + i * kThreads);
  };
  [[maybe_unused]] const auto place_turn = [&](int slot) {
    if (table == nullptr) return;
#pragma unroll
    for (int i = 0; i < kTurns; ++i)
      if (threadIdx.x + i * kThreads < kHeadDim)
        put_turn(turns + slot * turn_bytes(kHeadDim), kHeadDim, threadIdx.x + i * kThreads, turn[i]);
  };
  if constexpr (kQ8) {
    fetch_turn(now);
    place_turn(0);
  }

  const float* from = a.q + row * a.q_stride + int64_t(first_head + g) * a.head_dim;
  // In warps 0 and 1: the lane's chunk of the row's own K and V.
  [[maybe_unused]] uint4 fresh = {};
  [[maybe_unused]] ByteChunk fresh_bytes = {};
  if constexpr (kFresh) {
    __shared__ float staging[kWarps][kMaxHeadDim];
    __shared__ float rotated[kHeadsTogether][kHeadDim];
#pragma unroll
    for (int i = 0; i < kHeadsPerWarp; ++i) {
      const int h = warp + i * kWarps;
      if (h >= n_heads) break;
      prepare_head(a, position, a.q_norm, true, staging[warp], lane, head[i]);
      if (lane * 8 < kHeadDim) {
#pragma unroll
        for (int k = 0; k < 8; ++k) rotated[h][lane * 8 + k] = head[i][k];
      }
    }
    if (warp < 2) {
      const bool is_k = warp == 0;
      prepare_head(a, position, is_k ? a.k_norm : nullptr, is_k, staging[warp], lane, own);
      const bool stores = blockIdx.x == 0 && first == 0;
      if constexpr (kQ8) {
        fresh_bytes = to_bytes(own);
        if (stores)
          put_bytes(bytes_address(a, row, position, kv_head, is_k), padded_head_dim(a.head_dim),
                    position % kBlockTokens, lane, fresh_bytes);
      } else {
        fresh = to_chunk(own);
        if (stores && lane * 8 < padded_head_dim(a.head_dim))
          *chunk_address(a, row, position, kv_head, is_k, lane) = fresh;
      }
    }
    __syncthreads();
    from = rotated[g];
  }
  const auto load_q = [&](int d) { return kFresh ? from[d] : __ldcg(from + d); };
  uint32_t q[kSteps][4];
  const bool present = g < n_heads;
#pragma unroll
  for (int j = 0; j < kSteps; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int d = 16 * j + 8 * half + 2 * t;
      const float x = present && d < a.head_dim ? load_q(d) : 0.f,
                  y = present && d + 1 < a.head_dim ? load_q(d + 1) : 0.f;
      split_halves(x, y, &q[j][2 * half], &q[j][2 * half + 1]);
    }

  float o[kColumns][2], m = 0, l = 0;
  const float scale = __fmul_rn(a.scale, kLog2E);
  float* slots = scratch.slots + (int64_t(row) * gridDim.y + blockIdx.y) * scratch.max_slots * slot_floats(kHeadDim);
  [[maybe_unused]] int slot = 0;
  for (int stage = 0; now.unit < n_units; stage = (stage + 1) % kStages) {
    const Place next = next_place(now);
    if constexpr (kStages > 1) copy(next, stage ^ 1);
    if constexpr (kQ8) fetch_turn(next);
    copy_wait<kStages - 1>();
    __syncthreads();
    const uint32_t k = kQ8 ? shared_address(shared) : stages + stage * stage_bytes<kHeadDim, false>(),
                   v = k + kv_part_bytes(kHeadDim);
    if constexpr (kQ8) {
      uint8_t* block = shared + first_stage<kHeadDim, true>() + stage * stage_bytes<kHeadDim, true>();
      if (kFresh && now.block == n_blocks - 1) {
        const int padded = padded_head_dim(a.head_dim);
        if (warp < 2)
          put_bytes(block + warp * byte_part_bytes(padded), padded, position % kBlockTokens, lane, fresh_bytes);
        __syncthreads();
      }
      expand_block<kHeadDim, 4>(a, block, shared, table, turns + slot * turn_bytes(kHeadDim),
                                position + 1 - now.block * kBlockTokens);
      __syncthreads();
    } else if (kFresh && now.block == n_blocks - 1) {  // the row's own token is not in the copy yet
      if (warp < 2 && lane * 8 < padded_head_dim(a.head_dim))
        *reinterpret_cast<uint4*>(shared + (stage * 2 + warp) * kv_part_bytes(kHeadDim) +
                                  (lane * kBlockTokens + position % kBlockTokens) * 16) = fresh;
      __syncthreads();
    }
    // Scores of tokens 16 warp .. + 15.
    float s[2][4] = {};
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      const int matrix = lane / 8;  // tokens 0-7 and 8-15, of chunks 2j and 2j + 1
      const uint4 b =
          load_matrices(k + ((2 * j + (matrix & 1)) * kBlockTokens + 16 * warp + (matrix >> 1) * 8 + lane % 8) * 16);
      mma_halves(s[0], q[j][0], q[j][1], q[j][2], q[j][3], b.x, b.y);
      mma_halves(s[1], q[j][0], q[j][1], q[j][2], q[j][3], b.z, b.w);
    }
    float score[2][2], top = -INFINITY;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int token = now.block * kBlockTokens + 16 * warp + 8 * i + 2 * t + e;
        score[i][e] = token <= position ? __fmul_rn(__fadd_rn(s[i][e], s[i][2 + e]), scale) : -INFINITY;
        top = fmaxf(top, score[i][e]);
      }
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    if (t == 0) maxima[warp][g] = top;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, maxima[w][g]);
#pragma unroll
    for (int i = 0; i < 2; ++i)
      *reinterpret_cast<__half2*>(probability + g * kProbabilityStride + 16 * warp + 8 * i + 2 * t) =
          __floats2half2_rn(exp2_fast(__fsub_rn(score[i][0], top)), exp2_fast(__fsub_rn(score[i][1], top)));
    __syncthreads();
    // Sums of V: this warp's columns 8 (kColumns warp + i) .. + 7 of the head.
    float c[kColumns][4] = {}, ones[4] = {};
#pragma unroll
    for (int j = 0; j < kBlockTokens / 16; ++j) {
      const uint32_t* p = reinterpret_cast<const uint32_t*>(probability + g * kProbabilityStride + 16 * j) + t;
      const uint32_t a0 = p[0], a2 = p[4];
      mma_halves(ones, a0, 0, a2, 0, 0x3c003c00u, 0x3c003c00u);
#pragma unroll
      for (int i = 0; i < kColumns; i += 2) {
        const int matrix = lane / 8;
        const uint4 b = load_matrices_transposed(
            v + ((kColumns * warp + i + (matrix >> 1)) * kBlockTokens + 16 * j + (matrix & 1) * 8 + lane % 8) * 16);
        mma_halves(c[i], a0, 0, a2, 0, b.x, b.y);
        mma_halves(c[i + 1], a0, 0, a2, 0, b.z, b.w);
      }
    }
    if (now.block % kPartialBlocks == 0 || by_blocks) {
      m = top, l = ones[0];
#pragma unroll
      for (int i = 0; i < kColumns; ++i) o[i][0] = c[i][0], o[i][1] = c[i][1];
    } else {
      const Merge merge(m, top);
      m = merge.top, l = merge(l, ones[0]);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) o[i][0] = merge(o[i][0], c[i][0]), o[i][1] = merge(o[i][1], c[i][1]);
    }
    if (next.unit != now.unit) {  // the unit is complete
      float* slot = slots + int64_t(now.unit) * slot_floats(kHeadDim);
#pragma unroll
      for (int i = 0; i < kColumns; ++i)
        __stcg(reinterpret_cast<float2*>(slot + g * kHeadDim + 8 * (kColumns * warp + i) + 2 * t),
               make_float2(o[i][0], o[i][1]));
      if (warp == 0 && t == 0)
        __stcg(reinterpret_cast<float2*>(slot + kHeadsTogether * kHeadDim) + g, make_float2(m, l));
    }
    now = next;
    if constexpr (kQ8) place_turn(slot ^= 1);
    __syncthreads();  // before this stage is overwritten
    if constexpr (kStages == 1) copy(next, 0);
  }
  if (scratch.merge_apart) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned* ticket = scratch.tickets + row * gridDim.y + blockIdx.y;
    is_last = atomicAdd(ticket, 1u) == unsigned(working - 1);
    if (is_last) *ticket = 0;  // for the next launch
  }
  __syncthreads();
  if (is_last == 0) return;
  __threadfence();
  merge_slots<kHeadDim>(a, slots, n_units, by_blocks, row, first_head, n_heads);
}

template <int kHeadDim, bool kFresh, int kStages, bool kQ8>
cudaError_t launch_stages(const AttentionArgs& args, const Launch& launch) {
  const int groups = args.n_kv_heads * head_groups(args.n_heads, args.n_kv_heads);
  SplitScratch scratch;
  scratch.max_slots = slots_for(args.max_position);
  scratch.tickets = static_cast<unsigned*>(args.scratch);
  scratch.slots =
      reinterpret_cast<float*>(static_cast<uint8_t*>(args.scratch) + (kSplitRows * groups * 4 + 255) / 256 * 256);
  // Two thread blocks a processor: one alone leaves it idle between a block's products and its softmax.
  const int wanted = max(1, 2 * launch.limits->n_sms / (groups * args.n_rows));
  const int splits = min(min(wanted, kMostSplits), blocks_of(args.max_position));
  size_t shared = size_t(first_turn<kHeadDim, kStages, kQ8>());
  bool keep_table = false;
  if (kQ8 && args.key_bias != nullptr) {
    shared += 2 * turn_bytes(kHeadDim);
    const size_t table = key_bias_bytes(1, kHeadDim);
    keep_table = shared + table + kStaticBytes <= size_t(launch.limits->shared_per_block);
    if (keep_table) shared += table;
  }
  const auto kernel = attend_split_kernel<kHeadDim, kFresh, kStages, kQ8>;
  if (const cudaError_t e = allow_shared(kernel, shared); e != cudaSuccess) return e;
  scratch.merge_apart = args.max_position >= kLongPosition;
  const dim3 grid(unsigned(splits), unsigned(groups), unsigned(args.n_rows));
  const cudaError_t e = launch_kernel(kernel, grid, dim3(kThreads), shared, launch, args, scratch, keep_table);
  return e != cudaSuccess || !scratch.merge_apart ? e : merge_slots_apart(args, scratch, kHeadDim, splits, launch);
}

template <int kHeadDim, bool kFresh, bool kQ8>
cudaError_t launch_format(const AttentionArgs& args, const Launch& launch) {
  constexpr int kBytes = first_turn<kHeadDim, kMostStages, kQ8>() + (kQ8 ? 2 * turn_bytes(kHeadDim) : 0);
  if (kBytes + kStaticBytes <= launch.limits->shared_per_block)
    return launch_stages<kHeadDim, kFresh, kMostStages, kQ8>(args, launch);
  return launch_stages<kHeadDim, kFresh, 1, kQ8>(args, launch);
}

template <int kHeadDim, bool kFresh>
cudaError_t launch_split(const AttentionArgs& args, const Launch& launch) {
  return args.q8 ? launch_format<kHeadDim, kFresh, true>(args, launch)
                 : launch_format<kHeadDim, kFresh, false>(args, launch);
}

/// Room per token that the kernels know.
constexpr int room_for(int head_dim) { return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256; }

}  // namespace

size_t attention_scratch_bytes(int n_heads, int n_kv_heads, int head_dim, int max_position) {
  const size_t groups = size_t(n_kv_heads) * size_t(head_groups(n_heads, n_kv_heads));
  return (kSplitRows * groups * 4 + 255) / 256 * 256 +
         kSplitRows * groups * size_t(slots_for(max_position)) * size_t(slot_floats(room_for(head_dim))) * 4;
}

cudaError_t attend_split(const AttentionArgs& args, bool fresh, const Launch& launch) {
  switch (room_for(args.head_dim)) {
    case 64:
      return fresh ? launch_split<64, true>(args, launch) : launch_split<64, false>(args, launch);
    case 128:
      return fresh ? launch_split<128, true>(args, launch) : launch_split<128, false>(args, launch);
    default:
      return fresh ? launch_split<256, true>(args, launch) : launch_split<256, false>(args, launch);
  }
}

}  // namespace ponder::backend::cuda
