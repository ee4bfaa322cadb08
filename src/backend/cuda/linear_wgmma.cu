// Prefill of K-quants on compute capability 9.0 by wgmma, with the bits of every other kernel (linear.h).
//
// A weight w = scale * (quant - offset) of up to 13 bits is split into digits, w = 64 H + L, as the activations are,
// q = 64 hi + lo. One set of sums takes the four products of bytes one after the other and is shifted in between:
//   w q = ((H hi << 6) + L hi + H lo) << 6, + L lo: exact.
// The scales are in the weights, so no work is left per block of 32. The minimums' term sum m X (X: sums of q over
// blocks) is an exact product of bytes as well: X = 256 (u0 + u1 + u2) + l.
//
// A thread block: one warpgroup whose first thread copies, two of 4 row tiles (64 outputs) each x 128 rows. It goes
// through items (128 outputs x 128 rows), all tiles of columns of one after the other. A tile of columns takes a slot of
// weights, digits and scales (two of them) and two planes of activations (32 KB each, three places for planes).
// The warpgroups take turns with the matrix units (one unpacks and adds up meanwhile), and within a warpgroup its rows'
// halves do (one is shifted meanwhile).
// Thread private in shared memory: the sums of a panel; in global memory: the sums of panels, where there are several.
// Why this file is long: copying, multiplying and finishing are parts of one kernel and agree on its barriers.
// Source: PTX ISA 9.0, "wgmma"; the design is ours (bench/results/cuda-kernels.md).
#include <algorithm>

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/linear_scratch.cuh"
#include "backend/cuda/tile_dot_rows.cuh"
#include "backend/cuda/wgmma.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kRows = kWideRows;  ///< of activations, of an item
constexpr int kGroupTiles = 4;    ///< row tiles of a warpgroup
constexpr int kBlockTiles = 2 * kGroupTiles;
constexpr int kConsumers = 256;
constexpr int kThreads = kConsumers + 128;
constexpr int kPlaces = 3;  ///< of planes
constexpr int kSlots = 2;

// Shared memory, in bytes.
constexpr int kDigitsAt = kBlockTiles * tile_bytes(TileKind::q6_k);  ///< in a slot; the rows' scales follow
constexpr int kSlotBytes = kDigitsAt + kWideDigits + kRows * 4;
constexpr int kPlanesAt = kSlots * kSlotBytes;
constexpr int kPanelsAt = kPlanesAt + kPlaces * kWidePlane;
constexpr int kSharedBytes = kPanelsAt + kConsumers * 64 * 4;
static_assert(kSlotBytes % 128 == 0 && kDigitsAt % 128 == 0);

struct WideParams {
  LinearArgs args;
  int columns, tiles;
  int block_end[kMaxMatrices];  ///< blocks of 128 outputs of the matrices up to this one; gated: of both together
  int row_blocks, items;        ///< blocks of 128 rows
  WideScratch scratch;
};

#ifdef PONDER_WGMMA

constexpr int kNormThreads = 96;

struct Barriers {
  uint64_t full[kSlots], empty[kSlots], plane_full[kPlaces], plane_empty[kPlaces];
  uint64_t norms_full[2], norms_empty[2];
};

/// What one item computes.
struct Item {
  int matrix, first_tile;  ///< gated: tiles of both matrices alternate, matrix is 0
  int row_block;
  bool gated;
  __device__ __forceinline__ Item(const WideParams& p, int index) {
    row_block = index % p.row_blocks;
    const int block = index / p.row_blocks;
    gated = is_gated(p.args.epilogue);
    matrix = 0;
    int begin = 0;
    if (!gated)
      while (block >= p.block_end[matrix]) begin = p.block_end[matrix++];
    first_tile = (block - begin) * kBlockTiles;
  }
  /// Of the item's row tile i; past the end of the matrix for some of the last item's.
  __device__ __forceinline__ int matrix_of(int i) const { return gated ? i & 1 : matrix; }
  __device__ __forceinline__ int row_tile_of(int i) const { return gated ? (first_tile + i) >> 1 : first_tile + i; }
};

