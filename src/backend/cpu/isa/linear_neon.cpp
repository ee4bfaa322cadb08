// The NEON level of the linear kernels, for ARMv8.2 processors with dot products (sdot, signed by signed): linear_narrow.inc
// on registers of 4 lanes. Weights of up to 6 bits are positive bytes as they are; Q8_0's are made signed.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {
namespace {

#define PONDER_INLINE __attribute__((always_inline)) inline

using Ints = int32x4_t;
using Floats = float32x4_t;
constexpr int kLanes = 4;

inline Floats load_half4(const uint8_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
}
[[maybe_unused]] inline void load_halfs(const uint8_t* p, float* out) {
  for (int i = 0; i < 16; i += 4) vst1q_f32(out + i, load_half4(p + 2 * i));
}
inline Ints load(const int32_t* p) { return vld1q_s32(p); }
inline Floats load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, Floats v) { vst1q_f32(p, v); }
inline Ints set(int32_t v) { return vdupq_n_s32(v); }
inline Floats set(float v) { return vdupq_n_f32(v); }
inline Ints add(Ints a, Ints b) { return vaddq_s32(a, b); }
inline Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
inline Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
inline Floats negative_fma(Floats a, Floats b, Floats c) { return vfmsq_f32(c, a, b); }
inline Floats to_float(Ints v) { return vcvtq_f32_s32(v); }
template <int N>
inline Ints shift_left(Ints v) {
  return vshlq_n_s32(v, N);
}
/// m + low half of `pairs` * x[0] + high half * x[1]
inline Ints add_pairs(Ints m, Ints pairs, const int16_t* x) {
  m = vmlaq_n_s32(m, vandq_s32(pairs, set(0xffff)), x[0]);
  return vmlaq_n_s32(m, vshrq_n_s32(pairs, 16), x[1]);
}

template <Family A>
inline Floats load_column(const uint8_t* panel, int64_t k, int slice) {
  if constexpr (A == Family::f16)
    return load_half4(panel + 32 * k + 8 * slice);
  else if constexpr (A == Family::bf16)
    return vreinterpretq_f32_u32(
        vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(panel + 32 * k + 8 * slice)), 16));
  else
    return vld1q_f32(reinterpret_cast<const float*>(panel + 64 * k + 16 * slice));
}

constexpr bool kSignedBytes = true;
template <Kind K, int V, int NC, int W>
PONDER_INLINE void dot(const uint8_t* w, const int8_t (*x)[W][4], int c0, Ints* s) {
#pragma GCC unroll 8
  for (int i = 0; i < V; i++) {
    uint8x16_t v = vld1q_u8(w + 64 * i);
    if constexpr (K == Kind::b8) v = veorq_u8(v, vdupq_n_u8(128));
#pragma GCC unroll 4
    for (int c = 0; c < NC; c++) {
      int32_t four;
      __builtin_memcpy(&four, x[i][c0 + c], 4);
      s[c] = vdotq_s32(s[c], vreinterpretq_s8_u8(v), vreinterpretq_s8_s32(vdupq_n_s32(four)));
    }
  }
}

uint64_t int8_peak(int64_t n, int32_t* sink) {
  int32x4_t s[8] = {};
  int8x16_t w = vdupq_n_s8(int8_t(*sink | 1));
  const int8x16_t v = vdupq_n_s8(2);
  const int64_t steps = n / (8 * 16) + 1;
  for (int64_t i = 0; i < steps; i++) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
      asm volatile("" : "+w"(w));
      s[k] = vdotq_s32(s[k], w, v);
    }
  }
  for (auto& a : s) *sink += vgetq_lane_s32(a, 0) & 0xffff;
  return uint64_t(steps) * 8 * 16;
}

#include "backend/cpu/isa/linear_narrow.inc"

}  // namespace

const LinearKernels kLinearNeon = make_kernels();

}  // namespace ponder::backend::cpu::isa
#endif
