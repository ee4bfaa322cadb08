// One forward pass, layer after layer, as the papers write it. launch() computes at once; collect()
// hands the results out. Read reference.h first, math.h for the single operations.
#include <algorithm>
#include <cmath>
#include <optional>

#include "backend/reference/math.h"
#include "backend/reference/reference.h"
#include "base/checked.h"
#include "base/half.h"
#include "base/os/system.h"

namespace ponder::backend::reference {
namespace {

using model::LayerSpec;
using model::ModelSpec;

/// Norms and biases of a layer as floats.
struct LayerVectors {
  std::vector<float> attn_norm, q_bias, k_bias, v_bias, q_norm, k_norm, output_bias, ffn_norm;
};

std::vector<float> floats_of(const model::Tensor& tensor) {
  return tensor ? model::to_floats(tensor) : std::vector<float>{};
}

class ReferencePlan final : public Plan {
 public:
  ReferencePlan(std::shared_ptr<const model::Model> model, const PlanOptions& options, Rounding rounding);

  const MemoryReport& memory_report() const override { return report_; }
  const PlanInfo& info() const override { return info_; }
  const ModelSpec& spec() const override { return model_->spec; }
  Result<void> load(const Progress& progress, const StopFlag* stop) override;
  Result<void> launch(const Batch& batch, const StopFlag* stop) override;
  Result<std::vector<RowResult>> collect() override;
  Result<void> prepare_page(kv::PageId page) override;
  void copy_page(kv::PageId from, kv::PageId to) override { kv_[size_t(to)] = kv_[size_t(from)]; }

 private:
  void attention_block(size_t layer, std::span<const Row> rows);
  void feed_forward_block(size_t layer, int n);
  void attend(size_t layer, const Row& row, const float* q, int head, float* out) const;
  void outputs(std::span<const Row> rows);

  // Where K (part 0) or V (part 1) of a layer's token lies in a page, in elements.
  size_t kv_offset(size_t layer, int part, int position) const {
    const size_t size = size_t(spec().layers[layer].kv_size());
    return layer_offset_[layer] + (size_t(part) * kv::kPageTokens + size_t(position % kv::kPageTokens)) * size;
  }
  void store_kv(const Row& row, size_t layer, int part, const float* values);
  void read_kv(const SequenceState& s, size_t layer, int part, int position, int first, int n, float* out) const;

  const std::shared_ptr<const model::Model> model_;  // shared with whoever loaded it
  const PlanOptions options_;
  const Rounding rounding_;
  MemoryReport report_;
  PlanInfo info_;

  // Pages: float32 or float16 bits, element by element [layer][K, V][token][kv_size].
  std::vector<size_t> layer_offset_;
  size_t page_elements_ = 0;
  std::vector<std::vector<uint8_t>> kv_;

  // From load() on.
  std::optional<ThreadPool> pool_;
  std::optional<Multiplier> multiplier_;
  std::vector<LayerVectors> vectors_;
  std::vector<float> output_norm_;
  std::vector<float> x_, normed_, q_, k_, v_, mixed_, projected_, gate_, up_, logits_;

