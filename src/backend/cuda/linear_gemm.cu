// A quantised linear layer for more than 16 rows: prefill. The same tiles of weights, the same products and the same
// order as for one row, with enough rows that arithmetic counts and not the memory.
//
// A thread block of 8 warps computes 8 row tiles (128 outputs) x 64 rows (32 for blocks of 32), a warp two row tiles x
// half of the rows. A stage of shared memory holds one group of 256 columns: 8 tiles of weights as they are, the rows'
// planes, sums and scales; copies run ahead by one or two stages. Sums of a slice, of a panel and of the row stay in
// registers. Gate and up are the two row tiles of a warp, so that their product needs no exchange.
#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/linear_scratch.cuh"
#include "backend/cuda/tile_dot_rows.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kWarpTiles = 2;                   ///< row tiles of a warp
constexpr int kBlockTiles = 8;                  ///< of a thread block: four pairs of warps
constexpr int kPlaneStride = kPlaneBytes + 64;  ///< neighbouring rows half the banks apart

__host__ __device__ constexpr int warp_groups(TileKind k) { return is_k_quant(k) ? 8 : 4; }  ///< NT: fours of rows
__host__ __device__ constexpr int block_rows(TileKind k) { return 2 * 4 * warp_groups(k); }

/// One stage, in bytes from its start.
template <TileKind K>
struct Stage {
  static constexpr int kTileStride = (tile_bytes(K) + 127) / 128 * 128;
  static constexpr int kRows = block_rows(K);
  static constexpr int kPlanes = kBlockTiles * kTileStride;
  static constexpr int kSums = kPlanes + kRows * kPlaneStride;
  static constexpr int kDy = kSums + kRows * sums_bytes(K);
  static constexpr int kEnd = (kDy + kRows * 4 + 127) / 128 * 128;
};

struct GemmParams {
  LinearParams base;
  LinearScratch scratch;
  int stages;
};

/// The activations of a warp's lane in the stage at hand.
template <TileKind K>
struct StageView {
  uint32_t planes_at, sums_at;
  const float* factors;

  __device__ __forceinline__ uint32_t planes(int i) const { return planes_at + i * 4 * kPlaneStride; }
  __device__ __forceinline__ uint32_t sums(int i, int bytes) const { return sums_at + i * 4 * bytes; }
  __device__ __forceinline__ float dy(int i) const { return factors[4 * i]; }
};

/// grid: (blocks of rows, blocks of row tiles): neighbours in time share the weights.
template <TileKind K>
__global__ void __launch_bounds__(kWarps * 32, 1) linear_gemm_kernel(const __grid_constant__ GemmParams gp) {
  using S = Stage<K>;
  constexpr int NT = warp_groups(K), kRows = S::kRows;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float rms[kRows];
  launch_dependents();
  const LinearParams& p = gp.base;
  const LinearArgs& a = p.args;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int first_row = blockIdx.x * kRows, first_tile = blockIdx.y * kBlockTiles;
  const uint32_t base = shared_address(shared);

  // What this warp copies into every stage: one row tile's tile, an eighth of the rows.
  const TileAddress mine = locate(a, min(first_tile + warp, p.row_tiles - 1));
  const uint8_t* weights = a.w[mine.matrix].data + int64_t(mine.row_tile) * p.tiles * tile_bytes(K);
  constexpr int kCopyRows = kRows / kWarps;
  const LinearScratch& sc = gp.scratch;
  const auto issue_weights = [&](int tile, uint32_t stage) {
    copy_tile<K>(stage + warp * S::kTileStride, weights + int64_t(tile) * tile_bytes(K), lane);
  };
  const auto issue_rows = [&](int tile, uint32_t stage) {
#pragma unroll
    for (int i = 0; i < kCopyRows; ++i) {
      const int row = warp * kCopyRows + i;
      const int64_t from = int64_t(min(first_row + row, a.n_rows - 1)) * p.tiles + tile;
      copy_async16(stage + S::kPlanes + row * kPlaneStride + lane * 16, sc.planes + from * kPlaneBytes + lane * 16);
    }
    constexpr int kPieces = sums_bytes(K) / 16;
    if (int(threadIdx.x) < kRows * kPieces) {
      const int row = threadIdx.x / kPieces, piece = threadIdx.x % kPieces;
      const int64_t from = int64_t(min(first_row + row, a.n_rows - 1)) * p.tiles + tile;
      copy_async16(stage + S::kSums + row * sums_bytes(K) + piece * 16,
                   reinterpret_cast<const uint8_t*>(sc.sums + from) + (is_k_quant(K) ? 0 : 64) + piece * 16);
    }
    if (int(threadIdx.x) < kRows) {
      const int64_t from = int64_t(min(first_row + int(threadIdx.x), a.n_rows - 1)) * p.tiles + tile;
      copy_async4(stage + S::kDy + threadIdx.x * 4, sc.dy + from);
    }
  };
  const int ahead = max(gp.stages - 1, 1);
  for (int i = 0; i < ahead && i < p.tiles; ++i) issue_weights(i, base + i * S::kEnd);
  wait_for_previous_kernel();
  for (int i = 0; i < ahead; ++i) {
    if (i < p.tiles) issue_rows(i, base + i * S::kEnd);
    copy_commit();
  }
  if (int(threadIdx.x) < kRows) {
    const int row = min(first_row + int(threadIdx.x), a.n_rows - 1);
    rms[threadIdx.x] =
        a.norm_weight == nullptr ? 1.f : rms_factor(sc.squares + int64_t(row) * p.tiles, p.tiles, p.columns, a.epsilon);
  }

  const int tile_pair = warp % 4 * kWarpTiles, row_half = warp / 4 * 4 * NT;
  float acc[kWarpTiles][NT][2] = {}, panel[kWarpTiles][NT][2], total[kWarpTiles][NT][2];
  int stage = 0;
  for (int tile = 0; tile < p.tiles; ++tile) {
    if (gp.stages > 2)
      copy_wait<1>();
    else
      copy_wait<0>();
    __syncthreads();
    if (gp.stages > 1) {
      const int later = tile + ahead, slot = stage + ahead >= gp.stages ? stage + ahead - gp.stages : stage + ahead;
      if (later < p.tiles) issue_weights(later, base + slot * S::kEnd), issue_rows(later, base + slot * S::kEnd);
      copy_commit();
    }
    const uint32_t here = base + stage * S::kEnd;
    StageView<K> view;
    view.planes_at = here + S::kPlanes + (row_half + (g >> 1)) * kPlaneStride + (g & 1) * 32 + t * 8;
    view.sums_at =
        here + S::kSums + (is_k_quant(K) ? (row_half + (g >> 1)) * 64 + (g & 1) * 32 + t * 8 : (row_half + t) * 32);
    view.factors = reinterpret_cast<const float*>(shared + stage * S::kEnd + S::kDy) + row_half + t;
    const uint32_t tiles[kWarpTiles] = {here + tile_pair * S::kTileStride, here + (tile_pair + 1) * S::kTileStride};
    dot_rows<K, kWarpTiles, NT>(tiles, view, lane, acc);

    const int slice = tile / kSliceTiles;
    if (tile % kSliceTiles == kSliceTiles - 1 || tile + 1 == p.tiles) {
      const bool opens = slice % kPanelSlices == 0,
                 closes = slice % kPanelSlices == kPanelSlices - 1 || tile + 1 == p.tiles;
#pragma unroll
      for (int r = 0; r < kWarpTiles; ++r)
#pragma unroll
        for (int i = 0; i < NT; ++i)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            panel[r][i][h] = opens ? acc[r][i][h] : __fadd_rn(panel[r][i][h], acc[r][i][h]);
            acc[r][i][h] = 0;
            if (closes)
              total[r][i][h] = slice < kPanelSlices ? panel[r][i][h] : __fadd_rn(total[r][i][h], panel[r][i][h]);
          }
    }
    if (gp.stages == 1) {
      __syncthreads();
      if (tile + 1 < p.tiles) issue_weights(tile + 1, base), issue_rows(tile + 1, base);
      copy_commit();
    }
    if (++stage >= gp.stages) stage = 0;
  }

  const bool gated = is_gated(a.epilogue);
