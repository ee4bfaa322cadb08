// The attention stage of a step: which rows attend to what, K and V into the pages, and the tasks of tiles.h on all
// threads. The arithmetic is in isa/attention_kernels.h.
#include <algorithm>
#include <cstring>

#include "backend/cpu/step.h"

namespace ponder::backend::cpu {
namespace {

// Sets each counter to its tile's partials; the task that takes one to 0 sets it back.
void set_counters(const AttentionPlan& plan, std::vector<std::atomic<int>>& counters) {
  for (const AttentionTask& task : plan.tasks)
    if (task.counter >= 0)
      counters[size_t(task.counter)].store(plan.tiles[size_t(task.tile)].partials, std::memory_order_relaxed);
}

}  // namespace

void Step::plan_attention(const Batch& batch) {
  all_.rows.clear();
  last_.rows.clear();
  size_t n_sequences = 0;
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    const Row& r = batch.rows[i];
    if (i == 0 || batch.rows[i - 1].sequence != r.sequence) {
      if (sequence_pages_.size() <= n_sequences) {
        sequence_pages_.emplace_back();
        sequence_pages_.back().reserve(size_t(options_.kv_tokens / kPageTokens + 1));
      }
      auto& pages = sequence_pages_[n_sequences++];
      pages.clear();
      for (const kv::PageId id : r.sequence->pages()) pages.push_back(kv_pages_ + uint64_t(id) * layout_.page_bytes);
    }
    const AttentionRow row{sequence_pages_[n_sequences - 1].data(), r.position, int(i), int(i)};
    all_.rows.push_back(row);
    if (r.sampling != nullptr || r.want_logits) {
      last_.rows.push_back(row);
      last_.rows.back().target = int(last_.rows.size()) - 1;
    }
  }
  all_.make(spec_.layers[0], pool_.size(), layout_.max_slots);
  last_.make(spec_.layers[0], pool_.size(), layout_.max_slots);
  if (last_.rows.size() != all_.rows.size()) last_.tasks_write_kv = false;  // the others' K and V are written before
  set_counters(all_, counters_all_);
  set_counters(last_, counters_last_);
}

void Step::rope(float* head, int row) const { rotate(head, buffers_->rope + int64_t(row) * layout_.rope_floats); }

void Step::rotate(float* head, const float* c) const {
  if (spec_.rope.dims == 0) return;
  const auto rotate = spec_.rope.layout == model::RopeLayout::pairs ? kernels_.rope_pairs : kernels_.rope_halves;
  rotate(head, c, c + spec_.rope.dims, spec_.rope.dims);
}

void Step::write_kv(int t, int row, int kv_head, const LayerLayout& l, const model::LayerSpec& s,
                    const uint8_t* const* pages, int position) {
  const int d = s.head_dim, slot = position % kPageTokens;
  const float* k = buffers_->qkv + int64_t(row) * (s.q_size() + 2 * s.kv_size()) + s.q_size() + kv_head * d;
  const float* v = k + s.kv_size();
  float* rotated = buffers_->threads[size_t(t)].row;
  if (s.qk_norm)
    kernels_.rms_norm(k, l.k_norm.data(), rotated, d, spec_.rms_epsilon);
  else
    std::memcpy(rotated, k, sizeof(float) * size_t(d));
  if (layout_.bias_apart)
    rotate(rotated, buffers_->place_rope + int64_t(slot) * layout_.rope_floats);
  else
    rope(rotated, row);
  // The pages are this batch's to write from here on: the sequence has reserved them.
  uint8_t* page =
      const_cast<uint8_t*>(pages[position / kPageTokens]) + l.kv_offset + l.head_bytes() * uint64_t(kv_head);
  kernels_.write_k(rotated, d, page, slot, layout_.stored);
  kernels_.write_v(v, d, page + l.k_head_bytes, slot, layout_.stored);
}

void Step::attention(int t, size_t layer, const AttentionPlan& plan) {
  auto& counters = &plan == &all_ ? counters_all_ : counters_last_;
  std::atomic<int>& next = next_task_[layer];
  for (int i; (i = next.fetch_add(1, std::memory_order_relaxed)) < int(plan.tasks.size());)
    attend(t, plan.tasks[size_t(i)], layer, plan, counters.data());
}

