// Loading packs all weights with all threads, layer by layer, each thread its own share into its own part of the arena
// (first touch puts it near that thread), and gives the file's pages back as it goes: the peak is one layer above what
// stays. The sizes were all fixed by Layout::make.
#include "backend/cpu/plan.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/limits.h"
#include "backend/cpu/rope_tables.h"
#include "base/os/system.h"

namespace ponder::backend::cpu {
namespace {

constexpr int kMaxThreads = 256;
constexpr uint64_t kPackPiece = 8 << 20;
constexpr int64_t kMaxKvTokens = int64_t(1) << 30;

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

// A vector as floats, padded to whole panels so that kernels may read 16 at a time.
std::vector<float> padded(const model::Tensor& tensor) {
  if (!tensor) return {};
  std::vector<float> v = model::to_floats(tensor);
  v.resize((v.size() + kPanelRows - 1) / kPanelRows * kPanelRows);
  return v;
}

PlacedMatrix* const* matrices(LayerLayout& l, PlacedMatrix* (&out)[7]) {
  PlacedMatrix* all[7] = {&l.q, &l.k, &l.v, &l.output, &l.gate, &l.up, &l.down};
  std::copy(all, all + 7, out);
  return out;
}

}  // namespace

Result<std::unique_ptr<CpuPlan>> CpuPlan::make(std::shared_ptr<const model::Model> model, PlanOptions options,
                                               isa::Level level) {
  if (options.threads <= 0) options.threads = os::physical_cores();
  options.threads = std::min(options.threads, kMaxThreads);
  if (options.max_batch_rows < 1 || options.max_output_rows < 1 || options.kv_tokens < 1 ||
      options.kv_tokens > kMaxKvTokens)
    return Error{ErrorCode::invalid_argument,
                 "plan options: rows per batch, output rows and KV tokens must be positive"};
  options.max_output_rows = std::min(options.max_output_rows, options.max_batch_rows);
  PONDER_TRY(Layout layout, Layout::make(*model, options));
  return std::make_unique<CpuPlan>(std::move(model), options, std::move(layout), level);
}

CpuPlan::CpuPlan(std::shared_ptr<const model::Model> model, const PlanOptions& options, Layout layout, isa::Level level)
    : model_(std::move(model)),
      options_(options),
      layout_(std::move(layout)),
      pool_(options.threads),
      step_(*model_, layout_, options_, pool_, level) {
  info_.backend = "cpu";
  info_.device = os::cpu_name();
  info_.isa = isa::to_string(level);
  info_.numerics_id = numerics_id(options.precision);
  info_.precision = options.precision;
  info_.kv_format = options.kv_format;
  info_.threads = options.threads;
  info_.bytes_per_token = layout_.bytes_per_token;
  pages_ = std::make_unique<kv::PagePool>(int((options.kv_tokens + kv::kPageTokens - 1) / kv::kPageTokens));
}

Result<void> CpuPlan::check_memory() const {
  const MemoryReport& r = layout_.report;
  const uint64_t need = r.weights + r.kv_capacity + r.scratch, have = os::memory_info().available;
  if (need <= have) return {};
  return Error{ErrorCode::out_of_memory,
               "the model needs " + mib(need) + " of memory (weights " + mib(r.weights) + ", KV cache for " +
                   std::to_string(options_.kv_tokens) + " tokens " + mib(r.kv_capacity) + ", working memory " +
                   mib(r.scratch) + "), but only " + mib(have) +
                   " are available; ask for a shorter context, close other programs or take a smaller model"};
}

Result<void> CpuPlan::load(const Progress& progress, const StopFlag* stop) {
  if (loaded_) return {};
  PONDER_CHECK_OK(check_memory());
  uint64_t weight_bytes = 0;
  for (uint64_t bytes : layout_.thread_bytes) weight_bytes += bytes;
  PONDER_TRY(weights_, os::Arena::allocate(weight_bytes));
  PONDER_TRY(kv_, os::Arena::allocate(layout_.report.kv_capacity));
  PONDER_TRY(scratch_, os::Arena::allocate(layout_.report.scratch));
  StepBuffers::cut(layout_, model_->spec, options_, scratch_.data(), &buffers_);

  std::vector<PlacedMatrix*> all;
  if (model_->output) all.push_back(&layout_.head);
  for (LayerLayout& l : layout_.layers) {
    PlacedMatrix* own[7];
    matrices(l, own);
    all.insert(all.end(), own, own + 7);
  }
  if (!options_.repack) all.clear();
  for (PlacedMatrix* m : all) {
    uint8_t* part = weights_.data();
    for (int t = 0; t < layout_.threads; ++t) {
      // The place panel 0 would have; only this share's panels are ever touched through it.
      const uint64_t before = uint64_t(m->shares[size_t(t)].first) * m->matrix.panel_bytes();
      m->bases.push_back(
          reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(part) + m->offsets[size_t(t)] - before));
      part += layout_.thread_bytes[size_t(t)];
    }
  }
  auto packed = pack(progress, stop);
  if (!packed.ok()) {
    for (PlacedMatrix* m : all) m->bases.clear();
    weights_ = {};
    kv_ = {};
    scratch_ = {};
    return packed;
  }
  step_.attach(&buffers_, kv_.data());
  loaded_ = true;
  return {};
}

