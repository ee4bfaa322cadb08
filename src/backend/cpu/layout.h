// Where everything of a plan will lie, known before anything is allocated: the packed weights (each thread's share of
// every matrix contiguous, in the order a token needs them, so that prefetch runs on across matrices and barriers),
// the KV pages, and the buffers of a step.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/vector.h"
#include "base/os/memory.h"
#include "base/result.h"

namespace ponder::backend::cpu {

/// Rows up to which every thread quantises inputs for itself, which saves a barrier.
constexpr int kPrivateRows = 2;

/// A weight matrix and each thread's panels of it.
struct PlacedMatrix {
  const model::Tensor* tensor = nullptr;
  Matrix matrix;
  Form form = Form::f32;
  std::vector<PanelRange> shares;  ///< per thread
  std::vector<uint64_t> offsets;   ///< of the share in the thread's part of the arena
  std::vector<uint8_t*> bases;     ///< the place panel 0 would have, once allocated
};

struct LayerLayout {
  PlacedMatrix q, k, v, output, gate, up, down;
  std::vector<float> attn_norm, ffn_norm, q_bias, k_bias, v_bias, output_bias, q_norm, k_norm;  // filled by load
  std::vector<float> bias_places;  ///< KeyBias::places of each KV head, where keys are kept without bias
  uint64_t kv_offset = 0;          ///< of the layer inside a page
  uint64_t k_head_bytes = 0;       ///< 64 tokens of one head's K; V follows
  uint64_t v_head_bytes = 0;
  int v_stride = 0;

  uint64_t head_bytes() const { return k_head_bytes + v_head_bytes; }
};

/// The inputs that multiply() reads, of one width and form.
struct InputSpec {
  Form form;
  int64_t columns;
  bool operator==(const InputSpec&) const = default;
};

struct Layout {
  int threads = 1;
  Stored stored = Stored::f16;
  bool bias_apart = false;  ///< keys are kept without their bias (KeyBias)
  std::vector<LayerLayout> layers;
  PlacedMatrix head;
  std::vector<uint64_t> thread_bytes;  ///< of packed weights, multiples of 2 MiB
  uint64_t page_bytes = 0;
  std::vector<InputSpec> inputs;
  int64_t max_qkv = 0, max_q = 0, max_ffn = 0, rope_floats = 0;  ///< per row, floats
  int max_head_dim = 0, max_v_stride = 0, max_heads = 0, max_tile_queries = 0;
  uint64_t linear_scratch = 0;  ///< bytes per thread
  uint64_t panel_scratch = 0;   ///< bytes per thread for a panel that is packed as it is used; 0: all are packed
  int64_t max_slots = 0;        ///< softmax partials that may wait to be merged, in queries

  MemoryReport report;
  uint64_t bytes_per_token = 0;

  static Result<Layout> make(const model::Model& model, const PlanOptions& options);
  int input_index(Form form, int64_t columns) const;
};

/// Cuts aligned pieces from a block of memory, or only counts them (base null).
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}
  template <class T>
  T* take(uint64_t count) {
    const uint64_t at = used_;
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  uint64_t used() const { return used_; }

 private:
  uint8_t* base_;
  uint64_t used_ = 0;
};

/// Activations of one InputSpec: for the whole batch, for its output rows only, and per thread for one or two rows.
struct InputBuffers {
  Activations batch, outputs;
  std::vector<Activations> own;
};

/// What one thread works with alone.
struct ThreadScratch {
  uint8_t* linear = nullptr;
  uint8_t* panel = nullptr;
  float* row = nullptr;   ///< one normed row
  float* gate = nullptr;  ///< a chunk of gate and of up, for all rows of a batch
  float* up = nullptr;
  float* attention = nullptr;                ///< attention_scratch()
  float* queries = nullptr;                  ///< rotated queries of a tile
  float* state[2] = {};                      ///< AttentionState of a tile: largest, sum, acc
  std::vector<const float*> query_pointers;  ///< of a tile, sized once
  std::vector<int32_t> limits;
  std::vector<float*> result_pointers;
  std::vector<float> sampling;
};

/// All buffers of a step, cut from one arena.
struct StepBuffers {
  float *x = nullptr, *x_out = nullptr;  ///< residual stream of the batch; of its output rows in the last layer
  float *qkv = nullptr, *attention = nullptr, *ffn = nullptr, *rope = nullptr, *logits = nullptr, *slots = nullptr;
  float *place_rope = nullptr,
        *page_starts = nullptr;      ///< with bias_apart: as `rope`, by place in a page; KeyBias::starts
  std::vector<InputBuffers> inputs;  ///< by Layout::inputs
  std::vector<ThreadScratch> threads;

  static uint64_t cut(const Layout& layout, const model::ModelSpec& spec, const PlanOptions& options, uint8_t* memory,
                      StepBuffers* out);
};

/// Floats of gate (and of up) that a thread holds at once.
int64_t gate_chunk_floats(int64_t max_rows);

}  // namespace ponder::backend::cpu
