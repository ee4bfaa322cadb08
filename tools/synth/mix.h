// Which weight format each tensor of a file gets: a plain type, or one of llama.cpp's mixtures.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "quant/format.h"

namespace ponder::synth {

struct Mix {
  std::string name;        ///< "Q4_K_M", "F16", ...
  quant::Type base;        ///< most matrices
  bool more_bits = false;  ///< attn_v and ffn_down in Q6_K in half of the layers (the _M mixtures)
  uint32_t file_type = 0;  ///< general.file_type
};

/// By name in any case: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q4_K_M Q5_K Q5_K_M Q6_K.
Result<Mix> find_mix(std::string_view name);

/// The format of one tensor: `name` as in the file, `n_layers` of the model, `tied` if there is no
/// output.weight. One-dimensional tensors stay F32; a row length that the format's blocks do not
/// divide falls back as in llama.cpp.
const quant::Format& choose(const Mix& mix, std::string_view name, size_t n_dims, uint64_t columns, uint64_t n_layers,
                            bool tied);

}  // namespace ponder::synth
