// Partial selection over the vocabulary. The loops keep sixteen lanes by hand: a compiler may not
// reorder a floating point maximum by itself. Next: sample.cpp.
#include "sample/select.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace ponder::sample {
namespace {
constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 16;

// `x > m ? x : m` keeps m when x is NaN.
inline float max_lanes(const float* values, size_t n) {
  float m[kLanes];
  for (float& lane : m) lane = kNone;
  const size_t full = n / kLanes * kLanes;
  for (size_t i = 0; i < full; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) m[j] = values[i + j] > m[j] ? values[i + j] : m[j];
  for (size_t i = full; i < n; ++i) m[i - full] = values[i] > m[i - full] ? values[i] : m[i - full];
  for (size_t half = kLanes / 2; half > 0; half /= 2)
    for (size_t j = 0; j < half; ++j) m[j] = m[j + half] > m[j] ? m[j + half] : m[j];
  return m[0];
}
}  // namespace

void block_maxima(std::span<const float> logits, float* out) {
  const size_t full = logits.size() / kBlock;
  for (size_t b = 0; b < full; ++b) out[b] = max_lanes(logits.data() + b * kBlock, kBlock);
  if (full * kBlock < logits.size())
    out[full] = max_lanes(logits.data() + full * kBlock, logits.size() - full * kBlock);
}

float max_of(std::span<const float> values) { return max_lanes(values.data(), values.size()); }
float max_logit(std::span<const float> logits) { return max_of(logits); }

int32_t argmax(std::span<const float> logits) {
  // The block that first reached the maximum holds its first occurrence.
  constexpr size_t kStride = 4096;
  float best = kNone;
  size_t where = 0;
  for (size_t i = 0; i < logits.size(); i += kStride) {
    const float m = max_lanes(logits.data() + i, std::min(kStride, logits.size() - i));
    if (m > best) best = m, where = i;
  }
  if (best == kNone) return -1;
  while (logits[where] != best) ++where;
  return int32_t(where);
}

void top_k(std::span<const float> logits, std::span<const float> maxima, size_t k, std::vector<Candidate>& out) {
  out.clear();
  if (k == 0) return;
  float threshold = kNone;
  if (k < maxima.size()) {
    static thread_local std::vector<float> copy;  // kept, so that a draw need not allocate
    copy.assign(maxima.begin(), maxima.end());
    std::nth_element(copy.begin(), copy.begin() + long(k - 1), copy.end(), std::greater<float>());
    threshold = copy[k - 1];
  }
  for (size_t b = 0; b < maxima.size(); ++b) {
    if (maxima[b] < threshold || maxima[b] == kNone) continue;
    const size_t end = std::min(logits.size(), (b + 1) * kBlock);
    for (size_t i = b * kBlock; i < end; ++i)
      if (logits[i] >= threshold && logits[i] > kNone) out.push_back({int32_t(i), logits[i]});
  }
  if (out.size() > k) {
    std::nth_element(out.begin(), out.begin() + long(k - 1), out.end(), before);
    out.resize(k);
  }
  std::sort(out.begin(), out.end(), before);
}

}  // namespace ponder::sample
