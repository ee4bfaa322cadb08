// A quantised linear layer for 2 to 16 rows: votes, drafts, several users. The weights are read once for all of them.
//
// One small kernel norms and quantises the rows into scratch. A thread block then owns row tiles x panels of columns: it
// copies its panels of all rows into shared memory and lets its warps take slices in turn, each with its own ring of
// weights. The warp that completes a row tile adds its slices and finishes it. When the rows do not fit, the panels are
// spread over blocks; their sums go to scratch and a last kernel adds them: the same order, the same bits.
#include <iterator>

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/linear_scratch.cuh"
#include "backend/cuda/tile_dot_rows.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kMaxRows = 16;
constexpr int kOpenGroups = 4;  ///< row tiles (or pairs) of a block whose slices are under way

struct RowsParams {
  LinearParams base;
  LinearScratch scratch;
  int panels_per_block;  ///< of columns
};

struct Shared {
  int planes, plane_stride, sums, sums_stride, dy, rms, counts, partial, ring, end;
};
__host__ __device__ inline Shared shared_layout(const LinearParams& p, int rows, int tiles, int local_groups, int group,
                                                int sums_per_tile) {
  Shared s;
  s.plane_stride = tiles * kPlaneBytes + 64;  // rows 64 bytes apart in the banks
  s.sums_stride =
      tiles * sums_per_tile + ((tiles * sums_per_tile) % 128 == 64 ? 0 : 128 + 64 - (tiles * sums_per_tile) % 128);
  s.planes = 0;
  s.sums = s.planes + rows * s.plane_stride;
  s.dy = s.sums + rows * s.sums_stride;
  s.rms = s.dy + (rows * tiles * 4 + 15) / 16 * 16;
  s.counts = s.rms + kMaxRows * 4;
  s.partial = s.counts + (local_groups * 8 + 15) / 16 * 16;
  s.ring = (s.partial + kOpenGroups * group * slices_of(tiles) * rows * kTileRows * 4 + 127) & ~127;
  s.end = s.ring + p.warps * p.depth * p.slot_bytes;
  return s;
}

/// Copies n runs of `bytes` (a multiple of 16) in the background.
__device__ __forceinline__ void copy_rows(uint32_t to, int to_stride, const uint8_t* from, int64_t from_stride,
                                          int bytes, int n) {
  const int pieces = bytes / 16;
  for (int i = threadIdx.x; i < pieces * n; i += blockDim.x) {
    const int row = i / pieces, piece = i % pieces;
    copy_async16(to + row * to_stride + piece * 16, from + row * from_stride + piece * 16);
  }
}

