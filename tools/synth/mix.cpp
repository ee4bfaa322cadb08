// Facts of llama.cpp's quantiser (src/llama-quant.cpp): the head in Q6_K unless the file is Q8_0 or
// float, the _M mixtures' choice of layers, and the fallbacks for rows that are no multiple of 256.
#include "synth/mix.h"

#include <cctype>
#include <charconv>

namespace ponder::synth {
namespace {

using quant::Type;

const Mix kMixes[] = {
    {"F32", Type::f32, false, 0},    {"F16", Type::f16, false, 1},     {"Q4_0", Type::q4_0, false, 2},
    {"Q4_1", Type::q4_1, false, 3},  {"Q8_0", Type::q8_0, false, 7},   {"Q5_0", Type::q5_0, false, 8},
    {"Q5_1", Type::q5_1, false, 9},  {"Q4_K", Type::q4_k, false, 14},  {"Q4_K_M", Type::q4_k, true, 15},
    {"Q5_K", Type::q5_k, false, 16}, {"Q5_K_M", Type::q5_k, true, 17}, {"Q6_K", Type::q6_k, false, 18},
    {"BF16", Type::bf16, false, 32},
};

bool uses_more_bits(uint64_t layer, uint64_t n_layers) {
  return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

bool is_float(Type t) { return t == Type::f32 || t == Type::f16 || t == Type::bf16; }

/// What llama.cpp takes where rows are not whole blocks.
Type fallback(Type t) {
  switch (t) {
    case Type::q4_k:
      return Type::q5_0;
    case Type::q5_k:
      return Type::q5_1;
    case Type::q6_k:
      return Type::q8_0;
    default:
      return Type::f16;
  }
}

}  // namespace

Result<Mix> find_mix(std::string_view name) {
  std::string known;
  for (const Mix& mix : kMixes) {
    bool same = mix.name.size() == name.size();
    for (size_t i = 0; same && i < name.size(); ++i) {
      same = std::toupper(static_cast<unsigned char>(name[i])) == mix.name[i];
    }
    if (same) return mix;
    known += (known.empty() ? "" : ", ") + mix.name;
  }
  return Error{ErrorCode::invalid_argument, "--type: '" + std::string(name) + "' is unknown; known are " + known};
}

const quant::Format& choose(const Mix& mix, std::string_view name, size_t n_dims, uint64_t columns, uint64_t n_layers,
                            bool tied) {
  if (n_dims < 2) return *quant::find_format(uint32_t(Type::f32));
  Type type = mix.base;
  const bool head = name == (tied ? "token_embd.weight" : "output.weight");
  if (head && !is_float(type) && type != Type::q8_0) type = Type::q6_k;
  if (mix.more_bits && (name.ends_with(".attn_v.weight") || name.ends_with(".ffn_down.weight")) &&
      name.starts_with("blk.")) {
    uint64_t layer = 0;
    std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    if (uses_more_bits(layer, n_layers)) type = Type::q6_k;
  }
  while (columns % quant::find_format(uint32_t(type))->block_size != 0) type = fallback(type);
  return *quant::find_format(uint32_t(type));
}

}  // namespace ponder::synth
