// From logits to a token. Order (llama.cpp's default, so that Ollama's options mean what they mean
// there):
//   bias, penalties, mask -> top-k -> top-p -> min-p -> temperature -> draw.
// top-p and min-p therefore see probabilities at temperature 1, top-p those of what top-k left. The
// draw adds Gumbel noise to logit / temperature and takes the largest; only tokens that passed the
// filters need noise. Read next: select.cpp (finding the largest), mass.h (integer probabilities),
// noise.h (the generator).
#include "sample/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "sample/mass.h"
#include "sample/noise.h"
#include "sample/penalties.h"
#include "sample/select.h"

namespace ponder::sample {
namespace {
constexpr float kNone = -std::numeric_limits<float>::infinity();

// The smallest leading part of the sorted `candidates` whose masses reach `goal`; its size, or 0 when all of them
// together do not reach it.
size_t nucleus(std::span<const Candidate> candidates, float max, uint64_t goal) {
  uint64_t sum = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    sum += uint64_t(mass(candidates[i].logit - max));
    if (sum >= goal) return i + 1;
  }
  return 0;
}

// The nucleus of `candidates`, of which any leading part of their order with mass `goal` is one, in no order.
void nucleus_of(std::span<const Candidate> candidates, float max, uint64_t goal, std::vector<Candidate>& out) {
  uint64_t sums[kBuckets] = {};
  auto bucket = [max](float logit) { return mass_bucket(max - logit); };
  for (const Candidate& c : candidates) sums[bucket(c.logit)] += uint64_t(mass(c.logit - max));
  int crossing = 0;
  uint64_t before_it = 0;
  while (crossing < kBuckets - 1 && before_it + sums[crossing] < goal) before_it += sums[crossing++];
  out.clear();
  static thread_local std::vector<Candidate> last;  // kept, so that a draw need not allocate
  last.clear();
  last.reserve(candidates.size());
  for (const Candidate& c : candidates) {
    const int b = bucket(c.logit);
    if (b < crossing) out.push_back(c);
    if (b == crossing) last.push_back(c);
  }
  std::sort(last.begin(), last.end(), before);
  for (const Candidate& c : last) {
    if (before_it >= goal && !out.empty()) break;
    out.push_back(c);
    before_it += uint64_t(mass(c.logit - max));
  }
}

bool limits_by_top_k(const Params& p, size_t vocabulary) { return p.top_k > 0 && size_t(p.top_k) < vocabulary; }

constexpr uint64_t kFlat = 2000 * kMassOne;  // thousands of tokens are as good as the best: nobody is far from it

// The nucleus of the whole vocabulary (of mass `total`), in no order: who is in it is looked for among the tokens near
// the maximum, and among all if those are not enough.
void whole_nucleus(std::span<const float> logits, std::span<const float> maxima, float max, uint64_t total, float top_p,
                   std::vector<Candidate>& out) {
  const uint64_t goal = nucleus_goal(top_p, total);
  static thread_local std::vector<Candidate> close_by;  // kept, so that a draw need not allocate
  close_by.reserve(logits.size());
  for (const float reach : {6.f, -kNone}) {
    if (reach == 6.f && total > kFlat) continue;
    const float floor = max - reach;
    uint64_t sum = 0;
    close_by.clear();
    for (size_t b = 0; b < maxima.size(); ++b) {
      if (maxima[b] < floor) continue;
      for (size_t i = b * kBlock; i < std::min(logits.size(), (b + 1) * kBlock); ++i) {
        if (!(logits[i] >= floor)) continue;
        const auto m = uint64_t(mass(logits[i] - max));
        if (m == 0) continue;
        sum += m;
        close_by.push_back({TokenId(i), logits[i]});
      }
    }
    if (sum >= goal) break;
  }
  nucleus_of(close_by, max, goal, out);
}

// One draw: the best of (logit - max) / temperature + noise. Candidates come in any order; ties go
// to the lower id.
class Race {
 public:
  Race(const Request& request, float max) : request_(request), max_(max), temperature_(request.params->temperature) {}

  float score(float logit) const { return (logit - max_) / temperature_; }
  bool may_win(float score_bound) const { return score_bound >= best_; }
  void enter(TokenId token, float logit, uint32_t word) {
    const float s = score(logit);
    if (!may_win(s + gumbel_bound(word))) return;
    const float x = s + gumbel_of_word(word);
    if (x > best_ || (x == best_ && token < winner_) || winner_ < 0) best_ = x, winner_ = token;
  }
  void enter(const Candidate& c) {
    const uint32_t group = uint32_t(c.token) / 4;
    if (group != group_) words_ = words(group_ = group);  // candidates come mostly in the order of their ids
    enter(c.token, c.logit, words_.word[uint32_t(c.token) % 4]);
  }
  PhiloxBlock words(uint32_t group) const {
    return noise_words(request_.params->seed, request_.stream, request_.position, group);
  }
  TokenId winner() const { return winner_; }

