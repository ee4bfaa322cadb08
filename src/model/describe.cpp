// Numbers about a model for people: parameter count, quantisation name, multiply-adds per token.
#include <cmath>
#include <cstdio>
#include <map>

#include "model/model.h"

namespace ponder::model {
namespace {

/// general.file_type, as llama.cpp numbers it (llama.h, enum llama_ftype); null where a number has
/// no name.
const char* file_type_name(uint64_t type) {
  static const char* const kNames[] = {"F32",    "F16",    "Q4_0",  "Q4_1",    nullptr,  nullptr,  nullptr,  "Q8_0",
                                       "Q5_0",   "Q5_1",   "Q2_K",  "Q3_K_S",  "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M",
                                       "Q5_K_S", "Q5_K_M", "Q6_K",  "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS",
                                       "IQ1_S",  "IQ4_NL", "IQ3_S", "IQ3_M",   "IQ2_S",  "IQ2_M",  "IQ4_XS", "IQ1_M",
                                       "BF16",   nullptr,  nullptr, nullptr,   "TQ1_0",  "TQ2_0",  "MXFP4"};
  return type < std::size(kNames) ? kNames[type] : nullptr;
}

}  // namespace

uint64_t ModelSpec::linear_macs() const {
  const uint64_t hidden = uint64_t(hidden_size);
  uint64_t macs = hidden * uint64_t(vocab_size);
  for (const LayerSpec& l : layers)
    macs += hidden * (2 * uint64_t(l.q_size()) + 2 * uint64_t(l.kv_size()) + 3 * uint64_t(l.ffn_size));
  return macs;
}

std::string quantization_name(const gguf::File& file) {
  if (const auto type = file.get_u64("general.file_type"))
    if (const char* name = file_type_name(*type)) return name;
  // No file_type: the type that holds the most weights, vectors aside. Doubles, because a
  // stranger's sizes may be huge.
  std::map<uint32_t, double> weights;
  for (const auto& t : file.tensors())
    if (t.shape.size() > 1) weights[t.type] += double(t.n_elements());
  double most = 0;
  std::string name = "unknown";
  for (const auto& [type, n] : weights)
    if (n > most) most = n, name = quant::type_name(type);
  return name;
}

std::string parameter_size(uint64_t n) {
  char text[32];
  const auto format = [&](double value, int decimals, const char* unit) {
    std::snprintf(text, sizeof text, "%.*f%s", value == std::floor(value) ? 0 : decimals, value, unit);
  };
  if (n >= 1'000'000'000) {
    format(double(n) / 1e9, 1, "B");
  } else if (n >= 1'000'000) {
    format(double(n) / 1e6, 2, "M");
  } else if (n >= 1000) {
    format(std::round(double(n) / 1e3), 0, "K");
  } else {
    std::snprintf(text, sizeof text, "%d", int(n));
  }
  return text;
}

}  // namespace ponder::model
