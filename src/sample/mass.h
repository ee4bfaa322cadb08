// Probability as integer mass: floor(2^30 * exp(logit - max)). Sums of masses are exact, so top-p
// and min-p cut at the same token whatever the order of summation, the vector width or the device.
// exp is fixed: float32 +, - and *, each rounded to nearest, nothing contracted. Cards run this very code
// (backend/cuda/sampler.cu).
#pragma once

#include <cstdint>
#include <span>

#include "base/device_code.h"

namespace ponder::sample {

constexpr int kMassBits = 30;
constexpr uint64_t kMassOne = uint64_t(1) << kMassBits;  ///< the mass of the most likely token

/// The mass of a token whose logit lies `x` <= 0 below the largest; 0 from about -20.8 on, for -inf
/// and for NaN.
PONDER_HOST_DEVICE inline int32_t mass(float x) {
  x = x > -60.f ? x : -60.f;
  const float t = x * 1.44269504f;
  const float n = (t + 12582912.f) - 12582912.f;  // nearest integer (the sum has no bits after the point)
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const int32_t bits = (int32_t(n) + 127 + kMassBits) << 23;
  return int32_t(p * __builtin_bit_cast(float, bits));
}

/// a * kMassOne as an integer, for a in [0, 1].
PONDER_HOST_DEVICE inline uint64_t mass_fraction(float a) { return uint64_t(double(a) * double(kMassOne)); }

/// The smallest sum of masses with at least `top_p` of `total`, the mass of all.
PONDER_HOST_DEVICE inline uint64_t nucleus_goal(float top_p, uint64_t total) {
  const unsigned __int128 exact = static_cast<unsigned __int128>(mass_fraction(top_p)) * total;
  return uint64_t((exact + (kMassOne - 1)) >> kMassBits);
}

/// Tokens with a mass lie in buckets by how far their logit is below the largest; only the bucket in which a nucleus
/// ends has to be sorted.
constexpr int kBucketsPerUnit = 16;
constexpr int kBuckets = 22 * kBucketsPerUnit;  // beyond 22 units nothing has a mass
PONDER_HOST_DEVICE inline int mass_bucket(float below_max) {
  const int bucket = int(below_max * kBucketsPerUnit);
  return bucket < kBuckets ? bucket : kBuckets - 1;
}

/// Sum of the masses of all `logits` relative to `max`.
uint64_t total_mass(std::span<const float> logits, float max);

/// Sum of the masses of all tokens more likely than `token`: a larger logit, or the same and a lower id.
uint64_t mass_before(std::span<const float> logits, float max, size_t token);

/// exp(x) in double, relative error below 1e-9, for log-probabilities; x above 0 (+inf) counts as
/// 0, NaN as -inf.
inline double exp_fixed(double x) {
  x = x > -700.0 ? x : -700.0;
  x = x < 0.0 ? x : 0.0;
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  const double shifted = x * 1.4426950408889634 + magic;
  const double n = shifted - magic;
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  // The low bits of `shifted` are n; adding the bias and shifting them up makes 2^n.
  return p * __builtin_bit_cast(double, (__builtin_bit_cast(uint64_t, shifted) + 1023) << 52);
}

}  // namespace ponder::sample
