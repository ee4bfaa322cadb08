// The order of a step and the stages that are not attention (attention.cpp). Results of a row never depend on who
// computes them: matrices are cut by panels, inputs and attention by rows and heads, each with its own fixed order of
// operations.
#include "backend/cpu/step.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/rope_tables.h"
#include "base/os/system.h"

namespace ponder::backend::cpu {
namespace {

constexpr int kStealRows = 16;  ///< rows from which threads help each other out
constexpr int64_t kStealPanels = 16;

}  // namespace

const char* to_string(Phase phase) {
  constexpr const char* kNames[] = {"embed",  "inputs",  "qkv",  "write_kv", "attention",
                                    "output", "gate_up", "down", "head",     "sample"};
  return kNames[size_t(phase)];
}

Step::Step(const model::Model& model, const Layout& layout, const PlanOptions& options, ThreadPool& pool,
           isa::Level level)
    : model_(model),
      spec_(model.spec),
      layout_(layout),
      options_(options),
      pool_(pool),
      level_(level),
      kernels_(vector_kernels(level_)),
      output_norm_(model::to_floats(model.output_norm)),
      next_task_(new std::atomic<int>[size_t(model.spec.n_layers)]),
      counters_all_(size_t(kFewTasks * pool.size())),
      counters_last_(size_t(kFewTasks * pool.size())),
      cursors_(new std::atomic<int>[(layout.layers.size() + 1) * kMatrices * size_t(pool.size())]) {
  for (AttentionPlan* plan : {&all_, &last_})
    plan->reserve(spec_.layers[0], pool_.size(), options_.max_batch_rows, options_.kv_tokens);
}

void Step::mark(int t, Phase phase) {
  if (t != 0) return;
  const double now = os::monotonic_seconds();
  times_.seconds[size_t(phase)] += now - last_mark_;
  last_mark_ = now;
}

bool Step::run(const Batch& batch, const StopFlag* stop, std::vector<RowResult>* results) {
  batch_ = &batch;
  stop_ = stop;
  results_ = results;
  stopped_ = stop != nullptr && stop->load(std::memory_order_relaxed);
  if (stopped_) return false;
  results->assign(batch.rows.size(), RowResult{});
  last_mark_ = os::monotonic_seconds();
  outputs_.clear();
  for (size_t i = 0; i < batch.rows.size(); ++i)
    if (batch.rows[i].sampling != nullptr || batch.rows[i].want_logits) outputs_.push_back(int(i));
  plan_attention(batch);
  next_sample_ = 0;
  for (int i = 0; i < spec_.n_layers; ++i) next_task_[size_t(i)].store(0, std::memory_order_relaxed);
  for (InputBuffers& b : buffers_->inputs) {
    b.batch.begin(int64_t(batch.rows.size()));
    if (!outputs_.empty()) b.outputs.begin(int64_t(outputs_.size()));
  }
  const size_t n_cursors = (layout_.layers.size() + 1) * kMatrices * size_t(pool_.size());
  for (size_t i = 0; i < n_cursors; ++i) cursors_[i].store(0, std::memory_order_relaxed);
  pool_.run([this](int t) { thread(t); });
  return !stopped_;
}

void Step::thread(int t) {
  StepBuffers& b = *buffers_;
  const int hidden = spec_.hidden_size;
  const bool has_head = bool(model_.output);  // else another device goes on where the layers end
  int n = int(batch_->rows.size());
  float* x = b.x;
  embed(t);
  pool_.barrier();
  mark(t, Phase::embed);

  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    const LayerLayout& l = layout_.layers[i];
    const model::LayerSpec& s = spec_.layers[i];
    const bool last = has_head && i + 1 == layout_.layers.size();
    const int64_t q_size = s.q_size(), kv_size = s.kv_size(), qkv = q_size + 2 * kv_size;

    inputs(t, l.q, &l.k, &l.v, n, false, [&](int row, float* scratch) -> const float* {
      kernels_.rms_norm(x + int64_t(row) * hidden, l.attn_norm.data(), scratch, hidden, spec_.rms_epsilon);
      return scratch;
    });
    mark(t, Phase::inputs);
    multiply_share(t, cursors(i, 0), l.q, n, false, b.qkv, qkv, l.q_bias, false);
    multiply_share(t, cursors(i, 1), l.k, n, false, b.qkv + q_size, qkv,
                   layout_.bias_apart ? std::span<const float>() : l.k_bias, false);
    multiply_share(t, cursors(i, 2), l.v, n, false, b.qkv + q_size + kv_size, qkv, l.v_bias, false);
    pool_.barrier();
    mark(t, Phase::qkv);

    const AttentionPlan& plan = last ? last_ : all_;
    if (!plan.tasks_write_kv) {
      const Share rows = share_of(int64_t(all_.rows.size()), t, pool_.size());
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        const AttentionRow& row = all_.rows[size_t(r)];
        for (int h = 0; h < s.n_kv_heads; ++h) write_kv(t, row.source, h, l, s, row.pages, row.position);
      }
      pool_.barrier();
      mark(t, Phase::write_kv);
    }
    attention(t, i, plan);
    if (last) {  // from here on only rows that ask for something go on
      n = int(outputs_.size());
      for (int r = t; r < n; r += pool_.size())
        std::memcpy(b.x_out + int64_t(r) * hidden, x + int64_t(outputs_[size_t(r)]) * hidden,
                    sizeof(float) * size_t(hidden));
      x = b.x_out;
    }
    pool_.barrier();
    mark(t, Phase::attention);
    if (n == 0) return;