void Step::attend(int t, const AttentionTask& task, size_t layer, const AttentionPlan& plan,
                  std::atomic<int>* counters) {
  const LayerLayout& l = layout_.layers[layer];
  const model::LayerSpec& s = spec_.layers[layer];
  StepBuffers& b = *buffers_;
  ThreadScratch& scratch = b.threads[size_t(t)];
  const Tile& tile = plan.tiles[size_t(task.tile)];
  const int d = s.head_dim, group = s.n_heads / s.n_kv_heads, n = (tile.end - tile.begin) * group;
  const int64_t q_size = s.q_size(), qkv = q_size + 2 * s.kv_size();

  if (plan.tasks_write_kv)
    for (int r = tile.begin; r < tile.end; ++r) {
      const AttentionRow& row = plan.rows[size_t(r)];
      const int partial = row.position / kPartialTokens;
      if (partial >= task.first && partial < task.last)
        write_kv(t, row.source, task.kv_head, l, s, row.pages, row.position);
    }

  auto& queries = scratch.query_pointers;
  auto& limits = scratch.limits;
  auto& results = scratch.result_pointers;
  for (int r = tile.begin, q = 0; r < tile.end; ++r) {
    const AttentionRow& row = plan.rows[size_t(r)];
    const int head0 = task.kv_head * group;
    for (int h = head0; h < head0 + group; ++h, ++q) {
      float* to = scratch.queries + int64_t(q) * d;
      const float* from = b.qkv + row.source * qkv + h * d;
      if (s.qk_norm)
        kernels_.rms_norm(from, l.q_norm.data(), to, d, spec_.rms_epsilon);
      else
        std::memcpy(to, from, sizeof(float) * size_t(d));
      rope(to, row.source);
      kernels_.scale(to, spec_.attention_scale, d);
      queries[size_t(q)] = to;
      limits[size_t(q)] = row.position + 1;
      results[size_t(q)] = b.attention + row.target * q_size + h * d;
    }
  }

  AttentionItem item;
  item.pages = plan.rows[size_t(tile.begin)].pages;
  item.k_offset = l.kv_offset + l.head_bytes() * uint64_t(task.kv_head);
  item.v_offset = item.k_offset + l.k_head_bytes;
  item.stored = layout_.stored;
  if (layout_.bias_apart)
    item.bias = {l.bias_places.data() + int64_t(task.kv_head) * d * kPageTokens, b.page_starts, spec_.rope.dims,
                 spec_.rope.layout == model::RopeLayout::pairs};
  item.head_dim = d;
  item.v_stride = l.v_stride;
  item.n_queries = n;
  item.queries = queries.data();
  item.limits = limits.data();

  if (task.slot < 0) {
    const auto state = [&](float* p) { return AttentionState{p, p + n, p + 2 * int64_t(n)}; };
    const AttentionState whole = state(scratch.state[0]), later = state(scratch.state[1]);
    for (int p = 0; p < task.last; ++p) {
      const int first = kernels_.attention_partial(item, p, p == 0 ? whole : later, scratch.attention);
      if (p > 0) kernels_.attention_merge(item, first, whole, later);
    }
    kernels_.attention_finish(item, whole, results.data());
    return;
  }
  const auto slot = [&](int p) {
    const int64_t at = task.slot + int64_t(p) * n;
    return AttentionState{b.slots + at, b.slots + layout_.max_slots + at,
                          b.slots + 2 * layout_.max_slots + at * layout_.max_v_stride};
  };
  for (int p = task.first; p < task.last; ++p) kernels_.attention_partial(item, p, slot(p), scratch.attention);
  const int done = task.last - task.first;
  if (counters[task.counter].fetch_sub(done, std::memory_order_acq_rel) != done) return;
  counters[task.counter].store(tile.partials, std::memory_order_relaxed);  // for the next layer
  for (int p = 1; p < tile.partials; ++p) {
    int first = 0;
    while (item.limits[first] <= p * kPartialTokens) ++first;
    kernels_.attention_merge(item, first, slot(0), slot(p));
  }
  kernels_.attention_finish(item, slot(0), results.data());
}

}  // namespace ponder::backend::cpu
