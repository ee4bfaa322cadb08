#include "backend/cpu/rope_tables.h"

#include <cmath>

#include "backend/cpu/vector.h"

namespace ponder::backend::cpu {

void write_rope(const model::RopeSpec& rope, int position, float* out) {
  float* c = out;
  float* s = out + rope.dims;
  for (int i = 0; i < rope.dims / 2; ++i) {
    const double angle = position * rope.inverse_frequencies[size_t(i)];
    const float cosine = float(std::cos(angle) * rope.magnitude), sine = float(std::sin(angle) * rope.magnitude);
    if (rope.layout == model::RopeLayout::pairs) {
      c[2 * i] = c[2 * i + 1] = cosine;
      s[2 * i] = -sine;
      s[2 * i + 1] = sine;
    } else {
      c[i] = cosine;
      s[i] = sine;
    }
  }
}

void write_page_starts(const model::RopeSpec& rope, int64_t pages, float* out) {
  const int half = rope.dims / 2;
  for (int64_t page = 0; page < pages; ++page, out += rope.dims)
    for (int i = 0; i < half; ++i) {
      const double angle = double(page * kPageTokens) * rope.inverse_frequencies[size_t(i)];
      out[i] = float(std::cos(angle));
      out[half + i] = float(std::sin(angle));
    }
}

std::vector<float> bias_places(const model::RopeSpec& rope, const float* bias, int n_kv_heads, int head_dim) {
  std::vector<float> places(size_t(n_kv_heads) * size_t(head_dim) * kPageTokens);
  const int half = rope.dims / 2;
  const bool pairs = rope.layout == model::RopeLayout::pairs;
  for (int h = 0; h < n_kv_heads; ++h, bias += head_dim) {
    float* out = places.data() + size_t(h) * size_t(head_dim) * kPageTokens;
    for (int t = 0; t < kPageTokens; ++t) {
      for (int i = 0; i < half; ++i) {
        const int first = pairs ? 2 * i : i, second = pairs ? 2 * i + 1 : i + half;
        const double angle = t * rope.inverse_frequencies[size_t(i)];
        const double c = std::cos(angle) * rope.magnitude, s = std::sin(angle) * rope.magnitude;
        out[first * kPageTokens + t] = float(bias[first] * c - bias[second] * s);
        out[second * kPageTokens + t] = float(bias[second] * c + bias[first] * s);
      }
      for (int d = rope.dims; d < head_dim; ++d) out[d * kPageTokens + t] = bias[d];
    }
  }
  return places;
}

}  // namespace ponder::backend::cpu
