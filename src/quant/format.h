// Weight formats. A format is one file in quant/formats/: its block layout, the scalar decoder into float, and the
// canonical integer form from which every backend packs its own layout. Adding a file there is all it takes for a
// format to be correct everywhere (docs/adding-a-quant.md).
// Source of the layouts: ggml-org/ggml, src/ggml-common.h (block structures) and the `gguf` Python package
// (dequantisation), which the tests compare against bit by bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ponder::quant {

/// ggml type numbers as they stand in files. Only those that have a file in formats/ can be loaded.
enum class Type : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

/// Canonical integer form of one block of up to 256 weights:
///   w[k] = d * scale[k / sub_block] * (q[k] - offset) - dmin * min[k / sub_block]
/// with d, dmin half precision (bits), the rest integers. Formats without sub-scales have scale = 1; Q4_1 and Q5_1,
/// which *add* a minimum, store it negated in dmin with min = 1.
struct IntBlock {
  uint16_t d = 0, dmin = 0;
  int8_t scale[16] = {};  ///< one per sub-block; Q6_K's are signed, Q4_K's and Q5_K's are 0..63
  uint8_t min[16] = {};   ///< one per sub-block, 0..63
  uint8_t q[256] = {};    ///< 0 .. 2^bits - 1
};

struct Format {
  Type type;
  const char* name;     ///< as users write it: "Q4_K"
  uint32_t block_size;  ///< weights per block: 1, 32 or 256
  uint32_t block_bytes;
  bool is_float;      ///< F32, F16, BF16: no integer form (decode_ints is null)
  uint8_t bits;       ///< of q in the integer form: 4, 5, 6, 8
  uint8_t sub_block;  ///< weights per scale: 32 or 16
  uint8_t offset;     ///< zero point of q: 0, 8, 16, 32, 128
  bool has_min;

  /// `n_blocks` blocks to float32, with the same roundings as the `gguf` package.
  void (*dequantize)(const uint8_t* blocks, float* out, size_t n_blocks);
  /// One block to canonical integers; null for float formats.
  void (*decode_ints)(const uint8_t* block, IntBlock* out);
  /// Float32 to blocks (nearest, simple scale search): for tools/synth and tests. Always present.
  void (*quantize)(const float* in, uint8_t* blocks, size_t n_blocks);

  uint64_t row_bytes(uint64_t columns) const { return columns / block_size * block_bytes; }
};

/// The format of a ggml type number, or null when this build has none.
const Format* find_format(uint32_t type);
const Format* find_format(std::string_view name);  ///< "q4_k", "Q4_K"
/// All formats, by type number.
std::span<const Format* const> all_formats();

/// Name of any known ggml type, supported or not ("IQ2_XXS"), for error messages; "type 99" otherwise.
std::string type_name(uint32_t type);
/// The error for a tensor whose type has no format: names tensor, type and what is supported.
Error unsupported_type(std::string_view tensor, uint32_t type);

}  // namespace ponder::quant
