// A plan of a model that ends early: the layers that are wanted, and no head.
#include "backend/cpu/front.h"

#include <algorithm>

#include "backend/cpu/plan.h"

namespace ponder::backend::cpu {
namespace {

class CpuFront final : public FrontLayers {
 public:
  explicit CpuFront(std::unique_ptr<CpuPlan> plan) : plan_(std::move(plan)) {}
  const MemoryReport& memory_report() const override { return plan_->memory_report(); }
  std::string numerics_id() const override { return plan_->info().numerics_id; }
  int threads() const override { return plan_->info().threads; }
  Result<void> load(const Progress& progress, const StopFlag* stop) override { return plan_->load(progress, stop); }
  Result<bool> run(const Batch& batch, const StopFlag* stop, float* x_out) override {
    return plan_->run_front(batch, stop, x_out);
  }
  Result<void> prepare_page(kv::PageId page) override { return plan_->prepare_page(page); }
  void copy_page(kv::PageId from, kv::PageId to) override { plan_->copy_page(from, to); }

 private:
  const std::unique_ptr<CpuPlan> plan_;
};

}  // namespace

Result<std::unique_ptr<FrontLayers>> make_front_layers(std::shared_ptr<const model::Model> model,
                                                       const PlanOptions& options, int n_layers) {
  auto front = std::make_shared<model::Model>(*model);  // views of the same file
  const size_t n = size_t(std::clamp(n_layers, 1, model->spec.n_layers));
  front->layers.resize(n);
  front->spec.layers.resize(n);
  front->spec.n_layers = int(n);
  front->output = {};
  PlanOptions own = options;
  own.max_output_rows = 1;  // there is no head, so no logits
  PONDER_TRY(auto plan, CpuPlan::make(std::move(front), own));
  return std::unique_ptr<FrontLayers>(std::make_unique<CpuFront>(std::move(plan)));
}

}  // namespace ponder::backend::cpu
