// BF16: the upper half of a float32, little-endian; widening is exact.
#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t i = 0; i < n_blocks; ++i) out[i] = bfloat16_to_float(load_u16(blocks + 2 * i));
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t i = 0; i < n_blocks; ++i) store_u16(blocks + 2 * i, float_to_bfloat16(in[i]));
}

}  // namespace

extern const Format format_bf16;
constinit const Format format_bf16 = {
    .type = Type::bf16,
    .name = "BF16",
    .block_size = 1,
    .block_bytes = 2,
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
