// A linear layer for one row: decode at batch 1, where only the memory's speed should count.
//
// A thread block owns a few row tiles, its warps equal shares of their slices. Every warp first fills its own ring with
// weights, which do not depend on the kernel before; only then it waits for that kernel (programmatic dependent
// launch), and all warps together norm and quantise the row into shared memory: x is small and comes from the L2
// cache, so each block does it for itself and no extra kernel stands between two layers. Then no block-wide barrier
// until all slices are done; their sums meet in shared memory and are added in the order of linear.h.
#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/tile_dot.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kMaxWarps = 16;
constexpr int kMaxDepth = 4;
constexpr int kBatch = 5;  // groups that a warp loads before it quantises the first

/// Parts of shared memory, in bytes from its start.
struct Shared {
  int planes, sums, dy, squares, partial, ring, end;
};
template <TileKind K>
__host__ __device__ inline Shared shared_layout(int tiles, int local_tiles, int warps, int depth, int slot) {
  Shared s;
  s.planes = 0;
  s.sums = s.planes + tiles * plane_bytes(K);
  s.dy = s.sums + (is_half(K) ? 0 : tiles * int(sizeof(GroupSums)));
  s.squares = s.dy + tiles * 4;
  s.partial = s.squares + tiles * 4 + 16;
  s.ring = (s.partial + local_tiles * Sums<K>::slices(tiles) * kTileRows * 4 + 127) & ~127;
  s.end = s.ring + warps * depth * slot;
  return s;
}

/// Walks a warp's tiles: `index` counts from the block's first tile, row tile by row tile.
struct Walk {
  int local, column, row_tiles_begin;
  const uint8_t* next;
  TileKind kind;

  __device__ __forceinline__ Walk(const LinearParams& p, int begin, int index)
      : local(index / p.tiles),
        column(index % p.tiles),
        row_tiles_begin(begin),
        next(nullptr),
        kind(p.args.w[0].kind) {}
  __device__ __forceinline__ void seek(const LinearParams& p) {
    const TileAddress at = locate(p.args, row_tiles_begin + local);
    kind = p.args.w[at.matrix].kind;
    next = p.args.w[at.matrix].data + (int64_t(at.row_tile) * p.tiles + column) * tile_bytes(kind);
  }
};

/// Norms and quantises the row (for F16 and BF16 weights: splits it) into shared memory.
template <TileKind K>
__device__ __forceinline__ void stage_row(const LinearParams& p, uint8_t* shared, const Shared& at,
                                          const float (&first_weights)[8], int warp, int lane) {
  const LinearArgs& a = p.args;
  for (int base = 0; base < p.tiles; base += p.warps * kBatch) {
    float v[kBatch][8];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int group = base + i * p.warps + warp;
      if (group < p.tiles) load_group(a.x, group * kTileColumns, p.columns, lane, v[i]);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int group = base + i * p.warps + warp;
      if (group >= p.tiles) break;
      if (a.norm_weight != nullptr) {
        const float squares = square_sum(v[i]);
        if (lane == 0) reinterpret_cast<float*>(shared + at.squares)[group] = squares;
        float w[8];
        if (base + i == 0) {
#pragma unroll
          for (int k = 0; k < 8; ++k) w[k] = first_weights[k];
        } else {
          load_group(a.norm_weight, group * kTileColumns, p.columns, lane, w);
        }
#pragma unroll
        for (int k = 0; k < 8; ++k) v[i][k] = __fmul_rn(v[i][k], w[k]);
      }
      float dy;
      if constexpr (is_half(K)) {
        SplitWords<K> words[2];
        dy = split_group<K>(v[i], words);
        store_split<K>(words, lane, shared + at.planes + group * plane_bytes(K));
      } else {
        const QuantizedLane q = quantize_group(v[i]);
        store_planes(q, lane, shared + at.planes + group * kPlaneBytes);
        store_sums(q, lane, reinterpret_cast<GroupSums*>(shared + at.sums) + group);
        dy = q.dy;
      }
      if (lane == 0) reinterpret_cast<float*>(shared + at.dy)[group] = dy;
    }
  }
}

