// Five kernels: (edit: bias, penalties, mask, only if some row has any) -> maxima of 64 logits each -> spread: what needs
// all of the vocabulary (masses by distance from the maximum; the race without filters) -> race: what is surely in a
// nucleus over everything, and the candidates of the bucket in which it ends -> choose: one block per row.
// Time is latency here (600 KB of logits, five kernels in a row): nothing walks through memory one load after the other.
// The candidates that filters leave are sorted in shared memory; if equal logits make them too many, the host draws.
// Sums are of integers and the winner is a maximum over (value, token), so the order of threads cannot matter.
// Read first: sample/sample.cpp, whose results these are. Then sampler_test.cu.
#include <algorithm>

#include "backend/cuda/ranks.cuh"
#include "backend/cuda/sampler.h"
#include "sample/mass.h"
#include "sample/noise.h"
#include "sample/penalties.h"

namespace ponder::backend::cuda {
namespace {

using namespace sample;  // the arithmetic of draws is the host's own code

constexpr int kBlock = 64;        // logits under one maximum
constexpr int kChunkBlocks = 16;  // of them, to a thread block
constexpr int kThreads = 256;     // of edit, maxima, spread
constexpr int kChooseThreads = 1024;
constexpr int kCandidates = 4096;  // sorted in shared memory

// Where the sum of masses, from the most likely bucket on, reaches the goal.
struct Crossing {
  uint64_t goal = 0, before = 0;
  int bucket = 0;
};

struct Rows {
  const float* logits;
  int vocab, n_blocks;
  const DrawRequest* requests;
  float* seen;                 // [rows][vocab], the edited logits
  float* maxima;               // [rows][n_blocks]
  unsigned long long* masses;  // [rows][kBuckets]
  unsigned long long* best;    // [rows]: rank of the race's winner
  Crossing* crossings;         // [rows]
  uint64_t* candidates;        // [rows][kCandidates]: ranks in the crossing's bucket, in any order
  int* n_candidates;           // [rows]; may be more than kCandidates
  int32_t* tokens;
};

__device__ bool is_edited(const DrawRequest& r) { return r.n_edits > 0 || r.mask_word >= 0; }
__device__ bool is_greedy(const DrawRequest& r) { return r.temperature <= 0.f || r.top_k == 1; }
__device__ bool is_limited(const DrawRequest& r, int vocab) { return r.top_k > 0 && r.top_k < vocab; }

// A logit as the filters see it: without a draw infinity may win.
__device__ float clamp_logit(float x, bool draws) { return draws || x != x ? seen_logit(x) : x; }

struct Row {
  const float* values;
  bool edited, draws;
  __device__ Row(const Rows& rows, const DrawRequest& r, int row)
      : values((is_edited(r) ? rows.seen : rows.logits) + int64_t(row) * rows.vocab),
        edited(is_edited(r)),
        draws(r.temperature > 0.f) {}
  __device__ float at(int i) const { return edited ? values[i] : clamp_logit(values[i], draws); }
};

__device__ void begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__global__ void copy_kernel(Rows rows, const uint32_t* mask) {
  begin();
  const DrawRequest r = rows.requests[blockIdx.y];
  if (r.active == 0 || !is_edited(r)) return;
  const float* from = rows.logits + int64_t(blockIdx.y) * rows.vocab;
  float* to = rows.seen + int64_t(blockIdx.y) * rows.vocab;
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < rows.vocab; i += gridDim.x * kThreads) {
    bool allowed = true;
    if (r.mask_word >= 0) allowed = i / 32 < r.mask_words && (mask[r.mask_word + i / 32] >> (i % 32) & 1u) != 0;
    to[i] = allowed ? seen_logit(from[i]) : kForbidden;
  }
}

// The edits of a token are next to each other; the thread of the first one does them all.
__global__ void edit_kernel(Rows rows, const LogitEdit* edits) {
  begin();
  const DrawRequest r = rows.requests[blockIdx.x];
  if (r.active == 0) return;
  float* seen = rows.seen + int64_t(blockIdx.x) * rows.vocab;
  const LogitEdit* own = edits + r.first_edit;
  for (int first = threadIdx.x; first < r.n_edits; first += kThreads) {
    if (first > 0 && own[first - 1].token == own[first].token) continue;
    float x = seen[own[first].token];
    for (int i = first; i < r.n_edits && own[i].token == own[first].token; ++i) {
      x = own[i].is_bias != 0
              ? with_bias(x, own[i].value)
              : with_penalties(x, own[i].value, r.repeat_penalty, r.frequency_penalty, r.presence_penalty);
    }
    seen[own[first].token] = x;
  }
}

__global__ void maxima_kernel(Rows rows) {
  begin();
  const int row = blockIdx.y;
  const DrawRequest r = rows.requests[row];
  if (r.active == 0) return;
  if (blockIdx.x == 0) {
    for (int i = threadIdx.x; i < kBuckets; i += kThreads) rows.masses[row * kBuckets + i] = 0;
    if (threadIdx.x == 0) rows.best[row] = 0, rows.n_candidates[row] = 0;
  }
  const Row logits(rows, r, row);
  const int lane = threadIdx.x % 32;
  for (int b = blockIdx.x * kChunkBlocks + threadIdx.x / 32; b < min(rows.n_blocks, int(blockIdx.x + 1) * kChunkBlocks);
       b += kThreads / 32) {
    float m = kForbidden;
    for (int i = b * kBlock + lane; i < min(rows.vocab, (b + 1) * kBlock); i += 32) m = fmaxf(m, logits.at(i));
    for (int d = 16; d > 0; d /= 2) m = fmaxf(m, __shfl_xor_sync(~0u, m, d));
    if (lane == 0) rows.maxima[int64_t(row) * rows.n_blocks + b] = m;
  }
}

template <int kSize>
__device__ float block_max(float x) {
  __shared__ float part[kSize / 32];
  for (int d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, d));
  __syncthreads();
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  __syncthreads();
  float m = part[0];
  for (int i = 1; i < kSize / 32; ++i) m = fmaxf(m, part[i]);
  return m;
}

