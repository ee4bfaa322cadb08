// Linear layers with float weights (F16, BF16, F32), any number of rows. A warp computes a few outputs for up to eight rows,
// with the weights of a few tiles on their way (time is the memory's, as long as enough of it is asked for):
// per row the lane's products are added tile after tile (256 columns, 8 a lane: 4 lane .. + 3, then 128 + 4 lane .. + 3)
// by fma, then the lanes' sums pairwise (distance 1, 2, 4, 8, 16). The order does not depend on the rows beside it.
#include <cuda_bf16.h>

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarps = 8;

/// The lane's eight weights of a tile as they lie in memory.
template <TileKind K>
struct RawWeights {
  static constexpr int kElement = K == TileKind::f32 ? 4 : 2;
  uint4 f32[K == TileKind::f32 ? 2 : 1];
  uint2 halves[2];

  __device__ __forceinline__ void load(const uint8_t* row, int tile, int lane) {
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const uint8_t* from = row + (int64_t(tile) * kTileColumns + run * 128 + lane * 4) * kElement;
      if constexpr (K == TileKind::f32)
        f32[run] = __ldcs(reinterpret_cast<const uint4*>(from));
      else
        halves[run] = __ldcs(reinterpret_cast<const uint2*>(from));
    }
  }
  __device__ __forceinline__ void to_floats(float (&w)[8]) const {
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      float* four = w + 4 * run;
      if constexpr (K == TileKind::f32) {
        four[0] = __uint_as_float(f32[run].x), four[1] = __uint_as_float(f32[run].y);
        four[2] = __uint_as_float(f32[run].z), four[3] = __uint_as_float(f32[run].w);
      } else if constexpr (K == TileKind::f16) {
        const float2 a = __half22float2(as_half2(halves[run].x)), b = __half22float2(as_half2(halves[run].y));
        four[0] = a.x, four[1] = a.y, four[2] = b.x, four[3] = b.y;
      } else {
        four[0] = __uint_as_float(halves[run].x << 16), four[1] = __uint_as_float(halves[run].x & 0xffff0000u);
        four[2] = __uint_as_float(halves[run].y << 16), four[3] = __uint_as_float(halves[run].y & 0xffff0000u);
      }
    }
  }
};

/// The lane's eight numbers of a group, from the first-level cache when another warp has asked before; zeros past `columns`.
__device__ __forceinline__ void load_cached(const float* x, int first_column, int columns, int lane, float (&v)[8]) {
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    const int c = first_column + run * 128 + lane * 4;
    if (c + 3 < columns) {
      const float4 f = *reinterpret_cast<const float4*>(x + c);
      v[4 * run] = f.x, v[4 * run + 1] = f.y, v[4 * run + 2] = f.z, v[4 * run + 3] = f.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) v[4 * run + i] = c + i < columns ? x[c + i] : 0.f;
    }
  }
}

/// grid: (outputs / (kWarps kOutputs), rows / kRows). A warp takes kOutputs outputs, so that what it reads of x serves all of
/// them. Tiles go in batches of kAhead, whose weights are asked for together.
template <TileKind K, int kRows, int kOutputs, int kAhead>
__global__ void __launch_bounds__(kWarps * 32) linear_float_kernel(const __grid_constant__ LinearArgs a) {
  static_assert(kTileRows % kOutputs == 0);  // the matrix is padded to whole tiles
  launch_dependents();
  const int lane = threadIdx.x & 31, output = (blockIdx.x * kWarps + (threadIdx.x >> 5)) * kOutputs;
  if (output >= a.w[0].rows) return;
  const int first_row = blockIdx.y * kRows, n = min(kRows, a.n_rows - first_row), columns = a.w[0].columns;
  const int tiles = a.w[0].column_tiles();
  const int64_t row_bytes = int64_t(tiles) * kTileColumns * RawWeights<K>::kElement;
  const uint8_t* weights = a.w[0].data + output * row_bytes;
  const bool normed = a.norm_weight != nullptr;
  RawWeights<K> next[kAhead][kOutputs];
  const auto ask = [&](int i, int tile) {
    if (tile >= tiles) return;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) next[i][o].load(weights + o * row_bytes, tile, lane);
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) ask(i, i);
  wait_for_previous_kernel();
  float sum[kOutputs][kRows] = {}, squares[kRows] = {};
  for (int first = 0; first < tiles; first += kAhead) {
    RawWeights<K> here[kAhead][kOutputs];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) here[i][o] = next[i][o];
      ask(i, first + kAhead + i);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int tile = first + i;
      if (tile >= tiles) break;
      float w[kOutputs][8], gain[8];
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) here[i][o].to_floats(w[o]);
      if (normed) load_cached(a.norm_weight, tile * kTileColumns, columns, lane, gain);
