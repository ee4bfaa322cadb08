// 16 float lanes as four NEON registers. Included by *_neon.cpp only.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace ponder::backend::cpu {
namespace {

struct Lanes {
  static constexpr int kQueries = 5;
  static constexpr int kAccumulators = 5;

  float32x4_t v[4];

  template <class F>
  static Lanes make(F f) {
    return {{f(0), f(1), f(2), f(3)}};
  }
  static uint32x4_t below(int i, int n) {  // lanes of register i that are below n
    const int32x4_t at = vaddq_s32(vdupq_n_s32(4 * i), int32x4_t{0, 1, 2, 3});
    return vcltq_s32(at, vdupq_n_s32(n));
  }

  static Lanes zero() { return set1(0.f); }
  static Lanes set1(float x) {
    return make([=](int) { return vdupq_n_f32(x); });
  }
  static Lanes load(const float* p) {
    return make([=](int i) { return vld1q_f32(p + 4 * i); });
  }
  static Lanes load(const uint16_t* p) {
    return make([=](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
  }
  static Lanes load(const int8_t* p) {
    const int8x16_t q = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(q)), high = vmovl_s8(vget_high_s8(q));
    const int32x4_t v[4] = {vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)),
                            vmovl_s16(vget_high_s16(high))};
    return make([&](int i) { return vcvtq_f32_s32(v[i]); });
  }
  static Lanes load_n(const float* p, int n) {
    float part[16] = {};
    __builtin_memcpy(part, p, sizeof(float) * unsigned(n));
    return load(part);
  }
  void store(float* p) const {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, v[i]);
  }
  void store(uint16_t* p) const {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v[i])));
  }
  void store_n(float* p, int n) const {
    float part[16];
    store(part);
    __builtin_memcpy(p, part, sizeof(float) * unsigned(n));
  }

  static Lanes first_n(int n, Lanes a, Lanes b) {
    return make([&](int i) { return vbslq_f32(below(i, n), a.v[i], b.v[i]); });
  }
  Lanes swap_pairs() const {
    return make([&](int i) { return vrev64q_f32(v[i]); });
  }
  Lanes round() const {
    return make([&](int i) { return vrndnq_f32(v[i]); });
  }
  Lanes power_of_two() const {
    return make([&](int i) {
      return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(v[i]), vdupq_n_s32(127)), 23));
    });
  }
  // 16 to 8 to 4 to 2 to 1, like the others.
  float sum() const {
    const float32x4_t q = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
    const float32x2_t h = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
  }
  float largest() const {
    float part[16], m;
    store(part);
    m = part[0];
    for (float x : part) m = m > x ? m : x;
    return m;
  }
};

inline Lanes operator+(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
inline Lanes operator-(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
inline Lanes operator*(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
inline Lanes operator/(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return Lanes::make([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
// The second where either is a NaN, as on x86.
inline Lanes max(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline Lanes min(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline float fma1(float a, float b, float c) {
  return vget_lane_f32(vfma_f32(vdup_n_f32(c), vdup_n_f32(a), vdup_n_f32(b)), 0);
}
inline float sqrt1(float a) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(a)), 0); }
inline uint16_t to_half1(float a) { return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(a))), 0); }
inline float from_half1(uint16_t h) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0); }
inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace
}  // namespace ponder::backend::cpu
