// Formats that differ only in a number or two share their code here: 16-bit floats, blocks of 32 weights under one scale
// (Q4_0, Q4_1, Q5_0, Q5_1), and superblocks with scales and minimums (Q4_K, Q5_K). The files in formats/ say which they
// are and how their bytes lie; formats of no family (F32, Q8_0, Q6_K) are written out there. Internal to src/quant.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/bits.h"
#include "quant/format.h"
#include "quant/k_blocks.h"

namespace ponder::quant {

/// Floats of two bytes, little-endian.
template <float (*kWiden)(uint16_t), uint16_t (*kNarrow)(float)>
struct ShortFloats {
  static void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
    for (size_t i = 0; i < n_blocks; ++i) out[i] = kWiden(load_u16(blocks + 2 * i));
  }
  static void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
    for (size_t i = 0; i < n_blocks; ++i) store_u16(blocks + 2 * i, kNarrow(in[i]));
  }
  static constexpr Format format(Type type, const char* name) {
    return {.type = type,
            .name = name,
            .block_size = 1,
            .block_bytes = 2,
            .is_float = true,
            .bits = 0,
            .sub_block = 0,
            .offset = 0,
            .has_min = false,
            .dequantize = dequantize,
            .decode_ints = nullptr,
            .quantize = quantize};
  }
};

/// 32 weights of 4 or 5 bits: w = d * (q - 8 or 16), or with a minimum w = d * q + m. The bytes: d, then m if there is one
/// (half precision), then with 5 bits a little-endian word whose bit i is the fifth bit of weight i, then 16 bytes whose
/// low half is weight i and whose high half is weight i + 16. The canonical form subtracts a minimum, so there dmin = -m
/// (the sign bit flipped) and min = 1.
template <int kBits, bool kMin>
struct Block32 {
  static constexpr int kFifth = kMin ? 4 : 2;
  static constexpr int kLow = kFifth + (kBits == 5 ? 4 : 0);
  static constexpr size_t kBytes = kLow + 16;
  static constexpr int kTop = (1 << kBits) - 1, kOffset = kMin ? 0 : 1 << (kBits - 1);

  static int fifth(const uint8_t* block, int i) {
    if constexpr (kBits == 5) return ((block[kFifth + i / 8] >> (i % 8)) & 1) << 4;
    return 0;
  }

  static void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, out += 32) {
      const float d = load_half(blocks), m = kMin ? load_half(blocks + 2) : 0.0f;
      for (int i = 0; i < 16; ++i) {
        const float low = d * float(((blocks[kLow + i] & 15) | fifth(blocks, i)) - kOffset);
        const float high = d * float(((blocks[kLow + i] >> 4) | fifth(blocks, i + 16)) - kOffset);
        out[i] = kMin ? low + m : low;  // adding nothing would turn -0 into 0
        out[i + 16] = kMin ? high + m : high;
      }
    }
  }

  static void decode_ints(const uint8_t* block, IntBlock* out) {
    *out = IntBlock{};
    out->d = load_u16(block);
    out->scale[0] = 1;
    if constexpr (kMin) {
      out->dmin = load_u16(block + 2) ^ 0x8000;
      out->min[0] = 1;
    }
    for (int i = 0; i < 16; ++i) {
      out->q[i] = uint8_t((block[kLow + i] & 15) | fifth(block, i));
      out->q[i + 16] = uint8_t((block[kLow + i] >> 4) | fifth(block, i + 16));
    }
  }

  static void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += 32) {
      float d, m = 0;
      if constexpr (kMin) {
        const auto [low, high] = std::minmax_element(in, in + 32);
        m = *low;
        d = (*high - *low) / float(kTop);
      } else {
        // The weight furthest from zero, with its sign, is put on the lowest level: the grid reaches one step further
        // there.
        float peak = 0;
        for (int i = 0; i < 32; ++i)
          if (std::fabs(in[i]) > std::fabs(peak)) peak = in[i];
        d = peak / float(-kOffset);
      }
      const float inv = inverse(d), round = float(kOffset) + 0.5f;
      std::memset(blocks, 0, kBytes);
      store_u16(blocks, scale_to_half(d));
      if constexpr (kMin) store_u16(blocks + 2, scale_to_half(m));
      for (int i = 0; i < 32; ++i) {
        const int q = clamp_to_int((kMin ? in[i] - m : in[i]) * inv + round, 0, kTop);
        if constexpr (kBits == 5) blocks[kFifth + i / 8] |= uint8_t((q >> 4) << (i % 8));
        blocks[kLow + i % 16] |= uint8_t((q & 15) << (i < 16 ? 0 : 4));
      }
    }
  }

  static constexpr Format format(Type type, const char* name) {
    return {.type = type,
            .name = name,
            .block_size = 32,
            .block_bytes = kBytes,
            .is_float = false,
            .bits = kBits,
            .sub_block = 32,
            .offset = kOffset,
            .has_min = kMin,
            .dequantize = dequantize,
            .decode_ints = decode_ints,
            .quantize = quantize};
  }
};