  std::vector<RowResult> results_;
  std::vector<Row> in_flight_;
  bool cancelled_ = false;
  std::vector<float> sample_scratch_;
};

ReferencePlan::ReferencePlan(std::shared_ptr<const model::Model> model, const PlanOptions& options, Rounding rounding)
    : model_(std::move(model)), options_(options), rounding_(std::move(rounding)) {
  const ModelSpec& s = spec();
  for (const LayerSpec& l : s.layers) {
    layer_offset_.push_back(page_elements_);
    page_elements_ += 2 * size_t(kv::kPageTokens) * size_t(l.kv_size());
  }
  const int n_pages = int((options.kv_tokens + kv::kPageTokens - 1) / kv::kPageTokens);
  pages_ = std::make_unique<kv::PagePool>(n_pages);
  kv_.resize(size_t(n_pages));

  info_ = {.backend = "reference",
           .device = "CPU, scalar float64",
           .isa = "scalar",
           .numerics_id = "reference.f64",
           .precision = Precision::exact,
           .kv_format = options.kv_format,
           .threads = options.threads > 0 ? options.threads : os::physical_cores()};
  info_.bytes_per_token = model_->weight_bytes - (s.tied_head ? 0 : model_->token_embd.data.size());
  report_.mapped_weights = model_->weight_bytes;
  const uint64_t element = options.kv_format == KvFormat::f16 ? 2 : 4;
  report_.kv_per_token = page_elements_ * element / kv::kPageTokens;
  report_.kv_capacity = uint64_t(n_pages) * page_elements_ * element;
  uint64_t per_row = 3 * uint64_t(s.hidden_size), widest = uint64_t(s.hidden_size), vectors = uint64_t(s.hidden_size);
  const LayerSpec& l = s.layers[0];  // layers are alike
  per_row += 2 * uint64_t(l.q_size()) + 2 * uint64_t(l.kv_size()) + 2 * uint64_t(l.ffn_size);
  widest = std::max({widest, uint64_t(l.q_size()), uint64_t(l.ffn_size)});
  vectors += s.layers.size() * 3 * uint64_t(s.hidden_size);
  report_.scratch = (uint64_t(options.max_batch_rows) * per_row + vectors +
                     uint64_t(options.max_output_rows) * uint64_t(s.vocab_size)) *
                        sizeof(float) +
                    Multiplier::bytes(options.max_batch_rows, widest, info_.threads);
}

Result<void> ReferencePlan::load(const Progress& progress, const StopFlag* stop) {
  pool_.emplace(info_.threads);
  multiplier_.emplace(*pool_, rounding_);
  vectors_.clear();
  for (const auto& w : model_->layers) {
    if (stop != nullptr && stop->load()) return Error{ErrorCode::cancelled, "loading was stopped"};
    vectors_.push_back({floats_of(w.attn_norm), floats_of(w.q_bias), floats_of(w.k_bias), floats_of(w.v_bias),
                        floats_of(w.q_norm), floats_of(w.k_norm), floats_of(w.output_bias), floats_of(w.ffn_norm)});
    if (progress) progress(double(vectors_.size()) / double(model_->layers.size()));
  }
  output_norm_ = floats_of(model_->output_norm);
  const size_t rows = size_t(options_.max_batch_rows);
  const LayerSpec& l = spec().layers[0];
  for (auto* v : {&x_, &normed_, &projected_}) v->resize(rows * size_t(spec().hidden_size));
  for (auto* v : {&q_, &mixed_}) v->resize(rows * size_t(l.q_size()));
  for (auto* v : {&k_, &v_}) v->resize(rows * size_t(l.kv_size()));
  for (auto* v : {&gate_, &up_}) v->resize(rows * size_t(l.ffn_size));
  logits_.resize(size_t(options_.max_output_rows) * size_t(spec().vocab_size));
  return {};
}

Result<void> ReferencePlan::prepare_page(kv::PageId page) {
  auto& storage = kv_[size_t(page)];
  if (storage.empty()) storage.resize(page_elements_ * (options_.kv_format == KvFormat::f16 ? 2 : 4));
  return {};
}

void ReferencePlan::store_kv(const Row& row, size_t layer, int part, const float* values) {
  auto& page = kv_[size_t(row.sequence->pages()[size_t(row.position / kv::kPageTokens)])];
  const size_t at = kv_offset(layer, part, row.position);
  const int n = spec().layers[layer].kv_size();
  if (options_.kv_format == KvFormat::f32) {
    std::copy_n(values, n, reinterpret_cast<float*>(page.data()) + at);
  } else {
    std::transform(values, values + n, reinterpret_cast<uint16_t*>(page.data()) + at, float_to_half);
  }
}

void ReferencePlan::read_kv(const SequenceState& s, size_t layer, int part, int position, int first, int n,
                            float* out) const {
  const auto& page = kv_[size_t(s.pages()[size_t(position / kv::kPageTokens)])];
  const size_t at = kv_offset(layer, part, position) + size_t(first);
  if (options_.kv_format == KvFormat::f32) {
    std::copy_n(reinterpret_cast<const float*>(page.data()) + at, n, out);
  } else {
    const auto* halves = reinterpret_cast<const uint16_t*>(page.data()) + at;
    std::transform(halves, halves + n, out, half_to_float);
  }
}

/// softmax(q.k * scale) v over all positions up to the row's own, for one query head.
void ReferencePlan::attend(size_t layer, const Row& row, const float* q, int head, float* out) const {
  const LayerSpec& l = spec().layers[layer];
  const int d = l.head_dim, first = head / (l.n_heads / l.n_kv_heads) * d;
  std::vector<float> kv(static_cast<size_t>(d));
  std::vector<double> scores, sum(static_cast<size_t>(d));
  for (int p = 0; p <= row.position; ++p) {
    read_kv(*row.sequence, layer, 0, p, first, d, kv.data());
    scores.push_back(dot(q, kv.data(), d) * spec().attention_scale);
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& s : scores) total += s = std::exp(s - largest);
  for (int p = 0; p <= row.position; ++p) {
    read_kv(*row.sequence, layer, 1, p, first, d, kv.data());
    for (int i = 0; i < d; ++i) sum[size_t(i)] += scores[size_t(p)] * kv[size_t(i)];
  }
  for (int i = 0; i < d; ++i) out[i] = float(sum[size_t(i)] / total);
}

void ReferencePlan::attention_block(size_t layer, std::span<const Row> rows) {
  const ModelSpec& s = spec();
  const LayerSpec& l = s.layers[layer];
  const auto& w = model_->layers[layer];
  const LayerVectors& vectors = vectors_[layer];
  const int n = int(rows.size()), d = l.head_dim;
  const size_t hidden = size_t(s.hidden_size), q_size = size_t(l.q_size()), kv_size = size_t(l.kv_size());
  for (size_t r = 0; r < rows.size(); ++r)
    rms_norm(&x_[r * hidden], vectors.attn_norm, s.rms_epsilon, &normed_[r * hidden]);
  multiplier_->multiply(w.q, vectors.q_bias, normed_.data(), n, q_.data());
  multiplier_->multiply(w.k, vectors.k_bias, normed_.data(), n, k_.data());
  multiplier_->multiply(w.v, vectors.v_bias, normed_.data(), n, v_.data());
  for (size_t r = 0; r < rows.size(); ++r) {
    const Rotation rotation(s.rope, rows[r].position);
    const auto prepare = [&](float* heads, int n_heads, const std::vector<float>& norm) {
      for (int h = 0; h < n_heads; ++h) {
        if (l.qk_norm) rms_norm(heads + h * d, norm, s.rms_epsilon, heads + h * d);
        rotate(heads + h * d, s.rope, rotation);
      }
    };
    prepare(&q_[r * q_size], l.n_heads, vectors.q_norm);
    prepare(&k_[r * kv_size], l.n_kv_heads, vectors.k_norm);
    store_kv(rows[r], layer, 0, &k_[r * kv_size]);
    store_kv(rows[r], layer, 1, &v_[r * kv_size]);
  }
  pool_->run([&](int thread) {
    const Share items = share_of(int64_t(n) * l.n_heads, thread, pool_->size());
    for (int64_t i = items.begin; i < items.end; ++i)
      attend(layer, rows[size_t(i / l.n_heads)], &q_[size_t(i * d)], int(i % l.n_heads), &mixed_[size_t(i * d)]);
  });
  multiplier_->multiply(w.output, vectors.output_bias, mixed_.data(), n, projected_.data());
  for (size_t i = 0; i < rows.size() * hidden; ++i) x_[i] += projected_[i];
}

void ReferencePlan::feed_forward_block(size_t layer, int n) {
  const ModelSpec& s = spec();
  const auto& w = model_->layers[layer];
  const size_t hidden = size_t(s.hidden_size);
  for (size_t r = 0; r < size_t(n); ++r)
    rms_norm(&x_[r * hidden], vectors_[layer].ffn_norm, s.rms_epsilon, &normed_[r * hidden]);
  multiplier_->multiply(w.gate, {}, normed_.data(), n, gate_.data());
  multiplier_->multiply(w.up, {}, normed_.data(), n, up_.data());
  for (size_t i = 0; i < size_t(n) * size_t(s.layers[layer].ffn_size); ++i)
    gate_[i] = activate(s.activation, gate_[i]) * up_[i];
  multiplier_->multiply(w.down, {}, gate_.data(), n, projected_.data());
  for (size_t i = 0; i < size_t(n) * hidden; ++i) x_[i] += projected_[i];
}

/// Norm, head and draw, for the rows that asked for something.
void ReferencePlan::outputs(std::span<const Row> rows) {
  const ModelSpec& s = spec();
  const size_t hidden = size_t(s.hidden_size), vocab = size_t(s.vocab_size);
  size_t n = 0;
  for (size_t r = 0; r < rows.size(); ++r)
    if (rows[r].sampling != nullptr || rows[r].want_logits)
      rms_norm(&x_[r * hidden], output_norm_, s.rms_epsilon, &normed_[n++ * hidden]);
  if (n > 0) multiplier_->multiply(model_->output, {}, normed_.data(), int(n), logits_.data());
  for (size_t i = 0; i < n * vocab; ++i) logits_[i] *= s.logit_scale;
  results_.assign(rows.size(), {});
  n = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].sampling == nullptr && !rows[r].want_logits) continue;
    const std::span<const float> logits(&logits_[n++ * vocab], vocab);
    if (rows[r].sampling != nullptr) results_[r].sampled = sample::sample(logits, *rows[r].sampling, sample_scratch_);
    if (rows[r].want_logits) results_[r].logits = logits;
  }
}

