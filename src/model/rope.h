// Rotary position embedding as a list of inverse frequencies: every published way of stretching the
// context (linear, llama3, YaRN, a tensor of factors) is worked out once, at load; backends only
// multiply by the position. Sources: Su et al. 2021 (RoPE); Chen et al. 2023 (linear); Peng et al.
// 2023 (YaRN); Grattafiori et al. 2024 section 3.4 and transformers' modeling_rope_utils.py
// (llama3).
#pragma once

#include "base/result.h"
#include "model/keys.h"
#include "model/model.h"

namespace ponder::model {

/// Reads rope.* of the file and, if it has one, the tensor rope_freqs.weight (dims / 2 divisors of
/// the frequencies, as llama.cpp's converter writes for llama3 scaling). Errors name the key or
/// tensor.
Result<RopeSpec> read_rope(const Keys& keys, RopeLayout layout, int head_dim, int context_length);

}  // namespace ponder::model
