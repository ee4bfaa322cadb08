#include "runtime/backends.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/limits.h"
#include "backend/cuda/driver/nvml.h"
#include "backend/reference/reference.h"
#include "base/log.h"
#include "base/os/system.h"
#if PONDER_HAVE_CUDA
#include "backend/cpu/front.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/measure.h"
#endif

#ifndef PONDER_HAVE_CUDA
#define PONDER_HAVE_CUDA 0
#endif

namespace ponder::runtime {
namespace {

/// Below this a card gains nothing worth its start (about half a second).
constexpr uint64_t kSmallModel = uint64_t(64) << 20;

Result<std::unique_ptr<backend::Backend>> make_cuda() {
#if PONDER_HAVE_CUDA
  return backend::cuda::make_backend(backend::cpu::make_front_layers);
#else
  return Error{ErrorCode::unsupported,
               "this ponder was built without CUDA; build it where a CUDA toolkit is found (make cuda-toolkit)"};
#endif
}

class AutoBackend final : public backend::Backend {
 public:
  explicit AutoBackend(MakeCard make_card) : make_card_(std::move(make_card)) {}
  const char* name() const override { return "auto"; }

  Result<std::unique_ptr<backend::Plan>> compile(std::shared_ptr<const model::Model> model,
                                                 const backend::PlanOptions& options) override {
    const bool demanded = options.gpu_layers > 0;  // such layers are not silently left out
    const bool wanted = demanded || (options.gpu_layers != 0 && model->weight_bytes >= kSmallModel);
    if (wanted && !card() && demanded) return why_no_card_;
    if (wanted && card()) {
      auto plan = card_->compile(model, options);
      if (plan.ok() || demanded) return plan;
      log(LogLevel::warning, "the processor computes, not the card: " + plan.error().message);
    }
    return backend::cpu::make_backend()->compile(std::move(model), options);
  }

 private:
  // Looked for once, when a model first wants one.
  bool card() {
    if (looked_) return card_ != nullptr;
    looked_ = true;
    auto found = make_card_();
    if (found.ok()) {
      card_ = std::move(*found);
    } else {
      why_no_card_ = found.error();
      // A machine without a card is nothing to talk about; a card that cannot be used is.
      const bool quiet = found.error().code == ErrorCode::not_found || !PONDER_HAVE_CUDA;
      log(quiet ? LogLevel::debug : LogLevel::warning, "the processor computes, not a card: " + found.error().message);
    }
    return card_ != nullptr;
  }

  const MakeCard make_card_;
  bool looked_ = false;
  std::unique_ptr<backend::Backend> card_;
  Error why_no_card_;
};

}  // namespace

bool cards_are_built_in() { return PONDER_HAVE_CUDA != 0; }

std::unique_ptr<backend::Backend> make_auto_backend(MakeCard make_card) {
  return std::make_unique<AutoBackend>(std::move(make_card));
}

Result<std::unique_ptr<backend::Backend>> make_backend(const std::string& name) {
  if (name == "auto") return make_auto_backend(make_cuda);
  if (name == "cuda") return make_cuda();
  if (name == "cpu") return backend::cpu::make_backend();
  if (name == "reference") return backend::reference::make_backend();
  return Error{ErrorCode::invalid_argument, "unknown backend \"" + name + "\"; known: auto, cuda, cpu, reference"};
}

double read_bandwidth_of(backend::Plan& plan) {
  const double own = plan.read_bandwidth();
  return own > 0 ? own : read_bandwidth_of(plan.info());
}

double read_bandwidth_of(const backend::PlanInfo& info) {
#if PONDER_HAVE_CUDA
  if (!info.cards.empty()) {
    auto read = backend::cuda::read_bandwidth(info.cards[0]);
    return read.ok() ? *read : 0;
  }
#endif
  auto read = backend::cpu::measure_read_gbs(info.threads);
  return read.ok() ? *read * 1e9 : 0;
}

engine::BenchMeters bench_meters(backend::Plan& plan) {
  engine::BenchMeters meters;
  meters.now = os::monotonic_seconds;
  meters.cpu_seconds = os::cpu_seconds;
  meters.read_bandwidth = [&plan] { return read_bandwidth_of(plan); };
  const bool processor = plan.info().gpu_layers < plan.spec().n_layers;
  meters.joules = [cards = plan.info().cards, processor] {
    std::optional<double> sum = processor ? os::processor_joules() : 0.0;
    for (const int card : cards) {
      const auto used = backend::cuda::energy_millijoules(card);
      if (sum) sum = used ? std::optional<double>(*sum + double(*used) * 1e-3) : std::nullopt;
    }
    return sum;
  };
  return meters;
}

std::optional<uint64_t> cards_memory_in_use() {
  std::optional<uint64_t> sum;
  for (int card = 0;; ++card) {
    const auto used = backend::cuda::memory_in_use(card);
    if (!used) return sum;
    sum = sum.value_or(0) + *used;
  }
}

std::string processor_of(const backend::PlanInfo& info, int n_layers) {
  if (info.gpu_layers <= 0 || n_layers <= 0) return "100% CPU";
  if (info.gpu_layers >= n_layers) return "100% GPU";
  const int gpu = (100 * info.gpu_layers + n_layers / 2) / n_layers;
  return std::to_string(100 - gpu) + "%/" + std::to_string(gpu) + "% CPU/GPU";
}

}  // namespace ponder::runtime
