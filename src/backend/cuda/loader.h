// Weights from the file into the card: copied through pinned memory in pieces, repacked on the card, while the next piece
// is on its way.
#pragma once

#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/placement.h"

namespace ponder::backend::cuda {

/// The weights of one layer on the card; absent vectors are null.
struct CardLayer {
  Matrix q, k, v, output, gate, up, down;
  const float *attn_norm = nullptr, *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *q_norm = nullptr,
              *k_norm = nullptr, *output_bias = nullptr, *ffn_norm = nullptr;
};

struct CardWeights {
  DeviceBuffer memory;
  std::vector<CardLayer> layers;  ///< of the part: first_layer first
  Matrix embedding, head;         ///< where the part has them
  const float* output_norm = nullptr;
};

/// Takes part.weights + part.vectors bytes of the current device and fills them. `progress` gets bytes as they are done.
Result<CardWeights> load_weights(const model::Model& model, const CardPart& part,
                                 const std::function<void(uint64_t)>& progress, const StopFlag* stop);

}  // namespace ponder::backend::cuda
