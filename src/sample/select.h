// Finding the largest logits without sorting the vocabulary. One vectorised pass takes the maximum
// of every 64 logits; the k-th largest of these maxima is a lower bound of the k-th largest logit,
// so only blocks that reach it are read again. NaN never wins anything.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ponder::sample {

constexpr size_t kBlock = 64;
inline size_t block_count(size_t n) { return (n + kBlock - 1) / kBlock; }

struct Candidate {
  int32_t token;
  float logit;
};
/// The order of everything here: larger logit first, ties by the lower id.
inline bool before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

/// out[i] = largest of logits[64 i ... 64 i + 63], -inf if there is none.
void block_maxima(std::span<const float> logits, float* out);
float max_of(std::span<const float> values);
float max_logit(std::span<const float> logits);

/// The first token with the largest logit; -1 if all are NaN or -inf.
int32_t argmax(std::span<const float> logits);

/// The `k` first candidates (fewer if there are not as many above -inf), sorted. `maxima` are the
/// blocks'.
void top_k(std::span<const float> logits, std::span<const float> maxima, size_t k, std::vector<Candidate>& out);

}  // namespace ponder::sample