#pragma unroll
  for (int r = 0; r < kWarpTiles; ++r) {
    const int index = first_tile + tile_pair + r;
    if (index >= p.row_tiles || (gated && r == 1)) break;
#pragma unroll
    for (int i = 0; i < NT; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int local = row_half + 4 * i + t, row = first_row + local;
        if (row < a.n_rows)
          finish_row(
              a, index, g + 8 * h, row, [&](int m) { return total[m == 0 ? r : kWarpTiles - 1][i][h]; }, rms[local]);
      }
  }
}

template <TileKind K>
cudaError_t launch_gemm(const LinearArgs& args, const Launch& launch) {
  GemmParams gp = {};
  LinearParams& p = gp.base;
  p.args = args;
  p.columns = args.w[0].columns;
  p.tiles = args.w[0].column_tiles();
  for (int m = 0; m < args.n_matrices; ++m) p.row_tiles += args.w[m].row_tiles();
  gp.scratch = linear_scratch(args.scratch, args.n_rows, p.tiles);
  for (gp.stages = 3; gp.stages > 0; --gp.stages) {
    const int bytes = gp.stages * Stage<K>::kEnd;
    if (bytes + 1024 > launch.limits->shared_per_block) continue;
    if (const cudaError_t e = allow_shared(linear_gemm_kernel<K>, size_t(bytes)); e != cudaSuccess) return e;
    const dim3 grid(unsigned((args.n_rows + block_rows(K) - 1) / block_rows(K)),
                    unsigned((p.row_tiles + kBlockTiles - 1) / kBlockTiles));
    return launch_kernel(linear_gemm_kernel<K>, grid, dim3(kWarps * 32), size_t(bytes), launch, gp);
  }
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t linear_gemm(const LinearArgs& args, TileKind kind, const Launch& launch) {
  using enum TileKind;
  switch (kind) {
    case q4_k:
      return launch_gemm<q4_k>(args, launch);
    case q5_k:
      return launch_gemm<q5_k>(args, launch);
    case q6_k:
      return launch_gemm<q6_k>(args, launch);
    case q4_0:
      return launch_gemm<q4_0>(args, launch);
    case q4_1:
      return launch_gemm<q4_1>(args, launch);
    case q5_0:
      return launch_gemm<q5_0>(args, launch);
    case q5_1:
      return launch_gemm<q5_1>(args, launch);
    case q8_0:
      return launch_gemm<q8_0>(args, launch);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ponder::backend::cuda
