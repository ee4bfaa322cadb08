// A linear layer with weights of 16 bits (F16, BF16) for more than 16 rows: prefill. The tiles, the products and their order
// are those of one row (halves.cuh), with enough rows that the tensor cores count and not the memory.
//
// A thread block of 8 warps computes 8 row tiles (128 outputs) x 128 rows, a warp 4 row tiles x 32 rows: what it reads of
// shared memory is then less than what it multiplies. A stage holds 64 columns, half of a slice; copies run ahead by up to
// three stages. Sums of a slice and of a panel stay in registers, those of finished panels (2,048 columns) in local memory.
#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/linear_scratch.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kBlockTiles = 8, kBlockRows = 128;  ///< of a thread block: 2 x 4 warps
constexpr int kWarpTiles = 4, kWarpEights = 4;    ///< row tiles, groups of eight rows
constexpr int kStageSteps = 4;
constexpr int kTileStages = kTileSteps / kStageSteps;
constexpr int kPanelStages = kPanelTiles * kTileStages;
constexpr int kTilePart = kStageSteps * kStepBytes;  ///< bytes of a tile in a stage
constexpr int kTwoRow = kStageSteps * kTwoPlanesStep, kThirdRow = kStageSteps * kThirdPlaneStep;

/// One stage, in bytes from its start. Steps of a row change places, so that lanes of neighbouring rows meet other banks:
/// in the two planes step s of row r is at s ^ (r & 1), in the third at s ^ (r & 3).
template <TileKind K>
struct Stage {
  static constexpr int kTwo = kBlockTiles * kTilePart;
  static constexpr int kThird = kTwo + kBlockRows * kTwoRow;
  static constexpr int kDy = kThird + (has_third_plane(K) ? kBlockRows * kThirdRow : 0);
  static constexpr int kEnd = kDy + kBlockRows * 4;
};

struct HalvesParams {
  LinearParams base;
  LinearScratch scratch;
  int stages;
};

/// A warp's share, an eighth, of copying rows of kRowBytes into a stage (rows past the last: row 0). A step of row r goes to
/// the place step ^ (r & kSwap).
template <int kRowBytes, int kSwap>
struct CopyRows {
  static constexpr int kChunks = kRowBytes / 16, kStepChunks = kChunks / kStageSteps;
  static constexpr int kTogether = 32 / kChunks, kRounds = kBlockRows / kWarps / kTogether;  ///< rows at a time, times
  uint32_t from_at[kRounds], to_at;

  __device__ __forceinline__ CopyRows(int first_row, int n_rows, int row_bytes, int warp, int lane) {
    static_assert(kTogether % (kSwap + 1) == 0);  // so that all of the lane's rows change places alike
    const int c = lane % kChunks, row = warp * (kBlockRows / kWarps) + lane / kChunks;
    to_at = uint32_t(row * kRowBytes + ((c / kStepChunks ^ (row & kSwap)) * kStepChunks + c % kStepChunks) * 16);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int from = first_row + row + i * kTogether;
      from_at[i] = uint32_t(from < n_rows ? from : 0) * uint32_t(row_bytes) + uint32_t(c * 16);
    }
  }
  __device__ __forceinline__ void issue(const uint8_t* from, uint32_t to) const {
#pragma unroll
    for (int i = 0; i < kRounds; ++i) copy_async16(to + to_at + i * kTogether * kRowBytes, from + from_at[i]);
  }
};

