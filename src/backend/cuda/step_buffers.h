// The working memory of steps on one card, cut from one block. The same function counts it and cuts it.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace ponder::backend::cuda {

/// Rows from which a step is not replayed from a graph.
constexpr int kMaxGraphRows = 16;

struct StepBuffers {
  // All on the card.
  float* x = nullptr;              ///< [rows][hidden]: the residual stream
  float* qkv = nullptr;            ///< [rows][q_size + 2 kv_size]
  float* attention = nullptr;      ///< [rows][q_size]
  float* ffn = nullptr;            ///< [rows][ffn_size]
  float* x_out = nullptr;          ///< [output rows][hidden]: of rows that go on to the head
  float* attention_out = nullptr;  ///< [output rows][q_size]
  float* logits = nullptr;         ///< [output rows][vocab]
  int32_t* meta = nullptr;         ///< tokens, positions and output rows of the batch, one after the other
  int32_t* page_table = nullptr;   ///< [rows][max_pages]
  float* rope = nullptr;           ///< [max_position][rope dims / 2] pairs cos, sin
  uint8_t* linear = nullptr;
  uint8_t* attention_scratch = nullptr;
  uint8_t* sampler = nullptr;
  int64_t max_pages = 0;

  /// Bytes needed; with `memory`, `out` points into it.
  static uint64_t cut(const model::ModelSpec& spec, const PlanOptions& options, bool has_head, int max_position,
                      uint8_t* memory, StepBuffers* out);
};

/// Rows, output rows that the buffers have room for (graphs are padded).
int padded_rows(const PlanOptions& options);
int padded_outputs(const PlanOptions& options);

}  // namespace ponder::backend::cuda