template <TileKind A, TileKind B, int NT>
__global__ void __launch_bounds__(512, 1) linear_rows_kernel(const __grid_constant__ RowsParams rp) {
  static_assert(is_k_quant(A) == is_k_quant(B));
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  const LinearParams& p = rp.base;
  const int n = p.args.n_rows, warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int group = is_gated(p.args.epilogue) ? 2 : 1;
  int begin, end;
  local_range(p, blockIdx.x, gridDim.x, &begin, &end);
  // This block's columns.
  const int first_tile = blockIdx.y * rp.panels_per_block * kPanelTiles;
  const int tiles = min(p.tiles - first_tile, rp.panels_per_block * kPanelTiles), slices = slices_of(tiles);
  const Shared at = shared_layout(p, n, min(p.tiles, rp.panels_per_block * kPanelTiles), p.max_local_tiles / group,
                                  group, sums_bytes(A));
  const int units = (end - begin) * slices;
  const uint32_t base = shared_address(shared), ring = base + at.ring + warp * p.depth * p.slot_bytes;

  // Units of this warp: slice `slice` of local row tile `local`.
  struct Walk {
    int unit, local, slice;
    __device__ void step(int warps, int slices) {
      unit += warps;
      slice += warps;
      while (slice >= slices) slice -= slices, ++local;
    }
  };
  Walk ahead = {warp, warp / slices, warp % slices};
  int ahead_tile = 0, ahead_left = 0;
  const uint8_t* next = nullptr;
  TileKind ahead_kind = A;
  const auto seek = [&] {
    if (ahead.unit >= units) return;
    const TileAddress where = locate(p.args, begin + ahead.local);
    ahead_kind = p.args.w[where.matrix].kind;
    ahead_tile = ahead.slice * kSliceTiles;
    ahead_left = min(kSliceTiles, tiles - ahead_tile);
    next = p.args.w[where.matrix].data +
           (int64_t(where.row_tile) * p.tiles + first_tile + ahead_tile) * tile_bytes(ahead_kind);
  };
  seek();
  const auto issue = [&](int slot) {
    if (ahead.unit < units) {
      const uint32_t to = ring + slot * p.slot_bytes;
      if (A == B || ahead_kind == A)
        copy_tile<A>(to, next, lane);
      else
        copy_tile<B>(to, next, lane);
      next += tile_bytes(ahead_kind);
      if (--ahead_left == 0) {
        ahead.step(p.warps, slices);
        seek();
      }
    }
    copy_commit();
  };

  int* counts = reinterpret_cast<int*>(shared + at.counts);
  volatile int* done = counts + p.max_local_tiles / group;
  for (int i = threadIdx.x; i < p.max_local_tiles / group * 2; i += blockDim.x) counts[i] = 0;
  for (int i = 0; i < p.depth; ++i) issue(i);
  wait_for_previous_kernel();
  const LinearScratch& sc = rp.scratch;
  copy_rows(base + at.planes, at.plane_stride, sc.planes + int64_t(first_tile) * kPlaneBytes,
            int64_t(p.tiles) * kPlaneBytes, tiles * kPlaneBytes, n);
  {
    constexpr int kBytes = sums_bytes(A);
    const uint8_t* from = reinterpret_cast<const uint8_t*>(sc.sums + first_tile) + (is_k_quant(A) ? 0 : 64);
    const int pieces = kBytes / 16;
    for (int i = threadIdx.x; i < n * tiles * pieces; i += blockDim.x) {
      const int row = i / (tiles * pieces), tile = i / pieces % tiles, piece = i % pieces;
      copy_async16(base + at.sums + row * at.sums_stride + tile * kBytes + piece * 16,
                   from + (int64_t(row) * p.tiles + tile) * int64_t(sizeof(GroupSumsMany)) + piece * 16);
    }
  }
  copy_commit();
  float* dy = reinterpret_cast<float*>(shared + at.dy);
  for (int i = threadIdx.x; i < n * tiles; i += blockDim.x)
    dy[i / tiles * tiles + i % tiles] = __ldcg(sc.dy + int64_t(i / tiles) * p.tiles + first_tile + i % tiles);
  float* rms = reinterpret_cast<float*>(shared + at.rms);
  if (p.args.norm_weight != nullptr && int(threadIdx.x) < n)
    rms[threadIdx.x] = rms_factor(sc.squares + int64_t(threadIdx.x) * p.tiles, p.tiles, p.columns, p.args.epsilon);
  copy_wait<0>();
  __syncthreads();

  RowsView<NT> view;
  view.factors = dy;
#pragma unroll
  for (int i = 0; i < NT; ++i) {
    const int row = min(4 * i + (g >> 1), n - 1), output_row = min(4 * i + t, n - 1);
    view.planes[i] = base + at.planes + row * at.plane_stride + (g & 1) * 32 + t * 8;
    view.sums[i] =
        base + at.sums + (is_k_quant(A) ? row * at.sums_stride + (g & 1) * 32 + t * 8 : output_row * at.sums_stride);
    view.dy[i] = output_row * tiles;
  }

  float* partial = reinterpret_cast<float*>(shared + at.partial);
  const int slice_floats = n * kTileRows, group_floats = group * slices * slice_floats;
  int slot = 0;
  for (Walk now = {warp, warp / slices, warp % slices}; now.unit < units; now.step(p.warps, slices)) {
    const TileAddress where = locate(p.args, begin + now.local);
    const TileKind kind = p.args.w[where.matrix].kind;
    const int stop = min(tiles, (now.slice + 1) * kSliceTiles);
    float acc[NT][2] = {};
    for (int column = now.slice * kSliceTiles; column < stop; ++column) {
      ring_wait(p.depth);
      const uint32_t tile = ring + slot * p.slot_bytes;
      if (A == B || kind == A)
        dot_rows<A, NT>(tile, view, column, lane, acc);
      else
        dot_rows<B, NT>(tile, view, column, lane, acc);
      __syncwarp();
      issue(slot);
      if (++slot == p.depth) slot = 0;
    }
    const int owner = now.local / group;  // the row tile, or pair
    if (owner >= kOpenGroups)
      while (done[owner - kOpenGroups] == 0) {
      }
    __threadfence_block();
    float* place =
        partial + (owner % kOpenGroups) * group_floats + (now.local % group * slices + now.slice) * slice_floats;
#pragma unroll
    for (int i = 0; i < NT; ++i)
      if (4 * i + t < n) {
        place[(4 * i + t) * kTileRows + g] = acc[i][0];
        place[(4 * i + t) * kTileRows + g + 8] = acc[i][1];
      }
    __threadfence_block();
    __syncwarp();
    int last = 0;
    if (lane == 0) last = atomicAdd(&counts[owner], 1) == group * slices - 1;
    if (__shfl_sync(kAllLanes, last, 0) == 0) continue;
    __threadfence_block();

    const float* mine = partial + (owner % kOpenGroups) * group_floats;
    for (int i = lane; i < n * kTileRows; i += 32) {
      const int c = i / kTileRows, r = i % kTileRows;
      if (gridDim.y > 1) {  // sums of panels, for the last kernel
        for (int m = 0; m < group; ++m)
          for (int first = 0; first < slices; first += kPanelSlices) {
            const float sum = add_slices(mine + (m * slices + first) * slice_floats + i,
                                         min(kPanelSlices, slices - first), slice_floats);
            const int panel = blockIdx.y * rp.panels_per_block + first / kPanelSlices;
            sc.panels[(int64_t(panel) * n + c) * p.row_tiles * kTileRows + (begin + owner * group + m) * kTileRows +
                      r] = sum;
          }
        continue;
      }
      const auto sum = [&](int m) { return add_slices(mine + m * slices * slice_floats + i, slices, slice_floats); };
      finish_row(p.args, begin + owner * group, r, c, sum, rms[c]);
    }
    __syncwarp();
    __threadfence_block();
    if (lane == 0) done[owner] = 1;
  }
}

