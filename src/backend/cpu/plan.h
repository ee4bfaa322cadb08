// The plan of the CPU backend: memory, packing of weights, KV pages, and launching steps. launch() does the work at
// once; collect() hands the results over and advances the sequences.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/step.h"
#include "base/os/memory.h"
#include "base/thread_pool.h"

namespace ponder::backend::cpu {

class CpuPlan : public Plan {
 public:
  /// Checks the options, lays out memory, allocates nothing of size. All levels give the same bits.
  static Result<std::unique_ptr<CpuPlan>> make(std::shared_ptr<const model::Model> model, PlanOptions options,
                                               isa::Level level = isa::active());
  CpuPlan(std::shared_ptr<const model::Model> model, const PlanOptions& options, Layout layout, isa::Level level);

  const MemoryReport& memory_report() const override { return layout_.report; }
  const PlanInfo& info() const override { return info_; }
  const model::ModelSpec& spec() const override { return model_->spec; }
  Result<void> load(const Progress& progress, const StopFlag* stop) override;
  Result<void> launch(const Batch& batch, const StopFlag* stop) override;
  Result<std::vector<RowResult>> collect() override;
  double read_bandwidth() override;
  Result<void> prepare_page(kv::PageId page) override;
  void copy_page(kv::PageId from, kv::PageId to) override;
  /// Of a model without a head (front.h): the residual stream behind its layers; sequences stay as they are.
  Result<bool> run_front(const Batch& batch, const StopFlag* stop, float* x_out);

  /// Where the time of all steps since the last reset went.
  PhaseTimes& times() { return step_.times(); }

 private:
  Result<void> check_memory() const;
  void pack_share(int thread, const PlacedMatrix& m) const;
  Result<void> pack(const Progress& progress, const StopFlag* stop);

  const std::shared_ptr<const model::Model> model_;  // shared with whoever shows or tokenizes the same file
  const PlanOptions options_;
  Layout layout_;
  PlanInfo info_;
  ThreadPool pool_;
  os::Arena weights_, kv_, scratch_;
  StepBuffers buffers_;
  Step step_;
  int pages_ready_ = 0;                   // pages below this have been asked for before
  std::vector<SequenceState*> launched_;  // one per row of the batch in flight
  std::vector<RowResult> results_;
  bool in_flight_ = false, cancelled_ = false, loaded_ = false;
};

}  // namespace ponder::backend::cpu