template <int kSize>
__device__ uint64_t block_best(uint64_t x) {
  __shared__ uint64_t part[kSize / 32];
  for (int d = 16; d > 0; d /= 2) {
    const uint64_t other = __shfl_xor_sync(~0u, x, d);
    x = other > x ? other : x;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  __syncthreads();
  uint64_t best = part[0];
  for (int i = 1; i < kSize / 32; ++i) best = part[i] > best ? part[i] : best;
  return best;
}

template <int kSize>
__device__ float row_max(const Rows& rows, int row) {
  float m = kForbidden;
#pragma unroll 8
  for (int b = threadIdx.x; b < rows.n_blocks; b += kSize) m = fmaxf(m, rows.maxima[int64_t(row) * rows.n_blocks + b]);
  return block_max<kSize>(m);
}

struct Race {
  const DrawRequest& r;
  float max;
  uint64_t best = 0;
  __device__ void enter(float logit, int32_t token) {
    const float score = (logit - max) / r.temperature;
    const uint32_t word = noise_word(r.seed, r.stream, r.position, uint32_t(token));
    if (best != 0 && !(score + gumbel_bound(word) >= value_of(best))) return;
    const uint64_t rank = rank_of(score + gumbel_of_word(word), token);
    best = rank > best ? rank : best;
  }
};

// Not limited by top-k: either the masses of a nucleus over everything, or the race itself.
__global__ void spread_kernel(Rows rows) {
  begin();
  const int row = blockIdx.y;
  const DrawRequest r = rows.requests[row];
  if (r.active == 0 || is_greedy(r) || is_limited(r, rows.vocab)) return;
  const Row logits(rows, r, row);
  const float max = row_max<kThreads>(rows, row);
  if (max == kForbidden) return;
  __shared__ unsigned long long sums[kBuckets];
  const bool nucleus = r.top_p < 1.f;
  for (int i = threadIdx.x; i < kBuckets; i += kThreads) sums[i] = 0;
  __syncthreads();
  Race race{r, max};
  const uint64_t floor = r.min_p > 0.f ? mass_fraction(r.min_p) : 0;
  const int first = blockIdx.x * kChunkBlocks * kBlock, last = min(rows.vocab, first + kChunkBlocks * kBlock);
  for (int i = first + threadIdx.x; i < last; i += kThreads) {
    const float x = logits.at(i);
    if (nucleus) {
      const int32_t m = mass(x - max);
      if (m != 0) atomicAdd(&sums[mass_bucket(max - x)], (unsigned long long)m);
    } else if (x > kForbidden && (x == max || uint64_t(mass(x - max)) >= floor)) {
      race.enter(x, i);
    }
  }
  if (nucleus) {
    __syncthreads();
    for (int i = threadIdx.x; i < kBuckets; i += kThreads)
      if (sums[i] != 0) atomicAdd(&rows.masses[row * kBuckets + i], sums[i]);
  } else {
    const uint64_t best = block_best<kThreads>(race.best);
    if (threadIdx.x == 0 && best != 0) atomicMax(&rows.best[row], (unsigned long long)best);
  }
}

// The k-th largest of the row's block maxima (k <= n_blocks), by its bits from the top, a byte at a time.
__device__ uint32_t kth_maximum(const float* maxima, int n, int k) {
  __shared__ int count[256];
  __shared__ uint32_t chosen;
  __shared__ int left;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) count[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += kChooseThreads) {
      const uint32_t o = ordered(maxima[i]);
      if (shift == 24 || o >> (shift + 8) == prefix >> (shift + 8)) atomicAdd(&count[o >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int b = 255;
      while (b > 0 && count[b] < k) k -= count[b--];
      chosen = uint32_t(b);
      left = k;
    }
    __syncthreads();
    prefix |= chosen << shift;
    k = left;
    __syncthreads();
  }
  return prefix;
}

// Ranks in `list`, largest first; `n` <= kCandidates. Unused slots hold 0.
__device__ void sort_ranks(uint64_t* list, int n) {
  int size = 2;
  while (size < n) size *= 2;
  for (int i = n + threadIdx.x; i < size; i += kChooseThreads) list[i] = 0;
  for (int width = 2; width <= size; width *= 2) {
    for (int stride = width / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size / 2; i += kChooseThreads) {
        const int a = i / stride * stride * 2 + i % stride, b = a + stride;
        const bool down = (a & width) == 0;
        if ((list[a] < list[b]) == down) {
          const uint64_t t = list[a];
          list[a] = list[b];
          list[b] = t;
        }
      }
    }
  }
  __syncthreads();
}

