// The first layers of a model on the processor, when the rest lies on cards (backend/cuda/placement.h).
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ponder::backend::cpu {

/// Embedding and layers 0 .. n_layers - 1. The processor's own numerics hold for them.
Result<std::unique_ptr<FrontLayers>> make_front_layers(std::shared_ptr<const model::Model> model,
                                                       const PlanOptions& options, int n_layers);

}  // namespace ponder::backend::cpu
