// Binds the tensors of a file to the places of the decoder: each must be there, have the shape that
// the hyper-parameters say and a format that this build can decode. A tensor that no place asked
// for is an error as well, because leaving it out would give wrong numbers without a word. Only the
// tensor table is read here, no weight.
#include <limits>

#include "base/checked.h"
#include "model/model.h"
#include "model/spec.h"

namespace ponder::model {
namespace {

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string s = "[";
  for (const uint64_t d : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(d);
  return s + "]";
}

class Binder {
 public:
  Binder(const gguf::File& file, bool need_data)
      : file_(file), need_data_(need_data), used_(file.tensors().size(), false) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  /// A matrix, or with rows 0 a vector in a float format.
  Result<Tensor> bind(const std::string& name, uint64_t columns, uint64_t rows) {
    const gguf::TensorInfo* info = file_.find_tensor(name);
    const std::vector<uint64_t> expected = rows == 0 ? std::vector{columns} : std::vector{columns, rows};
    if (info == nullptr) {
      return Error{ErrorCode::invalid_file,
                   file_.path() + ": tensor '" + name + "' of shape " + shape_text(expected) + " is missing"};
    }
    std::vector<uint64_t> found = info->shape;
    while (found.size() > expected.size() && found.back() == 1) found.pop_back();
    if (found != expected)
      return wrong(name, "has shape " + shape_text(info->shape) + ", expected " + shape_text(expected));
    return take(*info, columns, rows == 0 ? 1 : rows, rows == 0);
  }

  /// token_embd.weight, whose rows are the vocabulary.
  Result<Tensor> bind_embedding(const std::string& name, uint64_t columns) {
    const gguf::TensorInfo* info = file_.find_tensor(name);
    const uint64_t rows = info != nullptr && info->shape.size() >= 2 ? info->shape[1] : 1;
    if (rows > uint64_t(std::numeric_limits<int32_t>::max()) / 2)
      return wrong(name, "has " + std::to_string(rows) + " rows, too many for token ids");
    return bind(name, columns, rows);
  }

  /// The error about tensors that nobody asked for.
  Result<void> check_all_used(const Architecture& architecture) const {
    for (size_t i = 0; i < used_.size(); ++i) {
      const std::string& name = file_.tensors()[i].name;
      if (used_[i] || name == "rope_freqs.weight") continue;  // rope.cpp has read that one
      return Error{ErrorCode::unsupported, file_.path() + ": tensor '" + name + "' has no place in architecture '" +
                                               architecture.name + "'; without it the results would be wrong"};
    }
    return {};
  }

  uint64_t bytes() const { return bytes_; }

 private:
  Error wrong(const std::string& name, const std::string& what) const {
    return Error{ErrorCode::invalid_file, file_.path() + ": tensor '" + name + "' " + what};
  }

  Result<Tensor> take(const gguf::TensorInfo& info, uint64_t columns, uint64_t rows, bool vector) {
    const quant::Format* format = quant::find_format(info.type);
    if (format == nullptr) return quant::unsupported_type(info.name, info.type).with_context(file_.path());
    if (vector && !format->is_float)
      return wrong(info.name, std::string("is ") + format->name + ", expected F32, F16 or BF16");
    if (columns % format->block_size != 0) {
      return wrong(info.name, "has rows of " + std::to_string(columns) + ", not a multiple of " + format->name +
                                  "'s block of " + std::to_string(format->block_size));
    }
    const auto bytes = checked_mul(format->row_bytes(columns), rows);
    if (!bytes || (!info.data.empty() && info.data.size() != *bytes))
      return wrong(info.name, "has " + std::to_string(info.data.size()) + " bytes, which do not fit its shape");
    if (info.data.empty() && need_data_)
      return wrong(info.name, "has no data: the file was cut short (download it again)");
    const auto total = checked_add(bytes_, *bytes);
    if (!total) return wrong(info.name, "is too large");
    bytes_ = *total;
    used_[size_t(&info - file_.tensors().data())] = true;
    return Tensor{info.name, columns, rows, format, info.data, &info};
  }

