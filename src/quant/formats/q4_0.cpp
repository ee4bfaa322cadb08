// Q4_0: 32 weights, w = d * (q - 8), q in 0..15.
//   bytes 0-1  d, half precision
//   bytes 2-17 q: byte i holds weight i in its low and weight i + 16 in its high four bits
#include <cmath>

#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 18;

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += 32) {
    const float d = load_half(blocks);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * float((blocks[2 + i] & 15) - 8);
      out[i + 16] = d * float((blocks[2 + i] >> 4) - 8);
    }
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block);
  out->scale[0] = 1;
  for (int i = 0; i < 16; ++i) {
    out->q[i] = block[2 + i] & 15;
    out->q[i + 16] = block[2 + i] >> 4;
  }
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += 32) {
    // The weight furthest from zero, with its sign, is put on -8: the grid reaches one step further
    // there.
    float peak = 0;
    for (int i = 0; i < 32; ++i) {
      if (std::fabs(in[i]) > std::fabs(peak)) peak = in[i];
    }
    const float d = peak / -8.0f, inv = inverse(d);
    store_u16(blocks, scale_to_half(d));
    for (int i = 0; i < 16; ++i) {
      const int low = clamp_to_int(in[i] * inv + 8.5f, 0, 15);
      const int high = clamp_to_int(in[i + 16] * inv + 8.5f, 0, 15);
      blocks[2 + i] = uint8_t(low | (high << 4));
    }
  }
}

}  // namespace

extern const Format format_q4_0;
constinit const Format format_q4_0 = {
    .type = Type::q4_0,
    .name = "Q4_0",
    .block_size = 32,
    .block_bytes = kBytes,
    .is_float = false,
    .bits = 4,
    .sub_block = 32,
    .offset = 8,
    .has_min = false,
    .dequantize = dequantize,
    .decode_ints = decode_ints,
    .quantize = quantize,
};

}  // namespace ponder::quant
