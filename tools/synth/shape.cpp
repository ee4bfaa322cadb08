// Sizes of the R1 family are from the models' own config files; key names and tensor names are
// those of llama.cpp. The deviations keep activations near 1 everywhere: matrices 1 /
// sqrt(columns), the two that write into the residual stream smaller by sqrt(2 * layers) (as GPT-2
// was initialised), the head three times larger, so that logits have a deviation of about 3 and the
// first choice leads by more than the noise of quantised arithmetic.
#include "synth/shape.h"

#include <cmath>
#include <numbers>

#include "base/checked.h"

namespace ponder::synth {
namespace {

constexpr double kHeadGain = 3;
// A tied head sees its own embedding again in the residual stream; at 3 it would mostly answer a
// token with itself.
constexpr double kTiedGain = 2;

Shape qwen2(std::string name, uint64_t layers, uint64_t hidden, uint64_t ffn, uint64_t heads, uint64_t kv_heads,
            uint64_t vocab) {
  Shape s;
  s.name = std::move(name);
  s.layers = layers;
  s.hidden = hidden;
  s.ffn = ffn;
  s.heads = heads;
  s.kv_heads = kv_heads;
  s.head_dim = 128;
  s.vocab = vocab;
  s.context = 131072;
  return s;
}

Shape llama_8b() {
  Shape s = qwen2("DeepSeek R1 Distill Llama 8B (random weights)", 32, 4096, 14336, 32, 8, 128256);
  s.arch = "llama";
  s.rope_base = 500000;
  s.epsilon = 1e-5;
  s.qkv_bias = false;
  s.llama3_factor = 8;
  return s;
}

Shape qwen3_8b() {
  Shape s = qwen2("DeepSeek R1 0528 Qwen3 8B (random weights)", 36, 4096, 12288, 32, 8, 151936);
  s.arch = "qwen3";
  s.rope_base = 1000000;
  s.qkv_bias = false;
  s.yarn_factor = 4;
  return s;
}

Error bad(std::string message) { return Error{ErrorCode::invalid_argument, std::move(message)}; }

}  // namespace

std::vector<std::string> preset_names() {
  return {"r1-distill-qwen-1.5b", "r1-distill-qwen-7b", "r1-distill-llama-8b", "r1-0528-qwen3-8b"};
}

std::optional<Shape> preset(std::string_view name) {
  if (name == "r1-distill-qwen-1.5b") {
    return qwen2("DeepSeek R1 Distill Qwen 1.5B (random weights)", 28, 1536, 8960, 12, 2, 151936);
  }
  if (name == "r1-distill-qwen-7b") {
    return qwen2("DeepSeek R1 Distill Qwen 7B (random weights)", 28, 3584, 18944, 28, 4, 152064);
  }
  if (name == "r1-distill-llama-8b") return llama_8b();
  if (name == "r1-0528-qwen3-8b") return qwen3_8b();
  return std::nullopt;
}

Result<void> set_architecture(Shape& shape, const std::string& arch) {
  if (arch != "qwen2" && arch != "llama" && arch != "qwen3") {
    return bad("--arch: '" + arch + "' is unknown; known are qwen2, llama, qwen3");
  }
  shape.arch = arch;
  shape.qkv_bias = arch == "qwen2";
  shape.epsilon = arch == "llama" ? 1e-5 : 1e-6;
  shape.rope_base = arch == "llama" ? 500000 : arch == "qwen3" ? 1000000 : 10000;
  return {};
}

Result<void> check(const Shape& s) {
  const struct {
    const char* flag;
    uint64_t value, high;
  } kSizes[] = {
      {"--layers", s.layers, 1024},
      {"--hidden", s.hidden, 1 << 17},
      {"--ffn", s.ffn, 1 << 20},
      {"--heads", s.heads, 1024},
      {"--kv-heads", s.kv_heads, 1024},
      {"--head-dim", s.head_size(), 1024},
      {"--vocab", s.vocab, uint64_t(1) << 22},
      {"--context", s.context, uint64_t(1) << 24},
  };
  for (const auto& size : kSizes) {
    if (size.value < 1 || size.value > size.high) {
      return bad(std::string(size.flag) + ": " + std::to_string(size.value) + " is not between 1 and " +
                 std::to_string(size.high));
    }
  }
  if (s.heads % s.kv_heads != 0) return bad("--kv-heads: must divide --heads");
  if (s.head_dim == 0 && s.hidden % s.heads != 0) {
    return bad("--heads: must divide --hidden unless --head-dim is given");
  }
  if (s.head_size() % 2 != 0) return bad("--head-dim: must be even, RoPE turns pairs");
  if (!(s.rope_base > 1)) return bad("--rope-base: must be greater than 1");
  return {};
}

std::vector<Tensor> tensors(const Shape& s) {
  std::vector<Tensor> list;
  const uint64_t q_size = s.heads * s.head_size(), kv_size = s.kv_heads * s.head_size();
  const auto matrix = [&](const std::string& name, uint64_t columns, uint64_t rows, double gain = 1) {
    list.push_back({name, {columns, rows}, Fill::normal, gain / std::sqrt(double(columns))});
  };
  const auto vector = [&](const std::string& name, uint64_t size, Fill fill) { list.push_back({name, {size}, fill}); };

  // A tied head multiplies by the embedding, so the embedding then has the head's size; else it has
  // a deviation of 1.
  const double embedding_gain = s.tied ? kTiedGain : std::sqrt(double(s.hidden));
  if (!s.tied) matrix("output.weight", s.hidden, s.vocab, kHeadGain);
  vector("output_norm.weight", s.hidden, Fill::norm);
  matrix("token_embd.weight", s.hidden, s.vocab, embedding_gain);
  if (s.llama3_factor > 0) vector("rope_freqs.weight", s.head_size() / 2, Fill::rope_factors);
  const double residual_gain = 1 / std::sqrt(2.0 * double(s.layers));
  for (uint64_t i = 0; i < s.layers; ++i) {
    const std::string blk = "blk." + std::to_string(i) + ".";
    if (s.qkv_bias) vector(blk + "attn_k.bias", kv_size, Fill::bias);
    matrix(blk + "attn_k.weight", s.hidden, kv_size);
    if (s.arch == "qwen3") vector(blk + "attn_k_norm.weight", s.head_size(), Fill::norm);
    vector(blk + "attn_norm.weight", s.hidden, Fill::norm);
    matrix(blk + "attn_output.weight", q_size, s.hidden, residual_gain);
    if (s.qkv_bias) vector(blk + "attn_q.bias", q_size, Fill::bias);
    matrix(blk + "attn_q.weight", s.hidden, q_size);
    if (s.arch == "qwen3") vector(blk + "attn_q_norm.weight", s.head_size(), Fill::norm);
    if (s.qkv_bias) vector(blk + "attn_v.bias", kv_size, Fill::bias);
    matrix(blk + "attn_v.weight", s.hidden, kv_size);
    matrix(blk + "ffn_down.weight", s.ffn, s.hidden, residual_gain);
    matrix(blk + "ffn_gate.weight", s.hidden, s.ffn);
    vector(blk + "ffn_norm.weight", s.hidden, Fill::norm);
    matrix(blk + "ffn_up.weight", s.hidden, s.ffn);
  }
  return list;
}

// Divisors of the RoPE frequencies: 1 for short wavelengths, the factor for long ones, a blend
// between. Source: Llama 3.1 reference code (apply_scaling).
std::vector<float> rope_factors(const Shape& s) {
  std::vector<float> factors;
  const uint64_t half = s.head_size() / 2;
  for (uint64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(s.rope_base, -double(i) / double(half));
    const double wavelength = 2 * std::numbers::pi / frequency;
    double factor = 1;
    if (wavelength > s.llama3_original / s.llama3_low) {
      factor = s.llama3_factor;
    } else if (wavelength >= s.llama3_original / s.llama3_high) {
      const double smooth = (s.llama3_original / wavelength - s.llama3_low) / (s.llama3_high - s.llama3_low);
      factor = 1 / ((1 - smooth) / s.llama3_factor + smooth);
    }
    factors.push_back(float(factor));
  }
  return factors;
}

void add_metadata(const Shape& s, gguf::Writer& w) {
  const std::string p = s.arch + ".";
  w.add_string("general.architecture", s.arch);
  w.add_string("general.type", "model");
  w.add_string("general.name", s.name);
  w.add_string("general.description", "random weights, for tests and benchmarks");
  w.add_u32(p + "block_count", uint32_t(s.layers));
  w.add_u32(p + "context_length", uint32_t(s.context));
  w.add_u32(p + "embedding_length", uint32_t(s.hidden));
  w.add_u32(p + "feed_forward_length", uint32_t(s.ffn));
  w.add_u32(p + "attention.head_count", uint32_t(s.heads));
  w.add_u32(p + "attention.head_count_kv", uint32_t(s.kv_heads));
  w.add_f32(p + "rope.freq_base", float(s.rope_base));
  w.add_f32(p + "attention.layer_norm_rms_epsilon", float(s.epsilon));
  if (s.arch == "qwen3" || s.head_size() * s.heads != s.hidden) {
    w.add_u32(p + "attention.key_length", uint32_t(s.head_size()));
    w.add_u32(p + "attention.value_length", uint32_t(s.head_size()));
  }
  if (s.arch == "llama") {
    w.add_u32(p + "vocab_size", uint32_t(s.vocab));
    w.add_u32(p + "rope.dimension_count", uint32_t(s.head_size()));
  }
  if (s.yarn_factor > 0) {
    w.add_string(p + "rope.scaling.type", "yarn");
    w.add_f32(p + "rope.scaling.factor", float(s.yarn_factor));
    w.add_u32(p + "rope.scaling.original_context_length", uint32_t(s.yarn_original));
  }
  w.add_u32("general.quantization_version", 2);
}

}  // namespace ponder::synth
