// What a decoder is, as data: sizes and flags (ModelSpec), and views of its weights in the file. An
// architecture is one file in model/arch/ that fills these; backends read nothing else
// (docs/adding-an-architecture.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "quant/format.h"

namespace ponder::model {

/// How the two numbers that RoPE rotates together are found in a head (Su et al. 2021).
enum class RopeLayout : uint8_t {
  halves,  ///< (x[i], x[i + d/2]): qwen2, qwen3
  pairs,   ///< (x[2i], x[2i + 1]): llama as stored in GGUF (q and k rows permuted by the converter)
};

struct RopeSpec {
  RopeLayout layout = RopeLayout::halves;
  double base = 10000.0;
  int dims = 0;  ///< rotated numbers per head (<= head_dim), even
  /// angle(position, i) = position * inverse_frequencies[i]; scaling (linear, llama3, YaRN, a
  /// rope_freqs tensor) is already in them. dims / 2 entries.
  std::vector<double> inverse_frequencies;
  double magnitude = 1.0;  ///< YaRN's factor on cos and sin
};

enum class Mixer : uint8_t { attention };
enum class FeedForward : uint8_t { gated };  ///< down(act(gate(x)) * up(x))
enum class Activation : uint8_t { silu, gelu_tanh };

struct LayerSpec {
  Mixer mixer = Mixer::attention;
  FeedForward feed_forward = FeedForward::gated;
  int n_heads = 0, n_kv_heads = 0, head_dim = 0;
  int ffn_size = 0;
  bool qkv_bias = false;     ///< q, k and v have biases (qwen2)
  bool output_bias = false;  ///< the attention's output projection has one
  bool qk_norm = false;      ///< RMS norm of each q and k head before RoPE (qwen3)

  int q_size() const { return n_heads * head_dim; }
  int kv_size() const { return n_kv_heads * head_dim; }
};

struct ModelSpec {
  std::string architecture;  ///< "qwen2"
  std::string name;          ///< general.name, for people
  int n_layers = 0, hidden_size = 0, vocab_size = 0;
  int context_length = 0;  ///< positions the model was made for
  float rms_epsilon = 1e-6f;
  float attention_scale = 0.f;  ///< on q.k; 1 / sqrt(head_dim) for all present architectures
  float embedding_scale = 1.f;  ///< on the token's embedding
  float logit_scale = 1.f;      ///< on the logits
  Activation activation = Activation::silu;
  bool tied_head = false;  ///< output.weight is token_embd.weight
  RopeSpec rope;
  std::vector<LayerSpec> layers;  ///< n_layers entries

  uint64_t n_parameters = 0;  ///< of all tensors
  /// Multiply-adds of one token through all linear layers, the head included (attention not
  /// counted).
  uint64_t linear_macs() const;
};

/// A matrix or vector in the file. A matrix has `rows` outputs of `columns` inputs each, row after
/// row.
struct Tensor {
  std::string name;
  uint64_t columns = 0, rows = 0;
  const quant::Format* format = nullptr;  ///< never null for a present tensor
  std::span<const uint8_t> data;
  const gguf::TensorInfo* info = nullptr;  ///< for File::will_need / drop

  explicit operator bool() const { return format != nullptr; }
};

/// Dequantises one row (columns floats).
void dequantize_row(const Tensor& tensor, uint64_t row, float* out);
/// A vector (norm, bias) as floats.
std::vector<float> to_floats(const Tensor& tensor);

struct LayerWeights {
  Tensor attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, output, output_bias;
  Tensor ffn_norm, gate, up, down;
};

/// A model as read from its file: spec and weights, checked against each other. Weights view the
/// mapping.
struct Model {
  std::shared_ptr<const gguf::File> file;  // shared with the tokenizer of the same file
  ModelSpec spec;
  Tensor token_embd, output_norm, output;  ///< `output` is token_embd when tied
  std::vector<LayerWeights> layers;
  uint64_t weight_bytes = 0;  ///< bytes of all tensors used, tied ones once

  /// Reads and checks everything; an error names the key or tensor and what was expected. Known
  /// architectures are listed when this one is not.
  static Result<std::shared_ptr<const Model>> load(std::shared_ptr<const gguf::File> file);
};

/// The spec alone, from the keys and the tensor table, checked like load() does; the weights need
/// not be there (OpenOptions::metadata_only): what `show` and "does it fit" need.
Result<ModelSpec> read_spec(const gguf::File& file);

/// Names of the architectures of this build, sorted.
std::vector<std::string> known_architectures();

/// "Q4_K_M"-like name from general.file_type, or the most common format.
std::string quantization_name(const gguf::File& file);
/// "7.6B", "28.93M" from a count of parameters, as `ollama list` writes it.
std::string parameter_size(uint64_t n_parameters);

}  // namespace ponder::model
