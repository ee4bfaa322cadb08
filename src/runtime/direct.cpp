#include "runtime/direct.h"

#include <cstdio>

#include "base/os/memory.h"
#include "runtime/backends.h"

namespace ponder::runtime {
namespace {

constexpr int kMaxBatchRows = 512;

std::string gib(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", double(bytes) / double(uint64_t(1) << 30));
  return text;
}

}  // namespace

Result<backend::PlanOptions> plan_options(const RuntimeOptions& options) {
  backend::PlanOptions plan;
  plan.threads = options.threads;
  plan.max_batch_rows = kMaxBatchRows;
  plan.gpu_layers = options.gpu_layers;
  plan.gpu_memory = options.gpu_memory;
  const auto precision = backend::parse_precision(options.precision);
  if (!precision)
    return Error{ErrorCode::invalid_argument,
                 "unknown precision \"" + options.precision + "\"; known: standard, fast, exact"};
  plan.precision = *precision;
  const auto kv_format = backend::parse_kv_format(options.kv_format);
  if (!kv_format)
    return Error{ErrorCode::invalid_argument, "unknown KV format \"" + options.kv_format + "\"; known: f16, q8, f32"};
  plan.kv_format = *kv_format;
  plan.repack = options.repack;
  return plan;
}

Result<void> check_complete(const OpenModel& open) {
  if (open.stored.adapters.empty()) return {};
  return Error{ErrorCode::unsupported, "model '" + open.stored.name.display() +
                                           "' has a LoRA adapter, which Ponder cannot apply yet; merge it into the "
                                           "weights, or run the model it was made from"};
}

Result<void> check_fits(const std::string& model, const backend::MemoryReport& report, int64_t kv_tokens) {
  const uint64_t weights = report.weights + report.mapped_weights, kv = uint64_t(kv_tokens) * report.kv_per_token;
  const uint64_t needed = weights + report.scratch + kv, available = os::memory_info().available;
  if (needed + kHeadroom <= available) return {};
  return Error{ErrorCode::out_of_memory, "\"" + model + "\" needs " + gib(needed) + " (weights " + gib(weights) +
                                             ", work space " + gib(report.scratch) + ", KV cache of " +
                                             std::to_string(kv_tokens) + " tokens " + gib(kv) + ") and " +
                                             gib(kHeadroom) + " must stay free, but only " + gib(available) +
                                             " is; use a smaller model or context (num_ctx), or close other programs"};
}

Result<std::unique_ptr<backend::Plan>> load_plan(const OpenModel& open, const RuntimeOptions& options,
                                                 int64_t kv_tokens, int max_output_rows,
                                                 const std::function<void(double)>& progress,
                                                 const CancelFlag* cancel) {
  PONDER_CHECK_OK(check_complete(open));
  PONDER_TRY(auto backend, make_backend(options.backend));
  PONDER_TRY(auto model, model::Model::load(open.file));
  PONDER_TRY(auto plan_opts, plan_options(options));
  plan_opts.kv_tokens = kv_tokens;
  plan_opts.max_output_rows = max_output_rows;
  PONDER_TRY(auto plan, backend->compile(model, plan_opts));
  if (!plan->spare_memory()) PONDER_CHECK_OK(check_fits(open.stored.name.model, plan->memory_report(), kv_tokens));
  PONDER_CHECK_OK(plan->load(progress, cancel));
  return plan;
}

}  // namespace ponder::runtime
