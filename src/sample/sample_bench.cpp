// What a draw costs with a vocabulary of 151,936: greedy, with filters, with everything on.
#include <benchmark/benchmark.h>

#include <random>

#include "sample/sample.h"

namespace ponder::sample {
namespace {
std::vector<float> logits(float spread) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal(0.f, spread);
  std::vector<float> x(151936);
  for (float& v : x) v = normal(rng);
  return x;
}

void run(benchmark::State& state, const Params& params, int top_logprobs = -1, bool masked = false,
         float spread = 3.f) {
  const auto x = logits(spread);
  std::vector<float> scratch;
  std::vector<TokenId> history;
  for (int i = 0; i < 2000; ++i) history.push_back(i * 13);
  std::vector<uint32_t> mask(x.size() / 32 + 1, 0x55555555u);
  Request request;
  request.params = &params;
  request.history = history;
  request.top_logprobs = top_logprobs;
  if (masked) request.mask = mask;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sample(x, request, scratch).token);
    ++request.position;
  }
}

void greedy(benchmark::State& s) {
  Params p;
  p.temperature = 0;
  run(s, p);
}
void top_k_40(benchmark::State& s) { run(s, Params{}); }
void top_k_40_masked(benchmark::State& s) { run(s, Params{}, -1, true); }
void top_p_only(benchmark::State& s) {
  Params p;
  p.top_k = 0;
  run(s, p);
}
void top_p_only_flat(benchmark::State& s) {  // as a model with random weights has them
  Params p;
  p.top_k = 0;
  run(s, p, -1, false, 0.5f);
}
void min_p_only(benchmark::State& s) {
  Params p;
  p.top_k = 0, p.top_p = 1, p.min_p = 0.05f;
  run(s, p);
}
void no_filter(benchmark::State& s) {
  Params p;
  p.top_k = 0, p.top_p = 1, p.temperature = 1;
  run(s, p);
}
void penalties(benchmark::State& s) {
  Params p;
  p.repeat_penalty = 1.1f, p.repeat_last_n = -1;
  run(s, p);
}
void top_20_logprobs(benchmark::State& s) { run(s, Params{}, 20); }
BENCHMARK(greedy);
BENCHMARK(top_k_40);
BENCHMARK(top_k_40_masked);
BENCHMARK(top_p_only);
BENCHMARK(top_p_only_flat);
BENCHMARK(min_p_only);
BENCHMARK(no_filter);
BENCHMARK(penalties);
BENCHMARK(top_20_logprobs);
}  // namespace
}  // namespace ponder::sample
