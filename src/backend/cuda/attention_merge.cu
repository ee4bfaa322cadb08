// The merge of a row's slots as a kernel of its own, for launches whose rows may be long: a thread block a query head, a
// thread a number of it. attention_split.cu merges few slots in its last thread block; with a hundred of them that waited
// for one load after the other while the rest of the card was idle.
//
// The order is that of attention.h and the operations are those of Merge: blocks into partials, partials into the row.
// Only the maxima are taken ahead (a prefix maximum does not depend on the order), so that all factors are known before
// the sums are read.
#include "backend/cuda/attention_slots.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kChunk = 128;    ///< slots at a time, a multiple of kPartialBlocks
constexpr int kTogether = 16;  ///< loads under way per thread

/// grid: (heads, rows)
template <int kHeadDim>
__global__ void __launch_bounds__(kHeadDim < kChunk ? kChunk : kHeadDim)
    merge_slots_kernel(const __grid_constant__ AttentionArgs a, SplitScratch scratch, int splits) {
  __shared__ float2 inner[kChunk], outer[kChunk];  // keep, add: of a block in its partial, of a partial in the row
  __shared__ float sums[kChunk], tops[kChunk / 32];
  launch_dependents();
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, head = blockIdx.x, row = blockIdx.y;
  const int per_kv = a.n_heads / a.n_kv_heads, groups = head_groups(a.n_heads, a.n_kv_heads);
  const int group = head / per_kv * groups + head % per_kv / kHeadsTogether, place = head % per_kv % kHeadsTogether;
  wait_for_previous_kernel();
  const int position = a.positions[row];
  if (position < 0) return;
  const Units units(position, splits);
  const int together = units.by_blocks ? kPartialBlocks : 1;
  const float* slots =
      scratch.slots + (int64_t(row) * a.n_kv_heads * groups + group) * scratch.max_slots * slot_floats(kHeadDim);
  float total = 0, part = 0, total_l = 0, part_l = 0, top = -INFINITY;
  for (int first = 0; first < units.n; first += kChunk) {
    const int n = min(kChunk, units.n - first);
    float m = -INFINITY, upto = -INFINITY;
    if (thread < kChunk) {
      if (thread < n) {
        const float2 ml =
            __ldcg(reinterpret_cast<const float2*>(slots + int64_t(first + thread) * slot_floats(kHeadDim) +
                                                   kHeadsTogether * kHeadDim) +
                   place);
        m = ml.x, sums[thread] = ml.y;
      }
      upto = m;
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const float before = __shfl_up_sync(kAllLanes, upto, d);
        if (lane >= d) upto = fmaxf(upto, before);
      }
      if (lane == 31) tops[warp] = upto;
    }
    __syncthreads();
    if (thread < kChunk) {
      float before = top;  // of all slots before this warp's
      for (int w = 0; w < warp; ++w) before = fmaxf(before, tops[w]);
      upto = fmaxf(upto, before);
      const int begin = lane / together * together;  // of the lane's partial
      const float prior = __shfl_sync(kAllLanes, upto, max(begin - 1, 0));
      float in_part = m;
#pragma unroll
      for (int d = 1; d < kPartialBlocks; d *= 2) {
        const float earlier = __shfl_up_sync(kAllLanes, in_part, d);
        if (lane - begin >= d) in_part = fmaxf(in_part, earlier);
      }
      const float earlier = __shfl_up_sync(kAllLanes, in_part, 1), row_before = begin == 0 ? before : prior;
      inner[thread] = {exp2_fast(__fsub_rn(earlier, in_part)), exp2_fast(__fsub_rn(m, in_part))};
      outer[thread] = {exp2_fast(__fsub_rn(row_before, upto)), exp2_fast(__fsub_rn(in_part, upto))};
    }
    for (int w = 0; w < kChunk / 32; ++w) top = fmaxf(top, tops[w]);
    __syncthreads();
    const float* from = slots + int64_t(first) * slot_floats(kHeadDim) + place * kHeadDim + thread;
    for (int batch = 0; thread < kHeadDim && batch < n; batch += kTogether) {
      float o[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i)
        o[i] = batch + i < n ? __ldcg(from + int64_t(batch + i) * slot_floats(kHeadDim)) : 0.f;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int k = batch + i;
        if (k >= n) break;
        if (k % together == 0) {
          part = o[i], part_l = sums[k];
        } else {
          part = __fmaf_rn(part, inner[k].x, __fmul_rn(o[i], inner[k].y));
          part_l = __fmaf_rn(part_l, inner[k].x, __fmul_rn(sums[k], inner[k].y));
        }
        if (k % together != together - 1 && k + 1 != n) continue;
        if (first + k < together) {
          total = part, total_l = part_l;
        } else {
          total = __fmaf_rn(total, outer[k].x, __fmul_rn(part, outer[k].y));
          total_l = __fmaf_rn(total_l, outer[k].x, __fmul_rn(part_l, outer[k].y));
        }
      }
    }
    __syncthreads();
  }
  if (thread < a.head_dim) a.out[row * a.out_stride + int64_t(head) * a.head_dim + thread] = __fdiv_rn(total, total_l);
}

template <int kHeadDim>
cudaError_t launch_merge(const AttentionArgs& args, const SplitScratch& scratch, int splits, const Launch& launch) {
  constexpr int kThreads = kHeadDim < kChunk ? kChunk : kHeadDim;
  return launch_kernel(merge_slots_kernel<kHeadDim>, dim3(unsigned(args.n_heads), unsigned(args.n_rows)),
                       dim3(kThreads), 0, launch, args, scratch, splits);
}

}  // namespace

cudaError_t merge_slots_apart(const AttentionArgs& args, const SplitScratch& scratch, int room, int splits,
                              const Launch& launch) {
  switch (room) {
    case 64:
      return launch_merge<64>(args, scratch, splits, launch);
    case 128:
      return launch_merge<128>(args, scratch, splits, launch);
    default:
      return launch_merge<256>(args, scratch, splits, launch);
  }
}

}  // namespace ponder::backend::cuda
