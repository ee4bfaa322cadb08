// The front door of linear layers: checks the shapes, splits what one kernel cannot do together, and picks the kernel by
// the number of rows and the kinds of weights.
#include "backend/cuda/linear.h"

#include <algorithm>

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/linear_scratch.cuh"

namespace ponder::backend::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kMostRowsTogether = 16;

/// grid: (groups / kWarpsPerBlock, rows). A warp quantises (for F16 and BF16 weights: splits) one group.
template <TileKind K>
__global__ void __launch_bounds__(kWarpsPerBlock * 32)
    quantize_kernel(const float* x, int64_t x_stride, const float* norm, int columns, int groups, LinearScratch out) {
  launch_dependents();
  const int lane = threadIdx.x & 31, group = blockIdx.x * kWarpsPerBlock + (threadIdx.x >> 5);
  if (group >= groups) return;
  float w[8] = {}, v[8];
  if (norm != nullptr) load_group(norm, group * kTileColumns, columns, lane, w);
  wait_for_previous_kernel();
  load_group(x + int64_t(blockIdx.y) * x_stride, group * kTileColumns, columns, lane, v);
  const int64_t at = int64_t(blockIdx.y) * groups + group;
  if (norm != nullptr) {
    const float squares = square_sum(v);
    if (lane == 0) out.squares[at] = squares;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = __fmul_rn(v[i], w[i]);
  }
  if constexpr (is_half(K)) {
    SplitWords<K> words[2];
    const float dy = split_group<K>(v, words);
    store_split<K>(words, lane, out.planes + at * plane_bytes(K));
    if (lane == 0) out.dy[at] = dy;
  } else {
    const QuantizedLane q = quantize_group(v);
    store_planes(q, lane, out.planes + at * kPlaneBytes);
    store_sums(q, lane, out.sums + at);
    if (lane == 0) out.dy[at] = q.dy;
  }
}

/// y = activation(gate) * up, where the two came from separate launches (formats that no kernel reads together).
__global__ void gate_kernel(Epilogue epilogue, float* y, int64_t y_stride, const float* up, int64_t up_stride, int n) {
  launch_dependents();
  wait_for_previous_kernel();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float* p = y + blockIdx.y * y_stride + i;
  *p = __fmul_rn(activate(epilogue, *p), up[blockIdx.y * up_stride + i]);
}

/// Whether one kernel reads both kinds; the pair as it knows them.
bool kernel_pair(TileKind a, TileKind b, KindPair* pair) {
  if (a == b) {
    *pair = {a, a};
    return true;
  }
  if (a > b) std::swap(a, b);
  *pair = {a, b};
  return b == TileKind::q6_k && (a == TileKind::q4_k || a == TileKind::q5_k);
}

/// The one pair of kinds among all matrices, if there is one.
bool common_pair(const LinearArgs& args, KindPair* pair) {
  TileKind a = args.w[0].kind, b = a;
  for (int m = 1; m < args.n_matrices; ++m) {
    const TileKind k = args.w[m].kind;
    if (k == a || k == b) continue;
    if (a != b) return false;
    b = k;
  }
  return a != TileKind::f32 && kernel_pair(a, b, pair);
}

/// One matrix of args alone, its result stored as it is.
LinearArgs only(const LinearArgs& args, int m) {
  LinearArgs one = args;
  one.n_matrices = 1;
  one.w[0] = args.w[m], one.bias[0] = args.bias[m], one.y[0] = args.y[m], one.y_stride[0] = args.y_stride[m];
  return one;
}

