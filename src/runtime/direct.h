// A placed model without an engine: for the commands that look at logits or time the backend itself.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "runtime/loaded_model.h"

namespace ponder::runtime {

/// Compiles and loads; refuses with the numbers what does not fit in free memory.
Result<std::unique_ptr<backend::Plan>> load_plan(const OpenModel& model, const RuntimeOptions& options,
                                                 int64_t kv_tokens, int max_output_rows,
                                                 const std::function<void(double)>& progress, const CancelFlag* cancel);

/// The error of a model that could be opened but would not be what its maker made: with a LoRA adapter.
Result<void> check_complete(const OpenModel& model);

/// The error of a model that needs `needed` bytes besides what must stay free; nothing if it fits now.
Result<void> check_fits(const std::string& model, const backend::MemoryReport& report, int64_t kv_tokens);

/// Options of a plan from the flags; errors name the flag's value and what is known.
Result<backend::PlanOptions> plan_options(const RuntimeOptions& options);

/// Left free for the rest of the machine, bytes.
inline constexpr uint64_t kHeadroom = uint64_t(256) << 20;

}  // namespace ponder::runtime
