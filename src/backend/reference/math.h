// The arithmetic of the reference backend. Every function's result depends on its arguments only:
// not on the number of threads, nor on how many rows are computed together.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/reference/reference.h"
#include "base/thread_pool.h"
#include "model/model.h"

namespace ponder::backend::reference {

/// Matrix products on a pool of threads. Keeps its working memory between calls.
class Multiplier {
 public:
  explicit Multiplier(ThreadPool& pool, Rounding rounding = {})
      : pool_(pool), rounding_(std::move(rounding)), weights_(size_t(pool.size())) {}

  /// y[n][w.rows] = x[n][w.columns] times w, plus bias (may be empty). Each number is a float64 sum
  /// in ascending order of columns, rounded once.
  void multiply(const model::Tensor& w, std::span<const float> bias, const float* x, int n, float* y);

  /// Working memory of a call with n rows of at most `columns`, for the memory report.
  static uint64_t bytes(int n, uint64_t columns, int threads);

 private:
  ThreadPool& pool_;
  const Rounding rounding_;
  std::vector<float> rounded_;                // x after rounding_
  std::vector<double> tiles_;                 // x in tiles of rows: [tile][column][row of the tile]
  std::vector<std::vector<double>> weights_;  // per thread: a few dequantised rows of w
};

/// out = x / sqrt(mean(x^2) + epsilon) * weight (Zhang and Sennrich 2019).
void rms_norm(const float* x, std::span<const float> weight, float epsilon, float* out);

/// RoPE's cos and sin (times its magnitude) of one position.
struct Rotation {
  std::vector<double> cos, sin;
  Rotation(const model::RopeSpec& rope, int position);
};
void rotate(float* head, const model::RopeSpec& rope, const Rotation& rotation);

float activate(model::Activation activation, float x);

/// q.k with eight fixed partial sums.
double dot(const float* a, const float* b, int n);

}  // namespace ponder::backend::reference