// This thread's share of one matrix, in pieces; the file's pages of each piece are given back at once, so that they never
// add up.
void CpuPlan::pack_share(int t, const PlacedMatrix& m) const {
  const PanelRange share = m.shares[size_t(t)];
  const uint64_t row_bytes = m.matrix.format().row_bytes(uint64_t(m.matrix.columns()));
  const int64_t step = std::max<int64_t>(1, int64_t(kPackPiece / (row_bytes * kPanelRows)));
  for (int64_t p = share.first; p < share.last; p += step) {
    const PanelRange piece{p, std::min(p + step, share.last)};
    m.matrix.pack(m.tensor->data, piece, m.bases[size_t(t)]);
    if (m.tensor->info == nullptr) continue;
    const int64_t rows = std::min(piece.last * kPanelRows, m.matrix.rows());
    gguf::TensorInfo part;
    part.data = m.tensor->data.subspan(uint64_t(piece.first * kPanelRows) * row_bytes,
                                       uint64_t(rows - piece.first * kPanelRows) * row_bytes);
    model_->file->drop(part);
  }
}

Result<void> CpuPlan::pack(const Progress& progress, const StopFlag* stop) {
  const size_t n = layout_.layers.size();
  bool stopped = false;
  for (size_t i = 0; i < n; ++i) {
    LayerLayout& l = layout_.layers[i];
    const model::LayerWeights& w = model_->layers[i];
    l.attn_norm = padded(w.attn_norm);
    l.ffn_norm = padded(w.ffn_norm);
    l.q_bias = padded(w.q_bias);
    l.k_bias = padded(w.k_bias);
    l.v_bias = padded(w.v_bias);
    l.output_bias = padded(w.output_bias);
    l.q_norm = padded(w.q_norm);
    l.k_norm = padded(w.k_norm);
    if (layout_.bias_apart)
      l.bias_places = bias_places(model_->spec.rope, l.k_bias.data(), model_->spec.layers[i].n_kv_heads,
                                  model_->spec.layers[i].head_dim);
  }
  if (layout_.bias_apart) {
    for (int t = 0; t < kPageTokens; ++t)
      write_rope(model_->spec.rope, t, buffers_.place_rope + int64_t(t) * layout_.rope_floats);
    write_page_starts(model_->spec.rope, pages_->capacity(), buffers_.page_starts);
  }
  if (!options_.repack) return {};
  pool_.run([&](int t) {
    for (size_t i = 0; i <= n; ++i) {
      if (i < n) {
        PlacedMatrix* own[7];
        matrices(layout_.layers[i], own);
        for (const PlacedMatrix* m : own) pack_share(t, *m);
      } else if (model_->output) {
        pack_share(t, layout_.head);
      }
      if (t == 0) {
        stopped = stop != nullptr && stop->load(std::memory_order_relaxed);
        if (progress && !stopped) progress(double(i + 1) / double(n + 1));
      }
      pool_.barrier();
      if (stopped) return;
      pool_.barrier();  // nobody sets `stopped` again before all have read it
    }
  });
  if (stopped) return Error{ErrorCode::cancelled, "loading was stopped"};
  return {};
}

double CpuPlan::read_bandwidth() {
  if (weights_.size() == 0) return 0;  // nothing is packed: the file's own pages are read
  std::vector<std::span<const uint8_t>> shares;
  const uint8_t* at = weights_.data();
  for (const uint64_t bytes : layout_.thread_bytes) {
    shares.emplace_back(at, size_t(bytes));
    at += bytes;
  }
  return measure_read_gbs(pool_, shares) * 1e9;
}

Result<void> CpuPlan::prepare_page(kv::PageId page) {
  if (!loaded_) return Error{ErrorCode::internal, "the plan is not loaded yet"};
  if (page < pages_ready_) return {};
  // The arena is only backed by memory once written; ask before the system has to kill somebody.
  const uint64_t have = os::memory_info().available;
  if (have < layout_.page_bytes + (uint64_t(4) << 20))
    return Error{ErrorCode::out_of_memory, "no memory for another " + mib(layout_.page_bytes) +
                                               " of KV cache: " + mib(have) +
                                               " are available; close other programs or ask for a shorter context"};
  pages_ready_ = page + 1;
  return {};
}

void CpuPlan::copy_page(kv::PageId from, kv::PageId to) {
  std::memcpy(kv_.data() + uint64_t(to) * layout_.page_bytes, kv_.data() + uint64_t(from) * layout_.page_bytes,
              layout_.page_bytes);
}

Result<void> CpuPlan::launch(const Batch& batch, const StopFlag* stop) {
  if (!loaded_) return Error{ErrorCode::internal, "the plan is not loaded yet"};
  if (in_flight_) return Error{ErrorCode::internal, "a batch is in flight already"};
  PONDER_CHECK_OK(validate(batch, model_->spec, options_));
  launched_.clear();
  for (const Row& r : batch.rows) launched_.push_back(r.sequence);
  cancelled_ = !step_.run(batch, stop, &results_);
  in_flight_ = true;
  return {};
}

Result<bool> CpuPlan::run_front(const Batch& batch, const StopFlag* stop, float* x_out) {
  if (!loaded_) return Error{ErrorCode::internal, "the plan is not loaded yet"};
  if (!step_.run(batch, stop, &results_)) return false;
  std::memcpy(x_out, buffers_.x, batch.rows.size() * size_t(model_->spec.hidden_size) * sizeof(float));
  return true;
}

Result<std::vector<RowResult>> CpuPlan::collect() {
  if (!in_flight_) return Error{ErrorCode::internal, "no batch is in flight"};
  in_flight_ = false;
  if (cancelled_) return Error{ErrorCode::cancelled, "the batch was abandoned"};
  for (SequenceState* s : launched_) s->advance(1);
  return results_;  // a copy: the step keeps its memory
}

}  // namespace ponder::backend::cpu
