// Small helpers shared by the files in formats/: unaligned loads and stores of half precision, and
// rounding that is defined for every float. Internal to src/quant.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace ponder::quant {

inline uint16_t load_u16(const uint8_t* p) { return uint16_t(p[0] | (p[1] << 8)); }

inline void store_u16(uint8_t* p, uint16_t v) {
  p[0] = uint8_t(v);
  p[1] = uint8_t(v >> 8);
}

inline float load_half(const uint8_t* p) { return half_to_float(load_u16(p)); }

/// Half precision of a scale, never infinite: a scale past the range would turn the whole block
/// into infinities.
inline uint16_t scale_to_half(float f) {
  if (std::isnan(f)) return 0;
  return float_to_half(std::fmin(std::fmax(f, -65504.0f), 65504.0f));
}

/// `v` truncated towards zero and held in [low, high]; NaN gives low.
inline int clamp_to_int(float v, int low, int high) {
  if (!(v > float(low))) return low;
  return v < float(high) ? int(v) : high;
}

/// `v` rounded to the nearest integer (halves away from zero) and held in [low, high]; NaN gives
/// low.
inline int round_to_int(float v, int low, int high) { return clamp_to_int(std::round(v), low, high); }

/// 1 / d, and 0 for d = 0.
inline float inverse(float d) { return d == 0.0f ? 0.0f : 1.0f / d; }

}  // namespace ponder::quant
