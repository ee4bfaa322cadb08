// launch() enqueues and returns (unless several devices hand over to each other); collect() waits.
#include "backend/cuda/plan.h"

#include <algorithm>

#include "backend/cuda/linear.h"

namespace ponder::backend::cuda {
namespace {

constexpr int64_t kMaxKvTokens = int64_t(1) << 30;

}  // namespace

Result<std::unique_ptr<CudaPlan>> CudaPlan::make(std::shared_ptr<const model::Model> model, const PlanOptions& given,
                                                 std::vector<CardRoom> cards, const MakeFrontLayers& front_layers) {
  PlanOptions options = given;
  if (options.max_batch_rows < 1 || options.max_output_rows < 1 || options.kv_tokens < 1 ||
      options.kv_tokens > kMaxKvTokens)
    return Error{ErrorCode::invalid_argument,
                 "plan options: rows per batch, output rows and KV tokens must be positive"};
  options.max_output_rows = std::min(options.max_output_rows, options.max_batch_rows);
  if (options.precision == Precision::exact)
    return Error{ErrorCode::unsupported,
                 "the card computes with integer activations only; use --backend cpu for --precision exact"};
  if (options.kv_format == KvFormat::f32)
    return Error{ErrorCode::unsupported, "the card keeps K and V as f16 or q8; use --backend cpu for --kv f32"};
  PONDER_TRY(Placement placement, place(*model, options, cards));
  std::unique_ptr<FrontLayers> front;
  if (placement.host_layers > 0) {
    if (!front_layers)
      return Error{ErrorCode::out_of_memory, "the model does not fit on the card: " +
                                                 std::to_string(model->spec.n_layers - placement.host_layers) + " of " +
                                                 std::to_string(model->spec.n_layers) + " layers do"};
    PONDER_TRY(front, front_layers(model, options, placement.host_layers));
  }
  return std::make_unique<CudaPlan>(std::move(model), options, std::move(cards), std::move(placement),
                                    std::move(front));
}

CudaPlan::CudaPlan(std::shared_ptr<const model::Model> model, const PlanOptions& options, std::vector<CardRoom> cards,
                   Placement placement, std::unique_ptr<FrontLayers> front)
    : model_(std::move(model)),
      options_(options),
      cards_(std::move(cards)),
      placement_(std::move(placement)),
      front_(std::move(front)) {
  for (const CardPart& part : placement_.cards)
    steps_.push_back(std::make_unique<CardStep>(*model_, options_, placement_, part, cards_[size_t(part.card)]));
  pages_ = std::make_unique<kv::PagePool>(placement_.n_pages);
  describe();
}

CudaPlan::~CudaPlan() = default;

void CudaPlan::describe() {
  const CardRoom& first = cards_[size_t(placement_.cards.front().card)];
  info_.backend = "cuda";
  info_.device = first.card.name;
  for (size_t i = 1; i < placement_.cards.size(); ++i)
    info_.device += " + " + cards_[size_t(placement_.cards[i].card)].card.name;
  info_.isa = "sm_" + std::to_string(first.limits.compute);  // of the code: PTX for an older card keeps its name
  info_.numerics_id = "cuda.i12x256";
  info_.precision = options_.precision;
  info_.kv_format = options_.kv_format;
  info_.threads = 1;
  info_.gpu_layers = model_->spec.n_layers - placement_.host_layers;
  const model::ModelSpec& spec = model_->spec;
  for (const CardPart& p : placement_.cards) {
    info_.bytes_per_token += p.weights + p.vectors;
    info_.cards.push_back(cards_[size_t(p.card)].card.index);
  }
  if (placement_.cards.front().embeds && !(spec.tied_head && placement_.cards.front().has_head))
    info_.bytes_per_token -=
        model_->token_embd.data.size() - model_->token_embd.format->row_bytes(model_->token_embd.columns);
  const auto layers = [](int a, int b) {
    return a + 1 == b ? "layer " + std::to_string(b) : "layers " + std::to_string(a + 1) + "-" + std::to_string(b);
  };
  if (front_) {
    info_.placement = layers(0, placement_.host_layers) + " on the processor";
    info_.numerics_id = front_->numerics_id() + "+" + info_.numerics_id;
    info_.threads = front_->threads();
  }
  if (front_ || placement_.cards.size() > 1)
    for (const CardPart& p : placement_.cards)
      info_.placement += (info_.placement.empty() ? "" : ", ") + layers(p.first_layer, p.last_layer) + " on " +
                         cards_[size_t(p.card)].card.name +
                         (placement_.cards.size() > 1 ? " " + std::to_string(cards_[size_t(p.card)].card.index) : "");
}

std::optional<uint64_t> CudaPlan::spare_memory() const {
  if (front_ || placement_.cards.size() > 1) return 0;  // a split model has filled its budget
  const uint64_t budget = cards_[size_t(placement_.cards[0].card)].budget, total = placement_.report.total();
  return budget > total ? budget - total : 0;
}

Result<void> CudaPlan::load(const Progress& progress, const StopFlag* stop) {
  if (loaded_) return {};
  uint64_t all = 0, done = 0;
  for (const CardPart& p : placement_.cards) all += p.weights;
  const double front_share = double(placement_.host_layers) / double(std::max(1, model_->spec.n_layers));
  if (front_)
    PONDER_CHECK_OK(front_->load(
        [&](double f) {
          if (progress) progress(f * front_share);
        },
        stop));
  const uint64_t rows = uint64_t(padded_rows(options_)), vocab = uint64_t(model_->spec.vocab_size);
  if (steps_.size() > 1 || front_) {
    PONDER_TRY(x_, PinnedBuffer::allocate(rows * uint64_t(model_->spec.hidden_size) * 4, "handing over"));
  }
  for (auto& step : steps_) {
    auto loaded = step->load(
        [&](uint64_t bytes) {
          done += bytes;
          if (progress) progress(front_share + (1 - front_share) * std::min(1.0, double(done) / double(all)));
        },
        stop);
    if (!loaded.ok()) {
      // Whatever was taken goes back; load() may be tried again.
      for (size_t i = 0; i < steps_.size(); ++i)
        steps_[i] = std::make_unique<CardStep>(*model_, options_, placement_, placement_.cards[i],
                                               cards_[size_t(placement_.cards[i].card)]);
      return loaded;
    }
  }
  PONDER_TRY(logits_, PinnedBuffer::allocate(uint64_t(padded_outputs(options_)) * vocab * 4, "logits"));
  if (progress) progress(1.0);
  loaded_ = true;
  return {};
}

Result<void> CudaPlan::prepare_page(kv::PageId page) {
  if (!loaded_) return Error{ErrorCode::internal, "the plan is not loaded yet"};
  if (front_) PONDER_CHECK_OK(front_->prepare_page(page));
  for (auto& step : steps_) PONDER_CHECK_OK(step->prepare_page(page));
  return {};
}

void CudaPlan::copy_page(kv::PageId from, kv::PageId to) {
  if (front_) front_->copy_page(from, to);
  // A copy that fails leaves an error on the card that the next step reports.
  for (auto& step : steps_) (void)step->copy_page(from, to);
}

Result<bool> CudaPlan::run(const Batch& batch, const StopFlag* stop) {
  const float* x = nullptr;
  if (front_) {
    PONDER_TRY(const bool done, front_->run(batch, stop, x_.as<float>()));
    if (!done) return false;
    x = x_.as<float>();
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    PONDER_CHECK_OK(steps_[i]->begin(batch, outputs_));
    PONDER_TRY(const bool done, steps_[i]->run(x, stop));
    if (!done) return false;
    if (i + 1 == steps_.size()) break;
    PONDER_CHECK_OK(steps_[i]->fetch_x(x_.as<float>()));
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) return false;
    x = x_.as<float>();
  }
  return true;
}

