// A linear layer for 2 to 16 rows: votes, drafts, several users. The weights are read once for all of them.
//
// One small kernel norms and quantises the rows into scratch. A thread block then owns row tiles x panels of columns: it
// copies its panels of all rows into shared memory and goes through its row tiles in batches whose sums of slices fit
// there too. In a batch the warps take equal runs of slices, each with its own ring of weights that runs on into the next
// batch; at a batch's end all threads add slices and finish numbers. When the rows do not fit, the panels are spread over
// blocks; their sums go to scratch and a last kernel adds them: the same order, the same bits.
#include <iterator>

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/linear_scratch.cuh"
#include "backend/cuda/tile_dot_rows.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kMaxRows = 16;

struct RowsParams {
  LinearParams base;
  LinearScratch scratch;
  int panels_per_block;  ///< of columns
  int batch;             ///< row tiles of a batch
};

struct Shared {
  int planes, plane_stride, sums, sums_stride, dy, squares, rms, partial, ring, end;
};
template <TileKind K>
__host__ __device__ inline Shared shared_layout(const LinearParams& p, int rows, int tiles, int batch) {
  Shared s;
  s.plane_stride = tiles * plane_bytes(K) + 64;  // neighbouring rows half the banks apart
  s.sums_stride = is_half(K) ? 0 : tiles * sums_bytes(K) + (64 + 128 - tiles * sums_bytes(K) % 128) % 128;
  s.planes = 0;
  s.sums = s.planes + rows * s.plane_stride;
  s.dy = s.sums + rows * s.sums_stride;
  s.squares = s.dy + (rows * tiles * 4 + 15) / 16 * 16;
  s.rms = s.squares + (p.args.norm_weight != nullptr ? rows * p.tiles * 4 + 15 : 0) / 16 * 16;
  s.partial = s.rms + kMaxRows * 4;
  s.ring = (s.partial + batch * Sums<K>::slices(tiles) * rows * kTileRows * 4 + 127) & ~127;
  s.end = s.ring + p.warps * p.depth * p.slot_bytes;
  return s;
}

/// Which row a lane's number i is of: integers have fours of rows (both planes in one product), F16 and BF16 eights.
template <TileKind K>
__device__ __forceinline__ int row_of(int i, int t) {
  return is_half(K) ? i / 2 * 8 + 2 * t + i % 2 : 4 * i + t;
}

/// Where a lane finds its activations. Rows past the last repeat it: their results are dropped.
template <TileKind K, int NT>
struct RowsView {
  uint32_t plane_rows[NT], sum_rows[NT];
  int factor_rows[NT];
  const float* factors;
  int column;  ///< the tile at hand

  __device__ __forceinline__ uint32_t planes(int i) const { return plane_rows[i] + column * plane_bytes(K); }
  __device__ __forceinline__ uint32_t sums(int i, int bytes) const { return sum_rows[i] + column * bytes; }
  __device__ __forceinline__ float dy(int i) const { return factors[factor_rows[i] + column]; }
};

/// A warp's way through its tiles: in each batch a run of whole slices, `place` = row tile of the batch * tiles + column.
struct Cursor {
  int batch = -1, place = 0, end = 0;

  /// The next batch with something to do, if there is one.
  template <TileKind K>
  __device__ __forceinline__ bool next_batch(int n_tiles, int batch_tiles, int tiles, int warp, int warps) {
    using S = Sums<K>;
    const int runs = S::runs(tiles);
    do {
      ++batch;
      const int left = n_tiles - batch * batch_tiles;
      if (left <= 0) return false;
      const int units = min(left, batch_tiles) * runs;
      const auto first = [&](int unit) { return unit / runs * tiles + unit % runs * S::kRunTiles; };
      place = first(units * warp / warps), end = first(units * (warp + 1) / warps);
    } while (place == end);
    return true;
  }
};

