// Q5_1: 32 weights, w = d * q + m, q in 0..31.
//   bytes 0-1  d, bytes 2-3 m, half precision
//   bytes 4-7  the fifth bits: bit i of the little-endian word belongs to weight i
//   bytes 8-23 the low four bits: byte i holds weight i (low half) and weight i + 16 (high half)
// Canonical form: it subtracts a minimum, so dmin = -m (the sign bit flipped) and min = 1.
#include <algorithm>

#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 24;

/// q of weight i.
inline int level(const uint8_t* block, int i) {
  const int low = i < 16 ? block[8 + i] & 15 : block[8 + i - 16] >> 4;
  return low | (((block[4 + i / 8] >> (i % 8)) & 1) << 4);
}

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += 32) {
    const float d = load_half(blocks), m = load_half(blocks + 2);
    for (int i = 0; i < 32; ++i) out[i] = d * float(level(blocks, i)) + m;
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block);
  out->dmin = load_u16(block + 2) ^ 0x8000;
  out->scale[0] = 1;
  out->min[0] = 1;
  for (int i = 0; i < 32; ++i) out->q[i] = uint8_t(level(block, i));
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += 32) {
    const auto [low, high] = std::minmax_element(in, in + 32);
    const float m = *low, d = (*high - *low) / 31.0f, inv = inverse(d);
    std::memset(blocks, 0, kBytes);
    store_u16(blocks, scale_to_half(d));
    store_u16(blocks + 2, scale_to_half(m));
    for (int i = 0; i < 32; ++i) {
      const int q = clamp_to_int((in[i] - m) * inv + 0.5f, 0, 31);
      blocks[4 + i / 8] |= uint8_t((q >> 4) << (i % 8));
      blocks[8 + i % 16] |= uint8_t((q & 15) << (i < 16 ? 0 : 4));
    }
  }
}

}  // namespace

extern const Format format_q5_1;
constinit const Format format_q5_1 = {
    .type = Type::q5_1,
    .name = "Q5_1",
    .block_size = 32,
    .block_bytes = kBytes,
    .is_float = false,
    .bits = 5,
    .sub_block = 32,
    .offset = 0,
    .has_min = true,
    .dequantize = dequantize,
    .decode_ints = decode_ints,
    .quantize = quantize,
};

}  // namespace ponder::quant
