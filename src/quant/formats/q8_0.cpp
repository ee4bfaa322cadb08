// Q8_0: 32 weights, w = d * q with signed bytes.
//   bytes 0-1  d, half precision
//   bytes 2-33 q, int8
// Canonical form: q + 128 with offset 128.
#include <algorithm>
#include <cmath>

#include "quant/bits.h"
#include "quant/format.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 34;

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += 32) {
    const float d = load_half(blocks);
    for (int i = 0; i < 32; ++i) out[i] = float(int8_t(blocks[2 + i])) * d;
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block);
  out->scale[0] = 1;
  for (int i = 0; i < 32; ++i) out->q[i] = uint8_t(block[2 + i] ^ 0x80);  // int8 + 128
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += 32) {
    float peak = 0;
    for (int i = 0; i < 32; ++i) peak = std::max(peak, std::fabs(in[i]));
    const float d = peak / 127.0f, inv = inverse(d);
    store_u16(blocks, scale_to_half(d));
    for (int i = 0; i < 32; ++i) blocks[2 + i] = uint8_t(int8_t(round_to_int(in[i] * inv, -127, 127)));
  }
}

}  // namespace

extern const Format format_q8_0;
constinit const Format format_q8_0 = {
    .type = Type::q8_0,
    .name = "Q8_0",
    .block_size = 32,
    .block_bytes = kBytes,
    .is_float = false,
    .bits = 8,
    .sub_block = 32,
    .offset = 128,
    .has_min = false,
    .dequantize = dequantize,
    .decode_ints = decode_ints,
    .quantize = quantize,
};

}  // namespace ponder::quant
