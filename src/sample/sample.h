// Logits to a token: penalties and bias, filters, then a draw. The draw is Gumbel-max with noise
// keyed by (seed, stream, position, token id), so that the same logits give the same token on every
// device, in every batch and at every replay. Stream 0 is the request itself; chain i of a vote is
// stream i. Sources: Holtzman et al. 2019 (top-p), Nguyen et al. 2024 (min-p), Maddison et al. 2014
// (Gumbel-max), Salmon et al. 2011 (counter-based random numbers).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace ponder::sample {

using TokenId = int32_t;

/// Ollama's option names and meanings.
struct Params {
  float temperature = 0.8f;     ///< 0: greedy (ties: lowest id)
  int top_k = 40;               ///< <= 0: off
  float top_p = 0.9f;           ///< >= 1: off
  float min_p = 0.0f;           ///< 0: off
  float repeat_penalty = 1.0f;  ///< 1: off; positive logits divided, negative multiplied (Keskar et al. 2019)
  int repeat_last_n = 64;       ///< tokens the three penalties look back; 0: off, -1: all
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::vector<std::pair<TokenId, float>> logit_bias;  ///< added to the logits; -inf (or <= -100) forbids
  uint64_t seed = 0;
};

/// The error for a value out of range, naming the option, or nothing.
Result<void> validate(const Params& params);

/// One bit per token: 1 = allowed. (vocab_size + 31) / 32 words.
using MaskWords = std::span<const uint32_t>;

/// Everything one draw needs.
struct Request {
  const Params* params = nullptr;
  std::span<const TokenId> history;  ///< prompt and output so far, oldest first, for the penalties
  MaskWords mask;                    ///< empty: all allowed
  uint32_t stream = 0;
  uint32_t position = 0;  ///< absolute position of the token drawn
  int top_logprobs = -1;  ///< -1: none; 0: the drawn token's only; n: and the n most likely
};

struct TokenLogprob {
  TokenId token;
  float logprob;  ///< natural log, of the distribution before temperature and filters (as OpenAI
                  ///< and Ollama report)
};

struct Sampled {
  TokenId token = -1;
  float logprob = 0.f;            ///< of `token`, if top_logprobs >= 0
  std::vector<TokenLogprob> top;  ///< most likely first (ties: lowest id)
};

/// `logits` are not changed. A mask or bias that forbids everything yields token -1.
/// `scratch` is working memory that is kept between calls (any size; resized here).
Sampled sample(std::span<const float> logits, const Request& request, std::vector<float>& scratch);

/// log softmax: natural-log probabilities' normaliser of the logits (max + log sum exp), in double.
double log_normalizer(std::span<const float> logits);
/// The n most likely tokens with log-probabilities.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int n);

/// The noise itself: -log(-log(u)) of the counter's 32-bit word, in fixed software arithmetic (no
/// libm).
float gumbel(uint64_t seed, uint32_t stream, uint32_t position, TokenId token);

}  // namespace ponder::sample
