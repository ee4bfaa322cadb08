// One step on one card: its layers, and on the last card head and draw. Decode (up to 16 rows that all ask for something)
// is replayed from a CUDA graph, which is valid for all positions below its bound: what changes from step to step
// (tokens, positions, page tables) lies in buffers that are copied before it. Larger batches are launched as they come.
//
//   embed · [norm + QKV + bias · RoPE + K, V into pages · attention · output + residual · norm + gate/up + activation ·
//   down + residual] x layers · norm + head · draw
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "backend/cuda/attention.h"
#include "backend/cuda/loader.h"
#include "backend/cuda/sampler.h"
#include "backend/cuda/step_buffers.h"

namespace ponder::backend::cuda {

class CardStep {
 public:
  /// Everything of `part` on card `room.card`; load() takes the memory.
  CardStep(const model::Model& model, const PlanOptions& options, const Placement& placement, const CardPart& part,
           const CardRoom& room);
  ~CardStep();
  CardStep(const CardStep&) = delete;

  Result<void> load(const std::function<void(uint64_t)>& progress, const StopFlag* stop);
  /// Memory for pages 0 .. page.
  Result<void> prepare_page(kv::PageId page);
  Result<void> copy_page(kv::PageId from, kv::PageId to);

  /// Uploads what the batch is made of. `outputs` are the rows that ask for something.
  Result<void> begin(const Batch& batch, std::span<const int> outputs);
  /// Runs the layers; on the last card the head too. `x_in`: the residual stream from before, in mapped host memory
  /// [rows][hidden] (null on the first device: embed). `stop` is looked at between layers of large batches; false when
  /// it was seen set.
  Result<bool> run(const float* x_in, const StopFlag* stop);
  /// After run() on any but the last card: the residual stream into mapped host memory, waited for.
  Result<void> fetch_x(float* x_out);

  /// Draws for the outputs (last card): token ids arrive in tokens() once wait() returned.
  Result<void> draw(const DrawBatch& draws);
  const int32_t* tokens() const { return tokens_.as<int32_t>(); }
  /// Copies logits of output `i` into host memory after the step.
  Result<void> fetch_logits(int i, float* to);
  /// Until everything asked for is done: sleeps for most of the time that such a step took before, then watches.
  Result<void> wait();

  cudaStream_t stream() const { return stream_; }

 private:
  struct Shape {
    int rows = 0, outputs = 0, max_position = 0;
    bool gather = false;  ///< only some rows go on to the head
    int64_t table_stride = 0;
    auto operator<=>(const Shape&) const = default;
  };
  struct Graph {
    cudaGraphExec_t exec = nullptr;
  };

  Result<void> use_card() const;
  Result<void> capture(const Shape& shape);
  /// Enqueues the whole step; false when stopped.
  Result<bool> enqueue(const Shape& shape, const StopFlag* stop);
  /// What attention needs to know of layer `i` of the part in every step: heads, RoPE, pages.
  AttentionArgs attention_args(size_t i) const;
  Result<void> make_key_biases();
  cudaError_t layer(size_t i, const Shape& shape);
  cudaError_t head(const Shape& shape);

  const model::Model& model_;
  const PlanOptions& options_;
  const Placement& placement_;
  const CardPart& part_;
  const CardRoom& room_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t throttle_ = nullptr;
  CardWeights weights_;
  GrowingBuffer pages_;
  DeviceBuffer scratch_, draw_memory_;
  DeviceBuffer key_bias_;                // of the layers that keep keys without their bias, one after the other
  std::vector<const void*> key_biases_;  // per layer of the part; null: none
  PinnedBuffer staging_;                 // meta, then page tables, then draw requests on their way
  PinnedBuffer draw_staging_;            // grows with requests
  PinnedBuffer tokens_;
  StepBuffers buffers_;
  std::vector<RowRun> runs_;           // rows of the batch by sequence
  std::vector<int32_t> table_shadow_;  // page tables of graph rows as the card has them
  Shape shape_;
  bool embedded_ = false;
  std::map<Shape, Graph> graphs_;
  std::map<Shape, double> durations_;  // seconds on the card, moving average
  cudaEvent_t begun_ = nullptr, ended_ = nullptr;
  bool running_ = false;  // between run() and the end of wait()
  double started_ = 0;
};

}  // namespace ponder::backend::cuda
