// Drawing on the card: exactly what sample/ does on the host (docs/numerics.md): the same filters on integer mass, the
// same noise, so the same token for the same logits. Only token ids cross the bus.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "backend/cuda/launch.h"
#include "sample/sample.h"

namespace ponder::backend::cuda {

/// Larger top_k go to the host; so do requests for log-probabilities.
constexpr int kMaxDeviceTopK = 1024;
/// Token id that says: the host has to draw this row (too many candidates with equal logits).
constexpr int32_t kDrawOnHost = -2;

/// A change to one token's logit, in the order of sample/penalties.cpp.
struct LogitEdit {
  int32_t token = 0;
  int32_t is_bias = 0;  ///< 1: `value` is added, or forbids; 0: penalties, `value` is the token's count in the window
  float value = 0;
};

/// One row's draw as the kernels read it.
struct DrawRequest {
  int32_t active = 0;
  int32_t top_k = 0;
  float temperature = 0, top_p = 1, min_p = 0;
  float repeat_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;
  uint32_t stream = 0, position = 0;
  int32_t first_edit = 0, n_edits = 0;     ///< of a row, those of one token together, biases first
  int32_t mask_word = -1, mask_words = 0;  ///< place of the mask's first word; -1: none
};

/// A batch's requests, gathered on the host.
struct DrawBatch {
  std::vector<DrawRequest> rows;
  std::vector<LogitEdit> edits;
  std::vector<uint32_t> mask;
  bool changes = false;  ///< some row has edits or a mask

  void clear();
  /// Adds row `i`'s request. False if this one must be drawn on the host (the row is then inactive here).
  bool add(const sample::Request& request, int vocab);
  void add_nothing() { rows.emplace_back(); }
};

/// Working memory for `rows` rows, the requests not included.
size_t sampler_scratch_bytes(int rows, int vocab);

/// tokens[i] = the token of row i, -1 if everything is forbidden, kDrawOnHost, or untouched for inactive rows. All
/// pointers but `tokens` (mapped host memory) lie on the card. `logits` are not changed.
cudaError_t draw(const float* logits, int vocab, int n_rows, const DrawRequest* requests, const LogitEdit* edits,
                 const uint32_t* mask, bool changes, void* scratch, int32_t* tokens, const Launch& launch);

}  // namespace ponder::backend::cuda
