// The element-wise kernels over 16 lanes, once for all instruction sets: the unit that includes this has included its
// Lanes first. Element i of a row belongs to lane i % 16; sums run over a lane in ascending order, then lanes are folded
// 16 to 8 to 4 to 2 to 1. Every fma is written out.
// The exponential is the Cephes single precision one (S. Moshier): relative error below 2e-7.
#pragma once

#include "backend/cpu/vector.h"

namespace ponder::backend::cpu {
namespace {

// f(lanes at i, n valid) over a row; whole vectors have n == 16.
template <class F>
inline void for_row(int n, F f) {
  int i = 0;
  for (; i + 16 <= n; i += 16) f(i, 16);
  if (i < n) f(i, n - i);
}
inline Lanes load_part(const float* p, int n) { return n == 16 ? Lanes::load(p) : Lanes::load_n(p, n); }
inline void store_part(float* p, int n, Lanes v) {
  if (n == 16)
    v.store(p);
  else
    v.store_n(p, n);
}

inline Lanes exp_lanes(Lanes x) {
  x = max(min(x, Lanes::set1(88.f)), Lanes::set1(-87.f));
  const Lanes n = (x * Lanes::set1(1.44269504f)).round();
  Lanes r = fma(n, Lanes::set1(-0.693359375f), x);
  r = fma(n, Lanes::set1(2.12194440e-4f), r);
  Lanes p = Lanes::set1(1.9875691500e-4f);
  p = fma(p, r, Lanes::set1(1.3981999507e-3f));
  p = fma(p, r, Lanes::set1(8.3334519073e-3f));
  p = fma(p, r, Lanes::set1(4.1665795894e-2f));
  p = fma(p, r, Lanes::set1(1.6666665459e-1f));
  p = fma(p, r, Lanes::set1(5.0000001201e-1f));
  p = fma(p, r * r, r + Lanes::set1(1.f));
  return p * n.power_of_two();
}

inline float exp1(float x) {
  float out[16];
  exp_lanes(Lanes::set1(x)).store(out);
  return out[0];
}

void exp_row(const float* x, float* out, int n) {
  for_row(n, [&](int i, int m) { store_part(out + i, m, exp_lanes(load_part(x + i, m))); });
}

void rms_norm(const float* x, const float* gain, float* out, int n, float epsilon) {
  Lanes s = Lanes::zero();
  for_row(n, [&](int i, int m) {
    const Lanes v = load_part(x + i, m);
    s = fma(v, v, s);
  });
  const Lanes r = Lanes::set1(1.f / sqrt1(s.sum() / float(n) + epsilon));
  for_row(n, [&](int i, int m) { store_part(out + i, m, load_part(x + i, m) * r * load_part(gain + i, m)); });
}

void add(float* x, const float* y, int n) {
  for_row(n, [&](int i, int m) { store_part(x + i, m, load_part(x + i, m) + load_part(y + i, m)); });
}

void scale(float* x, float s, int n) {
  const Lanes f = Lanes::set1(s);
  for_row(n, [&](int i, int m) { store_part(x + i, m, load_part(x + i, m) * f); });
}

void gate(Gate kind, const float* g, const float* up, float* out, int n) {
  const Lanes one = Lanes::set1(1.f), zero = Lanes::zero();
  if (kind == Gate::silu) {
    for_row(n, [&](int i, int m) {
      const Lanes x = load_part(g + i, m);
      store_part(out + i, m, x / (one + exp_lanes(zero - x)) * load_part(up + i, m));
    });
  } else {  // x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
    for_row(n, [&](int i, int m) {
      const Lanes x = load_part(g + i, m);
      const Lanes u = x * fma(x * x, Lanes::set1(0.044715f * 1.5957691216f), Lanes::set1(1.5957691216f));
      store_part(out + i, m, x / (one + exp_lanes(zero - u)) * load_part(up + i, m));
    });
  }
}

void rope_halves(float* x, const float* cosines, const float* sines, int dims) {
  const int half = dims / 2;
  for_row(half, [&](int i, int m) {
    const Lanes a = load_part(x + i, m), b = load_part(x + half + i, m);
    const Lanes c = load_part(cosines + i, m), s = load_part(sines + i, m);
    store_part(x + i, m, fma(a, c, Lanes::zero() - b * s));
    store_part(x + half + i, m, fma(b, c, a * s));
  });
}

void rope_pairs(float* x, const float* cosines, const float* sines, int dims) {
  for_row(dims, [&](int i, int m) {
    const Lanes a = load_part(x + i, m);
    store_part(x + i, m, fma(a, load_part(cosines + i, m), a.swap_pairs() * load_part(sines + i, m)));
  });
}

}  // namespace
}  // namespace ponder::backend::cpu
