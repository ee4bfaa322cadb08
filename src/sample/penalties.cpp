// Bias and penalties, in llama.cpp's order (bias first) and with its formulas over the last
// `repeat_last_n` tokens of prompt and output: a logit above 0 is divided by repeat_penalty,
// another multiplied; then count * frequency_penalty + presence_penalty is taken away. Source:
// Keskar et al. 2019 (repetition penalty).
#include "sample/penalties.h"

namespace ponder::sample {
namespace {
bool has_penalty(const Params& p) {
  return p.repeat_last_n != 0 && (p.repeat_penalty != 1.f || p.presence_penalty != 0.f || p.frequency_penalty != 0.f);
}
}  // namespace

bool changes_logits(const Request& request) {
  const Params& p = *request.params;
  return !request.mask.empty() || !p.logit_bias.empty() || (has_penalty(p) && !request.history.empty());
}

void apply(std::span<const float> logits, const Request& request, std::span<float> out, std::span<float> counts) {
  const Params& p = *request.params;
  for (size_t i = 0; i < logits.size(); ++i) out[i] = seen_logit(logits[i]);
  for (const auto& [token, bias] : p.logit_bias) {
    if (token < 0 || size_t(token) >= out.size()) continue;
    out[size_t(token)] = with_bias(out[size_t(token)], bias);
  }
  if (has_penalty(p)) {
    auto window = request.history;
    if (p.repeat_last_n > 0 && size_t(p.repeat_last_n) < window.size()) window = window.last(size_t(p.repeat_last_n));
    auto in_vocabulary = [&](TokenId t) { return t >= 0 && size_t(t) < out.size(); };
    for (TokenId t : window)
      if (in_vocabulary(t)) counts[size_t(t)] = 0.f;
    for (TokenId t : window)
      if (in_vocabulary(t)) counts[size_t(t)] += 1.f;
    for (TokenId t : window) {
      if (!in_vocabulary(t) || counts[size_t(t)] == 0.f) continue;
      float& x = out[size_t(t)];
      x = with_penalties(x, counts[size_t(t)], p.repeat_penalty, p.frequency_penalty, p.presence_penalty);
      counts[size_t(t)] = 0.f;  // done: it may stand in the window again
    }
  }
  if (!request.mask.empty()) {
    for (size_t word = 0; word * 32 < out.size(); ++word) {
      const uint32_t allowed = word < request.mask.size() ? request.mask[word] : 0;
      if (allowed == ~0u) continue;
      const size_t end = std::min(out.size(), word * 32 + 32);
      for (size_t i = word * 32; i < end; ++i)
        if ((allowed >> (i % 32) & 1u) == 0) out[i] = kForbidden;
    }
  }
}

}  // namespace ponder::sample