/// The first thread of the copying warpgroup.
__device__ void copy_items(const WideParams& p, Barriers& barriers, uint32_t base) {
  const auto weights = [&](const Item& item, int tile, int slot) {
    const int bytes = tile_bytes(p.args.w[item.matrix].kind);
    barrier_expect(&barriers.full[slot], uint32_t(kBlockTiles * bytes + kWideDigits + kRows * 4));
#pragma unroll
    for (int i = 0; i < kBlockTiles; ++i) {
      const Matrix& w = p.args.w[item.matrix_of(i)];
      const int row_tile = min(item.row_tile_of(i), w.row_tiles() - 1);
      copy_bulk(base + slot * kSlotBytes + i * bytes, w.data + (int64_t(row_tile) * p.tiles + tile) * bytes,
                uint32_t(bytes), &barriers.full[slot]);
    }
  };
  int step = 0, place = 0;
  uint32_t parity = 0;  // of the planes' places
  {
    const Item first(p, blockIdx.x);
    for (int tile = 0; tile < min(kSlots, p.tiles); ++tile) weights(first, tile, tile);
  }
  const int early = min(kSlots, p.tiles);
  wait_for_previous_kernel();
  for (int index = blockIdx.x; index < p.items; index += gridDim.x) {
    const Item item(p, index);
    const uint8_t* image = p.scratch.images + int64_t(item.row_block) * p.tiles * kWideImage;
    for (int tile = 0; tile < p.tiles; ++tile, ++step, image += kWideImage) {
      const int slot = step % kSlots;
      if (step >= early) {
        if (step >= kSlots) barrier_wait(&barriers.empty[slot], uint32_t(step / kSlots - 1) & 1);
        weights(item, tile, slot);
      }
      copy_bulk(base + slot * kSlotBytes + kDigitsAt, image + kWidePlanes * kWidePlane, kWideDigits + kRows * 4,
                &barriers.full[slot]);
#pragma unroll 1
      for (int i = 0; i < kWidePlanes; ++i) {
        if (step * kWidePlanes + i >= kPlaces) barrier_wait(&barriers.plane_empty[place], parity ^ 1);
        barrier_expect(&barriers.plane_full[place], kWidePlane);
        copy_bulk(base + kPlanesAt + place * kWidePlane, image + i * kWidePlane, kWidePlane,
                  &barriers.plane_full[place]);
        if (++place == kPlaces) place = 0, parity ^= 1;
      }
    }
  }
}

/// The other three warps of the copying warpgroup: factors of the norm of each item's rows.
__device__ void norm_items(const WideParams& p, Barriers& barriers, float (*norms)[kRows]) {
  wait_for_previous_kernel();
  int step = 0;
  for (int index = blockIdx.x; index < p.items; index += gridDim.x, ++step) {
    const Item item(p, index);
    if (step >= 2) barrier_wait(&barriers.norms_empty[step % 2], uint32_t(step / 2 - 1) & 1);
    for (int i = threadIdx.x - kConsumers - 32; i < kRows; i += kNormThreads) {
      const int row = min(item.row_block * kRows + i, p.args.n_rows - 1);
      norms[step % 2][i] = rms_factor(p.scratch.squares + int64_t(row) * p.tiles, p.tiles, p.columns, p.args.epsilon);
    }
    barrier_arrive(&barriers.norms_full[step % 2]);
  }
}

/// The digits of four weights: v has their quants, a byte each; scale is four times the scale.
template <TileKind K>
__device__ __forceinline__ void split_weights(uint32_t v, int scale, uint32_t* high, uint32_t* low) {
  uint32_t even = (v & 0x00ff00ffu) * uint32_t(scale), odd = __byte_perm(v, 0, 0x4341) * uint32_t(scale);
  if constexpr (K == TileKind::q6_k) {  // (quant - 32) * scale in both halves; the bias stops the borrow between them
    const uint32_t shift = 0x80008000u - 32u * uint32_t(scale) * 0x10001u;
    even += shift, odd += shift;
  }
  *high = __byte_perm(even, odd, 0x7351);
  *low = (__byte_perm(even, odd, 0x6240) >> 2) & 0x3f3f3f3fu;
  if constexpr (K == TileKind::q6_k) *high ^= 0x80808080u;
}

/// A consumer thread's place and state.
struct Consumer {
  Barriers& barriers;
  uint8_t* shared;
  uint32_t base;
  int warp, lane;
  int step = 0, items = 0;  ///< tiles of columns and items so far
  int place = 0;            ///< of the next plane
  uint32_t parity = 0;      ///< of its barriers

  __device__ __forceinline__ int group() const { return warp / 4; }
  /// The warpgroups take turns with the matrix units, so that one multiplies while the other unpacks and adds up.
  __device__ __forceinline__ void take_turn() const { meet(1 + group(), kConsumers); }
  __device__ __forceinline__ void pass_turn() const { pass(2 - group(), kConsumers); }

