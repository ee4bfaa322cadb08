// (value, token) pairs as one integer, so that the order of threads cannot matter to a maximum or a sort.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace ponder::backend::cuda {

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
