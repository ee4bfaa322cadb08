// The fixed arithmetic of sample/mass.h and sample/noise.h in device code: the same operations in the same order, each
// rounded to nearest (-fmad=false). sampler_test.cu holds the two together bit by bit.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ponder::backend::cuda {

constexpr float kDeviceNone = -__builtin_huge_valf();
constexpr float kDeviceLargest = 3.402823466e+38f;
constexpr uint64_t kDeviceMassOne = uint64_t(1) << 30;

/// sample::mass
__device__ inline int32_t mass_of(float x) {
  x = x > -60.f ? x : -60.f;
  const float t = x * 1.44269504f;
  const float n = (t + 12582912.f) - 12582912.f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return int32_t(p * __int_as_float((int32_t(n) + 127 + 30) << 23));
}

/// sample.cpp: fraction
__device__ inline uint64_t fraction_of(float a) { return uint64_t(double(a) * double(kDeviceMassOne)); }

/// sample::log_fixed
__device__ inline double log_fixed_of(double x) {
  const uint64_t bits = uint64_t(__double_as_longlong(x));
  int exponent = int(bits >> 52) - 1023;
  double m = __longlong_as_double(int64_t((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
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

/// The noise word of a token: Philox-4x32-10 (sample::noise_words).
__device__ inline uint32_t noise_word(uint64_t seed, uint32_t stream, uint32_t position, uint32_t token) {
  uint32_t c0 = token / 4, c1 = position, c2 = stream, c3 = 0x504e4452u;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(b >> 32) ^ c1 ^ k0;
    c1 = uint32_t(b);
    c2 = uint32_t(a >> 32) ^ c3 ^ k1;
    c3 = uint32_t(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const uint32_t i = token % 4;
  return i == 0 ? c0 : i == 1 ? c1 : i == 2 ? c2 : c3;
}

/// sample::gumbel_of_word
__device__ inline float gumbel_of(uint32_t word) {
  const double u = (double(word) + 0.5) * 0x1p-32;
  return float(-log_fixed_of(-log_fixed_of(u)));
}

/// sample::gumbel_bound: never below gumbel_of(word).
__device__ inline float gumbel_bound_of(uint32_t word) { return 0.69315f * float(__clz(int(~word)) + 1) + 1e-3f; }

/// Order-preserving bits of a float (not NaN); -0 counts as +0.
__device__ inline uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x + 0.f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float unordered(uint32_t bits) {
  return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

/// Larger is earlier: larger value first, ties by the lower token. 0 is below all.
__device__ inline uint64_t rank_of(float value, int32_t token) {
  return uint64_t(ordered(value)) << 32 | uint32_t(~token);
}
__device__ inline int32_t token_of(uint64_t rank) { return int32_t(~uint32_t(rank)); }
__device__ inline float value_of(uint64_t rank) { return unordered(uint32_t(rank >> 32)); }

}  // namespace ponder::backend::cuda
