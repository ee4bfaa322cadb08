// One step: a batch of rows through all layers. Every thread runs the same function; barriers separate the stages of a
// layer:  norm + quantise, QKV | (write K and V) | attention | output projection | norm + quantise, gate, up, activation
// | down.  With one or two rows each thread quantises for itself and attention tasks write K and V: five barriers.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/tiles.h"
#include "backend/cpu/vector.h"
#include "base/thread_pool.h"

namespace ponder::backend::cpu {

/// Seconds per kind of work as thread 0 sees them, waiting included.
enum class Phase : uint8_t { embed, inputs, qkv, write_kv, attention, output, gate_up, down, head, sample, count };
const char* to_string(Phase phase);
struct PhaseTimes {
  double seconds[size_t(Phase::count)] = {};
};

class Step {
 public:
  Step(const model::Model& model, const Layout& layout, const PlanOptions& options, ThreadPool& pool, isa::Level level);

  /// Memory of the plan, once it is there.
  void attach(StepBuffers* buffers, uint8_t* kv_pages) {
    buffers_ = buffers;
    kv_pages_ = kv_pages;
  }
  /// Runs a valid batch; false when `stop` was seen set. Writes K and V past every sequence's length only.
  bool run(const Batch& batch, const StopFlag* stop, std::vector<RowResult>* results);

  PhaseTimes& times() { return times_; }

 private:
  void plan_attention(const Batch& batch);
  void thread(int t);
  void embed(int t);
  void write_kv(int t, int row, int kv_head, const LayerLayout& layer, const model::LayerSpec& spec,
                const uint8_t* const* pages, int position);
  void attention(int t, size_t layer, const AttentionPlan& plan);
  void attend(int t, const AttentionTask& task, size_t layer, const AttentionPlan& plan, std::atomic<int>* counters);
  void gate_up(int t, size_t layer, int n_rows, bool outputs);
  void head(int t);
  void rope(float* head, int row) const;
  void rotate(float* head, const float* cosines_and_sines) const;
  void multiply_share(int t, std::atomic<int>* cursors, const PlacedMatrix& m, int n_rows, bool outputs, float* out,
                      int64_t stride, std::span<const float> bias, bool add);
  void product(int t, const PlacedMatrix& m, int owner, PanelRange panels, const Activations& x, const Output& out);
  template <class F>
  void for_panels(int t, std::atomic<int>* cursors, const PlacedMatrix& m, int n_rows, int64_t step, F f);
  std::atomic<int>* cursors(size_t layer, int matrix) {
    return cursors_.get() + (layer * kMatrices + size_t(matrix)) * size_t(pool_.size());
  }
  void mark(int t, Phase phase);

  template <class Row>
  void inputs(int t, const PlacedMatrix& a, const PlacedMatrix* b, const PlacedMatrix* c, int n_rows, bool outputs,
              Row row);
  const Activations& input_of(int t, const PlacedMatrix& m, int n_rows, bool outputs) const;

  static constexpr size_t kMatrices = 6;  // q, k, v, output, gate with up, down

  const model::Model& model_;
  const model::ModelSpec& spec_;
  const Layout& layout_;
  const PlanOptions& options_;
  ThreadPool& pool_;
  const isa::Level level_;
  const VectorKernels& kernels_;
  StepBuffers* buffers_ = nullptr;
  uint8_t* kv_pages_ = nullptr;
  std::vector<float> output_norm_;

  // The batch in hand.
  const Batch* batch_ = nullptr;
  const StopFlag* stop_ = nullptr;
  std::vector<RowResult>* results_ = nullptr;
  std::vector<std::vector<const uint8_t*>> sequence_pages_;
  std::vector<int> outputs_;                       // rows that ask for anything
  AttentionPlan all_, last_;                       // of all layers; of the last one (output rows only)
  std::unique_ptr<std::atomic<int>[]> next_task_;  // per layer
  std::vector<std::atomic<int>> counters_all_, counters_last_;
  /// Per layer (and one more for the head), matrix and thread: chunks of its share that were taken.
  std::unique_ptr<std::atomic<int>[]> cursors_;
  std::atomic<int> next_sample_{0};
  bool stopped_ = false;
  PhaseTimes times_;
  double last_mark_ = 0;
};

}  // namespace ponder::backend::cpu
