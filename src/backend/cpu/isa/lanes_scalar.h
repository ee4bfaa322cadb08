// 16 float lanes as an array, in portable code: the level every machine has, and the plainest statement of what the
// others compute. fma is the C library's (exact everywhere, slow where the processor has none).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace ponder::backend::cpu {
namespace {

struct Lanes {
  static constexpr int kQueries = 4;
  static constexpr int kAccumulators = 4;

  float v[16];

  template <class F>
  static Lanes make(F f) {
    Lanes r;
    for (int i = 0; i < 16; ++i) r.v[i] = f(i);
    return r;
  }

  static Lanes zero() {
    return make([](int) { return 0.f; });
  }
  static Lanes set1(float x) {
    return make([=](int) { return x; });
  }
  static Lanes load(const float* p) {
    return make([=](int i) { return p[i]; });
  }
  static Lanes load(const uint16_t* p) {
    return make([=](int i) { return half_to_float(p[i]); });
  }
  static Lanes load(const int8_t* p) {
    return make([=](int i) { return float(p[i]); });
  }
  static Lanes load_n(const float* p, int n) {
    return make([=](int i) { return i < n ? p[i] : 0.f; });
  }
  void store(float* p) const { std::memcpy(p, v, sizeof v); }
  void store(uint16_t* p) const {
    for (int i = 0; i < 16; ++i) p[i] = float_to_half(v[i]);
  }
  void store_n(float* p, int n) const { std::memcpy(p, v, sizeof(float) * size_t(n)); }

  static Lanes first_n(int n, Lanes a, Lanes b) {
    return make([&](int i) { return i < n ? a.v[i] : b.v[i]; });
  }
  Lanes swap_pairs() const {
    return make([&](int i) { return v[i ^ 1]; });
  }
  Lanes round() const {
    return make([&](int i) { return std::nearbyint(v[i]); });
  }
  Lanes power_of_two() const {
    return make([&](int i) {
      const uint32_t bits = uint32_t(int32_t(v[i]) + 127) << 23;
      float f;
      std::memcpy(&f, &bits, sizeof f);
      return f;
    });
  }
  // The vector levels fold halves: 16 to 8 to 4 to 2 to 1.
  float sum() const {
    Lanes t = *this;
    for (int n = 8; n >= 1; n /= 2)
      for (int i = 0; i < n; ++i) t.v[i] = t.v[i] + t.v[i + n];
    return t.v[0];
  }
  float largest() const {
    float m = v[0];
    for (float x : v) m = m > x ? m : x;
    return m;
  }
};

inline Lanes operator+(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] + b.v[i]; });
}
inline Lanes operator-(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] - b.v[i]; });
}
inline Lanes operator*(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] * b.v[i]; });
}
inline Lanes operator/(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] / b.v[i]; });
}
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return Lanes::make([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline Lanes max(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Lanes min(Lanes a, Lanes b) {
  return Lanes::make([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline float fma1(float a, float b, float c) { return std::fma(a, b, c); }
inline float sqrt1(float a) { return std::sqrt(a); }
inline uint16_t to_half1(float a) { return float_to_half(a); }
inline float from_half1(uint16_t h) { return half_to_float(h); }
inline void prefetch(const void*) {}

}  // namespace
}  // namespace ponder::backend::cpu
