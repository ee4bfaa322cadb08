// Backends by their names on the command line, and the choice among them.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "engine/bench.h"
#include "runtime/client.h"

namespace ponder::runtime {

/// "auto" (a card when there is one and the model gains by it, else the processor; the log says why), "cuda", "cpu",
/// "reference". A card that was demanded and cannot be used is an Error that says why.
Result<std::unique_ptr<backend::Backend>> make_backend(const std::string& name);

/// Whether this ponder was built with CUDA.
bool cards_are_built_in();

/// How "auto" finds its card; tests play it.
using MakeCard = std::function<Result<std::unique_ptr<backend::Backend>>()>;
std::unique_ptr<backend::Backend> make_auto_backend(MakeCard make_card);

/// Bytes per second that a plan's device reads when it does nothing else, measured now; 0 where that failed. Of the plan
/// itself: the model's own weights, where it can tell. Not while a batch is in flight.
double read_bandwidth_of(backend::Plan& plan);
double read_bandwidth_of(const backend::PlanInfo& info);

/// The clocks and meters of the devices that a plan runs on. Energy is that of the cards and, where the processor has
/// layers too, of its packages; nothing unless all of them tell.
engine::BenchMeters bench_meters(backend::Plan& plan);
/// Bytes in use of all cards' memory together, whoever uses them; nothing without cards that tell.
std::optional<uint64_t> cards_memory_in_use();

/// "100% GPU", "100% CPU", or Ollama's "25%/75% CPU/GPU" by layers.
std::string processor_of(const backend::PlanInfo& info, int n_layers);

}  // namespace ponder::runtime
