// Random requests for property tests: all kinds of controllers, limits and parameters.
#pragma once

#include <random>

#include "engine/engine_rig.h"

namespace ponder::engine {

// Any engine there may be: few places or many, batches from one row on. Every fifth round has tiny batches.
inline EngineOptions random_engine(std::mt19937& rng, uint32_t round) {
  EngineOptions options;
  options.context_length = 600;
  options.max_sequences = 1 + int(rng() % 8);
  options.max_batch_rows = round % 5 == 0 ? 1 + int(rng() % 8) : 16 + int(rng() % 300);
  options.max_output_rows = 1 + int(rng() % 40);
  options.prefix_cache = rng() % 4 != 0;
  return options;
}

// One random request; the same seed gives the same one. Controllers act on position and token only, so they do the same
// beside others as alone.
inline SequenceRequest random_request(uint32_t seed, Record& record) {
  std::mt19937 rng(seed);
  SequenceRequest r = request({}, record, int(rng() % 120));
  const int shared = int(rng() % 3) * 70;  // common beginnings, so that the prefix index has something to do
  for (int i = 0; i < shared; ++i) r.prompt.push_back((i * 5) % 251);
  const int own = 1 + int(rng() % 150);
  for (int i = 0; i < own; ++i) r.prompt.push_back(TokenId(rng() % 256));
  r.sampling.temperature = rng() % 4 == 0 ? 0.f : 1.f;
  r.sampling.seed = rng();
  r.sampling.repeat_penalty = rng() % 2 ? 1.2f : 1.f;
  r.stream = rng() % 3;
  r.client = rng() % 2 ? "a" : "b";
  if (rng() % 3 == 0) r.end_tokens = {7};
  if (rng() % 4 == 0) r.context_length = int(r.prompt.size()) + 1 + int(rng() % 60);
  const int kinds = int(rng() % 32);
  if (rng() % 3 == 0) r.top_logprobs = int(rng() % 4);
  if (kinds & 1) {
    r.controllers.push_back(on_token([](const TokenEvent& e) {
      Decision d;
      if (e.token % 16 == 3 && !e.forced) d.force = std::vector<TokenId>(size_t(1 + e.token % 50), e.token + 1);
      if (e.token % 32 == 9) d.stream = uint32_t(e.token);
      return d;
    }));
  }
  if (kinds & 2) {
    auto c = on_token([count = 0](const TokenEvent& e) mutable {
      Decision d;
      if (e.token % 16 == 5 && ++count < 6) {
        d.rewind_to = e.position - e.token % 70;
        d.stream = uint32_t(100 + count);
      }
      return d;
    });
    r.controllers.push_back(c);
  }
  if (kinds & 4) {
    auto c = std::make_shared<LambdaController>();
    auto mask = std::make_shared<std::vector<uint32_t>>(8, ~0u);
    c->token = [mask](const TokenEvent& e) {
      Decision d;
      (*mask)[size_t(e.token) % 8] = 0x0fffff0fu << (e.token % 4);
      if (e.token == 200) d.finish = "two hundred";
      return d;
    };
    c->mask_words = [mask] { return sample::MaskWords(*mask); };
    r.controllers.push_back(c);
  }
  if (kinds & 8) {
    r.controllers.push_back(on_token([params = r.sampling](const TokenEvent& e) mutable {
      Decision d;
      if (e.token % 32 == 11) {
        params.temperature = params.temperature > 0.7f ? 0.7f : 1.3f;
        d.params = params;
      }
      return d;
    }));
  }
  if (kinds & 16) {  // a mask now and then
    auto c = std::make_shared<LambdaController>();
    auto mask = std::make_shared<std::vector<uint32_t>>();
    c->token = [mask](const TokenEvent& e) {
      mask->assign(e.token % 8 == 2 ? 8 : 0, 0x3ffffffcu);
      return Decision{};
    };
    c->mask_words = [mask] { return sample::MaskWords(*mask); };
    r.controllers.push_back(c);
  }
  return r;
}

inline void expect_same(const Record& a, const Record& b, uint32_t seed) {
  ASSERT_EQ(a.reason(), b.reason()) << seed << " " << a.error() << b.error();
  ASSERT_EQ(a.tokens(), b.tokens()) << seed;
  for (size_t i = 0; i < a.events.size(); ++i) {
    ASSERT_EQ(a.events[i].position, b.events[i].position);
    ASSERT_EQ(a.events[i].forced, b.events[i].forced);
    ASSERT_EQ(a.events[i].end, b.events[i].end);
    ASSERT_EQ(a.events[i].sampled.logprob, b.events[i].sampled.logprob);
    ASSERT_EQ(a.events[i].sampled.top.size(), b.events[i].sampled.top.size());
    for (size_t k = 0; k < a.events[i].sampled.top.size(); ++k)
      ASSERT_EQ(a.events[i].sampled.top[k].token, b.events[i].sampled.top[k].token);
  }
}

}  // namespace ponder::engine