  __device__ __forceinline__ void release(uint64_t* b) const {
    if (lane == 0) barrier_arrive(b);
  }
};

/// All tiles of columns of an item. sums: as wgmma's d.
template <TileKind K>
__device__ __forceinline__ void multiply_item(const WideParams& p, Consumer& c, float (&sums)[64]) {
  const int g = c.lane >> 2, t = c.lane & 3, thread = threadIdx.x;
  float4* panel = reinterpret_cast<float4*>(c.shared + kPanelsAt) + thread;
  float4* total = p.scratch.totals + int64_t(blockIdx.x) * 16 * kConsumers + thread;
#pragma unroll
  for (int i = 0; i < 64; ++i) sums[i] = 0;
#pragma unroll 1
  for (int tile = 0; tile < p.tiles; ++tile, ++c.step) {
    const int slot = c.step % kSlots;
    const uint32_t here = c.base + slot * kSlotBytes, mine = here + c.warp * tile_bytes(K),
                   scales = mine + scales_offset(K);
    const float* factors =
        reinterpret_cast<const float*>(c.shared + slot * kSlotBytes + kDigitsAt + kWideDigits) + 2 * t;
    barrier_wait(&c.barriers.full[slot], uint32_t(c.step / kSlots) & 1);
    const uint4 hg = load_shared128(scales + g * 16), hh = load_shared128(scales + 128 + g * 16);
    int d[2][32];  // of the first and the second 64 rows
    float d_g, d_h, low_g = 0, low_h = 0;
    uint4 first[1] = {}, second[1] = {};  // minimums, placed for the two products with digits
    if constexpr (K == TileKind::q6_k) {
      const auto d_of = [&](int row) {
        return half_bits_to_float(load_shared32(scales + 256 + (row & ~1) * 2) >> ((row & 1) * 16) & 0xffff);
      };
      d_g = d_of(g), d_h = d_of(g + 8);
    } else {
      const float2 two_g = __half22float2(as_half2(hg.x)), two_h = __half22float2(as_half2(hh.x));
      d_g = two_g.x, d_h = two_h.x;
      // Minimums of blocks 0 .. 3 in even lanes of a quad, of 4 .. 7 in odd ones.
      const auto minimums = [&](const uint4& h) {
        return t & 1 ? ((h.z >> 4) & 0x0f0f0f0fu) | ((h.w >> 2) & 0x30303030u)
                     : (h.z & 0x0f0f0f0fu) | (h.w & 0x30303030u);
      };
      const uint32_t m_g = minimums(hg), m_h = minimums(hh);
      first[0] = {m_g, m_h, t < 2 ? m_g : 0u, t < 2 ? m_h : 0u};
      second[0] = {0u, 0u, t < 2 ? 0u : m_g, t < 2 ? 0u : m_h};
      low_g = -two_g.y, low_h = -two_h.y;
    }

    const auto shift = [](int(&numbers)[32], int bits) {
#pragma unroll
      for (int i = 0; i < 32; ++i) numbers[i] <<= bits;
      hold(numbers);
    };
    /// Adds dy factor numbers, as linear.h says.
    const auto fold = [&](int half, const int(&numbers)[32], float factor_g, float factor_h) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float2 dy = *reinterpret_cast<const float2*>(factors + 64 * half + 8 * j);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = sums[32 * half + 4 * j + i];
          const float term = __fmul_rn(i & 2 ? factor_h : factor_g, float(numbers[4 * j + i]));
          sum = __fmaf_rn(i & 1 ? dy.y : dy.x, term, sum);
        }
      }
    };
    constexpr int kHalfRows = 64 * 16 >> 4, kBlockStep = 2 * kRows * 16 >> 4;  // in an operand's units

    uint4 high[8], low[8];
    Fragments<K> f(mine, c.lane);
    RowScales<K> scale_g(hg), scale_h(hh);
    if constexpr (K != TileKind::q6_k) {  // four times a scale fits a byte
      scale_g.words[0] <<= 2, scale_g.words[1] <<= 2, scale_h.words[0] <<= 2, scale_h.words[1] <<= 2;
    }
    const auto unpack = [&](int b) {
      constexpr int kTimes = K == TileKind::q6_k ? 4 : 1;
      const uint4 v = f.block(b);
      const int one = K == TileKind::q6_k ? 2 * b : b, two = K == TileKind::q6_k ? 2 * b + 1 : b;
      split_weights<K>(v.x, scale_g[one] * kTimes, &high[b].x, &low[b].x);
      split_weights<K>(v.y, scale_h[one] * kTimes, &high[b].y, &low[b].y);
      split_weights<K>(v.z, scale_g[two] * kTimes, &high[b].z, &low[b].z);
      split_weights<K>(v.w, scale_h[two] * kTimes, &high[b].w, &low[b].w);
    };
    if constexpr (K == TileKind::q6_k) {
#pragma unroll
      for (int b = 0; b < 8; ++b) unpack(b);
    } else {
      const uint64_t digits = wgmma_operand(here + kDigitsAt, kRows * 16, 128);
      hold(first), hold(second), wgmma_fence();
#pragma unroll
      for (int half = 0; half < 2; ++half) hold(d[half]), wgmma(d[half], first[0], digits + half * kHalfRows, false);
      wgmma_commit();
#pragma unroll
      for (int b = 0; b < 4; ++b) unpack(b);
      wgmma_wait<0>();
#pragma unroll
      for (int half = 0; half < 2; ++half) hold(d[half]), shift(d[half], 8);
      wgmma_fence();
#pragma unroll
      for (int half = 0; half < 2; ++half) wgmma(d[half], second[0], digits + half * kHalfRows, true);
      wgmma_commit();
#pragma unroll
      for (int b = 4; b < 8; ++b) unpack(b);
      wgmma_wait<0>();
#pragma unroll
      for (int half = 0; half < 2; ++half) hold(d[half]), fold(half, d[half], low_g, low_h);
    }

    // Halves of the rows take turns too: while one is shifted or added up, the other is multiplied.
    const auto operand = [&](int place) {
      return wgmma_operand(c.base + kPlanesAt + place * kWidePlane, kRows * 16, 128);
    };
    const auto products = [&](int half, const uint4(&a)[8], uint64_t plane, bool add) {
      wgmma_fence();
#pragma unroll
      for (int b = 0; b < 8; ++b) wgmma(d[half], a[b], plane + half * kHalfRows + b * kBlockStep, add || b > 0);
      wgmma_commit();
    };
    const int hi_place = c.place, lo_place = hi_place + 1 == kPlaces ? 0 : hi_place + 1;
    const uint32_t hi_parity = c.parity, lo_parity = lo_place == 0 ? hi_parity ^ 1 : hi_parity;
    const uint64_t hi = operand(hi_place), lo = operand(lo_place);
    hold(high), hold(low);
    c.take_turn();
    barrier_wait(&c.barriers.plane_full[hi_place], hi_parity);
    hold(d[0]), hold(d[1]);
    products(0, high, hi, false);
    products(1, high, hi, false);
    wgmma_wait<1>(), hold(d[0]), shift(d[0], 6);
    products(0, low, hi, true);
    wgmma_wait<1>(), hold(d[1]), shift(d[1], 6);
    products(1, low, hi, true);
    barrier_wait(&c.barriers.plane_full[lo_place], lo_parity);
    products(0, high, lo, true);
    products(1, high, lo, true);
    wgmma_wait<2>();
    c.release(&c.barriers.plane_empty[hi_place]);
    wgmma_wait<1>(), hold(d[0]), shift(d[0], 6);
    products(0, low, lo, true);
    wgmma_wait<1>(), hold(d[1]), shift(d[1], 6);
    products(1, low, lo, true);
    c.pass_turn();
    wgmma_wait<1>(), hold(d[0]), fold(0, d[0], d_g, d_h);
    wgmma_wait<0>(), hold(d[1]);
    c.release(&c.barriers.plane_empty[lo_place]);
    fold(1, d[1], d_g, d_h);
    c.place = lo_place + 1 == kPlaces ? 0 : lo_place + 1;
    c.parity = c.place == 0 ? lo_parity ^ 1 : lo_parity;
    barrier_arrive(&c.barriers.empty[slot]);  // every lane, or racecheck does not see that they all have read

    const bool last = tile + 1 == p.tiles;
    if (tile % kSliceTiles != kSliceTiles - 1 && !last) continue;
    const int slice = tile / kSliceTiles;
    if (slice % kPanelSlices != 0) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const float4 before = panel[i * kConsumers];
        sums[4 * i] = __fadd_rn(before.x, sums[4 * i]), sums[4 * i + 1] = __fadd_rn(before.y, sums[4 * i + 1]);
        sums[4 * i + 2] = __fadd_rn(before.z, sums[4 * i + 2]), sums[4 * i + 3] = __fadd_rn(before.w, sums[4 * i + 3]);
      }
    }
    const bool closes = slice % kPanelSlices == kPanelSlices - 1 || last;
    if (closes && slice >= kPanelSlices) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const float4 before = __ldcg(total + i * kConsumers);
        sums[4 * i] = __fadd_rn(before.x, sums[4 * i]), sums[4 * i + 1] = __fadd_rn(before.y, sums[4 * i + 1]);
        sums[4 * i + 2] = __fadd_rn(before.z, sums[4 * i + 2]), sums[4 * i + 3] = __fadd_rn(before.w, sums[4 * i + 3]);
      }
    }
    if (last) continue;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float4 now = {sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]};
      if (closes)
        __stcg(total + i * kConsumers, now);
      else
        panel[i * kConsumers] = now;
      sums[4 * i] = sums[4 * i + 1] = sums[4 * i + 2] = sums[4 * i + 3] = 0;
    }
  }
}

