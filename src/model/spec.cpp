// Hyper-parameters from GGUF keys, and the registry of architectures (generated from the files in
// arch/). One reader serves all architectures; what differs is in their Architecture table. Next:
// load.cpp, which binds the tensors.
#include "model/spec.h"

#include <cmath>

#include "model/rope.h"

namespace ponder::model {

namespace arch {
#define PONDER_ARCHITECTURE(name) extern const Architecture name;
#include "architectures.inc"
#undef PONDER_ARCHITECTURE
}  // namespace arch

namespace {

const Architecture* const kArchitectures[] = {
#define PONDER_ARCHITECTURE(name) &arch::name,
#include "architectures.inc"
#undef PONDER_ARCHITECTURE
};

// Limits of what a file may say, far above any published decoder. All of them fit an int, and so
// does a product of n_heads and head_dim.
constexpr int kMaxLayers = 4096, kMaxHidden = 1 << 18, kMaxFfn = 1 << 20, kMaxHeads = 4096, kMaxHeadDim = 4096,
              kMaxContext = 1 << 28;

}  // namespace

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const auto* a : kArchitectures) names.emplace_back(a->name);
  return names;
}

Result<const Architecture*> find_architecture(const gguf::File& file) {
  PONDER_TRY(const auto name, file.require_string("general.architecture"));
  for (const auto* a : kArchitectures)
    if (name == a->name) return a;
  std::string known;
  for (const auto* a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a->name);
  return Error{ErrorCode::unsupported, file.path() + ": architecture '" + std::string(name.substr(0, 64)) +
                                           "' is not supported; this build knows " + known};
}

Result<ModelSpec> read_hyper_parameters(const Architecture& architecture, const gguf::File& file) {
  const Keys keys(file, architecture.name);
  ModelSpec spec;
  spec.architecture = architecture.name;
  spec.name = file.get_string("general.name").value_or("");
  PONDER_TRY(spec.n_layers, keys.integer("block_count", 1, kMaxLayers));
  PONDER_TRY(spec.hidden_size, keys.integer("embedding_length", 1, kMaxHidden));
  PONDER_TRY(spec.context_length, keys.integer("context_length", 1, kMaxContext));
  PONDER_TRY(const double epsilon, keys.number("attention.layer_norm_rms_epsilon", 0, 1));
  spec.rms_epsilon = float(epsilon);
  PONDER_TRY(const int experts, keys.integer_or("expert_count", 0, 1 << 20, 0));
  if (experts > 0) return keys.unsupported("expert_count", "mixtures of experts are not supported yet");

  LayerSpec layer;
  PONDER_TRY(layer.ffn_size, keys.integer("feed_forward_length", 1, kMaxFfn));
  PONDER_TRY(layer.n_heads, keys.integer("attention.head_count", 1, kMaxHeads));
  PONDER_TRY(layer.n_kv_heads, keys.integer_or("attention.head_count_kv", 1, kMaxHeads, layer.n_heads));
  if (layer.n_heads % layer.n_kv_heads != 0) {
    return keys.wrong("attention.head_count_kv", std::to_string(layer.n_kv_heads) + " does not divide head_count " +
                                                     std::to_string(layer.n_heads));
  }
  if (!keys.has("attention.key_length") && spec.hidden_size % layer.n_heads != 0) {
    return keys.wrong("attention.head_count", std::to_string(layer.n_heads) + " does not divide embedding_length " +
                                                  std::to_string(spec.hidden_size) + ", and key_length is missing");
  }
  PONDER_TRY(layer.head_dim, keys.integer_or("attention.key_length", 2, kMaxHeadDim, spec.hidden_size / layer.n_heads));
  PONDER_TRY(const int value_length, keys.integer_or("attention.value_length", 1, kMaxHeadDim, layer.head_dim));
  if (value_length != layer.head_dim) {
    return keys.unsupported("attention.value_length", std::to_string(value_length) + " differs from key_length " +
                                                          std::to_string(layer.head_dim));
  }
  spec.attention_scale = float(1.0 / std::sqrt(double(layer.head_dim)));
  PONDER_TRY(spec.rope, read_rope(keys, architecture.rope_layout, layer.head_dim, spec.context_length));
  spec.layers.assign(size_t(spec.n_layers), layer);
  if (architecture.refine != nullptr) PONDER_CHECK_OK(architecture.refine(keys, spec));
  return spec;
}

}  // namespace ponder::model
