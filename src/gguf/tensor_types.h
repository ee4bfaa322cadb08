// Sizes of ggml's tensor types, so that a tensor's declared shape can be checked against the file
// before anybody decodes it. All types that files may carry are listed, also those no part of
// Ponder can compute with; what can be computed with is quant's business. Source: GGUF
// specification and the block structures of ggml-org/ggml (ggml_type numbers 4, 5, 31-33, 36-38
// were removed there and are unknown here).
#pragma once

#include <cstdint>

namespace ponder::gguf {

struct TensorType {
  uint32_t number;
  const char* name;
  uint32_t block_size;   ///< elements per block along shape[0]
  uint32_t block_bytes;  ///< bytes per block
};

/// The type with this number, or null when no such type is known.
const TensorType* find_tensor_type(uint32_t number);

}  // namespace ponder::gguf
