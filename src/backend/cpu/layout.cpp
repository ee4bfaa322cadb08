// Sizes first: compile() must be able to say what a model needs without allocating it. The same functions that count
// bytes here cut the memory later, so the report cannot differ from what is taken.
// Next to read: plan.cpp (allocation and packing), step.cpp (use).
#include "backend/cpu/layout.h"

#include <algorithm>
#include <initializer_list>

#include "backend/cpu/tiles.h"
#include "backend/cpu/vector.h"
#include "base/checked.h"
#include "base/thread_pool.h"

namespace ponder::backend::cpu {
namespace {

constexpr uint64_t kHugePage = uint64_t(2) << 20;
constexpr int64_t kGateChunkBytes = 256 << 10;
static_assert(kPageTokens == kv::kPageTokens);

Stored stored_as(KvFormat format) {
  switch (format) {
    case KvFormat::f16:
      return Stored::f16;
    case KvFormat::f32:
      return Stored::f32;
    case KvFormat::q8:
      return Stored::q8;
  }
  return Stored::f16;
}

Result<void> place(PlacedMatrix& m, const model::Tensor& tensor, const PlanOptions& options, Role role,
                   Layout& layout) {
  PONDER_TRY(m.matrix, Matrix::describe(tensor));
  m.tensor = &tensor;
  m.form = form_for(m.matrix.format(), options.precision, role);
  m.shares.resize(size_t(layout.threads));
  m.offsets.resize(size_t(layout.threads));
  for (int t = 0; t < layout.threads; ++t) {
    const Share s = share_of(m.matrix.panels(), t, layout.threads);
    uint64_t& used = layout.thread_bytes[size_t(t)];
    m.shares[size_t(t)] = {s.begin, s.end};
    m.offsets[size_t(t)] = used;
    if (options.repack) used += m.matrix.panel_bytes() * uint64_t(s.end - s.begin);
  }
  if (!options.repack) {
    layout.panel_scratch = std::max(layout.panel_scratch, m.matrix.panel_bytes());
    layout.report.mapped_weights += tensor.data.size();
  }
  layout.linear_scratch = std::max(layout.linear_scratch, m.matrix.scratch_bytes(m.form));
  const InputSpec input{m.form, m.matrix.columns()};
  if (std::find(layout.inputs.begin(), layout.inputs.end(), input) == layout.inputs.end())
    layout.inputs.push_back(input);
  layout.bytes_per_token += m.matrix.packed_bytes();
  return {};
}

uint64_t vector_bytes(const model::LayerWeights& w) {
  uint64_t n = 0;
  for (const model::Tensor* t :
       {&w.attn_norm, &w.ffn_norm, &w.q_bias, &w.k_bias, &w.v_bias, &w.output_bias, &w.q_norm, &w.k_norm})
    if (*t) n += t->columns * 4;
  return n;
}

}  // namespace

int64_t gate_chunk_floats(int64_t max_rows) { return std::max<int64_t>(kGateChunkBytes / 8, max_rows * kPanelRows); }

int Layout::input_index(Form form, int64_t columns) const {
  const auto it = std::find(inputs.begin(), inputs.end(), InputSpec{form, columns});
  return int(it - inputs.begin());
}

Result<Layout> Layout::make(const model::Model& model, const PlanOptions& options) {
  const model::ModelSpec& spec = model.spec;
  Layout l;
  l.threads = options.threads;
  l.thread_bytes.assign(size_t(l.threads), 0);
  l.layers.resize(model.layers.size());
  l.stored = stored_as(options.kv_format);
  // q/k norms end what a bias did, so it stays where it is.
  l.bias_apart = l.stored == Stored::q8 && model.layers[0].k_bias && !spec.layers[0].qk_norm;
  uint64_t vectors = uint64_t(spec.hidden_size) * 4;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const model::LayerSpec& s = spec.layers[i];
    const model::LayerWeights& w = model.layers[i];
    LayerLayout& p = l.layers[i];
    const model::LayerSpec& first = spec.layers[0];
    if (s.n_heads != first.n_heads || s.n_kv_heads != first.n_kv_heads || s.head_dim != first.head_dim)
      return Error{ErrorCode::unsupported, "layer " + std::to_string(i) +
                                               " has other heads than layer 0; the CPU backend has no plan for that"};
    if (s.head_dim % 8 != 0)
      return Error{ErrorCode::unsupported, "layer " + std::to_string(i) + " has heads of " +
                                               std::to_string(s.head_dim) +
                                               " numbers; the CPU backend takes multiples of 8"};
    PONDER_CHECK_OK(place(p.q, w.q, options, Role::sensitive, l));
    PONDER_CHECK_OK(place(p.k, w.k, options, Role::sensitive, l));
    PONDER_CHECK_OK(place(p.v, w.v, options, Role::sensitive, l));
    PONDER_CHECK_OK(place(p.output, w.output, options, Role::sensitive, l));
    PONDER_CHECK_OK(place(p.gate, w.gate, options, Role::ordinary, l));
    PONDER_CHECK_OK(place(p.up, w.up, options, Role::ordinary, l));
    PONDER_CHECK_OK(place(p.down, w.down, options, Role::ordinary, l));
    vectors += vector_bytes(w);

    p.kv_offset = l.page_bytes;
    p.v_stride = padded_head(s.head_dim);
    p.k_head_bytes = uint64_t(kPageTokens / kTokenLanes * k_block_bytes(l.stored, s.head_dim));
    p.v_head_bytes = uint64_t(v_page_bytes(l.stored, s.head_dim));
    if (l.bias_apart) vectors += uint64_t(kPageTokens) * uint64_t(s.kv_size()) * sizeof(float);
    l.page_bytes += p.head_bytes() * uint64_t(s.n_kv_heads);

    l.max_qkv = std::max<int64_t>(l.max_qkv, s.q_size() + 2 * s.kv_size());
    l.max_q = std::max<int64_t>(l.max_q, s.q_size());
    l.max_ffn = std::max<int64_t>(l.max_ffn, s.ffn_size);
    l.max_head_dim = std::max(l.max_head_dim, s.head_dim);
    l.max_v_stride = std::max(l.max_v_stride, p.v_stride);
    l.max_heads = std::max(l.max_heads, s.n_heads);
    l.max_tile_queries = std::max(l.max_tile_queries, tile_rows(s) * (s.n_heads / s.n_kv_heads));
  }
  if (model.output) PONDER_CHECK_OK(place(l.head, model.output, options, Role::sensitive, l));

