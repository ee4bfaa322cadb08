// Products run over tiles of eight rows that lie side by side: the compiler can use vector
// registers across the rows of a tile while every single sum still runs over its columns in order.
// Next: plan.cpp.
#include "backend/reference/math.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace ponder::backend::reference {
namespace {

constexpr int kTile = 8;        // rows of x computed together
constexpr int kWeightRows = 8;  // rows of w dequantised together, so that a tile stays in the cache for all of them

/// Two sums side by side. Left to itself the compiler vectorises the loop below along its columns,
/// at half the speed.
typedef double Pair __attribute__((vector_size(16), aligned(8)));

/// Two rows of w times a tile of 2 P rows of x.
template <int P>
void multiply_tile(const double* w0, const double* w1, const double* x, uint64_t columns, double* y0, double* y1) {
  Pair a[P] = {}, b[P] = {};
  for (uint64_t k = 0; k < columns; ++k) {
    const Pair w0k = {w0[k], w0[k]}, w1k = {w1[k], w1[k]};
    for (int p = 0; p < P; ++p) {
      const Pair xk = *reinterpret_cast<const Pair*>(x + (k * P + uint64_t(p)) * 2);
      a[p] += w0k * xk;
      b[p] += w1k * xk;
    }
  }
  std::memcpy(y0, a, sizeof a);
  std::memcpy(y1, b, sizeof b);
}

}  // namespace

void Multiplier::multiply(const model::Tensor& w, std::span<const float> bias, const float* x, int n, float* y) {
  const uint64_t columns = w.columns;
  if (rounding_ && !w.format->is_float) {
    rounded_.assign(x, x + uint64_t(n) * columns);
    for (int row = 0; row < n; ++row) rounding_(std::span(&rounded_[uint64_t(row) * columns], columns));
    x = rounded_.data();
  }
  const int tile = n <= 2 ? 2 : kTile;
  const int n_tiles = (n + tile - 1) / tile;
  const auto multiply_tile_of = tile == 2 ? multiply_tile<1> : multiply_tile<kTile / 2>;
  tiles_.assign(size_t(n_tiles) * columns * size_t(tile), 0.0);
  pool_.run([&](int thread) {
    const Share tiles = share_of(n_tiles, thread, pool_.size());
    for (int64_t row = tiles.begin * tile; row < std::min<int64_t>(n, tiles.end * tile); ++row) {
      double* to = tiles_.data() + uint64_t(row / tile * tile) * columns + row % tile;
      for (uint64_t k = 0; k < columns; ++k) to[k * uint64_t(tile)] = x[uint64_t(row) * columns + k];
    }
    pool_.barrier();

    auto& weights = weights_[size_t(thread)];
    weights.resize(kWeightRows * columns);
    std::vector<float> floats(columns);
    const Share rows = share_of(int64_t(w.rows), thread, pool_.size());
    for (int64_t first = rows.begin; first < rows.end; first += kWeightRows) {
      const int64_t last = std::min(rows.end, first + kWeightRows);
      for (int64_t r = first; r < last; ++r) {
        model::dequantize_row(w, uint64_t(r), floats.data());
        std::copy(floats.begin(), floats.end(), weights.begin() + (r - first) * int64_t(columns));
      }
      for (int t = 0; t < n_tiles; ++t) {
        for (int64_t r = first; r < last; r += 2) {
          const int64_t second = std::min(r + 1, last - 1);  // an odd last row is computed twice
          double sums[2][kTile];
          multiply_tile_of(weights.data() + uint64_t(r - first) * columns,
                           weights.data() + uint64_t(second - first) * columns,
                           tiles_.data() + uint64_t(t * tile) * columns, columns, sums[0], sums[1]);
          for (int64_t i = r; i <= second; ++i) {
            const double add = bias.empty() ? 0.0 : bias[size_t(i)];
            for (int j = 0; j < tile && t * tile + j < n; ++j)
              y[uint64_t(t * tile + j) * w.rows + uint64_t(i)] = float(sums[i - r][j] + add);
          }
        }
      }
    }
  });
}

uint64_t Multiplier::bytes(int n, uint64_t columns, int threads) {
  return (uint64_t(n + kTile) + uint64_t(kWeightRows + 1) * uint64_t(threads)) * columns * sizeof(double);
}

void rms_norm(const float* x, std::span<const float> weight, float epsilon, float* out) {
  double sum = 0;
  for (size_t i = 0; i < weight.size(); ++i) sum += double(x[i]) * x[i];
  const double scale = 1 / std::sqrt(sum / double(weight.size()) + double(epsilon));
  for (size_t i = 0; i < weight.size(); ++i) out[i] = float(x[i] * scale * weight[i]);
}

Rotation::Rotation(const model::RopeSpec& rope, int position) {
  for (const double f : rope.inverse_frequencies) {
    cos.push_back(std::cos(position * f) * rope.magnitude);
    sin.push_back(std::sin(position * f) * rope.magnitude);
  }
}

void rotate(float* head, const model::RopeSpec& rope, const Rotation& rotation) {
  const size_t half = rotation.cos.size();
  const bool pairs = rope.layout == model::RopeLayout::pairs;
  for (size_t i = 0; i < half; ++i) {
    float& x = head[pairs ? 2 * i : i];
    float& y = head[pairs ? 2 * i + 1 : i + half];
    const double a = x, b = y;
    x = float(a * rotation.cos[i] - b * rotation.sin[i]);
    y = float(a * rotation.sin[i] + b * rotation.cos[i]);
  }
}

float activate(model::Activation activation, float x) {
  const double v = x;
  if (activation == model::Activation::silu) return float(v / (1 + std::exp(-v)));
  // gelu_tanh (Hendrycks and Gimpel 2016, section 2)
  return float(0.5 * v * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v))));
}

double dot(const float* a, const float* b, int n) {
  double sums[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += double(a[i + j]) * b[i + j];
  for (; i < n; ++i) sums[i % 8] += double(a[i]) * b[i];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

}  // namespace ponder::backend::reference