/// grid: (blocks of rows, blocks of row tiles): neighbours in time share the weights.
template <TileKind K>
__global__ void __launch_bounds__(kWarps * 32, 1) linear_halves_kernel(const __grid_constant__ HalvesParams hp) {
  using S = Stage<K>;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float rms[kBlockRows];
  launch_dependents();
  const LinearParams& p = hp.base;
  const LinearArgs& a = p.args;
  const LinearScratch& sc = hp.scratch;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int first_row = blockIdx.x * kBlockRows, first_tile = blockIdx.y * kBlockTiles;
  const int n_stages = p.tiles * kTileStages;
  const uint32_t base = shared_address(shared);

  // What this warp copies into every stage: its part of a row tile, and an eighth of the rows.
  const TileAddress mine = locate(a, min(first_tile + warp, p.row_tiles - 1));
  const uint8_t* weights = a.w[mine.matrix].data + int64_t(mine.row_tile) * p.tiles * tile_bytes(K);
  const auto issue_weights = [&](int q, uint32_t to) {
    const uint8_t* from = weights + int64_t(q) * kTilePart + lane * 16;
#pragma unroll
    for (int i = 0; i < kTilePart / 512; ++i) copy_async16(to + warp * kTilePart + i * 512 + lane * 16, from + i * 512);
  };
  const CopyRows<kTwoRow, 1> two(first_row, a.n_rows, p.tiles * plane_bytes(K), warp, lane);
  const CopyRows<kThirdRow, 3> third(first_row, a.n_rows, p.tiles * plane_bytes(K), warp, lane);
  const auto issue_rows = [&](int q, uint32_t to) {
    const int tile = q / kTileStages, part = q % kTileStages;
    const uint8_t* from = sc.planes + int64_t(tile) * plane_bytes(K);
    two.issue(from + part * kTwoRow, to + S::kTwo);
    if constexpr (has_third_plane(K)) third.issue(from + kTwoPlanes + part * kThirdRow, to + S::kThird);
    if (int(threadIdx.x) < kBlockRows) {
      const int row = first_row + int(threadIdx.x) < a.n_rows ? first_row + int(threadIdx.x) : 0;
      copy_async4(to + S::kDy + threadIdx.x * 4, sc.dy + int64_t(row) * p.tiles + tile);
    }
  };
  const int ahead = max(hp.stages - 1, 1);
  for (int i = 0; i < ahead && i < n_stages; ++i) issue_weights(i, base + i * S::kEnd);
  wait_for_previous_kernel();
  for (int i = 0; i < ahead; ++i) {
    if (i < n_stages) issue_rows(i, base + i * S::kEnd);
    copy_commit();
  }
  if (int(threadIdx.x) < kBlockRows) {
    const int row = min(first_row + int(threadIdx.x), a.n_rows - 1);
    rms[threadIdx.x] =
        a.norm_weight == nullptr ? 1.f : rms_factor(sc.squares + int64_t(row) * p.tiles, p.tiles, p.columns, a.epsilon);
  }

  const int warp_tile = warp / 4 * kWarpTiles, warp_row = warp % 4 * kWarpEights * 8;
  float slice[kWarpTiles][kWarpEights][4] = {}, panel[kWarpTiles][kWarpEights][4];
  volatile float total[kWarpTiles * kWarpEights * 4];  // volatile: in memory, where a loop can index it
  const auto open_panel = [&] {
#pragma unroll
    for (int i = 0; i < kWarpTiles * kWarpEights * 4; ++i)
      panel[i / 16][i / 4 % 4][i % 4] = -0.f;  // -0 + x = x, always
  };
  open_panel();
  int stage = 0;
  for (int q = 0; q < n_stages; ++q) {
    ring_wait(ahead);
    __syncthreads();
    const int later = q + ahead, slot = stage + ahead >= hp.stages ? stage + ahead - hp.stages : stage + ahead;
    const bool issue = hp.stages > 1 && later < n_stages;
    const uint32_t here = base + stage * S::kEnd, tiles = here + warp_tile * kTilePart + lane * 16;
    // The next step's words are asked for before this step's products; a product meets its accumulator again only after
    // all others of the plane.
    uint4 w[2][kWarpTiles];
    SplitWords<K> x[2][kWarpEights];
    const auto load = [&](int step) {
      const uint32_t two_at = here + S::kTwo + (warp_row + g) * kTwoRow + (step ^ (g & 1)) * kTwoPlanesStep,
                     third_at = here + S::kThird + (warp_row + g) * kThirdRow + (step ^ (g & 3)) * kThirdPlaneStep;
#pragma unroll
      for (int n = 0; n < kWarpEights; ++n)
        x[step % 2][n] = SplitWords<K>(two_at + n * 8 * kTwoRow, third_at + n * 8 * kThirdRow, t);
#pragma unroll
      for (int r = 0; r < kWarpTiles; ++r) w[step % 2][r] = load_shared128(tiles + r * kTilePart + step * kStepBytes);
    };
    load(0);
#pragma unroll
    for (int step = 0; step < kStageSteps; ++step) {
      if (step + 1 < kStageSteps) load(step + 1);
#pragma unroll
      for (int plane = 0; plane < plane_count(K); ++plane)
#pragma unroll
        for (int r = 0; r < kWarpTiles; ++r)
#pragma unroll
          for (int n = 0; n < kWarpEights; ++n) mma_plane<K>(slice[r][n], w[step % 2][r], x[step % 2][n], plane);
      // Between the products: what this overwrites was read before the barrier.
      if (step == 0 && issue) issue_weights(later, base + slot * S::kEnd);
      if (step == 1 && issue) issue_rows(later, base + slot * S::kEnd);
    }
    if (hp.stages > 1) copy_commit();
    if (q % (kTileStages / kHalfSlices) == kTileStages / kHalfSlices - 1) {  // the slice is complete
      const float* dy = reinterpret_cast<const float*>(shared + stage * S::kEnd + S::kDy) + warp_row + 2 * t;
#pragma unroll
      for (int n = 0; n < kWarpEights; ++n) {
        const float2 d = *reinterpret_cast<const float2*>(dy + 8 * n);
#pragma unroll
        for (int r = 0; r < kWarpTiles; ++r)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            panel[r][n][i] = __fadd_rn(panel[r][n][i], __fmul_rn(i % 2 ? d.y : d.x, slice[r][n][i]));
            slice[r][n][i] = 0;
          }
      }
      if (q % kPanelStages == kPanelStages - 1 || q + 1 == n_stages) {
        const bool first = q < kPanelStages;
#pragma unroll
        for (int r = 0; r < kWarpTiles; ++r) {  // 16 loads together
          float before[kWarpEights * 4];
          if (!first)
#pragma unroll
            for (int i = 0; i < kWarpEights * 4; ++i) before[i] = total[r * kWarpEights * 4 + i];
#pragma unroll
          for (int i = 0; i < kWarpEights * 4; ++i) {
            const float sum = panel[r][i / 4][i % 4];
            total[r * kWarpEights * 4 + i] = first ? sum : __fadd_rn(before[i], sum);
          }
        }
        open_panel();
      }
    }
    if (hp.stages == 1) {
      __syncthreads();
      if (q + 1 < n_stages) issue_weights(q + 1, base), issue_rows(q + 1, base);
      copy_commit();
    }
    if (++stage >= hp.stages) stage = 0;
  }

  // A loop, not unrolled: unrolled it is more code than the instruction cache holds.
  const bool gated = is_gated(a.epilogue);