    inputs(t, l.output, nullptr, nullptr, n, last,
           [&](int row, float*) -> const float* { return b.attention + row * q_size; });
    mark(t, Phase::inputs);
    multiply_share(t, cursors(i, 3), l.output, n, last, x, hidden, l.output_bias, true);
    pool_.barrier();
    mark(t, Phase::output);

    inputs(t, l.gate, &l.up, nullptr, n, last, [&](int row, float* scratch) -> const float* {
      kernels_.rms_norm(x + int64_t(row) * hidden, l.ffn_norm.data(), scratch, hidden, spec_.rms_epsilon);
      return scratch;
    });
    mark(t, Phase::inputs);
    gate_up(t, i, n, last);
    pool_.barrier();
    mark(t, Phase::gate_up);

    inputs(t, l.down, nullptr, nullptr, n, last,
           [&](int row, float*) -> const float* { return b.ffn + int64_t(row) * s.ffn_size; });
    mark(t, Phase::inputs);
    multiply_share(t, cursors(i, 5), l.down, n, last, x, hidden, {}, true);
    if (t == 0 && !last) stopped_ = stop_ != nullptr && stop_->load(std::memory_order_relaxed);
    pool_.barrier();
    mark(t, Phase::down);
    if (stopped_) return;
  }
  if (has_head) head(t);
}

// Embeddings of the rows, and their cosines and sines, from doubles.
void Step::embed(int t) {
  StepBuffers& b = *buffers_;
  const auto& rows = batch_->rows;
  const int hidden = spec_.hidden_size;
  const Share share = share_of(int64_t(rows.size()), t, pool_.size());
  for (int64_t r = share.begin; r < share.end; ++r) {
    float* x = b.x + r * hidden;
    model::dequantize_row(model_.token_embd, uint64_t(rows[size_t(r)].token), x);
    if (spec_.embedding_scale != 1.f) kernels_.scale(x, spec_.embedding_scale, hidden);
    write_rope(spec_.rope, rows[size_t(r)].position, b.rope + r * layout_.rope_floats);
  }
}

