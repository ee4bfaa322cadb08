// What a GGUF file says about itself, in the words that Ollama prints: family, size, quantisation.
#include <array>
#include <cmath>
#include <cstdio>
#include <map>

#include "base/checked.h"
#include "quant/format.h"
#include "store/manifest.h"

namespace ponder::store {

std::string human_number(uint64_t n) {
  const auto print = [&](double unit, int digits, char letter) {
    const double value = double(n) / unit;
    char text[32];
    std::snprintf(text, sizeof text, "%.*f%c", value == std::floor(value) ? 0 : digits, value, letter);
    return std::string(text);
  };
  if (n >= 1'000'000'000) return print(1e9, 1, 'B');
  if (n >= 1'000'000) return print(1e6, 2, 'M');
  if (n >= 1'000) return print(1e3, 0, 'K');
  return std::to_string(n);
}

std::string file_type_name(uint64_t type) {
  // The numbers are llama.cpp's LLAMA_FTYPE_*; gaps are formats that were withdrawn.
  static constexpr std::array<const char*, 39> kNames = {
      "F32",    "F16",    "Q4_0",   "Q4_1",    "",       "",       "",       "Q8_0",   "Q5_0",  "Q5_1",
      "Q2_K",   "Q3_K_S", "Q3_K_M", "Q3_K_L",  "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",  "IQ2_XXS",
      "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S",  "IQ4_NL", "IQ3_S",  "IQ3_M",  "IQ2_S", "IQ2_M",
      "IQ4_XS", "IQ1_M",  "BF16",   "",        "",       "",       "TQ1_0",  "TQ2_0",  "MXFP4"};
  return type < kNames.size() ? kNames[type] : "";
}

Details describe(const gguf::File& file) {
  Details d;
  if (const auto family = file.get_string("general.architecture")) d.family = std::string(*family);
  if (!d.family.empty()) d.families = {d.family};
  uint64_t parameters = 0;
  std::map<uint32_t, uint64_t> by_type;
  for (const gguf::TensorInfo& t : file.tensors()) {
    const auto sum = checked_add(parameters, t.n_elements());
    parameters = sum.value_or(parameters);
    by_type[t.type] += t.n_elements();
  }
  if (parameters > 0) d.parameter_size = human_number(parameters);
  if (const auto type = file.get_u64("general.file_type")) d.quantization_level = file_type_name(*type);
  if (d.quantization_level.empty() && !by_type.empty()) {
    // No general.file_type: the format that most weights have.
    auto most = by_type.begin();
    for (auto it = by_type.begin(); it != by_type.end(); ++it)
      if (it->second > most->second) most = it;
    d.quantization_level = quant::type_name(most->first);
  }
  d.context_length = file.get_u64(d.family + ".context_length").value_or(0);
  d.embedding_length = file.get_u64(d.family + ".embedding_length").value_or(0);
  return d;
}

}  // namespace ponder::store
