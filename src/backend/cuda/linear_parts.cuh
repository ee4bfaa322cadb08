// What the kernels of linear layers share: their parameters, the walk of a warp over tiles of weights through
// its own ring of shared memory, the sums of slices, and what happens to a finished number.
#pragma once

#include "backend/cuda/halves.cuh"
#include "backend/cuda/launch.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/ptx.cuh"

namespace ponder::backend::cuda {

/// Of one launch; passed to the kernel by value.
struct LinearParams {
  LinearArgs args;
  int columns, tiles;   ///< tiles of 256 columns
  int row_tiles;        ///< of all matrices
  int warps, depth;     ///< tiles in flight per warp
  int slot_bytes;       ///< of the ring
  int max_local_tiles;  ///< row tiles of a thread block, at most
};

__host__ __device__ constexpr bool is_gated(Epilogue e) { return e == Epilogue::silu || e == Epilogue::gelu; }

/// A run is what a warp sums without a break, and gives to the others as so many slices: integers, one slice of two
/// tiles; F16 and BF16, one tile of two slices. A panel has 2,048 columns in both.
template <TileKind K>
struct Sums {
  static constexpr int kRunTiles = is_half(K) ? 1 : kSliceTiles;
  static constexpr int kRunSlices = is_half(K) ? kHalfSlices : 1;
  static constexpr int kPanel = kPanelTiles / kRunTiles * kRunSlices;  ///< slices of a panel
  __host__ __device__ static constexpr int runs(int tiles) { return (tiles + kRunTiles - 1) / kRunTiles; }
  __host__ __device__ static constexpr int slices(int tiles) { return runs(tiles) * kRunSlices; }
};

/// Where row tile `index` of a launch lies: matrices one after the other; gated ones alternate, so that a thread block
/// owns both numbers of a product.
struct TileAddress {
  int matrix, row_tile;
};
__device__ __forceinline__ TileAddress locate(const LinearArgs& a, int index) {
  if (is_gated(a.epilogue)) return {index & 1, index >> 1};
  int m = 0;
  while (m + 1 < a.n_matrices && index >= a.w[m].row_tiles()) index -= a.w[m++].row_tiles();
  return {m, index};
}

/// This thread block's row tiles; pairs stay together.
__device__ __forceinline__ void local_range(const LinearParams& p, int block, int blocks, int* begin, int* end) {
  const int group = is_gated(p.args.epilogue) ? 2 : 1;
  const int groups = p.row_tiles / group;
  *begin = int(int64_t(groups) * block / blocks) * group;
  *end = int(int64_t(groups) * (block + 1) / blocks) * group;
}

/// Waits until at most depth - 1 of this thread's copies are under way.
__device__ __forceinline__ void ring_wait(int depth) {
  switch (depth) {
    case 1:
      copy_wait<0>();
      break;
    case 2:
      copy_wait<1>();
      break;
    case 3:
      copy_wait<2>();
      break;
    default:
      copy_wait<3>();
      break;
  }
  __syncwarp();
}

/// One warp copies a tile.
template <TileKind K>
__device__ __forceinline__ void copy_tile(uint32_t to, const uint8_t* from, int lane) {
  constexpr int kBytes = tile_bytes(K), kWhole = kBytes / 512;
#pragma unroll
  for (int i = 0; i < kWhole; ++i) copy_async16(to + i * 512 + lane * 16, from + i * 512 + lane * 16);
  if (kBytes % 512 && lane * 16 < kBytes % 512)
    copy_async16(to + kWhole * 512 + lane * 16, from + kWhole * 512 + lane * 16);
}

__device__ __forceinline__ float activate(Epilogue e, float x) {
  if (e == Epilogue::silu) return __fdiv_rn(x, __fadd_rn(1.f, expf(-x)));
  const float inner = __fmul_rn(0.7978845608028654f, __fmaf_rn(__fmul_rn(0.044715f, __fmul_rn(x, x)), x, x));
  return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.f, tanhf(inner)));
}

/// From the sum of products to W x + bias, scaled.
__device__ __forceinline__ float finish(const LinearArgs& a, int matrix, int row, float sum, float rms) {
  float v = a.norm_weight != nullptr ? __fmul_rn(sum, rms) : sum;
  if (a.bias[matrix] != nullptr) v = __fadd_rn(v, __ldg(a.bias[matrix] + row));
  return a.y_scale != 1.f ? __fmul_rn(v, a.y_scale) : v;
}