const Activations& Step::input_of(int t, const PlacedMatrix& m, int n_rows, bool outputs) const {
  const InputBuffers& b = buffers_->inputs[size_t(layout_.input_index(m.form, m.matrix.columns()))];
  if (n_rows <= kPrivateRows) return b.own[size_t(t)];
  return outputs ? b.outputs : b.batch;
}

// Quantises the rows that matrices a, b and c (of the same width) will read, in each form they want. `row(i, scratch)`
// gives row i, in `scratch` if it has to be computed. One or two rows: each thread all of them for itself. More: groups of 8
// rows are divided, the last of a thread's at a record of 256 columns (rows of a group lie in the same cache lines, and
// two threads that write them wait for each other), with a barrier behind.
template <class Row>
void Step::inputs(int t, const PlacedMatrix& a, const PlacedMatrix* b, const PlacedMatrix* c, int n_rows, bool outputs,
                  Row row) {
  const PlacedMatrix* matrices[3] = {&a, b, c};
  Activations* targets[3];
  int n_targets = 0;
  for (const PlacedMatrix* m : matrices) {
    if (m == nullptr) continue;
    auto* target = const_cast<Activations*>(&input_of(t, *m, n_rows, outputs));
    if (std::find(targets, targets + n_targets, target) == targets + n_targets) targets[n_targets++] = target;
  }
  const bool own = n_rows <= kPrivateRows;
  if (own)
    for (int i = 0; i < n_targets; ++i) targets[i]->begin(n_rows);
  const int64_t records = targets[0]->records(), groups = (n_rows + kMaxColumns - 1) / kMaxColumns;
  const Share all{0, groups * records}, share = own ? all : share_of(groups * records, t, pool_.size());
  for (int64_t at = share.begin; at < share.end;) {
    const int64_t first = at % records, last = std::min(records, first + share.end - at),
                  row0 = at / records * kMaxColumns;
    for (int64_t r = row0; r < std::min<int64_t>(n_rows, row0 + kMaxColumns); ++r) {
      const float* values = row(int(r), buffers_->threads[size_t(t)].row);
      for (int i = 0; i < n_targets; ++i) targets[i]->set_row(r, values, first, last, level_);
    }
    at += last - first;
  }
  if (!own) pool_.barrier();
}

// f(owner, panels) for this thread's panels of a matrix. From some rows on, in chunks: a thread that is done with its own
// share goes on with what others have left, so that one that was kept waiting by another process does not hold up all.
template <class F>
void Step::for_panels(int t, std::atomic<int>* cursors, const PlacedMatrix& m, int n_rows, int64_t step, F f) {
  if (n_rows < kStealRows || pool_.size() == 1) {
    const PanelRange share = m.shares[size_t(t)];
    for (int64_t p = share.first; p < share.last; p += step) f(t, PanelRange{p, std::min(p + step, share.last)});
    return;
  }
  for (int k = 0; k < pool_.size(); ++k) {
    const int owner = (t + k) % pool_.size();
    const PanelRange share = m.shares[size_t(owner)];
    for (;;) {
      const int64_t p = share.first + cursors[owner].fetch_add(1, std::memory_order_relaxed) * step;
      if (p >= share.last) break;
      f(owner, PanelRange{p, std::min(p + step, share.last)});
    }
  }
}

// Panels of a matrix times the rows of x: from the arena, or packed here one by one (PlanOptions::repack).
void Step::product(int t, const PlacedMatrix& m, int owner, PanelRange panels, const Activations& x,
                   const Output& out) {
  const ThreadScratch& s = buffers_->threads[size_t(t)];
  if (options_.repack) return multiply(m.matrix, m.bases[size_t(owner)], panels, x, out, s.linear, level_);
  for (int64_t p = panels.first; p < panels.last; ++p) {
    // The place panel 0 would have.
    auto* base =
        reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(s.panel) - uint64_t(p) * m.matrix.panel_bytes());
    m.matrix.pack(m.tensor->data, {p, p + 1}, base);
    const int64_t row = (p - panels.first) * kPanelRows;
    multiply(m.matrix, base, {p, p + 1}, x,
             {out.data + row, out.stride, out.bias == nullptr ? nullptr : out.bias + row, out.add}, s.linear, level_);
  }
}