/// Adds panels in order and finishes. One thread a number.
__global__ void add_panels_kernel(const __grid_constant__ RowsParams rp, int panels) {
  launch_dependents();
  wait_for_previous_kernel();
  const LinearParams& p = rp.base;
  const int group = is_gated(p.args.epilogue) ? 2 : 1, numbers = p.row_tiles / group * kTileRows;
  const int i = blockIdx.x * blockDim.x + threadIdx.x, c = blockIdx.y;
  if (i >= numbers) return;
  const int first_tile = i / kTileRows * group, r = i % kTileRows;
  const auto sum = [&](int m) {
    const float* from = rp.scratch.panels + int64_t(c) * p.row_tiles * kTileRows + (first_tile + m) * kTileRows + r;
    const int64_t stride = int64_t(p.args.n_rows) * p.row_tiles * kTileRows;
    float total = __ldcg(from);
    for (int k = 1; k < panels; ++k) total = __fadd_rn(total, __ldcg(from + k * stride));
    return total;
  };
  const float rms = p.args.norm_weight != nullptr
                        ? rms_factor(rp.scratch.squares + int64_t(c) * p.tiles, p.tiles, p.columns, p.args.epsilon)
                        : 1.f;
  finish_row(p.args, first_tile, r, c, sum, rms);
}

