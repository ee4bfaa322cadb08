// The quantiser of the prefill kernel of compute capability 9.0: rows as images of shared memory (linear_scratch.cuh). The
// numbers are those of every quantiser (quantize.cuh).
#include "backend/cuda/linear_scratch.cuh"

namespace ponder::backend::cuda {
namespace {

/// grid: (groups of 256 columns, eights of rows). A warp quantises one row's group; together they write whole 128 bytes.
__global__ void __launch_bounds__(256) quantize_wide_kernel(const float* x, int64_t x_stride, const float* norm,
                                                            int columns, int n_rows, WideScratch out) {
  constexpr int kChunk = 8 * 16 + 16;  // so that the chunks of a warp's words lie in different banks
  constexpr int kDigitPieces = 2 * 8;
  __shared__ __align__(16) uint8_t planes[kWidePlanes][16 * kChunk];
  __shared__ __align__(16) int8_t digits[2][8][16];
  __shared__ float factors[8];
  launch_dependents();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = blockIdx.x, row = blockIdx.y * 8 + warp;
  float w[8] = {}, v[8] = {};
  if (norm != nullptr) load_group(norm, group * kTileColumns, columns, lane, w);
  wait_for_previous_kernel();
  if (row < n_rows) load_group(x + row * x_stride, group * kTileColumns, columns, lane, v);
  if (norm != nullptr) {
    const float squares = square_sum(v);
    if (lane == 0 && row < n_rows) out.squares[int64_t(row) * gridDim.x + group] = squares;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = __fmul_rn(v[i], w[i]);
  }
  const QuantizedLane q = quantize_group(v);
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    const int at = (run * 8 + lane / 4) * kChunk + warp * 16 + lane % 4 * 4;
    *reinterpret_cast<uint32_t*>(planes[0] + at) = q.high[run];
    *reinterpret_cast<uint32_t*>(planes[1] + at) = q.low[run];
    if (lane % 8 == 0) {
      const int block = 4 * run + lane / 8, x_sum = q.block[run];
      const int low = int(int8_t(x_sum)), upper = (x_sum - low) / 256;
      const int u0 = max(-128, min(127, upper)), u1 = max(-128, min(127, upper - u0));
      digits[0][warp][block] = int8_t(u0);
      digits[0][warp][8 + block] = int8_t(u1);
      digits[1][warp][block] = int8_t(upper - u0 - u1);
      digits[1][warp][8 + block] = int8_t(low);
    }
  }
  if (lane == 0) factors[warp] = q.dy;
  __syncthreads();
  uint8_t* image = out.images + (int64_t(blockIdx.y / (kWideRows / 8)) * gridDim.x + group) * kWideImage;
  const int first = blockIdx.y % (kWideRows / 8) * 8;
  for (int i = threadIdx.x; i < kWidePlanes * 16 * 8 + kDigitPieces; i += 256) {
    const int piece_row = i % 8, chunk = i / 8;  // 16 of each plane, then 2 of digits
    const bool is_plane = chunk < kWidePlanes * 16;
    const uint8_t* from = is_plane ? planes[chunk / 16] + chunk % 16 * kChunk + piece_row * 16
                                   : reinterpret_cast<const uint8_t*>(digits[chunk - kWidePlanes * 16][piece_row]);
    *reinterpret_cast<uint4*>(image + chunk * (kWideRows * 16) + (first + piece_row) * 16) =
        *reinterpret_cast<const uint4*>(from);
  }
  if (threadIdx.x < 8)
    *reinterpret_cast<float*>(image + kWidePlanes * kWidePlane + kWideDigits + (first + int(threadIdx.x)) * 4) =
        factors[threadIdx.x];
}

}  // namespace

cudaError_t quantize_wide(const LinearArgs& args, const WideScratch& scratch, const Launch& launch) {
  const int row_blocks = (args.n_rows + kWideRows - 1) / kWideRows;
  const dim3 grid(unsigned(args.w[0].column_tiles()), unsigned(row_blocks * kWideRows / 8));
  return launch_kernel(quantize_wide_kernel, grid, dim3(256), 0, launch, args.x, args.x_stride, args.norm_weight,
                       args.w[0].columns, args.n_rows, scratch);
}

}  // namespace ponder::backend::cuda