void Step::multiply_share(int t, std::atomic<int>* cursors, const PlacedMatrix& m, int n_rows, bool outputs, float* out,
                          int64_t stride, std::span<const float> bias, bool add) {
  const Activations& x = input_of(t, m, n_rows, outputs);
  const int64_t step = n_rows < kStealRows ? std::max<int64_t>(1, m.matrix.panels()) : kStealPanels;
  for_panels(t, cursors, m, n_rows, step, [&](int owner, PanelRange panels) {
    const int64_t row = panels.first * kPanelRows;
    product(t, m, owner, panels, x, {out + row, stride, bias.empty() ? nullptr : bias.data() + row, add});
  });
}

// Gate and up in chunks of panels that fit the second-level cache for all rows, joined by the activation.
void Step::gate_up(int t, size_t layer, int n_rows, bool outputs) {
  const LayerLayout& l = layout_.layers[layer];
  ThreadScratch& s = buffers_->threads[size_t(t)];
  const Activations& gate_in = input_of(t, l.gate, n_rows, outputs);
  const Activations& up_in = input_of(t, l.up, n_rows, outputs);
  const int64_t ffn = l.gate.matrix.rows();
  const int64_t step =
      std::max<int64_t>(1, gate_chunk_floats(options_.max_batch_rows) / (int64_t(n_rows) * kPanelRows));
  const Gate kind = spec_.activation == model::Activation::silu ? Gate::silu : Gate::gelu_tanh;
  for_panels(t, cursors(layer, 4), l.gate, n_rows, step, [&](int owner, PanelRange chunk) {
    const int64_t stride = (chunk.last - chunk.first) * kPanelRows, first = chunk.first * kPanelRows;
    product(t, l.gate, owner, chunk, gate_in, {s.gate, stride});
    product(t, l.up, owner, chunk, up_in, {s.up, stride});
    const int width = int(std::min(stride, ffn - first));
    for (int64_t r = 0; r < n_rows; ++r)
      kernels_.gate(kind, s.gate + r * stride, s.up + r * stride, buffers_->ffn + r * ffn + first, width);
  });
}

// Logits and draws of the output rows.
void Step::head(int t) {
  StepBuffers& b = *buffers_;
  const int n = int(outputs_.size()), hidden = spec_.hidden_size;
  const int64_t vocab = spec_.vocab_size;
  inputs(t, layout_.head, nullptr, nullptr, n, true, [&](int row, float* scratch) -> const float* {
    kernels_.rms_norm(b.x_out + int64_t(row) * hidden, output_norm_.data(), scratch, hidden, spec_.rms_epsilon);
    return scratch;
  });
  multiply_share(t, cursors(layout_.layers.size(), 0), layout_.head, n, true, b.logits, vocab, {}, false);
  pool_.barrier();
  mark(t, Phase::head);
  for (int i; (i = next_sample_.fetch_add(1, std::memory_order_relaxed)) < n;) {
    const Row& row = batch_->rows[size_t(outputs_[size_t(i)])];
    RowResult& result = (*results_)[size_t(outputs_[size_t(i)])];
    if (spec_.logit_scale != 1.f) kernels_.scale(b.logits + i * vocab, spec_.logit_scale, int(vocab));
    const std::span<const float> logits(b.logits + i * vocab, size_t(vocab));
    if (row.sampling != nullptr) result.sampled = sample::sample(logits, *row.sampling, b.threads[size_t(t)].sampling);
    if (row.want_logits) result.logits = logits;
  }
  pool_.barrier();
  mark(t, Phase::sample);
}

}  // namespace ponder::backend::cpu
