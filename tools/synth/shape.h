// What a synthetic model is: sizes and switches of one of the three decoder architectures, its
// metadata as llama.cpp writes it, and the list of its tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/writer.h"

namespace ponder::synth {

struct Shape {
  std::string name = "synthetic";
  std::string arch = "qwen2";  ///< qwen2, llama or qwen3
  uint64_t layers = 4, hidden = 256, ffn = 768, heads = 4, kv_heads = 2;
  uint64_t head_dim = 0;  ///< 0: hidden / heads
  uint64_t vocab = 1024;
  uint64_t context = 2048;
  double rope_base = 10000;
  double epsilon = 1e-6;
  bool tied = false, qkv_bias = true;

  /// Llama 3's stretching of long wavelengths (stored as the tensor rope_freqs.weight); 0: none.
  double llama3_factor = 0, llama3_low = 1, llama3_high = 4, llama3_original = 8192;
  double yarn_factor = 0, yarn_original = 32768;  ///< 0: none

  uint64_t head_size() const { return head_dim != 0 ? head_dim : hidden / heads; }
};

/// r1-distill-qwen-1.5b, r1-distill-qwen-7b, r1-distill-llama-8b, r1-0528-qwen3-8b.
std::optional<Shape> preset(std::string_view name);
std::vector<std::string> preset_names();

/// Biases on, epsilon and RoPE base as that architecture has them.
Result<void> set_architecture(Shape& shape, const std::string& arch);

/// Sizes that fit together; the error names the flag.
Result<void> check(const Shape& shape);

/// What fills a tensor. `deviation` belongs to `normal`.
enum class Fill { normal, norm, bias, rope_factors };

struct Tensor {
  std::string name;
  std::vector<uint64_t> shape;
  Fill fill = Fill::normal;
  double deviation = 0;
};

std::vector<Tensor> tensors(const Shape& shape);
std::vector<float> rope_factors(const Shape& shape);

/// <arch>.* and general.* (without general.file_type, which belongs to the types of the tensors).
void add_metadata(const Shape& shape, gguf::Writer& writer);

}  // namespace ponder::synth