// What a nucleus needs of a sorted list: how many lead until their masses, on top of `sum`, reach `goal`. One warp.
__device__ int nucleus_size(const uint64_t* list, int n, float max, uint64_t sum, uint64_t goal) {
  const int lane = threadIdx.x % 32;
  for (int first = 0; first < n; first += 32) {
    const int i = first + lane;
    uint64_t here = i < n ? uint64_t(mass(value_of(list[i]) - max)) : 0;
    for (int d = 1; d < 32; d *= 2) {
      const uint64_t below = __shfl_up_sync(~0u, here, d);
      if (lane >= d) here += below;
    }
    const unsigned reached = __ballot_sync(~0u, i < n && sum + here >= goal);
    if (reached != 0) return first + __ffs(int(reached));
    sum += __shfl_sync(~0u, here, 31);
  }
  return n;
}

// Sum of the list's masses. One warp.
__device__ uint64_t mass_sum(const uint64_t* list, int n, float max) {
  uint64_t sum = 0;
  for (int i = threadIdx.x % 32; i < n; i += 32) sum += uint64_t(mass(value_of(list[i]) - max));
  for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
  return sum;
}

// One warp: each lane has a run of buckets.
__device__ Crossing find_crossing(const unsigned long long* masses, float top_p) {
  constexpr int kRun = kBuckets / 32;
  static_assert(kBuckets % 32 == 0);
  const int lane = threadIdx.x % 32;
  uint64_t masses_here[kRun], own = 0;
#pragma unroll
  for (int i = 0; i < kRun; ++i) masses_here[i] = masses[lane * kRun + i];
#pragma unroll
  for (int i = 0; i < kRun; ++i) own += masses_here[i];
  uint64_t upto = own;
  for (int d = 1; d < 32; d *= 2) {
    const uint64_t below = __shfl_up_sync(~0u, upto, d);
    if (lane >= d) upto += below;
  }
  Crossing c;
  c.goal = nucleus_goal(top_p, __shfl_sync(~0u, upto, 31));
  const unsigned reached = __ballot_sync(~0u, upto >= c.goal);
  const int where = reached != 0 ? __ffs(int(reached)) - 1 : 31;
  // Every lane walks its run, that of lane `where` counts; it ends in the run's last bucket at the latest.
  int steps = 0;
  uint64_t before = upto - own;
  bool walking = true;
#pragma unroll
  for (int i = 0; i < kRun - 1; ++i) {
    walking = walking && before + masses_here[i] < c.goal;
    if (walking) before += masses_here[i], ++steps;
  }
  c.before = __shfl_sync(~0u, before, where);
  c.bucket = where * kRun + __shfl_sync(~0u, steps, where);
  return c;
}

