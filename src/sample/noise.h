// The randomness of a draw: a counter-based generator and a logarithm in fixed software arithmetic,
// so that every device gets the same bits. Cards run this very code (backend/cuda/sampler.cu); a backend
// that cannot must implement exactly this (docs/numerics.md):
//   counter = (token / 4, position, stream, kNoiseDomain), key = (low, high word of seed),
//   Philox-4x32-10; w = word number token % 4;  u = (w + 1/2) / 2^32;  gumbel = float(-log(-log u))
//   with log = log_fixed.
// Source: Salmon et al. 2011 (Philox), https://doi.org/10.1145/2063384.2063405.
#pragma once

#include <bit>
#include <cstdint>

#include "base/device_code.h"

namespace ponder::sample {

/// Last counter word of every draw: keeps other uses of the same seed apart from it.
constexpr uint32_t kNoiseDomain = 0x504e4452u;  // "PNDR"

struct PhiloxBlock {
  uint32_t word[4];
  bool operator==(const PhiloxBlock&) const = default;
};

/// Philox-4x32 with ten rounds.
PONDER_HOST_DEVICE inline PhiloxBlock philox(PhiloxBlock counter, uint64_t key) {
  auto& c = counter.word;
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
    c[0] = uint32_t(b >> 32) ^ c[1] ^ k0;
    c[1] = uint32_t(b);
    c[2] = uint32_t(a >> 32) ^ c[3] ^ k1;
    c[3] = uint32_t(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

/// The four noise words of the tokens 4 * group ... 4 * group + 3.
PONDER_HOST_DEVICE inline PhiloxBlock noise_words(uint64_t seed, uint32_t stream, uint32_t position, uint32_t group) {
  return philox({{group, position, stream, kNoiseDomain}}, seed);
}

/// One token's noise word.
PONDER_HOST_DEVICE inline uint32_t noise_word(uint64_t seed, uint32_t stream, uint32_t position, uint32_t token) {
  const PhiloxBlock b = noise_words(seed, stream, position, token / 4);
  const uint32_t i = token % 4;  // no index: a card would put the block into memory
  return i == 0 ? b.word[0] : i == 1 ? b.word[1] : i == 2 ? b.word[2] : b.word[3];
}

/// Natural logarithm of a positive normal double; relative error below 1e-11. Only +, -, * and / of
/// double, each rounded to nearest and none of them contracted. It splits off the exponent and sums the series of
/// atanh, which keeps its relative precision next to 1, where the largest noise comes from.
PONDER_HOST_DEVICE inline double log_fixed(double x) {
  const uint64_t bits = __builtin_bit_cast(uint64_t, x);
  int exponent = int(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh(f) = 2 (f + f^3/3 + f^5/5 + ...), |f| < 0.1716
  const double f = (m - 1.0) / (m + 1.0);
  const double s = f * f;
  double p = 1.0 / 15;
  p = p * s + 1.0 / 13;
  p = p * s + 1.0 / 11;
  p = p * s + 1.0 / 9;
  p = p * s + 1.0 / 7;
  p = p * s + 1.0 / 5;
  p = p * s + 1.0 / 3;
  p = p * s + 1.0;
  return double(exponent) * 0.6931471805599453 + 2.0 * f * p;
}

/// -log(-log u) of a noise word: between about -3.1 and 22.9.
PONDER_HOST_DEVICE inline float gumbel_of_word(uint32_t word) {
  const double u = (double(word) + 0.5) * 0x1p-32;
  return float(-log_fixed(-log_fixed(u)));
}

/// A bound that is never below gumbel_of_word(word), without a logarithm: -log u >= 1 - u.
PONDER_HOST_DEVICE inline float gumbel_bound(uint32_t word) {
#ifdef __CUDA_ARCH__
  const int leading = __clz(int(~word));
#else
  const int leading = std::countl_zero(~word);
#endif
  return 0.69315f * float(leading + 1) + 1e-3f;
}

}  // namespace ponder::sample
