// The figures are the allocator's own: what loader and step take is counted by the same functions here.
#include "backend/cuda/placement.h"

#include <algorithm>
#include <initializer_list>

#include "backend/cuda/attention.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/step_buffers.h"
#include "base/checked.h"

namespace ponder::backend::cuda {

Result<uint64_t> matrix_bytes(const model::Tensor& tensor) {
  TileKind kind;
  if (!tile_kind(uint32_t(tensor.format->type), &kind))
    return Error{ErrorCode::unsupported, "tensor " + tensor.name + " is of format " + tensor.format->name +
                                             ", which the CUDA backend has no kernels for; use --backend cpu"};
  return align_up(packed_bytes(kind, int64_t(tensor.rows), int64_t(tensor.columns)), 256);
}

Result<uint64_t> layer_weight_bytes(const model::LayerWeights& w) {
  uint64_t sum = 0;
  for (const model::Tensor* t : {&w.q, &w.k, &w.v, &w.output, &w.gate, &w.up, &w.down}) {
    PONDER_TRY(const uint64_t bytes, matrix_bytes(*t));
    sum += bytes;
  }
  return sum;
}

uint64_t vector_bytes(const model::LayerWeights& w) {
  uint64_t sum = 0;
  for (const model::Tensor* t :
       {&w.attn_norm, &w.ffn_norm, &w.q_bias, &w.k_bias, &w.v_bias, &w.output_bias, &w.q_norm, &w.k_norm})
    if (*t) sum += align_up(t->columns * sizeof(float), 256);
  return sum;
}

bool bias_apart(const PlanOptions& options, const model::LayerWeights& w) {
  return options.kv_format == KvFormat::q8 && w.k_bias && !w.k_norm;
}

uint64_t scratch_bytes(const model::ModelSpec& spec, const PlanOptions& options, const CardPart& part,
                       int max_position) {
  return StepBuffers::cut(spec, options, part.has_head, max_position, nullptr, nullptr);
}

namespace {

/// Cards are filled in order; every card keeps room for its scratch and the KV of its layers.
struct Filler {
  const model::Model& model;
  const PlanOptions& options;
  std::vector<uint64_t> weights, vectors;  // per layer
  uint64_t head = 0, embedding = 0, output_norm = 0;
  int max_position = 0, n_pages = 0;

