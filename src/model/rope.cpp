// RoPE's frequencies from a file's keys. All in double: the result is rounded where a backend makes
// its table of sines. YaRN blends interpolated (divided by the factor) and original frequencies by
// how many turns a frequency makes within the original context, and makes cos and sin larger by 0.1
// ln(factor) + 1, times rope.scaling.attn_factor.
#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ponder::model {
namespace {

constexpr double kPi = std::numbers::pi;

/// The (fractional) index of the frequency that makes `turns` turns within `context` positions.
double index_of_turns(double turns, int dims, double base, double context) {
  return dims * std::log(context / (turns * 2 * kPi)) / (2 * std::log(base));
}

Result<void> apply_linear(const Keys& keys, RopeSpec& rope) {
  // Files from before rope.scaling.* say rope.scale_linear.
  const bool old = keys.has("rope.scale_linear") && !keys.has("rope.scaling.factor");
  const char* key = old ? "rope.scale_linear" : "rope.scaling.factor";
  PONDER_TRY(const double factor, keys.number(key, 1e-3, 1e6));
  for (double& f : rope.inverse_frequencies) f /= factor;
  return {};
}

Result<void> apply_llama3(const Keys& keys, RopeSpec& rope, int context_length) {
  PONDER_TRY(const double factor, keys.number("rope.scaling.factor", 1, 1e6));
  PONDER_TRY(const double low, keys.number_or("rope.scaling.low_freq_factor", 1e-3, 1e6, 1));
  PONDER_TRY(const double high, keys.number_or("rope.scaling.high_freq_factor", 1e-3, 1e6, 4));
  PONDER_TRY(const double context, keys.number_or("rope.scaling.original_context_length", 1, 1 << 30, context_length));
  if (high <= low) return keys.wrong("rope.scaling.high_freq_factor", "must be greater than low_freq_factor");
  for (double& f : rope.inverse_frequencies) {
    const double wavelength = 2 * kPi / f;
    if (wavelength < context / high) continue;
    if (wavelength > context / low) {
      f /= factor;
    } else {
      const double smooth = (context / wavelength - low) / (high - low);
      f = (1 - smooth) * f / factor + smooth * f;
    }
  }
  return {};
}

Result<void> apply_yarn(const Keys& keys, RopeSpec& rope, int context_length) {
  PONDER_TRY(const double factor, keys.number("rope.scaling.factor", 1, 1e6));
  PONDER_TRY(const double context, keys.number_or("rope.scaling.original_context_length", 1, 1 << 30, context_length));
  PONDER_TRY(const double fast, keys.number_or("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32));
  PONDER_TRY(const double slow, keys.number_or("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1));
  PONDER_TRY(const double extrapolate, keys.number_or("rope.scaling.yarn_ext_factor", 0, 1, 1));
  if (rope.base <= 1) return keys.wrong("rope.freq_base", "YaRN needs a base greater than 1");
  const double low = std::max(0.0, std::floor(index_of_turns(fast, rope.dims, rope.base, context)));
  const double high = std::min(rope.dims - 1.0, std::ceil(index_of_turns(slow, rope.dims, rope.base, context)));
  for (size_t i = 0; i < rope.inverse_frequencies.size(); ++i) {
    const double ramp = std::clamp((double(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
    const double keep = (1 - ramp) * extrapolate;  // 1: the original frequency
    double& f = rope.inverse_frequencies[i];
    f = f / factor * (1 - keep) + f * keep;
  }
  if (extrapolate != 0) rope.magnitude *= 1 + 0.1 * std::log(factor);
  return {};
}

/// Divides by the tensor rope_freqs.weight.
Result<void> apply_tensor(const Keys& keys, const gguf::TensorInfo& info, RopeSpec& rope) {
  const auto wrong = [&](const std::string& what) {
    return Error{ErrorCode::invalid_file, keys.file().path() + ": tensor '" + info.name + "': " + what};
  };
  const size_t n = rope.inverse_frequencies.size();
  if (info.type != uint32_t(quant::Type::f32)) return wrong("must be F32, is " + quant::type_name(info.type));
  if (info.n_elements() != n)
    return wrong("must have " + std::to_string(n) + " numbers (half of rope.dimension_count), has " +
                 std::to_string(info.n_elements()));
  if (info.data.empty()) return {};  // metadata only: nothing to compute with
  if (info.data.size() != n * sizeof(float)) return wrong("its data has the wrong size");
  std::vector<float> factors(n);
  quant::find_format(info.type)->dequantize(info.data.data(), factors.data(), n);
  for (size_t i = 0; i < n; ++i) {
    if (!(factors[i] > 1e-6f && factors[i] < 1e6f))
      return wrong("number " + std::to_string(i) + " is not a usable divisor");
    rope.inverse_frequencies[i] /= factors[i];
  }
  return {};
}

}  // namespace

Result<RopeSpec> read_rope(const Keys& keys, RopeLayout layout, int head_dim, int context_length) {
  RopeSpec rope;
  rope.layout = layout;
  PONDER_TRY(rope.base, keys.number_or("rope.freq_base", 1, 1e12, 10000));
  PONDER_TRY(rope.dims, keys.integer_or("rope.dimension_count", 2, head_dim, head_dim));
  if (rope.dims % 2 != 0)
    return keys.wrong("rope.dimension_count", std::to_string(rope.dims) + " is odd; RoPE rotates pairs");
  for (int i = 0; i < rope.dims / 2; ++i) rope.inverse_frequencies.push_back(std::pow(rope.base, -2.0 * i / rope.dims));

  PONDER_TRY(rope.magnitude, keys.number_or("rope.scaling.attn_factor", 1e-3, 1e3, 1));
  // A factor without a type means linear, as llama.cpp reads it.
  const bool factor_alone = keys.has("rope.scale_linear") || keys.has("rope.scaling.factor");
  PONDER_TRY(const auto type, keys.text_or("rope.scaling.type", factor_alone ? "linear" : "none"));
  if (type == "linear") {
    PONDER_CHECK_OK(apply_linear(keys, rope));
  } else if (type == "llama3") {
    PONDER_CHECK_OK(apply_llama3(keys, rope, context_length));
  } else if (type == "yarn") {
    PONDER_CHECK_OK(apply_yarn(keys, rope, context_length));
  } else if (type != "none") {
    return keys.unsupported("rope.scaling.type", "RoPE scaling '" + std::string(type) +
                                                     "' is not supported; known: none, linear, llama3, yarn");
  }
  if (const auto* factors = keys.file().find_tensor("rope_freqs.weight"))
    PONDER_CHECK_OK(apply_tensor(keys, *factors, rope));
  return rope;
}

}  // namespace ponder::model