 private:
  const Request& request_;
  float max_, temperature_, best_ = kNone;
  TokenId winner_ = -1;
  PhiloxBlock words_{};
  uint32_t group_ = ~0u;  // whose words those are
};

// No filter but the temperature: every token takes part. The block with the largest logit goes
// first, so that most others are seen at once to be out of reach.
TokenId draw_from_all(std::span<const float> logits, std::span<const float> maxima, float max, const Request& request) {
  Race race(request, max);
  auto enter_block = [&](size_t b) {
    const size_t end = std::min(logits.size(), (b + 1) * kBlock);
    for (size_t i = b * kBlock; i < end; i += 4) {
      const PhiloxBlock words = race.words(uint32_t(i / 4));
      for (size_t j = i; j < std::min(end, i + 4); ++j)
        if (logits[j] > kNone) race.enter(TokenId(j), logits[j], words.word[j % 4]);
    }
  };
  const size_t first = size_t(std::find(maxima.begin(), maxima.end(), max) - maxima.begin());
  enter_block(first);
  for (size_t b = 0; b < maxima.size(); ++b)
    if (b != first && maxima[b] > kNone && race.may_win(race.score(maxima[b]) + gumbel_bound(~0u))) enter_block(b);
  return race.winner();
}

// A draw by top-p (and min-p) where the nucleus is a large part of the vocabulary. The winner among all tokens, if it is
// in the nucleus, is the winner there; to know that one pass is enough, and nobody else has to be placed. -1 if it is not.
TokenId draw_from_large_nucleus(std::span<const float> logits, std::span<const float> maxima, float max, uint64_t total,
                                const Request& request) {
  const Params& p = *request.params;
  const TokenId winner = draw_from_all(logits, maxima, max, request);
  const auto own = uint64_t(mass(logits[size_t(winner)] - max));
  const bool likely = own > 0 && (own >= mass_fraction(p.min_p) || logits[size_t(winner)] == max);
  return likely && mass_before(logits, max, size_t(winner)) < nucleus_goal(p.top_p, total) ? winner : -1;
}

// Applies top-k, top-p and min-p; `total`: the mass of all logits, used when top-p sees them all.
void filter(std::span<const float> logits, std::span<const float> maxima, float max, uint64_t total, const Params& p,
            std::vector<Candidate>& survivors) {
  const bool limited = limits_by_top_k(p, logits.size());
  if (limited) {
    top_k(logits, maxima, size_t(p.top_k), survivors);
  } else if (p.top_p < 1.f) {
    whole_nucleus(logits, maxima, max, total, p.top_p, survivors);
  } else {  // min-p alone
    const uint64_t floor = mass_fraction(p.min_p);
    survivors.clear();
    for (size_t b = 0; b < maxima.size(); ++b) {
      if (maxima[b] == kNone || uint64_t(mass(maxima[b] - max)) < floor) continue;
      for (size_t i = b * kBlock; i < std::min(logits.size(), (b + 1) * kBlock); ++i)
        if (logits[i] > kNone) survivors.push_back({TokenId(i), logits[i]});
    }
  }
  if (limited && p.top_p < 1.f) {
    uint64_t total = 0;
    for (const Candidate& c : survivors) total += uint64_t(mass(c.logit - max));
    if (const size_t n = nucleus(survivors, max, nucleus_goal(p.top_p, total))) survivors.resize(n);
  }
  if (p.min_p > 0.f) {
    const uint64_t floor = mass_fraction(p.min_p);
    std::erase_if(survivors,
                  [&](const Candidate& c) { return c.logit != max && uint64_t(mass(c.logit - max)) < floor; });
  }
}

TokenId choose(std::span<const float> logits, const Request& request, std::span<float> maxima,
               std::vector<Candidate>& survivors) {
  const Params& p = *request.params;
  if (p.temperature <= 0.f || p.top_k == 1) return argmax(logits);
  block_maxima(logits, maxima.data());
  const float max = max_of(maxima);
  if (max == kNone) return -1;
  const bool limited = limits_by_top_k(p, logits.size());
  if (!limited && p.top_p >= 1.f && p.min_p <= 0.f) return draw_from_all(logits, maxima, max, request);
  uint64_t total = 0;
  if (!limited && p.top_p < 1.f) {
    total = total_mass(logits, max);
    if (total > kFlat) {
      if (const TokenId token = draw_from_large_nucleus(logits, maxima, max, total, request); token >= 0) return token;
    }
  }
  filter(logits, maxima, max, total, p, survivors);
  Race race(request, max);
  for (const Candidate& c : survivors) race.enter(c);
  return race.winner();
}

std::vector<TokenLogprob> most_likely(std::span<const float> logits, int n, double normalizer) {
  std::vector<TokenLogprob> out;
  if (n <= 0 || logits.empty()) return out;
  std::vector<float> maxima(block_count(logits.size()));
  block_maxima(logits, maxima.data());
  std::vector<Candidate> best;
  top_k(logits, maxima, size_t(n), best);
  for (const Candidate& c : best) out.push_back({c.token, float(double(std::min(c.logit, kLargest)) - normalizer)});
  return out;
}
}  // namespace

