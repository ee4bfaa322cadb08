// Q4_K: a superblock of 256 weights in 8 sub-blocks of 32, w = d * scale * q - dmin * min; q in
// 0..15, scale and min in 0..63.
//   bytes 0-1    d, bytes 2-3 dmin, half precision
//   bytes 4-15   scales and minimums, 6 bits each (pack_scales)
//   bytes 16-143 q: 4 groups of 32 bytes; group g holds sub-block 2g in the low and 2g + 1 in the
//   high four bits
#include "quant/bits.h"
#include "quant/format.h"
#include "quant/k_blocks.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 144;

/// q of weight i.
inline int level(const uint8_t* block, int i) {
  const uint8_t byte = block[16 + 32 * (i / 64) + i % 32];
  return (i / 32) % 2 == 0 ? byte & 15 : byte >> 4;
}

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += kSuper) {
    const float d = load_half(blocks), dmin = load_half(blocks + 2);
    uint8_t scale[8], min[8];
    unpack_scales(blocks + 4, scale, min);
    for (int j = 0; j < 8; ++j) {
      const float step = d * float(scale[j]), low = dmin * float(min[j]);
      for (int i = 32 * j; i < 32 * j + 32; ++i) out[i] = step * float(level(blocks, i)) - low;
    }
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block);
  out->dmin = load_u16(block + 2);
  uint8_t scale[8];
  unpack_scales(block + 4, scale, out->min);
  for (int j = 0; j < 8; ++j) out->scale[j] = int8_t(scale[j]);
  for (int i = 0; i < kSuper; ++i) out->q[i] = uint8_t(level(block, i));
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += kSuper) {
    AffineSuper super;
    quantize_affine(in, 15, &super);
    store_u16(blocks, super.d);
    store_u16(blocks + 2, super.dmin);
    pack_scales(super.scale, super.min, blocks + 4);
    for (int g = 0; g < 4; ++g) {
      for (int i = 0; i < 32; ++i) {
        blocks[16 + 32 * g + i] = uint8_t(super.q[64 * g + i] | (super.q[64 * g + 32 + i] << 4));
      }
    }
  }
}

}  // namespace

extern const Format format_q4_k;
constinit const Format format_q4_k = {
    .type = Type::q4_k,
    .name = "Q4_K",
    .block_size = kSuper,
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