template <TileKind A, TileKind B>
__global__ void __launch_bounds__(kMaxWarps * 32, 1) linear_one_kernel(const __grid_constant__ LinearParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  launch_dependents();
  static_assert(is_half(A) == is_half(B));
  using S = Sums<A>;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, tiles = p.tiles, slices = S::slices(tiles),
            runs = S::runs(tiles);
  const Shared at = shared_layout<A>(tiles, p.max_local_tiles, p.warps, p.depth, p.slot_bytes);
  int begin, end;
  local_range(p, blockIdx.x, gridDim.x, &begin, &end);
  const int units = (end - begin) * runs;
  const auto first_tile = [&](int unit) { return unit / runs * tiles + unit % runs * S::kRunTiles; };
  const int tile_begin = first_tile(units * warp / p.warps), tile_end = first_tile(units * (warp + 1) / p.warps);
  const uint32_t ring = shared_address(shared) + at.ring + warp * p.depth * p.slot_bytes;

  Walk ahead(p, begin, tile_begin);
  int to_issue = tile_end - tile_begin;
  if (to_issue > 0) ahead.seek(p);
  const auto issue = [&](int slot) {
    if (to_issue > 0) {
      const uint32_t to = ring + slot * p.slot_bytes;
      if (A == B || ahead.kind == A) {
        copy_tile<A>(to, ahead.next, lane);
        ahead.next += tile_bytes(A);
      } else {
        copy_tile<B>(to, ahead.next, lane);
        ahead.next += tile_bytes(B);
      }
      if (--to_issue > 0 && ++ahead.column == tiles) {
        ahead.column = 0;
        ++ahead.local;
        ahead.seek(p);
      }
    }
    copy_commit();
  };
  for (int i = 0; i < p.depth; ++i) issue(i);

  float weights[8] = {};
  if (p.args.norm_weight != nullptr && warp < tiles)
    load_group(p.args.norm_weight, warp * kTileColumns, p.columns, lane, weights);
  wait_for_previous_kernel();
  stage_row<A>(p, shared, at, weights, warp, lane);
  // What the residual stream holds for this thread's first number: asked for now, needed at the end.
  float residual = 0;
  const auto number_at = [&](int i, TileAddress* where) {
    *where = locate(p.args, begin + i / kTileRows);
    return where->row_tile * kTileRows + i % kTileRows;
  };
  TileAddress where;
  if (p.args.epilogue == Epilogue::add && int(threadIdx.x) < (end - begin) * kTileRows) {
    const int row = number_at(threadIdx.x, &where);
    if (row < p.args.w[where.matrix].rows) residual = __ldcg(p.args.y[where.matrix] + row);
  }
  __syncthreads();

  float* partial = reinterpret_cast<float*>(shared + at.partial);
  const float* dy = reinterpret_cast<const float*>(shared + at.dy);
  const uint32_t planes = shared_address(shared) + at.planes, sums = shared_address(shared) + at.sums;
  int local = tile_begin / tiles, column = tile_begin % tiles, slot = 0;
  TileKind kind = p.args.w[locate(p.args, begin + local).matrix].kind;
  float acc[S::kRunSlices] = {};
  for (int i = tile_begin; i < tile_end; ++i) {
    ring_wait(p.depth);
    const uint32_t tile = ring + slot * p.slot_bytes;
    if constexpr (is_half(A)) {
      dot_one_split<A>(tile, planes + column * plane_bytes(A), dy[column], lane, acc);
    } else if (A == B || kind == A) {
      dot_one<A>(tile, planes + column * kPlaneBytes, sums + column * int(sizeof(GroupSums)), dy[column], lane, acc[0]);
    } else {
      dot_one<B>(tile, planes + column * kPlaneBytes, sums + column * int(sizeof(GroupSums)), dy[column], lane, acc[0]);
    }
    __syncwarp();
    issue(slot);
    if (++slot == p.depth) slot = 0;
    const int slice = column / S::kRunTiles * S::kRunSlices;
    if (++column == tiles || column % S::kRunTiles == 0) {
#pragma unroll
      for (int s = 0; s < S::kRunSlices; ++s) {
        if ((lane & 3) < 2) partial[(local * slices + slice + s) * kTileRows + (lane >> 2) + 8 * (lane & 3)] = acc[s];
        acc[s] = 0;
      }
    }
    if (column == tiles) {
      column = 0;
      ++local;
      if (A != B && i + 1 < tile_end) kind = p.args.w[locate(p.args, begin + local).matrix].kind;
    }
  }
  float* squares = reinterpret_cast<float*>(shared + at.squares);
  if (threadIdx.x == 0 && p.args.norm_weight != nullptr)
    squares[tiles] = rms_factor(squares, tiles, p.columns, p.args.epsilon);
  __syncthreads();

  const float rms = squares[tiles];
  const auto sum = [&](int local_tile, int r) {
    return add_slices<S::kPanel>(partial + local_tile * slices * kTileRows + r, slices, kTileRows);
  };
  if (is_gated(p.args.epilogue)) {
    for (int i = threadIdx.x; i < (end - begin) / 2 * kTileRows; i += blockDim.x) {
      const int pair = i / kTileRows, r = i % kTileRows, row = (begin / 2 + pair) * kTileRows + r;
      if (row >= p.args.w[0].rows) continue;
      const float gate = finish(p.args, 0, row, sum(2 * pair, r), rms),
                  up = finish(p.args, 1, row, sum(2 * pair + 1, r), rms);
      p.args.y[0][row] = __fmul_rn(activate(p.args.epilogue, gate), up);
    }
    return;
  }
  for (int i = threadIdx.x; i < (end - begin) * kTileRows; i += blockDim.x) {
    const int row = number_at(i, &where);
    if (row >= p.args.w[where.matrix].rows) continue;
    float v = finish(p.args, where.matrix, row, sum(i / kTileRows, i % kTileRows), rms);
    float* y = p.args.y[where.matrix] + row;
    if (p.args.epilogue == Epilogue::add) v = __fadd_rn(i == int(threadIdx.x) ? residual : __ldcg(y), v);
    *y = v;
  }
}