#pragma unroll
      for (int c = 0; c < kRows; ++c) {
        if (c >= n) break;
        float v[8];
        load_cached(a.x + (first_row + c) * a.x_stride, tile * kTileColumns, columns, lane, v);
        if (normed) {
          // The lane's part of the sum of squares: lanes are added at the end, as those of the products.
#pragma unroll
          for (int k = 0; k < 8; ++k) squares[c] = __fmaf_rn(v[k], v[k], squares[c]), v[k] = __fmul_rn(v[k], gain[k]);
        }
#pragma unroll
        for (int o = 0; o < kOutputs; ++o)
#pragma unroll
          for (int k = 0; k < 8; ++k) sum[o][c] = __fmaf_rn(w[o][k], v[k], sum[o][c]);
      }
    }
  }
  const auto over_lanes = [](float s) {
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) s = __fadd_rn(s, __shfl_xor_sync(kAllLanes, s, d));
    return s;
  };
#pragma unroll
  for (int c = 0; c < kRows; ++c) {
    if (c >= n) break;
    const float square = over_lanes(squares[c]);
    const float rms = normed ? rms_factor(&square, 1, columns, a.epsilon) : 1.f;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const float s = over_lanes(sum[o][c]);
      if (lane != 0 || output + o >= a.w[0].rows) continue;
      float v = finish(a, 0, output + o, s, rms);
      float* y = a.y[0] + (first_row + c) * a.y_stride[0] + output + o;
      if (a.epilogue == Epilogue::add) v = __fadd_rn(__ldcg(y), v);
      *y = v;
    }
  }
}

template <TileKind K, int kRows, int kOutputs, int kAhead>
cudaError_t launch_float(const LinearArgs& args, const Launch& launch) {
  constexpr int kBlock = kWarps * kOutputs;
  const dim3 grid(unsigned((args.w[0].rows + kBlock - 1) / kBlock), unsigned((args.n_rows + kRows - 1) / kRows));
  return launch_kernel(linear_float_kernel<K, kRows, kOutputs, kAhead>, grid, dim3(kWarps * 32), 0, launch, args);
}

template <TileKind K>
cudaError_t launch_kind(const LinearArgs& args, const Launch& launch) {
  if (args.n_rows == 1) return launch_float<K, 1, 1, 4>(args, launch);
  if (args.n_rows == 2) return launch_float<K, 2, 2, 2>(args, launch);
  if (args.n_rows <= 4) return launch_float<K, 4, 4, 1>(args, launch);
  return launch_float<K, 8, 4, 1>(args, launch);
}

}  // namespace

cudaError_t linear_float(const LinearArgs& args, const Launch& launch) {
  switch (args.w[0].kind) {
    case TileKind::f16:
      return launch_kind<TileKind::f16>(args, launch);
    case TileKind::bf16:
      return launch_kind<TileKind::bf16>(args, launch);
    case TileKind::f32:
      return launch_kind<TileKind::f32>(args, launch);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ponder::backend::cuda
