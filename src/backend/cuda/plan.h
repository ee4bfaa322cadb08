// The plan of the CUDA backend: cards in a row, perhaps the processor before them.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/step.h"

namespace ponder::backend::cuda {

class CudaPlan final : public Plan {
 public:
  static Result<std::unique_ptr<CudaPlan>> make(std::shared_ptr<const model::Model> model, const PlanOptions& options,
                                                std::vector<CardRoom> cards, const MakeFrontLayers& front_layers);
  CudaPlan(std::shared_ptr<const model::Model> model, const PlanOptions& options, std::vector<CardRoom> cards,
           Placement placement, std::unique_ptr<FrontLayers> front);
  ~CudaPlan() override;

  const MemoryReport& memory_report() const override { return placement_.report; }
  const PlanInfo& info() const override { return info_; }
  const model::ModelSpec& spec() const override { return model_->spec; }
  std::optional<uint64_t> spare_memory() const override;
  Result<void> load(const Progress& progress, const StopFlag* stop) override;
  Result<void> launch(const Batch& batch, const StopFlag* stop) override;
  Result<std::vector<RowResult>> collect() override;
  Result<void> prepare_page(kv::PageId page) override;
  void copy_page(kv::PageId from, kv::PageId to) override;

 private:
  void describe();
  Result<bool> run(const Batch& batch, const StopFlag* stop);
  Result<void> ask_for_outputs(const Batch& batch);

  const std::shared_ptr<const model::Model> model_;  // shared with whoever shows or tokenizes the same file
  const PlanOptions options_;
  const std::vector<CardRoom> cards_;
  const Placement placement_;
  PlanInfo info_;
  std::unique_ptr<FrontLayers> front_;
  std::vector<std::unique_ptr<CardStep>> steps_;
  PinnedBuffer x_;       // the residual stream between devices
  PinnedBuffer logits_;  // of output rows, for callers and for draws that the host makes
  bool loaded_ = false;

  // The batch in flight.
  std::vector<Row> rows_;
  std::vector<int> outputs_;         // rows that ask for something
  std::vector<uint8_t> host_draws_;  // of outputs: drawn here
  DrawBatch draws_;
  bool cancelled_ = false;
  std::vector<float> sample_scratch_;
};

}  // namespace ponder::backend::cuda