/// Sums of a row's slices (stride floats apart): kPanel slices of a panel in order, panels in order.
template <int kPanel>
__device__ __forceinline__ float add_slices(const float* slice, int n, int stride) {
  float total = 0;
  for (int first = 0; first < n; first += kPanel) {
    float panel = slice[first * stride];
#pragma unroll
    for (int i = 1; i < kPanel; ++i)
      if (first + i < n) panel = __fadd_rn(panel, slice[(first + i) * stride]);
    total = first == 0 ? panel : __fadd_rn(total, panel);
  }
  return total;
}

/// Stores number r of row c of a row tile (or of a pair of them) whose sums of products sum(0) (and sum(1)) gives.
template <typename Sum>
__device__ __forceinline__ void finish_row(const LinearArgs& a, int tile_index, int r, int c, const Sum& sum,
                                           float rms) {
  const TileAddress where = locate(a, tile_index);
  const int row = where.row_tile * kTileRows + r;
  if (row >= a.w[where.matrix].rows) return;
  float v = finish(a, where.matrix, row, sum(0), rms);
  if (is_gated(a.epilogue)) v = __fmul_rn(activate(a.epilogue, v), finish(a, 1, row, sum(1), rms));
  float* y = a.y[where.matrix] + c * a.y_stride[where.matrix] + row;
  if (a.epilogue == Epilogue::add) v = __fadd_rn(__ldcg(y), v);
  *y = v;
}

/// Which two kinds of tiles a kernel can read; equal for most layers.
struct KindPair {
  TileKind a, b;
};

/// Calls `launch.template operator()<A, B>()` for the kinds of a pair: the pairs that kernels are compiled for.
template <class Launcher>
cudaError_t with_kinds(KindPair kinds, const Launcher& launch) {
  using enum TileKind;
  if (kinds.a == q4_k && kinds.b == q6_k) return launch.template operator()<q4_k, q6_k>();
  if (kinds.a == q5_k && kinds.b == q6_k) return launch.template operator()<q5_k, q6_k>();
  if (kinds.a != kinds.b) return cudaErrorInvalidValue;
  switch (kinds.a) {
    case q4_k:
      return launch.template operator()<q4_k, q4_k>();
    case q5_k:
      return launch.template operator()<q5_k, q5_k>();
    case q6_k:
      return launch.template operator()<q6_k, q6_k>();
    case q4_0:
      return launch.template operator()<q4_0, q4_0>();
    case q4_1:
      return launch.template operator()<q4_1, q4_1>();
    case q5_0:
      return launch.template operator()<q5_0, q5_0>();
    case q5_1:
      return launch.template operator()<q5_1, q5_1>();
    case q8_0:
      return launch.template operator()<q8_0, q8_0>();
    case f16:
      return launch.template operator()<f16, f16>();
    case bf16:
      return launch.template operator()<bf16, bf16>();
    default:
      return cudaErrorInvalidValue;
  }
}

/// One row. cudaErrorNotSupported where its columns do not fit.
cudaError_t linear_one(const LinearArgs& args, KindPair kinds, const Launch& launch);
/// cudaErrorNotSupported where so many rows do not fit.
cudaError_t linear_rows(const LinearArgs& args, KindPair kinds, const Launch& launch);
/// Rows quantised before, in args.scratch; all matrices of one kind. cudaErrorNotSupported where a stage does not fit.
cudaError_t linear_gemm(const LinearArgs& args, TileKind kind, const Launch& launch);
/// The same for F16 and BF16; cudaErrorNotSupported also where parts of 16 rows are faster.
cudaError_t linear_halves(const LinearArgs& args, TileKind kind, const Launch& launch);
/// Any mix of K-quants, rows quantised by itself. cudaErrorNotSupported where the card or the launch is not of its kind.
cudaError_t linear_wide(const LinearArgs& args, const Launch& launch);
/// One matrix of F32, any number of rows.
cudaError_t linear_float(const LinearArgs& args, const Launch& launch);

}  // namespace ponder::backend::cuda
