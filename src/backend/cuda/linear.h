// Linear layers on the card: y = W x (+ bias), with what belongs before and after it fused: RMS norm and quantisation
// before; bias, residual or the gated activation after. 1 .. 2,048 rows, the same bits for each row whatever rows stand
// beside it.
//
// Numerics (`cuda.i12x256`, docs/numerics.md):
//   v = x * norm_weight (or x), per row and group of 256 columns: a = max |v|, dy = a * (1 / 2047),
//   q = round_to_nearest_even(v * (2047 / a)), |q| <= 2047; q = 64 hi + lo, lo in -32 .. 31: two int8 planes.
//   K-quants, per tile of 256 columns, exact integers I1 = sum scale (quant - offset) q, I2 = sum min sum(q):
//     acc = fma(dy, fl(-dmin * I2), acc) (formats with minimums); acc = fma(dy, fl(d * I1), acc)
//   blocks of 32: I_b exact, X_b = sum of q in the block; for t = 0 .. 3
//     s_t = fma(d_{t+4}, I_{t+4}, d_t * I_t), with minimums then s_t = fma(m_{t+4}, X_{t+4}, fma(m_t, X_t, s_t))
//     acc = fma(dy, (s_0 + s_1) + (s_2 + s_3), acc)
//   A slice is 2 tiles, one acc from zero; a panel is 4 slices, added in order; panels are added in order.
//   With a norm, r = 1 / sqrt(mean x^2 + epsilon) multiplies the sum; then bias is added; then residual or activation.
//   F16, BF16: v as two or three numbers of the weights' format, so much of it that nothing of a float is lost
//     (halves.cuh); a slice is 128 columns in one accumulator of the tensor cores, times dy; a panel is 16 slices.
//   F32: float32 products of v in a fixed order (linear_float.cu).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/launch.h"
#include "backend/cuda/layout.h"

namespace ponder::backend::cuda {

constexpr int kSliceTiles = 2;
constexpr int kPanelSlices = 4;
constexpr int kPanelTiles = kSliceTiles * kPanelSlices;
constexpr int kMaxMatrices = 3;

enum class Epilogue : uint8_t {
  store,  ///< y[i] = W[i] x + bias[i]
  add,    ///< y[i] += W[i] x + bias[i]: the residual stream
  silu,   ///< y[0] = silu(W[0] x) * (W[1] x)
  gelu,   ///< y[0] = gelu_tanh(W[0] x) * (W[1] x)
};

struct LinearArgs {
  const float* x = nullptr;  ///< [n_rows][x_stride]
  int64_t x_stride = 0;
  const float* norm_weight = nullptr;  ///< [columns], null: no norm
  float epsilon = 0;

  int n_matrices = 1;  ///< all of the same number of columns; silu and gelu need exactly 2 of equal rows
  Matrix w[kMaxMatrices];
  const float* bias[kMaxMatrices] = {};
  float* y[kMaxMatrices] = {};  ///< [n_rows][y_stride[i]]
  int64_t y_stride[kMaxMatrices] = {};
  Epilogue epilogue = Epilogue::store;
  float y_scale = 1;  ///< multiplies W x + bias (the model's logit scale)

  int n_rows = 1;
  void* scratch = nullptr;  ///< linear_scratch_bytes(); shared by all calls on one stream, contents do not matter
};

/// Scratch for calls of up to `max_rows` rows, `max_columns` inputs and `max_outputs` outputs (all matrices together).
size_t linear_scratch_bytes(int max_rows, int max_columns, int max_outputs);

/// Launches one or a few kernels. Nothing is allocated; can be captured in a graph. cudaErrorInvalidValue for shapes
/// that break the rules above.
cudaError_t linear(const LinearArgs& args, const Launch& launch);

}  // namespace ponder::backend::cuda
