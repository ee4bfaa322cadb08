// What the K formats share: superblocks of 256 weights whose sub-blocks have small integer scales
// under one or two half-precision scales. The searches here choose those scales; the format files
// only pack. Internal to src/quant.
#pragma once

#include <cstdint>

namespace ponder::quant {

constexpr int kSuper = 256;  ///< weights per superblock

/// Q4_K and Q5_K: 8 sub-blocks of 32,  w = d * scale * q - dmin * min  with scale, min in 0..63.
struct AffineSuper {
  uint16_t d = 0, dmin = 0;  ///< half precision
  uint8_t scale[8] = {}, min[8] = {};
  uint8_t q[kSuper] = {};
};

/// Q6_K: 16 sub-blocks of 16,  w = d * scale * (q - 32)  with scale in -128..127, q in 0..63.
struct SymmetricSuper {
  uint16_t d = 0;
  int8_t scale[16] = {};
  uint8_t q[kSuper] = {};
};

/// Chooses scales and integers for 256 weights; q runs from 0 to `levels` (15 or 31).
void quantize_affine(const float* x, int levels, AffineSuper* out);
void quantize_symmetric(const float* x, SymmetricSuper* out);

/// The 12 bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit minimums. Pairs (j,
/// j + 4): bytes 0-3 hold scales 0-3 and, in the top two bits, the high bits of scales 4-7; bytes
/// 4-7 the same for the minimums; bytes 8-11 the low four bits of scale and minimum 4-7.
void pack_scales(const uint8_t scale[8], const uint8_t min[8], uint8_t packed[12]);
void unpack_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8]);

}  // namespace ponder::quant