  uint64_t page_bytes(int layer) const {
    const model::LayerSpec& s = model.spec.layers[size_t(layer)];
    return kv_layer_bytes(s.n_kv_heads, s.head_dim, options.kv_format == KvFormat::q8);
  }
  // What the layers [first, last) take on a card, with or without head and embedding.
  CardPart part(int card, int first, int last, bool embeds, bool has_head) const {
    CardPart p{.card = card, .first_layer = first, .last_layer = last, .embeds = embeds, .has_head = has_head};
    for (int i = first; i < last; ++i) {
      p.weights += weights[size_t(i)];
      p.vectors += vectors[size_t(i)];
      p.page_bytes += page_bytes(i);
      const model::LayerSpec& s = model.spec.layers[size_t(i)];
      if (bias_apart(options, model.layers[size_t(i)])) p.key_bias += key_bias_bytes(s.n_kv_heads, s.head_dim);
    }
    if (has_head) p.weights += head, p.vectors += output_norm;
    if (embeds && !(model.spec.tied_head && has_head)) p.weights += embedding;
    p.scratch = scratch_bytes(model.spec, options, p, max_position);
    return p;
  }
  uint64_t total(const CardPart& p) const {
    return p.weights + p.vectors + p.key_bias + p.scratch + uint64_t(n_pages) * p.page_bytes;
  }
};

// The layers [first, n) over the cards, most on the first ones; empty if they do not fit.
std::vector<CardPart> fill(const Filler& f, const std::vector<CardRoom>& cards, int first) {
  const int n = f.model.spec.n_layers;
  std::vector<CardPart> parts;
  int next = first;
  for (size_t c = 0; c < cards.size() && next < n; ++c) {
    const bool embeds = first == 0 && parts.empty();
    const CardPart whole = f.part(int(c), next, n, embeds, true);
    if (f.total(whole) <= cards[c].budget) {
      parts.push_back(whole);
      return parts;
    }
    if (c + 1 == cards.size()) break;
    int last = next;
    while (last + 1 < n && f.total(f.part(int(c), next, last + 1, embeds, false)) <= cards[c].budget) ++last;
    if (last == next) continue;  // not even one layer: the next card may have more room
    parts.push_back(f.part(int(c), next, last, embeds, false));
    next = last;
  }
  return {};
}

Error no_fit(const Filler& f, const std::vector<CardRoom>& cards, int first) {
  const CardPart p = f.part(0, first, f.model.spec.n_layers, first == 0, true);
  uint64_t budget = 0;
  for (const CardRoom& c : cards) budget += c.budget;
  return Error{ErrorCode::out_of_memory,
               std::to_string(f.model.spec.n_layers - first) + " layers on the card need " + gib(f.total(p)) +
                   " (weights " + gib(p.weights + p.vectors + p.key_bias) + ", KV cache for " +
                   std::to_string(f.options.kv_tokens) + " tokens " + gib(uint64_t(f.n_pages) * p.page_bytes) +
                   ", working memory " + gib(p.scratch) + "), but " + gib(budget) +
                   " may be taken; ask for a shorter context, fewer layers (--gpu-layers) or more memory "
                   "(--gpu-memory)"};
}

}  // namespace

Result<Placement> place(const model::Model& model, const PlanOptions& options, const std::vector<CardRoom>& cards) {
  const model::ModelSpec& spec = model.spec;
  Filler f{.model = model, .options = options, .weights = {}, .vectors = {}};
  for (int i = 0; i < spec.n_layers; ++i) {
    const model::LayerSpec& s = spec.layers[size_t(i)];
    if (padded_head_dim(s.head_dim) > kMaxHeadDim)
      return Error{ErrorCode::unsupported, "layer " + std::to_string(i) + " has heads of " +
                                               std::to_string(s.head_dim) + " numbers; the CUDA backend takes up to " +
                                               std::to_string(kMaxHeadDim) + "; use --backend cpu"};
    constexpr int kBigHead = 128,
                  kBigShared = 116 << 10;  // what a block of q8 with heads of 256 takes of shared memory
    if (options.kv_format == KvFormat::q8 && s.head_dim > kBigHead)
      for (const CardRoom& c : cards)
        if (c.limits.shared_per_block < kBigShared)
          return Error{ErrorCode::unsupported, "heads of " + std::to_string(s.head_dim) +
                                                   " numbers with --kv q8 need more shared memory than " + c.card.name +
                                                   " has; use --kv f16"};
    PONDER_TRY(const uint64_t bytes, layer_weight_bytes(model.layers[size_t(i)]));
    f.weights.push_back(bytes);
    f.vectors.push_back(vector_bytes(model.layers[size_t(i)]));
  }
  PONDER_TRY(f.head, matrix_bytes(model.output));
  PONDER_TRY(f.embedding, matrix_bytes(model.token_embd));
  f.output_norm = align_up(model.output_norm.columns * sizeof(float), 256);
  f.n_pages = int((options.kv_tokens + kv::kPageTokens - 1) / kv::kPageTokens);
  f.max_position = int(std::min<int64_t>(int64_t(f.n_pages) * kv::kPageTokens, std::max(spec.context_length, 1)));

  const int asked = options.gpu_layers < 0 ? spec.n_layers : std::min(options.gpu_layers, spec.n_layers);
  Placement p;
  p.max_position = f.max_position;
  p.n_pages = f.n_pages;
  int first = spec.n_layers - asked;
  p.cards = fill(f, cards, first);
  if (p.cards.empty() && options.gpu_layers >= 0 && asked > 0) return no_fit(f, cards, first);
  // Not all fits: the most layers that do, from the end (the head must be on a card).
  for (int low = first + 1, high = spec.n_layers; p.cards.empty() && low < high;) {
    const int middle = low + (high - low) / 2;
    if (!fill(f, cards, middle).empty()) {
      high = middle;
    } else {
      low = middle + 1;
    }
    if (low == high && low < spec.n_layers) p.cards = fill(f, cards, first = low);
  }
  if (p.cards.empty()) return no_fit(f, cards, spec.n_layers - 1);
  p.host_layers = first;
  for (const CardPart& c : p.cards) {
    p.report.weights += c.weights + c.vectors + c.key_bias;
    p.report.scratch += c.scratch;
    p.report.kv_per_token += c.page_bytes / kv::kPageTokens;
    p.report.kv_capacity += c.page_bytes * uint64_t(p.n_pages);
  }
  return p;
}

}  // namespace ponder::backend::cuda
