// Q4_1: 32 weights, w = d * q + m, q in 0..15.
//   bytes 0-1  d, bytes 2-3 m, half precision
//   bytes 4-19 q: byte i holds weight i in its low and weight i + 16 in its high four bits
// Canonical form: it subtracts a minimum, so dmin = -m (the sign bit flipped) and min = 1.
#include <algorithm>

#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 20;

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += 32) {
    const float d = load_half(blocks), m = load_half(blocks + 2);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * float(blocks[4 + i] & 15) + m;
      out[i + 16] = d * float(blocks[4 + i] >> 4) + m;
    }
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block);
  out->dmin = load_u16(block + 2) ^ 0x8000;
  out->scale[0] = 1;
  out->min[0] = 1;
  for (int i = 0; i < 16; ++i) {
    out->q[i] = block[4 + i] & 15;
    out->q[i + 16] = block[4 + i] >> 4;
  }
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += 32) {
    const auto [low, high] = std::minmax_element(in, in + 32);
    const float m = *low, d = (*high - *low) / 15.0f, inv = inverse(d);
    store_u16(blocks, scale_to_half(d));
    store_u16(blocks + 2, scale_to_half(m));
    for (int i = 0; i < 16; ++i) {
      const int q0 = clamp_to_int((in[i] - m) * inv + 0.5f, 0, 15);
      const int q1 = clamp_to_int((in[i + 16] - m) * inv + 0.5f, 0, 15);
      blocks[4 + i] = uint8_t(q0 | (q1 << 4));
    }
  }
}

}  // namespace

extern const Format format_q4_1;
constinit const Format format_q4_1 = {
    .type = Type::q4_1,
    .name = "Q4_1",
    .block_size = 32,
    .block_bytes = kBytes,
    .is_float = false,
    .bits = 4,
    .sub_block = 32,
    .offset = 0,
    .has_min = true,
    .dequantize = dequantize,
    .decode_ints = decode_ints,
    .quantize = quantize,
};

}  // namespace ponder::quant