/// Bias, residual or gate, and the store of an item's numbers. The numbers go through shared memory so that the code is
/// a loop: unrolled it was 140 KB that every item had to fetch, which took longer than half of its products.
__device__ __forceinline__ void finish_item(const WideParams& p, const Consumer& c, const Item& item,
                                            const float* norms, const float (&sums)[64]) {
  const LinearArgs& a = p.args;
  const int g = c.lane >> 2, t = c.lane & 3, first_row = item.row_block * kRows + 2 * t;
  float4* numbers = reinterpret_cast<float4*>(c.shared + kPanelsAt) + threadIdx.x;
#pragma unroll
  for (int i = 0; i < 16; ++i)
    numbers[i * kConsumers] = {sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]};
  if (item.gated) meet(3 + c.group(), kConsumers / 2);
  // Gated: gate lies in even warps, up in odd ones; each takes half of the rows.
  const int m = item.matrix, output = item.row_tile_of(item.gated ? c.warp & ~1 : c.warp) * kTileRows + g;
  const bool normed = a.norm_weight != nullptr, biased = a.bias[m] != nullptr,
             biased_up = item.gated && a.bias[1] != nullptr;
  float bias[2] = {}, bias_up[2] = {};
  bool present[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    present[h] = output + 8 * h < a.w[m].rows;
    if (present[h] && biased) bias[h] = __ldg(a.bias[m] + output + 8 * h);
    if (present[h] && biased_up) bias_up[h] = __ldg(a.bias[1] + output + 8 * h);
  }
  norms += 2 * t;
  const auto finished = [&](float v, float factor, float bias_here, bool is_biased) {
    if (normed) v = __fmul_rn(v, factor);
    return is_biased ? __fadd_rn(v, bias_here) : v;
  };
  float* y = a.y[m] + first_row * a.y_stride[m] + output;
  if (item.gated) {
    const int first = c.warp % 2 * 8;
    numbers -= c.warp % 2 * 32;
#pragma unroll 1
    for (int j = first; j < first + 8; ++j) {
      const float4 gates = numbers[j * kConsumers], ups = numbers[j * kConsumers + 32];
      const float gate[4] = {gates.x, gates.y, gates.z, gates.w}, up[4] = {ups.x, ups.y, ups.z, ups.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int local = 8 * j + i % 2;
        const float factor = normed ? norms[local] : 1.f;
        const float v = __fmul_rn(activate(a.epilogue, finished(gate[i], factor, bias[i / 2], biased)),
                                  finished(up[i], factor, bias_up[i / 2], biased_up));
        if (first_row + local < a.n_rows && present[i / 2]) y[local * a.y_stride[m] + i / 2 * 8] = v;
      }
    }
    meet(3 + c.group(), kConsumers / 2);  // all of it has been read
    return;
  }
