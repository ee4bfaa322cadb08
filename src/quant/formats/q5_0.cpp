// Q5_0: 32 weights, w = d * (q - 16), q in 0..31.
//   bytes 0-1  d, half precision
//   bytes 2-5  the fifth bits: bit i of the little-endian word belongs to weight i
//   bytes 6-21 the low four bits: byte i holds weight i (low half) and weight i + 16 (high half)
#include <cmath>

#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 22;

/// q of weight i.
inline int level(const uint8_t* block, int i) {
  const int low = i < 16 ? block[6 + i] & 15 : block[6 + i - 16] >> 4;
  return low | (((block[2 + i / 8] >> (i % 8)) & 1) << 4);
}

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += 32) {
    const float d = load_half(blocks);
    for (int i = 0; i < 32; ++i) out[i] = d * float(level(blocks, i) - 16);
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block);
  out->scale[0] = 1;
  for (int i = 0; i < 32; ++i) out->q[i] = uint8_t(level(block, i));
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += 32) {
    // The weight furthest from zero, with its sign, is put on -16: the grid reaches one step
    // further there.
    float peak = 0;
    for (int i = 0; i < 32; ++i) {
      if (std::fabs(in[i]) > std::fabs(peak)) peak = in[i];
    }
    const float d = peak / -16.0f, inv = inverse(d);
    std::memset(blocks, 0, kBytes);
    store_u16(blocks, scale_to_half(d));
    for (int i = 0; i < 32; ++i) {
      const int q = clamp_to_int(in[i] * inv + 16.5f, 0, 31);
      blocks[2 + i / 8] |= uint8_t((q >> 4) << (i % 8));
      blocks[6 + i % 16] |= uint8_t((q & 15) << (i < 16 ? 0 : 4));
    }
  }
}

}  // namespace

extern const Format format_q5_0;
constinit const Format format_q5_0 = {
    .type = Type::q5_0,
    .name = "Q5_0",
    .block_size = 32,
    .block_bytes = kBytes,
    .is_float = false,
    .bits = 5,
    .sub_block = 32,
    .offset = 16,
    .has_min = false,
    .dequantize = dequantize,
    .decode_ints = decode_ints,
    .quantize = quantize,
};

}  // namespace ponder::quant
