// The loops over the vocabulary that need an exponential, written so that a compiler vectorises
// them at any instruction set. What is summed is integer (total_mass) or goes to eight fixed lanes
// (log_normalizer), so the result does not depend on how it did. Next: select.cpp.
#include "sample/mass.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sample/noise.h"
#include "sample/sample.h"
#include "sample/select.h"

namespace ponder::sample {

namespace {
// The masses of those logits for which taken(logit).
template <class Taken>
uint64_t masses(std::span<const float> logits, float max, Taken taken) {
  uint64_t sum = 0;
  int32_t block[256];
  for (size_t i = 0; i < logits.size(); i += 256) {
    const size_t n = std::min<size_t>(256, logits.size() - i);
    for (size_t j = 0; j < n; ++j) block[j] = taken(logits[i + j]) ? mass(logits[i + j] - max) : 0;
    for (size_t j = 0; j < n; ++j) sum += uint64_t(block[j]);
  }
  return sum;
}
}  // namespace

uint64_t total_mass(std::span<const float> logits, float max) {
  return masses(logits, max, [](float) { return true; });
}

uint64_t mass_before(std::span<const float> logits, float max, size_t token) {
  const float own = logits[token];
  return masses(logits.first(token), max, [own](float x) { return x >= own; }) +
         masses(logits.subspan(token + 1), max, [own](float x) { return x > own; });
}

double log_normalizer(std::span<const float> logits) {
  const float largest = max_logit(logits);
  if (largest == -std::numeric_limits<float>::infinity()) return -HUGE_VAL;
  const double max = double(std::min(largest, std::numeric_limits<float>::max()));
  double lanes[8] = {};
  size_t i = 0;
  for (; i + 8 <= logits.size(); i += 8)
    for (size_t j = 0; j < 8; ++j) lanes[j] += exp_fixed(double(logits[i + j]) - max);
  for (; i < logits.size(); ++i) lanes[i % 8] += exp_fixed(double(logits[i]) - max);
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return max + log_fixed(sum);
}

}  // namespace ponder::sample