#pragma unroll 1
  for (int first = 0; first < 16; first += 4) {
    float before[16] = {};
    if (a.epilogue == Epilogue::add) {  // all loads before the stores, which might be to the same place
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const int local = 8 * (first + i / 4) + i % 2;
        if (first_row + local < a.n_rows && present[i / 2 % 2])
          before[i] = __ldcg(y + local * a.y_stride[m] + i / 2 % 2 * 8);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float4 here = numbers[(first + j) * kConsumers];
      const float sum[4] = {here.x, here.y, here.z, here.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int local = 8 * (first + j) + i % 2;
        float v = finished(sum[i], normed ? norms[local] : 1.f, bias[i / 2], biased);
        if (a.y_scale != 1.f) v = __fmul_rn(v, a.y_scale);
        if (a.epilogue == Epilogue::add) v = __fadd_rn(before[4 * j + i], v);
        if (first_row + local < a.n_rows && present[i / 2]) y[local * a.y_stride[m] + i / 2 * 8] = v;
      }
    }
  }
}
#endif

__global__ void __launch_bounds__(kThreads, 1) linear_wgmma_kernel(const __grid_constant__ WideParams p) {
#ifdef PONDER_WGMMA
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ Barriers barriers;  // launch_wide() tells by static shared memory that this body was compiled
  __shared__ float norms[2][kRows];
  launch_dependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlots; ++i) barrier_init(&barriers.full[i], 1), barrier_init(&barriers.empty[i], kConsumers);
    for (int i = 0; i < kPlaces; ++i)
      barrier_init(&barriers.plane_full[i], 1), barrier_init(&barriers.plane_empty[i], kConsumers / 32);
    for (int i = 0; i < 2; ++i)
      barrier_init(&barriers.norms_full[i], kNormThreads), barrier_init(&barriers.norms_empty[i], kConsumers);
    barrier_init_done();
  }
  const bool normed = p.args.norm_weight != nullptr;
  __syncthreads();
  const uint32_t base = shared_address(shared);
  if (threadIdx.x >= kConsumers) {
    lower_registers<24>();
    if (threadIdx.x == kConsumers) copy_items(p, barriers, base);
    if (normed && threadIdx.x >= kConsumers + 32) norm_items(p, barriers, norms);
  } else {
    raise_registers<240>();
    wait_for_previous_kernel();
    Consumer c = {barriers, shared, base, int(threadIdx.x >> 5), int(threadIdx.x & 31)};
    if (c.group() == 1) c.pass_turn();  // the first warpgroup begins
    for (int index = blockIdx.x; index < p.items; index += gridDim.x, ++c.items) {
      const Item item(p, index);
      float sums[64];
      switch (p.args.w[item.matrix].kind) {
        case TileKind::q4_k:
          multiply_item<TileKind::q4_k>(p, c, sums);
          break;
        case TileKind::q5_k:
          multiply_item<TileKind::q5_k>(p, c, sums);
          break;
        default:
          multiply_item<TileKind::q6_k>(p, c, sums);
          break;
      }
      const int place = c.items % 2;
      if (normed) barrier_wait(&barriers.norms_full[place], uint32_t(c.items / 2) & 1);
      finish_item(p, c, item, norms[place], sums);
      if (normed) barrier_arrive(&barriers.norms_empty[place]);
    }
  }
