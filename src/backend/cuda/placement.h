// Which layers of a model lie where, and every byte that takes, before any is taken. A model goes layer by layer: the
// machine's processor may have the first ones (with the embedding), cards the rest in order, the last card the head.
//
//   tokens -> [processor: layers 0 .. host_layers - 1] -> card 0: layers a .. b -> card 1: ... -> head, draw
//
// Next: loader.h (filling it), step.h (running it).
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/driver/driver.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/layout.h"

namespace ponder::backend::cuda {

/// A card as the plan finds it.
struct CardRoom {
  Card card;
  DeviceLimits limits;
  uint64_t free = 0;    ///< bytes free now
  uint64_t budget = 0;  ///< bytes this plan may take of them
};

/// What one card holds.
struct CardPart {
  int card = 0;  ///< index into the cards offered
  int first_layer = 0, last_layer = 0;
  bool embeds = false;    ///< has the token embedding (no layers on the processor, first card)
  bool has_head = false;  ///< the last card
  uint64_t weights = 0, vectors = 0, scratch = 0;
  uint64_t key_bias = 0;    ///< tables of layers whose keys are kept without their bias
  uint64_t page_bytes = 0;  ///< KV of its layers in one page
};

struct Placement {
  int host_layers = 0;
  std::vector<CardPart> cards;
  MemoryReport report;  ///< of the cards; the processor's part comes on top
  int max_position = 0;
  int n_pages = 0;
};

/// Bytes of all weights that layer `i` keeps on a card, and of the head and the embedding.
Result<uint64_t> layer_weight_bytes(const model::LayerWeights& w);
uint64_t vector_bytes(const model::LayerWeights& w);
Result<uint64_t> matrix_bytes(const model::Tensor& tensor);
/// With KV q8, keys are kept without their bias where there is one (attention_bytes.cuh).
bool bias_apart(const PlanOptions& options, const model::LayerWeights& w);
/// Working memory of a step on one card.
uint64_t scratch_bytes(const model::ModelSpec& spec, const PlanOptions& options, const CardPart& part,
                       int max_position);

/// Puts as many layers on the cards as their budgets allow (PlanOptions::gpu_layers: at most that many, or all of that
/// many or an Error). An Error explains with numbers what does not fit.
Result<Placement> place(const model::Model& model, const PlanOptions& options, const std::vector<CardRoom>& cards);

}  // namespace ponder::backend::cuda
