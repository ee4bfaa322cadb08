#include "backend/cpu/cpu_backend.h"

#include "backend/cpu/plan.h"

namespace ponder::backend::cpu {
namespace {

class CpuBackend : public Backend {
 public:
  const char* name() const override { return "cpu"; }

  Result<std::unique_ptr<Plan>> compile(std::shared_ptr<const model::Model> model,
                                        const PlanOptions& options) override {
    PONDER_TRY(std::unique_ptr<CpuPlan> plan, CpuPlan::make(std::move(model), options));
    return std::unique_ptr<Plan>(std::move(plan));
  }
};

}  // namespace

std::unique_ptr<Backend> make_backend() { return std::make_unique<CpuBackend>(); }

}  // namespace ponder::backend::cpu