#endif
}

}  // namespace

cudaError_t linear_wide(const LinearArgs& args, const Launch& launch) {
  if (launch.limits->compute != 90 || kSharedBytes + 1024 > launch.limits->shared_per_block ||
      args.n_rows < kWideLeastRows)
    return cudaErrorNotSupported;
  for (int m = 0; m < args.n_matrices; ++m)
    if (!is_k_quant(args.w[m].kind) || (is_gated(args.epilogue) && args.w[m].kind != args.w[0].kind))
      return cudaErrorNotSupported;
  cudaFuncAttributes attributes;
  if (const cudaError_t e = cudaFuncGetAttributes(&attributes, linear_wgmma_kernel); e != cudaSuccess) return e;
  if (attributes.sharedSizeBytes == 0) return cudaErrorNotSupported;  // compiled without the instructions

  WideParams p = {};
  p.args = args;
  p.columns = args.w[0].columns;
  p.tiles = args.w[0].column_tiles();
  p.row_blocks = (args.n_rows + kRows - 1) / kRows;
  p.scratch = wide_scratch(args.scratch, args.n_rows, p.tiles);
  int blocks = 0;
  for (int m = 0; m < args.n_matrices; ++m) {
    blocks += (args.w[m].row_tiles() + kBlockTiles - 1) / kBlockTiles;
    p.block_end[m] = blocks;
  }
  if (is_gated(args.epilogue)) blocks = (2 * args.w[0].row_tiles() + kBlockTiles - 1) / kBlockTiles;
  p.items = blocks * p.row_blocks;
  cudaError_t e = quantize_wide(args, p.scratch, launch);
  if (e == cudaSuccess) e = allow_shared(linear_wgmma_kernel, size_t(kSharedBytes));
  if (e != cudaSuccess) return e;
  const int grid = std::min({launch.limits->n_sms, kWideMostBlocks, p.items});
  return launch_kernel(linear_wgmma_kernel, dim3(unsigned(grid)), dim3(kThreads), size_t(kSharedBytes), launch, p);
}

}  // namespace ponder::backend::cuda