template <TileKind A, TileKind B, int NT>
__global__ void __launch_bounds__(512, 1) linear_rows_kernel(const __grid_constant__ RowsParams rp) {
  static_assert(is_k_quant(A) == is_k_quant(B) && is_half(A) == is_half(B));
  using S = Sums<A>;
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  const LinearParams& p = rp.base;
  const int n = p.args.n_rows, warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  int begin, end;
  local_range(p, blockIdx.x, gridDim.x, &begin, &end);
  // This block's columns.
  const int most_tiles = min(p.tiles, rp.panels_per_block * kPanelTiles), first_tile = blockIdx.y * most_tiles;
  const int tiles = min(p.tiles - first_tile, most_tiles), slices = S::slices(tiles);
  const Shared at = shared_layout<A>(p, n, most_tiles, rp.batch);
  const uint32_t base = shared_address(shared), ring = base + at.ring + warp * p.depth * p.slot_bytes;

  // The weights' copies run ahead by the ring's depth, into the next batch too.
  Cursor ahead;
  const uint8_t* next = nullptr;
  TileKind ahead_kind = A;
  int ahead_column = 0;
  bool more = ahead.template next_batch<A>(end - begin, rp.batch, tiles, warp, p.warps);
  const auto seek = [&] {
    const TileAddress where = locate(p.args, begin + ahead.batch * rp.batch + ahead.place / tiles);
    ahead_kind = p.args.w[where.matrix].kind;
    ahead_column = ahead.place % tiles;
    next = p.args.w[where.matrix].data +
           (int64_t(where.row_tile) * p.tiles + first_tile + ahead_column) * tile_bytes(ahead_kind);
  };
  if (more) seek();
  const auto issue = [&](int slot) {
    if (more) {
      const uint32_t to = ring + slot * p.slot_bytes;
      if (A == B || ahead_kind == A)
        copy_tile<A>(to, next, lane);
      else
        copy_tile<B>(to, next, lane);
      next += tile_bytes(ahead_kind);
      ++ahead_column;
      if (++ahead.place == ahead.end) {
        more = ahead.template next_batch<A>(end - begin, rp.batch, tiles, warp, p.warps);
        if (more) seek();
      } else if (ahead_column == tiles) {
        seek();
      }
    }
    copy_commit();
  };
  for (int i = 0; i < p.depth; ++i) issue(i);
  wait_for_previous_kernel();

  const LinearScratch& sc = rp.scratch;
  float* dy = reinterpret_cast<float*>(shared + at.dy);
  float* squares = reinterpret_cast<float*>(shared + at.squares);
  for (int row = 0; row < n; ++row) {
    const int64_t from = int64_t(row) * p.tiles + first_tile;
    for (int i = threadIdx.x; i < tiles * plane_bytes(A) / 16; i += blockDim.x)
      copy_async16(base + at.planes + row * at.plane_stride + i * 16, sc.planes + from * plane_bytes(A) + i * 16);
  }
  for (int row = warp; row < n; row += p.warps) {
    const int64_t from = int64_t(row) * p.tiles + first_tile;
    if constexpr (!is_half(A)) {
      constexpr int kSums = sums_bytes(A);
      const uint8_t* sums = reinterpret_cast<const uint8_t*>(sc.sums + from) + (is_k_quant(A) ? 0 : 64);
      for (int i = lane; i < tiles * kSums / 16; i += 32)
        copy_async16(base + at.sums + row * at.sums_stride + i * 16,
                     sums + i / (kSums / 16) * int(sizeof(GroupSumsMany)) + i % (kSums / 16) * 16);
    }
    for (int i = lane; i < tiles; i += 32) dy[row * tiles + i] = __ldcg(sc.dy + from + i);
    if (p.args.norm_weight != nullptr)
      for (int i = lane; i < p.tiles; i += 32)
        squares[row * p.tiles + i] = __ldcg(sc.squares + int64_t(row) * p.tiles + i);
  }
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  float* rms = reinterpret_cast<float*>(shared + at.rms);  // read after the first batch's barrier
  if (int(threadIdx.x) < n)
    rms[threadIdx.x] = p.args.norm_weight == nullptr
                           ? 1.f
                           : rms_factor(squares + threadIdx.x * p.tiles, p.tiles, p.columns, p.args.epsilon);

  RowsView<A, NT> view;
  view.factors = dy;
#pragma unroll
  for (int i = 0; i < NT; ++i) {
    const int row = min(is_half(A) ? 8 * i + g : 4 * i + (g >> 1), n - 1), output_row = min(row_of<A>(i, t), n - 1);
    view.plane_rows[i] = base + at.planes + row * at.plane_stride + (is_half(A) ? 0 : (g & 1) * 32 + t * 8);
    view.sum_rows[i] =
        base + at.sums + (is_k_quant(A) ? row * at.sums_stride + (g & 1) * 32 + t * 8 : output_row * at.sums_stride);
    view.factor_rows[i] = output_row * tiles;
  }

  float* partial = reinterpret_cast<float*>(shared + at.partial);
  const int slice_floats = n * kTileRows, group = is_gated(p.args.epilogue) ? 2 : 1;
  int slot = 0;
  Cursor now;
  bool busy = now.template next_batch<A>(end - begin, rp.batch, tiles, warp, p.warps);
  for (int batch = 0; batch * rp.batch < end - begin; ++batch) {
    const int batch_begin = begin + batch * rp.batch, batch_tiles = min(rp.batch, end - batch_begin);
    if (busy && now.batch == batch) {
      int local = now.place / tiles;
      view.column = now.place % tiles;
      TileKind kind = p.args.w[locate(p.args, batch_begin + local).matrix].kind;
      float acc[S::kRunSlices][NT][2] = {};
      for (; now.place != now.end; ++now.place) {
        ring_wait(p.depth);
        const uint32_t tile[1] = {ring + slot * p.slot_bytes};
        if constexpr (is_half(A))
          dot_rows_split<A, NT>(tile[0], view, lane, acc);
        else if (A == B || kind == A)
          dot_rows<A, 1, NT>(tile, view, lane, acc);
        else
          dot_rows<B, 1, NT>(tile, view, lane, acc);
        __syncwarp();
        issue(slot);
        if (++slot == p.depth) slot = 0;
        const int slice = view.column / S::kRunTiles * S::kRunSlices;
        if (++view.column == tiles || view.column % S::kRunTiles == 0) {
          float* to = partial + (local * slices + slice) * slice_floats;
#pragma unroll
          for (int s = 0; s < S::kRunSlices; ++s)
#pragma unroll
            for (int i = 0; i < NT; ++i) {
              const int row = row_of<A>(i, t);
              if (row < n) {
                to[s * slice_floats + row * kTileRows + g] = acc[s][i][0];
                to[s * slice_floats + row * kTileRows + g + 8] = acc[s][i][1];
              }
              acc[s][i][0] = acc[s][i][1] = 0;
            }
        }
        if (view.column == tiles) {
          view.column = 0;
          ++local;
          if (A != B && now.place + 1 < now.end) kind = p.args.w[locate(p.args, batch_begin + local).matrix].kind;
        }
      }
      busy = now.template next_batch<A>(end - begin, rp.batch, tiles, warp, p.warps);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < batch_tiles / group * slice_floats; i += blockDim.x) {
      const int owner = i / slice_floats, c = i % slice_floats / kTileRows, r = i % kTileRows;
      const float* mine = partial + owner * group * slices * slice_floats + i % slice_floats;
      if (gridDim.y > 1) {  // sums of panels, for the last kernel
        for (int m = 0; m < group; ++m)
          for (int first = 0; first < slices; first += S::kPanel) {
            const int panel = blockIdx.y * rp.panels_per_block + first / S::kPanel;
            sc.panels[(int64_t(panel) * n + c) * p.row_tiles * kTileRows +
                      (batch_begin + owner * group + m) * kTileRows + r] =
                add_slices<S::kPanel>(mine + (m * slices + first) * slice_floats, min(S::kPanel, slices - first),
                                      slice_floats);
          }
        continue;
      }
      const auto sum = [&](int m) {
        return add_slices<S::kPanel>(mine + m * slices * slice_floats, slices, slice_floats);
      };
      finish_row(p.args, batch_begin + owner * group, r, c, sum, rms[c]);
    }
    __syncthreads();
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
  // Fewest parts of the columns with which a good ring fits (64 KB on their way); then, a lesser ring.
  constexpr struct {
    int warps, depth;
  } kRings[] = {{16, 4}, {16, 3}, {16, 2}, {12, 2}, {8, 3}, {8, 2}, {8, 1}, {4, 2}, {4, 1}},
    kRingsOfHalves[] = {{16, 1}, {8, 2}, {12, 1}, {8, 1}, {4, 2}, {6, 1}, {4, 1}, {2, 1}, {1, 1}};
  static_assert(sizeof kRings == sizeof kRingsOfHalves);
  const auto& rings = is_half(A) ? kRingsOfHalves : kRings;
  for (int lowest = 4; lowest <= int(std::size(kRings)); lowest += 5)
    for (int parts = 1; parts <= panels; ++parts) {
      rp.panels_per_block = (panels + parts - 1) / parts;
      if ((panels + rp.panels_per_block - 1) / rp.panels_per_block != parts) continue;
      const int blocks = max(1, min(groups, launch.limits->n_sms / parts)),
                most_tiles = min(p.tiles, rp.panels_per_block * kPanelTiles);
      p.max_local_tiles = (groups + blocks - 1) / blocks * group;
      for (int i = 0; i < lowest; ++i) {
        p.warps = rings[i].warps, p.depth = rings[i].depth;
        // The largest equal batches that fit; a ring that leaves room for too little of them is too large.
        const int room = limit - shared_layout<A>(p, args.n_rows, most_tiles, 0).end - 128;
        const int per_group = group * Sums<A>::slices(most_tiles) * args.n_rows * kTileRows * 4, fit = room / per_group;
        if (room <= 0 || fit < 1) continue;
        const int local_groups = p.max_local_tiles / group, batches = (local_groups + fit - 1) / fit;
        rp.batch = (local_groups + batches - 1) / batches * group;
        if (batches > 1 && i + 1 < lowest && rp.batch * Sums<A>::runs(most_tiles) < 2 * p.warps) continue;
        const int bytes = shared_layout<A>(p, args.n_rows, most_tiles, rp.batch).end;
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
  return cudaErrorNotSupported;  // too many rows for this card
}

template <TileKind A, TileKind B>
cudaError_t launch_kinds(const LinearArgs& args, const Launch& launch) {
  if constexpr (!is_half(A))
    if (args.n_rows <= 4) return launch_rows<A, B, 1>(args, launch);
  if (args.n_rows <= 8) return launch_rows<A, B, 2>(args, launch);
  return launch_rows<A, B, 4>(args, launch);
}

}  // namespace

cudaError_t linear_rows(const LinearArgs& args, KindPair kinds, const Launch& launch) {
  return with_kinds(kinds, [&]<TileKind A, TileKind B>() { return launch_kinds<A, B>(args, launch); });
}

}  // namespace ponder::backend::cuda
