// Linear layers with weights of F32, any number of rows, by the plain units: such matrices are small. A warp computes a few outputs for up to eight rows,
// with the weights of a few tiles on their way (time is the memory's, as long as enough of it is asked for):
// per row the lane's products are added tile after tile (256 columns, 8 a lane: 4 lane .. + 3, then 128 + 4 lane .. + 3)
// by fma, then the lanes' sums pairwise (distance 1, 2, 4, 8, 16). The order does not depend on the rows beside it.
#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarps = 8;

/// The lane's eight weights of a tile.
struct Weights {
  float4 run[2];

  __device__ __forceinline__ void load(const float* row, int tile, int lane) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      run[i] = __ldcs(reinterpret_cast<const float4*>(row + int64_t(tile) * kTileColumns + i * 128 + lane * 4));
  }
  __device__ __forceinline__ float operator[](int k) const {
    const float4& f = run[k / 4];
    return k % 4 == 0 ? f.x : k % 4 == 1 ? f.y : k % 4 == 2 ? f.z : f.w;
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
template <int kRows, int kOutputs, int kAhead>
__global__ void __launch_bounds__(kWarps * 32) linear_float_kernel(const __grid_constant__ LinearArgs a) {
  static_assert(kTileRows % kOutputs == 0);  // the matrix is padded to whole tiles
  launch_dependents();
  const int lane = threadIdx.x & 31, output = (blockIdx.x * kWarps + (threadIdx.x >> 5)) * kOutputs;
  if (output >= a.w[0].rows) return;
  const int first_row = blockIdx.y * kRows, n = min(kRows, a.n_rows - first_row), columns = a.w[0].columns;
  const int tiles = a.w[0].column_tiles();
  const int64_t stride = int64_t(tiles) * kTileColumns;
  const float* weights = reinterpret_cast<const float*>(a.w[0].data) + output * stride;
  const bool normed = a.norm_weight != nullptr;
  Weights next[kAhead][kOutputs];
  const auto ask = [&](int i, int tile) {
    if (tile >= tiles) return;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) next[i][o].load(weights + o * stride, tile, lane);
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) ask(i, i);
  wait_for_previous_kernel();
  float sum[kOutputs][kRows] = {}, squares[kRows] = {};
  for (int first = 0; first < tiles; first += kAhead) {
    Weights here[kAhead][kOutputs];
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
      float gain[8];
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
          for (int k = 0; k < 8; ++k) sum[o][c] = __fmaf_rn(here[i][o][k], v[k], sum[o][c]);
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

template <int kRows, int kOutputs, int kAhead>
cudaError_t launch_float(const LinearArgs& args, const Launch& launch) {
  constexpr int kBlock = kWarps * kOutputs;
  const dim3 grid(unsigned((args.w[0].rows + kBlock - 1) / kBlock), unsigned((args.n_rows + kRows - 1) / kRows));
  return launch_kernel(linear_float_kernel<kRows, kOutputs, kAhead>, grid, dim3(kWarps * 32), 0, launch, args);
}

}  // namespace

cudaError_t linear_float(const LinearArgs& args, const Launch& launch) {
  if (args.w[0].kind != TileKind::f32) return cudaErrorInvalidValue;
  if (args.n_rows == 1) return launch_float<1, 1, 4>(args, launch);
  if (args.n_rows == 2) return launch_float<2, 2, 2>(args, launch);
  if (args.n_rows <= 4) return launch_float<4, 4, 1>(args, launch);
  return launch_float<8, 4, 1>(args, launch);
}

}  // namespace ponder::backend::cuda
