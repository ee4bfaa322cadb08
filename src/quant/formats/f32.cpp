// F32: the bytes are the weights.
#include <cstring>

#include "quant/format.h"

namespace ponder::quant {
namespace {

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  if (n_blocks > 0) std::memcpy(out, blocks, n_blocks * sizeof(float));  // null pointers otherwise
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  if (n_blocks > 0) std::memcpy(blocks, in, n_blocks * sizeof(float));
}

}  // namespace

extern const Format format_f32;
constinit const Format format_f32 = {
    .type = Type::f32,
    .name = "F32",
    .block_size = 1,
    .block_bytes = 4,
    .is_float = true,
    .bits = 0,
    .sub_block = 0,
    .offset = 0,
    .has_min = false,
    .dequantize = dequantize,
    .decode_ints = nullptr,
    .quantize = quantize,
};

}  // namespace ponder::quant
