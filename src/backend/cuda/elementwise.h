// The small steps around linear layers and attention.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/launch.h"

namespace ponder::backend::cuda {

/// out[position][i] = cos and sin of position * inverse_frequencies[i], times the magnitude, worked out in double.
/// `inverse_frequencies` on the card.
cudaError_t make_rope_table(const double* inverse_frequencies, int n, double magnitude, int positions, float2* out,
                            cudaStream_t stream);

/// to[i][width] = from[rows[i]][width]; rows below zero give zeros. `width` is a multiple of 4.
cudaError_t gather_rows(const float* from, int64_t stride, const int32_t* rows, int n, int width, float* to,
                        const Launch& launch);

}  // namespace ponder::backend::cuda