__device__ bool is_likely(const DrawRequest& r, float max, float x) {
  return r.min_p <= 0.f || x == max || uint64_t(mass(x - max)) >= mass_fraction(r.min_p);
}

// A nucleus over everything: what lies in a bucket before the crossing is in it; what lies in the crossing's is noted.
__global__ void race_kernel(Rows rows) {
  begin();
  const int row = blockIdx.y;
  const DrawRequest r = rows.requests[row];
  if (r.active == 0 || is_greedy(r) || is_limited(r, rows.vocab) || r.top_p >= 1.f) return;
  const Row logits(rows, r, row);
  const float max = row_max<kThreads>(rows, row);
  if (max == kForbidden) return;
  __shared__ int crossing;
  if (threadIdx.x < 32) {
    const Crossing c = find_crossing(rows.masses + row * kBuckets, r.top_p);
    if (threadIdx.x == 0) {
      crossing = c.bucket;
      if (blockIdx.x == 0) rows.crossings[row] = c;
    }
  }
  __syncthreads();
  Race race{r, max};
  const int first = blockIdx.x * kChunkBlocks * kBlock, last = min(rows.vocab, first + kChunkBlocks * kBlock);
  for (int i = first + threadIdx.x; i < last; i += kThreads) {
    const float x = logits.at(i);
    if (!(x > kForbidden) || mass(x - max) == 0 || mass_bucket(max - x) > crossing) continue;
    if (mass_bucket(max - x) == crossing) {
      const int at = atomicAdd(&rows.n_candidates[row], 1);
      if (at < kCandidates) rows.candidates[int64_t(row) * kCandidates + at] = rank_of(x, i);
    } else if (is_likely(r, max, x)) {
      race.enter(x, i);
    }
  }
  const uint64_t best = block_best<kThreads>(race.best);
  if (threadIdx.x == 0 && best != 0) atomicMax(&rows.best[row], (unsigned long long)best);
}

__global__ void __launch_bounds__(kChooseThreads) choose_kernel(Rows rows) {
  begin();
  __shared__ uint64_t list[kCandidates];
  __shared__ int n_list, n_kept, found[kChooseThreads], n_found;
  const int row = blockIdx.x;
  const DrawRequest r = rows.requests[row];
  if (r.active == 0) return;
  const Row logits(rows, r, row);
  const float* maxima = rows.maxima + int64_t(row) * rows.n_blocks;
  const float max = row_max<kChooseThreads>(rows, row);
  const auto answer = [&](int32_t token) {
    if (threadIdx.x == 0) rows.tokens[row] = token;
  };
  if (max == kForbidden) return answer(-1);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = kChooseThreads / 32;
  uint64_t best = 0;
  // Calls visit(logit, token) for all of the blocks of logits whose maximum is at least `lowest`.
  const auto visit_from = [&](float lowest, const auto& visit) {
    for (int first = 0; first < rows.n_blocks; first += kChooseThreads) {
      const int own = first + threadIdx.x;
      __syncthreads();
      if (threadIdx.x == 0) n_found = 0;
      __syncthreads();
      if (own < rows.n_blocks && maxima[own] >= lowest && maxima[own] != kForbidden)
        found[atomicAdd(&n_found, 1)] = own;
      __syncthreads();
      for (int k = warp; k < n_found; k += n_warps)
        for (int i = found[k] * kBlock + lane; i < min(rows.vocab, (found[k] + 1) * kBlock); i += 32)
          visit(logits.at(i), i);
    }
  };

  if (is_greedy(r)) {
    visit_from(max, [&](float x, int token) {
      if (x == max) best = ::max(best, rank_of(max, token));
    });
    best = block_best<kChooseThreads>(best);
    return answer(token_of(best));
  }

  const bool limited = is_limited(r, rows.vocab), nucleus = r.top_p < 1.f;
  if (!limited && !nucleus) {  // the race was run by spread
    const uint64_t winner = rows.best[row];
    return answer(winner == 0 ? -1 : token_of(winner));
  }
  // Candidates that have to be sorted: the k most likely, or those of the bucket in which the nucleus ends.
  const Crossing crossing = limited ? Crossing{} : rows.crossings[row];
  if (threadIdx.x == 0) n_list = limited ? 0 : rows.n_candidates[row];
  if (limited) {
    float lowest = kForbidden;
    if (r.top_k < rows.n_blocks) lowest = unordered(kth_maximum(maxima, rows.n_blocks, r.top_k));
    visit_from(lowest, [&](float x, int token) {
      if (!(x >= lowest && x > kForbidden)) return;
      const int at = atomicAdd(&n_list, 1);
      if (at < kCandidates) list[at] = rank_of(x, token);
    });
  } else {
    __syncthreads();
    for (int i = threadIdx.x; i < min(n_list, kCandidates); i += kChooseThreads)
      list[i] = rows.candidates[int64_t(row) * kCandidates + i];
  }
  __syncthreads();
  if (n_list > kCandidates) return answer(kDrawOnHost);
  int n = n_list;
  sort_ranks(list, n);
  if (limited) n = min(n, r.top_k);
  if (nucleus) {
    if (warp == 0) {
      int kept = 0;
      if (limited) {
        kept = nucleus_size(list, n, max, 0, nucleus_goal(r.top_p, mass_sum(list, n, max)));
      } else if (crossing.bucket == 0 || crossing.before < crossing.goal) {
        kept = nucleus_size(list, n, max, crossing.before, crossing.goal);
      }
      if (lane == 0) n_kept = kept;
    }
    __syncthreads();
    n = n_kept;
  }
  Race race{r, max, limited ? 0 : rows.best[row]};
  for (int i = threadIdx.x; i < n; i += kChooseThreads) {
    const float x = value_of(list[i]);
    if (is_likely(r, max, x)) race.enter(x, token_of(list[i]));
  }
  best = block_best<kChooseThreads>(race.best);
  answer(best == 0 ? -1 : token_of(best));
}

