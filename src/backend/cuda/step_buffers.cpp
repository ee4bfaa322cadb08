#include "backend/cuda/step_buffers.h"

#include <algorithm>

#include "backend/cuda/attention.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/sampler.h"
#include "base/checked.h"

namespace ponder::backend::cuda {

int padded_rows(const PlanOptions& options) { return std::max(options.max_batch_rows, kMaxGraphRows); }
int padded_outputs(const PlanOptions& options) { return std::max(options.max_output_rows, kMaxGraphRows); }

uint64_t StepBuffers::cut(const model::ModelSpec& spec, const PlanOptions& options, bool has_head, int max_position,
                          uint8_t* memory, StepBuffers* out) {
  StepBuffers ignored;
  StepBuffers& b = out != nullptr ? *out : ignored;
  const int rows = padded_rows(options), outputs = has_head ? padded_outputs(options) : 0;
  const model::LayerSpec& l = spec.layers[0];  // layers are alike
  const int64_t hidden = spec.hidden_size, vocab = spec.vocab_size, q = l.q_size(), kv = l.kv_size(), ffn = l.ffn_size;
  b.max_pages = (max_position + kv::kPageTokens - 1) / kv::kPageTokens;

  uint64_t used = 0;
  const auto take = [&]<class T>(T*& pointer, uint64_t n) {
    pointer = memory != nullptr ? reinterpret_cast<T*>(memory + used) : nullptr;
    used += align_up(n * sizeof(T), 256);
  };
  take(b.x, uint64_t(rows * hidden));
  take(b.qkv, uint64_t(rows * (q + 2 * kv)));
  take(b.attention, uint64_t(rows * q));
  take(b.ffn, uint64_t(rows * ffn));
  take(b.x_out, uint64_t(outputs * hidden));
  take(b.attention_out, uint64_t(outputs * q));
  take(b.logits, uint64_t(outputs * vocab));
  take(b.meta, uint64_t(3 * rows));
  take(b.page_table, uint64_t(rows * b.max_pages));
  take(b.rope, uint64_t(int64_t(max_position) * spec.rope.dims));
  size_t linear = 0;  // of the launch that needs most
  const auto launch = [&](int n, int64_t columns, int64_t results) {
    if (n > 0) linear = std::max(linear, linear_scratch_bytes(n, int(columns), int(results)));
  };
  launch(rows, hidden, q + 2 * kv);
  launch(rows, q, hidden);
  launch(rows, hidden, 2 * ffn);
  launch(rows, ffn, hidden);
  launch(outputs, hidden, vocab);
  take(b.linear, linear);
  take(b.attention_scratch, attention_scratch_bytes(l.n_heads, l.n_kv_heads, l.head_dim, max_position));
  take(b.sampler, has_head ? sampler_scratch_bytes(outputs, int(vocab)) : 0);
  return used;
}

}  // namespace ponder::backend::cuda
