// F16: IEEE half precision, little-endian; widening to float32 is exact.
#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t i = 0; i < n_blocks; ++i) out[i] = half_to_float(load_u16(blocks + 2 * i));
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t i = 0; i < n_blocks; ++i) store_u16(blocks + 2 * i, float_to_half(in[i]));
}

}  // namespace

extern const Format format_f16;
constinit const Format format_f16 = {
    .type = Type::f16,
    .name = "F16",
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