template <TileKind A, TileKind B>
cudaError_t launch_one(const LinearArgs& args, const Launch& launch) {
  LinearParams p = {};
  p.args = args;
  p.columns = args.w[0].columns;
  p.tiles = args.w[0].column_tiles();
  for (int m = 0; m < args.n_matrices; ++m) p.row_tiles += args.w[m].row_tiles();
  const int group = is_gated(args.epilogue) ? 2 : 1, groups = p.row_tiles / group;
  p.slot_bytes = (max(tile_bytes(A), tile_bytes(B)) + 127) / 128 * 128;
  // As many warps and tiles in flight as fit; more blocks than processors when even the least does not.
  const int limit = launch.limits->shared_per_block;
  int blocks = min(groups, launch.limits->n_sms);
  for (;; blocks = min(groups, blocks * 2)) {
    p.max_local_tiles = (groups + blocks - 1) / blocks * group;
    for (p.warps = kMaxWarps; p.warps >= 4; p.warps /= 2)
      for (p.depth = kMaxDepth; p.depth >= (p.warps > 4 && !is_half(A) ? 2 : 1); --p.depth) {
        const int bytes = shared_layout<A>(p.tiles, p.max_local_tiles, p.warps, p.depth, p.slot_bytes).end;
        if (bytes > limit) continue;
        if (const cudaError_t e = allow_shared(linear_one_kernel<A, B>, size_t(bytes)); e != cudaSuccess) return e;
        return launch_kernel(linear_one_kernel<A, B>, dim3(unsigned(blocks)), dim3(unsigned(p.warps * 32)),
                             size_t(bytes), launch, p);
      }
    if (blocks == groups) return cudaErrorNotSupported;  // a long row of split numbers, and little shared memory
  }
}

}  // namespace

cudaError_t linear_one(const LinearArgs& args, KindPair kinds, const Launch& launch) {
  return with_kinds(kinds, [&]<TileKind A, TileKind B>() { return launch_one<A, B>(args, launch); });
}

}  // namespace ponder::backend::cuda