constexpr size_t up(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

size_t sampler_scratch_bytes(int rows, int vocab) {
  const size_t n_blocks = size_t(vocab + kBlock - 1) / kBlock;
  return up(size_t(rows) * size_t(vocab) * sizeof(float)) + up(size_t(rows) * n_blocks * sizeof(float)) +
         up(size_t(rows) * kBuckets * sizeof(unsigned long long)) + up(size_t(rows) * sizeof(unsigned long long)) +
         up(size_t(rows) * sizeof(Crossing)) + up(size_t(rows) * kCandidates * sizeof(uint64_t)) +
         up(size_t(rows) * sizeof(int));
}

cudaError_t draw(const float* logits, int vocab, int n_rows, const DrawRequest* requests, const LogitEdit* edits,
                 const uint32_t* mask, bool changes, void* scratch, int32_t* tokens, const Launch& launch) {
  Rows rows = {};
  rows.logits = logits;
  rows.vocab = vocab;
  rows.n_blocks = (vocab + kBlock - 1) / kBlock;
  rows.requests = requests;
  char* at = static_cast<char*>(scratch);
  const auto take = [&](auto*& pointer, size_t n) {
    pointer = reinterpret_cast<std::decay_t<decltype(pointer)>>(at);
    at += up(n * sizeof(*pointer));
  };
  take(rows.seen, size_t(n_rows) * size_t(vocab));
  take(rows.maxima, size_t(n_rows) * size_t(rows.n_blocks));
  take(rows.masses, size_t(n_rows) * kBuckets);
  take(rows.best, size_t(n_rows));
  take(rows.crossings, size_t(n_rows));
  take(rows.candidates, size_t(n_rows) * kCandidates);
  take(rows.n_candidates, size_t(n_rows));
  rows.tokens = tokens;
  const dim3 spread(unsigned(rows.n_blocks + kChunkBlocks - 1) / kChunkBlocks, unsigned(n_rows));
  cudaError_t code = cudaSuccess;
  if (changes) {
    code = launch_kernel(copy_kernel, spread, dim3(kThreads), 0, launch, rows, mask);
    if (code == cudaSuccess)
      code = launch_kernel(edit_kernel, dim3(unsigned(n_rows)), dim3(kThreads), 0, launch, rows, edits);
  }
  if (code == cudaSuccess) code = launch_kernel(maxima_kernel, spread, dim3(kThreads), 0, launch, rows);
  if (code == cudaSuccess) code = launch_kernel(spread_kernel, spread, dim3(kThreads), 0, launch, rows);
  if (code == cudaSuccess) code = launch_kernel(race_kernel, spread, dim3(kThreads), 0, launch, rows);
  if (code == cudaSuccess)
    code = launch_kernel(choose_kernel, dim3(unsigned(n_rows)), dim3(kChooseThreads), 0, launch, rows);
  return code;
}

}  // namespace ponder::backend::cuda