template <TileKind A, TileKind B, int NT>
cudaError_t launch_rows(const LinearArgs& args, const Launch& launch) {
  RowsParams rp = {};
  LinearParams& p = rp.base;
  p.args = args;
  p.columns = args.w[0].columns;
  p.tiles = args.w[0].column_tiles();
  for (int m = 0; m < args.n_matrices; ++m) p.row_tiles += args.w[m].row_tiles();
  const int group = is_gated(args.epilogue) ? 2 : 1, groups = p.row_tiles / group;
  p.slot_bytes = (max(tile_bytes(A), tile_bytes(B)) + 127) / 128 * 128;
  rp.scratch = linear_scratch(args.scratch, args.n_rows, p.tiles);
  const int panels = (p.tiles + kPanelTiles - 1) / kPanelTiles, limit = launch.limits->shared_per_block;
  // Fewest parts of the columns with which a good ring fits; then, a lesser ring.
  constexpr struct {
    int warps, depth;
  } kRings[] = {{16, 4}, {16, 3}, {16, 2}, {12, 2}, {8, 3}, {8, 2}, {8, 1}, {4, 2}, {4, 1}};
  for (int lowest = 4; lowest <= int(std::size(kRings)); lowest += 5)
    for (int parts = 1; parts <= panels; ++parts) {
      rp.panels_per_block = (panels + parts - 1) / parts;
      if ((panels + rp.panels_per_block - 1) / rp.panels_per_block != parts) continue;
      const int blocks = max(1, min(groups, launch.limits->n_sms / parts));
      p.max_local_tiles = (groups + blocks - 1) / blocks * group;
      for (int i = 0; i < lowest; ++i) {
        p.warps = kRings[i].warps, p.depth = kRings[i].depth;
        const int bytes = shared_layout(p, args.n_rows, min(p.tiles, rp.panels_per_block * kPanelTiles),
                                        p.max_local_tiles / group, group, sums_bytes(A))
                              .end;
        if (bytes > limit) continue;
        cudaError_t e = allow_shared(linear_rows_kernel<A, B, NT>, size_t(bytes));
        if (e != cudaSuccess) return e;
        e = launch_kernel(linear_rows_kernel<A, B, NT>, dim3(unsigned(blocks), unsigned(parts)),
                          dim3(unsigned(p.warps * 32)), size_t(bytes), launch, rp);
        if (e != cudaSuccess || parts == 1) return e;
        const int numbers = groups * kTileRows;
        return launch_kernel(add_panels_kernel, dim3(unsigned((numbers + 127) / 128), unsigned(args.n_rows)), dim3(128),
                             0, launch, rp, panels);
      }
    }
  return cudaErrorInvalidConfiguration;
}

template <TileKind A, TileKind B>
cudaError_t launch_kinds(const LinearArgs& args, const Launch& launch) {
  if (args.n_rows <= 4) return launch_rows<A, B, 1>(args, launch);
  if (args.n_rows <= 8) return launch_rows<A, B, 2>(args, launch);
  return launch_rows<A, B, 4>(args, launch);
}

}  // namespace

cudaError_t linear_rows(const LinearArgs& args, KindPair kinds, const Launch& launch) {
  using enum TileKind;
  if (kinds.a == q4_k && kinds.b == q6_k) return launch_kinds<q4_k, q6_k>(args, launch);
  if (kinds.a == q5_k && kinds.b == q6_k) return launch_kinds<q5_k, q6_k>(args, launch);
  if (kinds.a != kinds.b) return cudaErrorInvalidValue;
  switch (kinds.a) {
    case q4_k:
      return launch_kinds<q4_k, q4_k>(args, launch);
    case q5_k:
      return launch_kinds<q5_k, q5_k>(args, launch);
    case q6_k:
      return launch_kinds<q6_k, q6_k>(args, launch);
    case q4_0:
      return launch_kinds<q4_0, q4_0>(args, launch);
    case q4_1:
      return launch_kinds<q4_1, q4_1>(args, launch);
    case q5_0:
      return launch_kinds<q5_0, q5_0>(args, launch);
    case q5_1:
      return launch_kinds<q5_1, q5_1>(args, launch);
    case q8_0:
      return launch_kinds<q8_0, q8_0>(args, launch);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ponder::backend::cuda