Result<void> ReferencePlan::launch(const Batch& batch, const StopFlag* stop) {
  if (!multiplier_) return Error{ErrorCode::internal, "reference: launch() before load()"};
  if (!in_flight_.empty()) return Error{ErrorCode::internal, "reference: a batch is in flight already"};
  PONDER_CHECK_OK(validate(batch, spec(), options_));
  const size_t hidden = size_t(spec().hidden_size);
  for (size_t r = 0; r < batch.rows.size(); ++r) {
    model::dequantize_row(model_->token_embd, uint64_t(batch.rows[r].token), &x_[r * hidden]);
    for (size_t i = 0; i < hidden; ++i) x_[r * hidden + i] *= spec().embedding_scale;
  }
  in_flight_ = batch.rows;
  cancelled_ = false;
  for (size_t layer = 0; layer < spec().layers.size() && !cancelled_; ++layer) {
    cancelled_ = stop != nullptr && stop->load();
    if (cancelled_) break;
    attention_block(layer, batch.rows);
    feed_forward_block(layer, int(batch.rows.size()));
  }
  if (!cancelled_) outputs(batch.rows);
  return {};
}

Result<std::vector<RowResult>> ReferencePlan::collect() {
  if (in_flight_.empty()) return Error{ErrorCode::internal, "reference: collect() without a batch"};
  const std::vector<Row> rows = std::move(in_flight_);
  in_flight_.clear();
  if (cancelled_) return Error{ErrorCode::cancelled, "the batch was stopped"};
  for (const Row& row : rows) row.sequence->advance(1);
  return std::move(results_);
}

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(Rounding rounding) : rounding_(std::move(rounding)) {}
  const char* name() const override { return "reference"; }

  Result<std::unique_ptr<Plan>> compile(std::shared_ptr<const model::Model> model,
                                        const PlanOptions& options) override {
    if (options.max_batch_rows < 1 || options.max_output_rows < 1 || options.kv_tokens < 1 ||
        options.kv_tokens > (int64_t(1) << 31)) {
      return Error{ErrorCode::invalid_argument, "reference: rows and KV tokens must be at least 1"};
    }
    if (options.kv_format == KvFormat::q8)
      return Error{ErrorCode::unsupported, "the reference backend keeps K and V as f16 or f32, not q8"};
    return std::unique_ptr<Plan>(std::make_unique<ReferencePlan>(std::move(model), options, rounding_));
  }

 private:
  const Rounding rounding_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(Rounding rounding) {
  return std::make_unique<ReferenceBackend>(std::move(rounding));
}

}  // namespace ponder::backend::reference