/// A superblock of 256 weights of 4 or 5 bits in 8 sub-blocks of 32: w = d * scale * q - dmin * min, scale and min in
/// 0..63. The bytes: d, dmin (half precision), 12 bytes of scales and minimums (pack_scales), with 5 bits 32 bytes whose
/// bit j of byte i is the fifth bit of weight i of sub-block j, then 4 groups of 32 bytes; group g holds sub-block 2g in
/// the low and 2g + 1 in the high four bits.
template <int kBits>
struct AffineBlock {
  static constexpr int kFifth = 16;
  static constexpr int kLow = kFifth + (kBits == 5 ? 32 : 0);
  static constexpr size_t kBytes = kLow + 128;

  /// q of weight i.
  static int level(const uint8_t* block, int i) {
    const uint8_t byte = block[kLow + 32 * (i / 64) + i % 32];
    const int low = (i / 32) % 2 == 0 ? byte & 15 : byte >> 4;
    if constexpr (kBits == 5) return low | (((block[kFifth + i % 32] >> (i / 32)) & 1) << 4);
    return low;
  }

  static void dequantize(const uint8_t* blocks, float* out, size_t n_blocks) {
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

  static void decode_ints(const uint8_t* block, IntBlock* out) {
    *out = IntBlock{};
    out->d = load_u16(block);
    out->dmin = load_u16(block + 2);
    uint8_t scale[8];
    unpack_scales(block + 4, scale, out->min);
    for (int j = 0; j < 8; ++j) out->scale[j] = int8_t(scale[j]);
    for (int i = 0; i < kSuper; ++i) out->q[i] = uint8_t(level(block, i));
  }

  static void quantize(const float* in, uint8_t* blocks, size_t n_blocks) {
    for (size_t b = 0; b < n_blocks; ++b, blocks += kBytes, in += kSuper) {
      AffineSuper super;
      quantize_affine(in, (1 << kBits) - 1, &super);
      std::memset(blocks, 0, kBytes);
      store_u16(blocks, super.d);
      store_u16(blocks + 2, super.dmin);
      pack_scales(super.scale, super.min, blocks + 4);
      for (int i = 0; i < kSuper; ++i) {
        const int q = super.q[i];
        if constexpr (kBits == 5) blocks[kFifth + i % 32] |= uint8_t((q >> 4) << (i / 32));
        blocks[kLow + 32 * (i / 64) + i % 32] |= uint8_t((q & 15) << ((i / 32) % 2 == 0 ? 0 : 4));
      }
    }
  }

  static constexpr Format format(Type type, const char* name) {
    return {.type = type,
            .name = name,
            .block_size = kSuper,
            .block_bytes = kBytes,
            .is_float = false,
            .bits = kBits,
            .sub_block = 32,
            .offset = 0,
            .has_min = true,
            .dequantize = dequantize,
            .decode_ints = decode_ints,
            .quantize = quantize};
  }
};

}  // namespace ponder::quant