/// `most` rows at a time: for cards whose shared memory is too small for all (sm_75).
cudaError_t in_parts(const LinearArgs& args, int most, const Launch& launch) {
  for (int first = 0; first < args.n_rows; first += most) {
    LinearArgs part = args;
    part.n_rows = std::min(most, args.n_rows - first);
    part.x += first * args.x_stride;
    for (int m = 0; m < args.n_matrices; ++m)
      if (part.y[m] != nullptr) part.y[m] += first * args.y_stride[m];
    if (const cudaError_t e = linear(part, launch); e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

cudaError_t valid(const LinearArgs& a) {
  if (a.n_matrices < 1 || a.n_matrices > kMaxMatrices || a.n_rows < 1 || a.x == nullptr || a.x_stride % 4 != 0)
    return cudaErrorInvalidValue;
  for (int m = 0; m < a.n_matrices; ++m)
    if (a.w[m].columns != a.w[0].columns || a.w[m].rows < 1 || a.w[m].data == nullptr) return cudaErrorInvalidValue;
  if (is_gated(a.epilogue) && (a.n_matrices != 2 || a.w[0].rows != a.w[1].rows || a.y_scale != 1))
    return cudaErrorInvalidValue;
  return cudaSuccess;
}

}  // namespace

cudaError_t quantize_rows(const LinearArgs& args, const LinearScratch& scratch, const Launch& launch) {
  const int groups = args.w[0].column_tiles();
  const dim3 grid(unsigned((groups + kWarpsPerBlock - 1) / kWarpsPerBlock), unsigned(args.n_rows));
  const TileKind kind = args.w[0].kind;
  return launch_kernel(kind == TileKind::f16    ? quantize_kernel<TileKind::f16>
                       : kind == TileKind::bf16 ? quantize_kernel<TileKind::bf16>
                                                : quantize_kernel<TileKind::q4_k>,  // for all integers
                       grid, dim3(kWarpsPerBlock * 32), 0, launch, args.x, args.x_stride, args.norm_weight,
                       args.w[0].columns, groups, scratch);
}

size_t linear_scratch_bytes(int max_rows, int columns, int outputs) {
  const int tiles = (columns + kTileColumns - 1) / kTileColumns, panels = (tiles + kPanelTiles - 1) / kPanelTiles;
  const size_t rounded = size_t(outputs + kMaxMatrices * (kTileRows - 1));
  size_t extra = size_t(max_rows) * rounded * 4;  // one gated matrix of a pair that no kernel reads together
  if (panels > 1) extra = std::max(extra, size_t(panels) * size_t(std::min(max_rows, kMostRowsTogether)) * rounded * 4);
  return linear_scratch_used(max_rows, tiles) + extra + 256;
}

cudaError_t linear(const LinearArgs& args, const Launch& launch) {
  if (const cudaError_t e = valid(args); e != cudaSuccess) return e;
  KindPair pair;
  const bool together = common_pair(args, &pair);
  const bool many = args.n_rows > kMostRowsTogether;
  if (many)
    if (const cudaError_t e = linear_wide(args, launch); e != cudaErrorNotSupported) return e;
  if (!together || (many && pair.a != pair.b)) {  // prefill's kernel reads one kind

    if (is_gated(args.epilogue)) {
      // Gate where it belongs, up behind the scratch of its own launch, then the product.
      const int rows = args.w[1].rows;
      LinearArgs gate = only(args, 0), up = only(args, 1);
      gate.epilogue = up.epilogue = Epilogue::store;
      up.y[0] = reinterpret_cast<float*>(static_cast<uint8_t*>(args.scratch) +
                                         linear_scratch_used(args.n_rows, args.w[0].column_tiles()));
      up.y_stride[0] = rows;
      cudaError_t e = linear(gate, launch);
      if (e == cudaSuccess) e = linear(up, launch);
      if (e != cudaSuccess) return e;
      return launch_kernel(gate_kernel, dim3(unsigned((rows + 255) / 256), unsigned(args.n_rows)), dim3(256), 0, launch,
                           args.epilogue, args.y[0], args.y_stride[0], static_cast<const float*>(up.y[0]),
                           int64_t(rows), rows);
    }
    if (args.n_matrices > 1) {
      for (int m = 0; m < args.n_matrices; ++m)
        if (const cudaError_t e = linear(only(args, m), launch); e != cudaSuccess) return e;
      return cudaSuccess;
    }
    return linear_float(args, launch);
  }
  cudaError_t e = args.n_rows == 1 ? linear_one(args, pair, launch) : cudaErrorNotSupported;
  if (e != cudaErrorNotSupported) return e;
  e = quantize_rows(args, linear_scratch(args.scratch, args.n_rows, args.w[0].column_tiles()), launch);
  if (e == cudaSuccess)
    e = !many             ? linear_rows(args, pair, launch)
        : is_half(pair.a) ? linear_halves(args, pair.a, launch)
                          : linear_gemm(args, pair.a, launch);
  if (e != cudaErrorNotSupported || args.n_rows == 1) return e;
  return in_parts(args, many ? kMostRowsTogether : (args.n_rows + 1) / 2, launch);
}

}  // namespace ponder::backend::cuda
