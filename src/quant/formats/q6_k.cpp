// Q6_K: a superblock of 256 weights in 16 sub-blocks of 16, w = d * scale * (q - 32); q in 0..63,
// scale a signed byte.
//   bytes 0-127   the low four bits, bytes 128-191 the high two bits; both in two halves of 128
//   weights:
//                 half h, weight i of it (0..127): low bits in byte 64h + i % 64 (low half for i <
//                 64, else high half), high bits in byte 128 + 32h + i % 32 at bit 2 * (i / 32)
//   bytes 192-207 scale, int8
//   bytes 208-209 d, half precision
#include "quant/bits.h"
#include "quant/format.h"
#include "quant/k_blocks.h"

namespace ponder::quant {
namespace {

constexpr size_t kBytes = 210;
constexpr int kScales = 192, kD = 208;

/// q of weight i.
inline int level(const uint8_t* block, int i) {
  const int half = i / 128, k = i % 128;
  const uint8_t byte = block[64 * half + k % 64];
  const int low = k < 64 ? byte & 15 : byte >> 4;
  return low | (((block[128 + 32 * half + k % 32] >> (2 * (k / 32))) & 3) << 4);
}

void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += kSuper) {
    const float d = load_half(blocks + kD);
    for (int j = 0; j < 16; ++j) {
      const float step = d * float(int8_t(blocks[kScales + j]));
      for (int i = 16 * j; i < 16 * j + 16; ++i) out[i] = step * float(level(blocks, i) - 32);
    }
  }
}

void decode_ints(const uint8_t* block, IntBlock* out) {
  *out = IntBlock{};
  out->d = load_u16(block + kD);
  for (int j = 0; j < 16; ++j) out->scale[j] = int8_t(block[kScales + j]);
  for (int i = 0; i < kSuper; ++i) out->q[i] = uint8_t(level(block, i));
}

void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
  for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += kSuper) {
    SymmetricSuper super;
    quantize_symmetric(in, &super);
    std::memset(blocks, 0, kBytes);
    for (int i = 0; i < kSuper; ++i) {
      const int half = i / 128, k = i % 128, q = super.q[i];
      blocks[64 * half + k % 64] |= uint8_t((q & 15) << (k < 64 ? 0 : 4));
      blocks[128 + 32 * half + k % 32] |= uint8_t((q >> 4) << (2 * (k / 32)));
    }
    for (int j = 0; j < 16; ++j) blocks[kScales + j] = uint8_t(super.scale[j]);
    store_u16(blocks + kD, super.d);
  }
}

}  // namespace

extern const Format format_q6_k;
constinit const Format format_q6_k = {
    .type = Type::q6_k,
    .name = "Q6_K",
    .block_size = kSuper,
    .block_bytes = kBytes,
    .is_float = false,
    .bits = 6,
    .sub_block = 16,
    .offset = 32,
    .has_min = false,
    .dequantize = dequantize,
    .decode_ints = decode_ints,
    .quantize = quantize,
};

}  // namespace ponder::quant
