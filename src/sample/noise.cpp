// Philox and the fixed logarithm. The logarithm splits off the exponent and sums the series of
// atanh, which keeps its relative precision next to 1, where the largest noise comes from. Next:
// sample.cpp.
#include "sample/noise.h"

#include "sample/sample.h"

namespace ponder::sample {

PhiloxBlock philox(PhiloxBlock c, uint64_t key) {
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
    c = {uint32_t(b >> 32) ^ c[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k1, uint32_t(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

PhiloxBlock noise_words(uint64_t seed, uint32_t stream, uint32_t position, uint32_t group) {
  return philox({group, position, stream, kNoiseDomain}, seed);
}

double log_fixed(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = int(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
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

float gumbel_of_word(uint32_t word) {
  const double u = (double(word) + 0.5) * 0x1p-32;
  return float(-log_fixed(-log_fixed(u)));
}

float gumbel(uint64_t seed, uint32_t stream, uint32_t position, TokenId token) {
  return gumbel_of_word(noise_words(seed, stream, position, uint32_t(token) / 4)[uint32_t(token) % 4]);
}

}  // namespace ponder::sample
