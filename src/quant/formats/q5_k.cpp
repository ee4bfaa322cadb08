// Q5_K: a superblock of 256 weights in 8 sub-blocks of 32, w = d * scale * q - dmin * min; q in
// 0..31, scale and min in 0..63.
//   bytes 0-1    d, bytes 2-3 dmin, half precision
//   bytes 4-15   scales and minimums, 6 bits each (pack_scales)
//   bytes 16-47  the fifth bits: bit j of byte i belongs to weight i of sub-block j
//   bytes 48-175 the low four bits: group g of 32 bytes holds sub-block 2g (low half) and 2g + 1
//   (high half)
#include "quant/bits.h"
#include "quant/format.h"
#include "quant/k_blocks.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 176;

/// q of weight i.
inline int level(const uint8_t* block, int i) {
  const uint8_t byte = block[48 + 32 * (i / 64) + i % 32];
  const int low = (i / 32) % 2 == 0 ? byte & 15 : byte >> 4;
  return low | (((block[16 + i % 32] >> (i / 32)) & 1) << 4);
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
    quantize_affine(in, 31, &super);
    std::memset(blocks, 0, kBytes);
    store_u16(blocks, super.d);
    store_u16(blocks + 2, super.dmin);
    pack_scales(super.scale, super.min, blocks + 4);
    for (int i = 0; i < kSuper; ++i) {
      const int q = super.q[i];
      blocks[16 + i % 32] |= uint8_t((q >> 4) << (i / 32));
      blocks[48 + 32 * (i / 64) + i % 32] |= uint8_t((q & 15) << ((i / 32) % 2 == 0 ? 0 : 4));
    }
  }
}

}  // namespace

extern const Format format_q5_k;
constinit const Format format_q5_k = {
    .type = Type::q5_k,
    .name = "Q5_K",
    .block_size = kSuper,
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