  const gguf::File& file_;
  const bool need_data_;
  std::vector<bool> used_;
  uint64_t bytes_ = 0;
};

Result<LayerWeights> bind_layer(Binder& binder, int index, int hidden_size, const LayerSpec& spec) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const uint64_t hidden = uint64_t(hidden_size), ffn = uint64_t(spec.ffn_size);
  const uint64_t q = uint64_t(spec.q_size()), kv = uint64_t(spec.kv_size()), head = uint64_t(spec.head_dim);
  LayerWeights w;
  PONDER_TRY(w.attn_norm, binder.bind(prefix + "attn_norm.weight", hidden, 0));
  PONDER_TRY(w.q, binder.bind(prefix + "attn_q.weight", hidden, q));
  PONDER_TRY(w.k, binder.bind(prefix + "attn_k.weight", hidden, kv));
  PONDER_TRY(w.v, binder.bind(prefix + "attn_v.weight", hidden, kv));
  PONDER_TRY(w.output, binder.bind(prefix + "attn_output.weight", q, hidden));
  if (spec.qkv_bias) {
    PONDER_TRY(w.q_bias, binder.bind(prefix + "attn_q.bias", q, 0));
    PONDER_TRY(w.k_bias, binder.bind(prefix + "attn_k.bias", kv, 0));
    PONDER_TRY(w.v_bias, binder.bind(prefix + "attn_v.bias", kv, 0));
  }
  if (spec.output_bias) {
    PONDER_TRY(w.output_bias, binder.bind(prefix + "attn_output.bias", hidden, 0));
  }
  if (spec.qk_norm) {
    PONDER_TRY(w.q_norm, binder.bind(prefix + "attn_q_norm.weight", head, 0));
    PONDER_TRY(w.k_norm, binder.bind(prefix + "attn_k_norm.weight", head, 0));
  }
  PONDER_TRY(w.ffn_norm, binder.bind(prefix + "ffn_norm.weight", hidden, 0));
  PONDER_TRY(w.gate, binder.bind(prefix + "ffn_gate.weight", hidden, ffn));
  PONDER_TRY(w.up, binder.bind(prefix + "ffn_up.weight", hidden, ffn));
  PONDER_TRY(w.down, binder.bind(prefix + "ffn_down.weight", ffn, hidden));
  return w;
}

Result<Model> bind_model(const gguf::File& file, bool need_data) {
  PONDER_TRY(const Architecture* architecture, find_architecture(file));
  Model model;
  PONDER_TRY(model.spec, read_hyper_parameters(*architecture, file));
  ModelSpec& spec = model.spec;
  Binder binder(file, need_data);
  PONDER_TRY(model.token_embd, binder.bind_embedding("token_embd.weight", uint64_t(spec.hidden_size)));
  spec.vocab_size = int(model.token_embd.rows);
  if (const auto* tokens = file.get_array("tokenizer.ggml.tokens");
      tokens != nullptr && tokens->size() > uint64_t(spec.vocab_size)) {
    return Error{ErrorCode::invalid_file, file.path() + ": key 'tokenizer.ggml.tokens' has " +
                                              std::to_string(tokens->size()) + " entries, but token_embd.weight only " +
                                              std::to_string(spec.vocab_size) + " rows"};
  }
  PONDER_TRY(model.output_norm, binder.bind("output_norm.weight", uint64_t(spec.hidden_size), 0));
  spec.tied_head = !binder.has("output.weight");
  if (spec.tied_head) {
    model.output = model.token_embd;
  } else {
    PONDER_TRY(model.output, binder.bind("output.weight", uint64_t(spec.hidden_size), uint64_t(spec.vocab_size)));
  }

  const auto decide = [&](Presence presence, const char* name) {
    return presence == Presence::required || (presence == Presence::optional && binder.has(name));
  };
  for (LayerSpec& layer : spec.layers) {
    layer.qkv_bias = decide(architecture->qkv_bias, "blk.0.attn_q.bias");
    layer.output_bias = decide(architecture->output_bias, "blk.0.attn_output.bias");
    layer.qk_norm = decide(architecture->qk_norm, "blk.0.attn_q_norm.weight");
    PONDER_TRY(auto weights, bind_layer(binder, int(model.layers.size()), spec.hidden_size, layer));
    model.layers.push_back(std::move(weights));
  }
  PONDER_CHECK_OK(binder.check_all_used(*architecture));
  model.weight_bytes = binder.bytes();
  for (const auto& info : file.tensors()) {
    if (info.name == "rope_freqs.weight") continue;  // a constant, not a parameter
    const auto total = checked_add(spec.n_parameters, info.n_elements());
    if (!total) return Error{ErrorCode::invalid_file, file.path() + ": tensors are too large together"};
    spec.n_parameters = *total;
  }
  return model;
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::load(std::shared_ptr<const gguf::File> file) {
  PONDER_TRY(Model model, bind_model(*file, true));
  model.file = std::move(file);
  return std::shared_ptr<const Model>(std::make_shared<Model>(std::move(model)));
}

Result<ModelSpec> read_spec(const gguf::File& file) {
  PONDER_TRY(Model model, bind_model(file, false));
  return std::move(model.spec);
}

void dequantize_row(const Tensor& tensor, uint64_t row, float* out) {
  const uint64_t bytes = tensor.format->row_bytes(tensor.columns);
  tensor.format->dequantize(tensor.data.data() + row * bytes, out, tensor.columns / tensor.format->block_size);
}

std::vector<float> to_floats(const Tensor& tensor) {
  std::vector<float> out(size_t(tensor.columns * tensor.rows));
  for (uint64_t r = 0; r < tensor.rows; ++r) dequantize_row(tensor, r, out.data() + r * tensor.columns);
  return out;
}

}  // namespace ponder::model