#pragma unroll 1
  for (int j = 0; j < kWarpTiles * kWarpEights; ++j) {
    const int r = j / kWarpEights, n = j % kWarpEights, index = first_tile + warp_tile + r;
    if (index >= p.row_tiles) break;
    if (gated && r % 2 == 1) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int local = warp_row + 8 * n + 2 * t + i % 2, row = first_row + local;
      if (row < a.n_rows)
        finish_row(
            a, index, g + i / 2 * 8, row, [&](int m) { return total[(j + m * kWarpEights) * 4 + i]; }, rms[local]);
    }
  }
}

template <TileKind K>
cudaError_t launch_halves(const LinearArgs& args, const Launch& launch) {
  HalvesParams hp = {};
  LinearParams& p = hp.base;
  p.args = args;
  p.columns = args.w[0].columns;
  p.tiles = args.w[0].column_tiles();
  for (int m = 0; m < args.n_matrices; ++m) p.row_tiles += args.w[m].row_tiles();
  hp.scratch = linear_scratch(args.scratch, args.n_rows, p.tiles);
  const dim3 grid(unsigned((args.n_rows + kBlockRows - 1) / kBlockRows),
                  unsigned((p.row_tiles + kBlockTiles - 1) / kBlockTiles));
  // With most processors idle, 16 rows at a time are faster.
  if (args.n_rows <= kBlockRows / 2 && int(grid.y) * 2 <= launch.limits->n_sms) return cudaErrorNotSupported;
  for (hp.stages = 4; hp.stages > 0; --hp.stages) {
    const int bytes = hp.stages * Stage<K>::kEnd;
    if (bytes + 1024 > launch.limits->shared_per_block) continue;
    if (const cudaError_t e = allow_shared(linear_halves_kernel<K>, size_t(bytes)); e != cudaSuccess) return e;
    return launch_kernel(linear_halves_kernel<K>, grid, dim3(kWarps * 32), size_t(bytes), launch, hp);
  }
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t linear_halves(const LinearArgs& args, TileKind kind, const Launch& launch) {
  if (kind == TileKind::f16) return launch_halves<TileKind::f16>(args, launch);
  if (kind == TileKind::bf16) return launch_halves<TileKind::bf16>(args, launch);
  return cudaErrorInvalidValue;
}

}  // namespace ponder::backend::cuda
