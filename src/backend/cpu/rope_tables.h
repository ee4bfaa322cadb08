// Cosines and sines of positions, and the tables behind keys that are kept without their bias (KeyBias, vector.h).
#pragma once

#include <vector>

#include "model/model.h"

namespace ponder::backend::cpu {

/// 2 * rope.dims floats for VectorKernels::rope_*: angles in double, rounded once after the magnitude.
void write_rope(const model::RopeSpec& rope, int position, float* out);

/// KeyBias::starts of `pages` pages: rotations alone, without the magnitude.
void write_page_starts(const model::RopeSpec& rope, int64_t pages, float* out);

/// KeyBias::places of each KV head: [head][head_dim][64].
std::vector<float> bias_places(const model::RopeSpec& rope, const float* bias, int n_kv_heads, int head_dim);

}  // namespace ponder::backend::cpu
