// Linear layers with float weights (F16, BF16, F32), any number of rows. A warp computes one output for up to eight rows:
// per row the lane's products are added tile after tile (256 columns, 8 a lane: 4 lane .. + 3, then 128 + 4 lane .. + 3)
// by fma, then the lanes' sums pairwise (distance 1, 2, 4, 8, 16). The order does not depend on the rows beside it.
#include <cuda_bf16.h>

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kRows = 8;

template <TileKind K>
__device__ __forceinline__ void load_weights(const uint8_t* row, int column, float (&w)[4]) {
  if constexpr (K == TileKind::f32) {
    const float4 v = __ldcs(reinterpret_cast<const float4*>(row) + column / 4);
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
  } else {
    const uint2 v = __ldcs(reinterpret_cast<const uint2*>(row) + column / 4);
    if constexpr (K == TileKind::f16) {
      const float2 a = __half22float2(as_half2(v.x)), b = __half22float2(as_half2(v.y));
      w[0] = a.x, w[1] = a.y, w[2] = b.x, w[3] = b.y;
    } else {
      w[0] = __uint_as_float(v.x << 16), w[1] = __uint_as_float(v.x & 0xffff0000u);
      w[2] = __uint_as_float(v.y << 16), w[3] = __uint_as_float(v.y & 0xffff0000u);
    }
  }
}

/// grid: (outputs / kWarps, rows / kRows).
template <TileKind K>
__global__ void __launch_bounds__(kWarps * 32) linear_float_kernel(const __grid_constant__ LinearArgs a) {
  launch_dependents();
  const int lane = threadIdx.x & 31, output = blockIdx.x * kWarps + (threadIdx.x >> 5);
  if (output >= a.w[0].rows) return;
  const int first_row = blockIdx.y * kRows, n = min(kRows, a.n_rows - first_row), columns = a.w[0].columns;
  const int tiles = a.w[0].column_tiles();
  constexpr int kElement = K == TileKind::f32 ? 4 : 2;
  const uint8_t* weights = a.w[0].data + int64_t(output) * tiles * kTileColumns * kElement;
  wait_for_previous_kernel();
  float sum[kRows] = {}, squares[kRows] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    float w[8], gain[8];
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      float four[4];
      load_weights<K>(weights, tile * kTileColumns + run * 128 + lane * 4, four);
#pragma unroll
      for (int i = 0; i < 4; ++i) w[4 * run + i] = four[i];
    }
    if (a.norm_weight != nullptr) load_group(a.norm_weight, tile * kTileColumns, columns, lane, gain);
#pragma unroll
    for (int c = 0; c < kRows; ++c) {
      if (c >= n) break;
      float v[8];
      load_group(a.x + (first_row + c) * a.x_stride, tile * kTileColumns, columns, lane, v);
      if (a.norm_weight != nullptr) {
        const float s = square_sum(v);
        squares[c] = tile == 0 ? s : __fadd_rn(squares[c], s);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = __fmul_rn(v[i], gain[i]);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[c] = __fmaf_rn(w[i], v[i], sum[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < kRows; ++c) {
    if (c >= n) break;
    float s = sum[c];
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) s = __fadd_rn(s, __shfl_xor_sync(kAllLanes, s, o));
    if (lane != 0) continue;
    const float rms = a.norm_weight != nullptr ? rms_factor(&squares[c], 1, columns, a.epsilon) : 1.f;
    float v = finish(a, 0, output, s, rms);
    float* y = a.y[0] + (first_row + c) * a.y_stride[0] + output;
    if (a.epilogue == Epilogue::add) v = __fadd_rn(__ldcg(y), v);
    *y = v;
  }
}

}  // namespace

cudaError_t linear_float(const LinearArgs& args, const Launch& launch) {
  const dim3 grid(unsigned((args.w[0].rows + kWarps - 1) / kWarps), unsigned((args.n_rows + kRows - 1) / kRows));
  switch (args.w[0].kind) {
    case TileKind::f16:
      return launch_kernel(linear_float_kernel<TileKind::f16>, grid, dim3(kWarps * 32), 0, launch, args);
    case TileKind::bf16:
      return launch_kernel(linear_float_kernel<TileKind::bf16>, grid, dim3(kWarps * 32), 0, launch, args);
    case TileKind::f32:
      return launch_kernel(linear_float_kernel<TileKind::f32>, grid, dim3(kWarps * 32), 0, launch, args);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace ponder::backend::cuda