Result<void> CudaPlan::ask_for_outputs(const Batch& batch) {
  CardStep& last = *steps_.back();
  const size_t vocab = size_t(model_->spec.vocab_size);
  draws_.clear();
  host_draws_.assign(outputs_.size(), 0);
  bool any = false;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Row& row = batch.rows[size_t(outputs_[i])];
    if (row.sampling == nullptr) {
      draws_.add_nothing();
    } else if (draws_.add(*row.sampling, model_->spec.vocab_size)) {
      any = true;
    } else {
      host_draws_[i] = 1;
    }
    if (row.want_logits || host_draws_[i] != 0)
      PONDER_CHECK_OK(last.fetch_logits(int(i), logits_.as<float>() + i * vocab));
  }
  return any ? last.draw(draws_) : Result<void>{};
}

Result<void> CudaPlan::launch(const Batch& batch, const StopFlag* stop) {
  if (!loaded_) return Error{ErrorCode::internal, "the plan is not loaded yet"};
  if (!rows_.empty()) return Error{ErrorCode::internal, "a batch is in flight already"};
  PONDER_CHECK_OK(validate(batch, model_->spec, options_));
  outputs_.clear();
  for (size_t i = 0; i < batch.rows.size(); ++i)
    if (batch.rows[i].sampling != nullptr || batch.rows[i].want_logits) outputs_.push_back(int(i));
  cancelled_ = stop != nullptr && stop->load(std::memory_order_relaxed);
  if (!cancelled_) {
    auto ran = run(batch, stop);
    if (ran.ok() && *ran && !outputs_.empty()) {
      auto asked = ask_for_outputs(batch);
      if (!asked.ok()) ran = asked.error();
    }
    if (!ran.ok()) {
      for (auto& step : steps_) (void)step->wait();
      return ran.error();
    }
    cancelled_ = !*ran;
  }
  rows_ = batch.rows;
  return {};
}

Result<std::vector<RowResult>> CudaPlan::collect() {
  if (rows_.empty()) return Error{ErrorCode::internal, "no batch is in flight"};
  const std::vector<Row> rows = std::move(rows_);
  rows_.clear();
  for (auto& step : steps_) PONDER_CHECK_OK(step->wait());
  if (cancelled_) return Error{ErrorCode::cancelled, "the batch was abandoned"};
  std::vector<RowResult> results(rows.size());
  const size_t vocab = size_t(model_->spec.vocab_size);
  CardStep& last = *steps_.back();
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Row& row = rows[size_t(outputs_[i])];
    RowResult& r = results[size_t(outputs_[i])];
    const std::span<const float> logits(logits_.as<float>() + i * vocab, vocab);
    if (row.want_logits) r.logits = logits;
    if (row.sampling == nullptr) continue;
    r.sampled.token = host_draws_[i] != 0 ? kDrawOnHost : last.tokens()[i];
    if (r.sampled.token != kDrawOnHost) continue;
    if (!row.want_logits && host_draws_[i] == 0) {  // the card gave up on it: its logits were not asked for
      PONDER_CHECK_OK(last.fetch_logits(int(i), logits_.as<float>() + i * vocab));
      PONDER_CHECK_OK(last.wait());
    }
    r.sampled = sample::sample(logits, *row.sampling, sample_scratch_);
  }
  for (const Row& row : rows) row.sequence->advance(1);
  return results;
}

}  // namespace ponder::backend::cuda