  l.rope_floats = 2 * spec.rope.dims;
  const int64_t partials = (options.kv_tokens + kPartialTokens - 1) / kPartialTokens;
  l.max_slots = int64_t(l.max_heads) * std::max<int64_t>(256, 2 * partials);

  for (uint64_t& bytes : l.thread_bytes) {
    bytes = align_up(bytes, kHugePage);
    l.report.weights += bytes;
  }
  l.report.weights += vectors;
  if (options.repack || !spec.tied_head) l.report.mapped_weights += model.token_embd.data.size();
  l.report.kv_per_token = l.page_bytes / kv::kPageTokens;
  l.report.kv_capacity = l.page_bytes * uint64_t((options.kv_tokens + kv::kPageTokens - 1) / kv::kPageTokens);
  l.report.scratch = StepBuffers::cut(l, spec, options, nullptr, nullptr);
  l.bytes_per_token += vectors + model.token_embd.format->row_bytes(model.token_embd.columns);
  return l;
}

uint64_t StepBuffers::cut(const Layout& l, const model::ModelSpec& spec, const PlanOptions& options, uint8_t* memory,
                          StepBuffers* out) {
  Carver c(memory);
  StepBuffers b;
  const auto rows = uint64_t(options.max_batch_rows), outputs = uint64_t(options.max_output_rows);
  const auto hidden = uint64_t(spec.hidden_size);
  b.x = c.take<float>(rows * hidden);
  b.x_out = c.take<float>(outputs * hidden);
  b.qkv = c.take<float>(rows * uint64_t(l.max_qkv));
  b.attention = c.take<float>(rows * uint64_t(l.max_q));
  b.ffn = c.take<float>(rows * uint64_t(l.max_ffn));
  b.rope = c.take<float>(rows * uint64_t(l.rope_floats));
  if (l.bias_apart) {
    const auto pages = (uint64_t(options.kv_tokens) + kPageTokens - 1) / kPageTokens;
    b.place_rope = c.take<float>(uint64_t(kPageTokens) * uint64_t(l.rope_floats));
    b.page_starts = c.take<float>(pages * uint64_t(spec.rope.dims));
  }
  b.logits = c.take<float>(outputs * uint64_t(spec.vocab_size));
  b.slots = c.take<float>(uint64_t(l.max_slots) * uint64_t(l.max_v_stride + 2));
  b.inputs.resize(l.inputs.size());
  for (size_t i = 0; i < l.inputs.size(); ++i) {
    const auto make = [&](int64_t n) {
      uint8_t* p = c.take<uint8_t>(Activations::bytes(l.inputs[i].form, l.inputs[i].columns, n));
      return p == nullptr ? Activations() : Activations(l.inputs[i].form, l.inputs[i].columns, n, p);
    };
    b.inputs[i].batch = make(options.max_batch_rows);
    b.inputs[i].outputs = make(options.max_output_rows);
    for (int t = 0; t < l.threads; ++t) b.inputs[i].own.push_back(make(kPrivateRows));
  }
  const auto queries = uint64_t(l.max_tile_queries);
  b.threads.resize(size_t(l.threads));
  for (ThreadScratch& t : b.threads) {
    t.linear = c.take<uint8_t>(l.linear_scratch);
    t.panel = c.take<uint8_t>(l.panel_scratch);
    t.row = c.take<float>(std::max(hidden, uint64_t(l.max_head_dim)));
    t.query_pointers.resize(queries);
    t.limits.resize(queries);
    if (memory != nullptr) t.sampling.reserve(3 * size_t(spec.vocab_size));
    t.result_pointers.resize(queries);
    t.gate = c.take<float>(uint64_t(gate_chunk_floats(options.max_batch_rows)));
    t.up = c.take<float>(uint64_t(gate_chunk_floats(options.max_batch_rows)));
    t.attention = c.take<float>(uint64_t(attention_scratch(l.max_head_dim)));
    t.queries = c.take<float>(queries * uint64_t(l.max_head_dim));
    for (float*& s : t.state) s = c.take<float>(queries * uint64_t(l.max_v_stride + 2));
  }
  if (out != nullptr) *out = std::move(b);
  return c.used();
}

}  // namespace ponder::backend::cpu