Sampled sample(std::span<const float> logits, const Request& request, std::vector<float>& scratch) {
  static const Params kDefaults;
  Request r = request;
  if (r.params == nullptr) r.params = &kDefaults;

  const size_t n = logits.size(), blocks = block_count(n);
  bool rewrite = changes_logits(r);
  // Infinite logits have no distribution; they count as the largest float. The pass is only needed
  // for a draw.
  if (!rewrite && r.params->temperature > 0.f) rewrite = max_logit(logits) > kLargest;
  const size_t need = blocks + (rewrite ? 2 * n : 0);
  if (scratch.size() < need) scratch.resize(need);
  const std::span<float> maxima(scratch.data(), blocks);
  std::span<const float> seen = logits;
  if (rewrite) {
    const std::span<float> changed(scratch.data() + blocks, n);
    apply(logits, r, changed, std::span<float>(scratch.data() + blocks + n, n));
    seen = changed;
  }
  static thread_local std::vector<Candidate> survivors;  // kept, so that a draw need not allocate
  survivors.reserve(n);
  Sampled result;
  result.token = choose(seen, r, maxima, survivors);
  if (request.top_logprobs >= 0 && result.token >= 0) {
    const double normalizer = log_normalizer(logits);
    const float logit = std::min(logits[size_t(result.token)], kLargest);
    result.logprob = float(double(logit) - normalizer);
    if (request.top_logprobs > 0) result.top = most_likely(logits, request.top_logprobs, normalizer);
  }
  return result;
}

float gumbel(uint64_t seed, uint32_t stream, uint32_t position, TokenId token) {
  return gumbel_of_word(noise_word(seed, stream, position, uint32_t(token)));
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int n) {
  return most_likely(logits, n, log_normalizer(logits));
}

Result<void> validate(const Params& p) {
  auto bad = [](const char* option, const std::string& value, const char* allowed) {
    return Error{ErrorCode::invalid_argument, std::string(option) + " is " + value + ": it must be " + allowed};
  };
  auto number = [](float x) { return std::to_string(x); };
  if (!(p.temperature >= 0.f) || std::isinf(p.temperature))
    return bad("temperature", number(p.temperature), "0 or more");
  if (!(p.top_p >= 0.f) || std::isinf(p.top_p)) return bad("top_p", number(p.top_p), "between 0 and 1");
  if (!(p.min_p >= 0.f && p.min_p <= 1.f)) return bad("min_p", number(p.min_p), "between 0 and 1");
  if (!(p.repeat_penalty > 0.f) || std::isinf(p.repeat_penalty))
    return bad("repeat_penalty", number(p.repeat_penalty), "above 0");
  if (p.repeat_last_n < -1)
    return bad("repeat_last_n", std::to_string(p.repeat_last_n), "-1 (the whole context), 0 (off) or more");
  if (!std::isfinite(p.presence_penalty)) return bad("presence_penalty", number(p.presence_penalty), "a finite number");
  if (!std::isfinite(p.frequency_penalty))
    return bad("frequency_penalty", number(p.frequency_penalty), "a finite number");
  for (const auto& [token, bias] : p.logit_bias) {
    if (token < 0)
      return bad("logit_bias", "given for token " + std::to_string(token), "given for token ids, 0 or more");
    if (std::isnan(bias) || bias > kLargest)
      return bad("logit_bias", "not finite", "a finite number, or -100 or less to forbid a token");
  }
  return {};
}

}  // namespace ponder::sample
