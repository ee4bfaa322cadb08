// Scale search for the K formats. A sub-block is fitted by trying a handful of step widths around
// the obvious one, rounding the weights to that grid, and solving the least-squares problem for
// scale (and minimum) that belongs to the rounded integers; the candidate with the smallest
// weighted error wins. Large weights count more: a dot product feels them more. Then the sub-block
// scales themselves are rounded to integers, and the weights are rounded a last time against what
// the decoder will really compute.
#include "quant/k_blocks.h"

#include <algorithm>
#include <cmath>

#include "quant/bits.h"

namespace ponder::quant {
namespace {

constexpr int kSteps = 8;           // candidates on either side of the plain step width
constexpr float kStepWidth = 0.1f;  // in units of one level

float mean_square(const float* x, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum / float(n);
}

struct Affine {
  float scale = 0, min = 0;  // x ~ scale * q - min, both >= 0
};

Affine fit_affine(const float* x, int n, int levels, float rms) {
  const float low = std::min(0.0f, *std::min_element(x, x + n));
  const float high = *std::max_element(x, x + n);
  Affine best{(high - low) / float(levels), -low};
  if (!(high > low)) return Affine{0, -low};

  const auto error_of = [&](const Affine& fit) {
    const float inv = inverse(fit.scale);
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float q = float(round_to_int((x[i] + fit.min) * inv, 0, levels));
      const float e = fit.scale * q - fit.min - x[i];
      error += (rms + std::fabs(x[i])) * e * e;
    }
    return error;
  };
  float best_error = error_of(best);
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float inv = (float(levels) + kStepWidth * float(step)) / (high - low);
    float w0 = 0, wq = 0, wqq = 0, wx = 0, wqx = 0;
    for (int i = 0; i < n; ++i) {
      const float q = float(round_to_int((x[i] - low) * inv, 0, levels));
      const float w = rms + std::fabs(x[i]);
      w0 += w;
      wq += w * q;
      wqq += w * q * q;
      wx += w * x[i];
      wqx += w * q * x[i];
    }
    const float det = w0 * wqq - wq * wq;
    if (!(det > 0)) continue;
    Affine fit{(w0 * wqx - wq * wx) / det, -(wqq * wx - wq * wqx) / det};
    if (fit.min < 0) fit = Affine{wqq > 0 ? wqx / wqq : 0, 0};  // the format has no positive offset
    if (!(fit.scale > 0)) continue;
    const float error = error_of(fit);
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  return best;
}

/// x ~ scale * q with q in -32..31; the sign of the scale puts the largest weight on -32, the
/// longer side.
float fit_symmetric(const float* x, int n) {
  const float peak = *std::max_element(x, x + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  if (peak == 0) return 0;
  float best = peak / -32.0f, best_gain = -1;
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float inv = -(32.0f + kStepWidth * float(step)) / peak;
    float qx = 0, qq = 0;
    for (int i = 0; i < n; ++i) {
      const float q = float(round_to_int(x[i] * inv, -32, 31));
      const float w = x[i] * x[i];
      qx += w * q * x[i];
      qq += w * q * q;
    }
    // With the best scale qx / qq the error is sum(w x^2) - qx^2 / qq: the largest gain is the
    // smallest error.
    if (qq > 0 && qx * qx > best_gain * qq) {
      best_gain = qx * qx / qq;
      best = qx / qq;
    }
  }
  return best;
}

}  // namespace

void quantize_affine(const float* x, int levels, AffineSuper* out) {
  const float rms = std::sqrt(mean_square(x, kSuper));
  Affine fit[8];
  float max_scale = 0, max_min = 0;
  for (int j = 0; j < 8; ++j) {
    fit[j] = fit_affine(x + 32 * j, 32, levels, rms);
    max_scale = std::max(max_scale, fit[j].scale);
    max_min = std::max(max_min, fit[j].min);
  }
  out->d = scale_to_half(max_scale / 63.0f);
  out->dmin = scale_to_half(max_min / 63.0f);
  const float d = half_to_float(out->d), dmin = half_to_float(out->dmin);
  for (int j = 0; j < 8; ++j) {
    out->scale[j] = uint8_t(round_to_int(fit[j].scale * inverse(d), 0, 63));
    out->min[j] = uint8_t(round_to_int(fit[j].min * inverse(dmin), 0, 63));
    const float inv = inverse(d * float(out->scale[j])), offset = dmin * float(out->min[j]);
    for (int i = 32 * j; i < 32 * j + 32; ++i) {
      out->q[i] = uint8_t(round_to_int((x[i] + offset) * inv, 0, levels));
    }
  }
}

void quantize_symmetric(const float* x, SymmetricSuper* out) {
  float fit[16];
  float peak = 0;
  for (int j = 0; j < 16; ++j) {
    fit[j] = fit_symmetric(x + 16 * j, 16);
    if (std::fabs(fit[j]) > std::fabs(peak)) peak = fit[j];
  }
  out->d = scale_to_half(peak / -128.0f);
  const float d = half_to_float(out->d);
  for (int j = 0; j < 16; ++j) {
    out->scale[j] = int8_t(round_to_int(fit[j] * inverse(d), -128, 127));
    const float inv = inverse(d * float(out->scale[j]));
    for (int i = 16 * j; i < 16 * j + 16; ++i) {
      out->q[i] = uint8_t(round_to_int(x[i] * inv, -32, 31) + 32);
    }
  }
}

void pack_scales(const uint8_t scale[8], const uint8_t min[8], uint8_t packed[12]) {
  for (int j = 0; j < 4; ++j) {
    packed[j] = uint8_t((scale[j] & 0x3f) | ((scale[j + 4] & 0x30) << 2));
    packed[j + 4] = uint8_t((min[j] & 0x3f) | ((min[j + 4] & 0x30) << 2));
    packed[j + 8] = uint8_t((scale[j + 4] & 0x0f) | ((min[j + 4] & 0x0f) << 4));
  }
}

void unpack_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8]) {
  for (int j = 0; j < 4; ++j) {
    scale[j] = packed[j] & 0x3f;
    min[j] = packed[j + 4] & 0x3f;
    scale[j + 4] = uint8_t((packed[j + 8] & 0x0f) | ((packed[j] >> 2) & 0x30));
    min[j + 4] = uint8_t((packed[j + 8] >> 4) | ((packed[j + 4] >> 2) & 0x30));
  }
}

}  // namespace ponder::quant
