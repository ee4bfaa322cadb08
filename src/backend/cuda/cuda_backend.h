// The NVIDIA backend. Weights are repacked on the card (layout.h), a step is a few fused kernels a layer (linear.h,
// attention.h), decode is a CUDA graph (step.h), tokens are drawn on the card (sampler.h). A model that does not fit is
// split by layers over cards and processor (placement.h). docs/cuda.md is the guide.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ponder::backend::cuda {

/// The first layers of a model on something that is no card: made by the caller, who may know the CPU backend.
using MakeFrontLayers = std::function<Result<std::unique_ptr<FrontLayers>>(std::shared_ptr<const model::Model> model,
                                                                           const PlanOptions& options, int n_layers)>;

/// Looks for cards now: an Error is a sentence about driver or cards (driver/driver.h). Without `front_layers` a model
/// has to fit on the cards.
Result<std::unique_ptr<Backend>> make_backend(MakeFrontLayers front_layers = {});

}  // namespace ponder::backend::cuda
