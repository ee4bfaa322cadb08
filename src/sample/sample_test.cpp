// Draws against a naive implementation in double (distribution: chi-square), and exact properties:
// greedy, masks, determinism with golden noise, independence of order and of what else is in
// memory.
#include "sample/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "sample/mass.h"
#include "sample/noise.h"
#include "sample/penalties.h"
#include "sample/select.h"

namespace ponder::sample {
namespace {
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(size_t n, uint32_t seed, float spread = 3.f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.f, spread);
  std::vector<float> logits(n);
  for (float& x : logits) x = normal(rng);
  return logits;
}

Sampled draw(const std::vector<float>& logits, const Params& params, uint32_t position = 0, uint32_t stream = 0,
             MaskWords mask = {}, std::span<const TokenId> history = {}, int top_logprobs = -1) {
  static std::vector<float> scratch;
  Request request;
  request.params = &params;
  request.position = position;
  request.stream = stream;
  request.mask = mask;
  request.history = history;
  request.top_logprobs = top_logprobs;
  return sample(logits, request, scratch);
}

// The distribution that the documented order of filters means, in double, by sorting everything.
std::map<TokenId, double> naive(const std::vector<float>& logits, const Params& p, std::span<const TokenId> history) {
  std::vector<double> x(logits.begin(), logits.end());
  for (auto [t, b] : p.logit_bias) x[size_t(t)] += b <= -100 ? -HUGE_VAL : double(b);
  if (p.repeat_last_n != 0) {
    auto window = history;
    if (p.repeat_last_n > 0 && window.size() > size_t(p.repeat_last_n)) window = window.last(size_t(p.repeat_last_n));
    std::map<TokenId, int> counts;
    for (TokenId t : window) ++counts[t];
    for (auto [t, n] : counts) {
      double& v = x[size_t(t)];
      v = v > 0 ? v / double(p.repeat_penalty) : v * double(p.repeat_penalty);
      v -= n * double(p.frequency_penalty) + double(p.presence_penalty);
    }
  }
  std::vector<TokenId> order(x.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = TokenId(i);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return x[size_t(a)] > x[size_t(b)]; });
  std::erase_if(order, [&](TokenId t) { return x[size_t(t)] == -HUGE_VAL; });
  const double max = x[size_t(order[0])];
  if (p.top_k > 0 && order.size() > size_t(p.top_k)) order.resize(size_t(p.top_k));
  if (p.top_p < 1) {
    double total = 0, sum = 0;
    for (TokenId t : order) total += std::exp(x[size_t(t)] - max);
    for (size_t i = 0; i < order.size(); ++i) {
      sum += std::exp(x[size_t(order[i])] - max);
      if (sum >= double(p.top_p) * total) {
        order.resize(i + 1);
        break;
      }
    }
  }
  std::erase_if(order, [&](TokenId t) { return std::exp(x[size_t(t)] - max) < double(p.min_p); });
  std::map<TokenId, double> result;
  double total = 0;
  for (TokenId t : order) total += result[t] = std::exp((x[size_t(t)] - max) / double(p.temperature));
  for (auto& [t, value] : result) value /= total;
  return result;
}

// Draws 20,000 times and compares with `naive`: no token outside the support, and chi-square below
// its 99.99 % point (approximated by Wilson and Hilferty); expected counts below 8 are pooled.
void expect_distribution(const std::vector<float>& logits, const Params& params,
                         std::span<const TokenId> history = {}) {
  constexpr int kDraws = 20000;
  const auto expected = naive(logits, params, history);
  std::map<TokenId, int> seen;
  for (int i = 0; i < kDraws; ++i) ++seen[draw(logits, params, uint32_t(i), 0, {}, history).token];
  double chi = 0, pooled_expected = 0;
  int pooled_seen = 0, cells = 0;
  for (auto [token, n] : seen) EXPECT_TRUE(expected.count(token)) << "token " << token << " is outside the support";
  for (auto [token, probability] : expected) {
    const double e = probability * kDraws;
    const int n = seen.count(token) ? seen[token] : 0;
    if (e < 8) {
      pooled_expected += e;
      pooled_seen += n;
    } else {
      chi += (n - e) * (n - e) / e;
      ++cells;
    }
  }
  if (pooled_expected > 8) {
    chi += (pooled_seen - pooled_expected) * (pooled_seen - pooled_expected) / pooled_expected;
    ++cells;
  }
  if (cells < 2) return;
  const double k = cells - 1, z = 3.72;
  const double limit = k * std::pow(1 - 2 / (9 * k) + z * std::sqrt(2 / (9 * k)), 3);
  EXPECT_LT(chi, limit) << cells << " cells";
}

TEST(Noise, PhiloxMatchesThePublishedVectors) {  // Random123 1.09, kat_vectors
  EXPECT_EQ(philox({{0, 0, 0, 0}}, 0), (PhiloxBlock{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  EXPECT_EQ(philox({{~0u, ~0u, ~0u, ~0u}}, ~0ull), (PhiloxBlock{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  EXPECT_EQ(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822ull),
            (PhiloxBlock{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST(Noise, LogarithmIsAccurate) {
  for (double x : {1e-9, 0.1, 0.5, 0.7071, 0.70711, 0.999999, 1.0, 1.0000001, 1.4142, 1.41422, 2.0, 23.0, 1e30})
    EXPECT_NEAR(log_fixed(x), std::log(x), 1e-11 * std::max(std::abs(std::log(x)), 1e-300)) << x;
}

TEST(Noise, GumbelIsBoundedByItsBound) {
  std::mt19937 rng(1);
  for (int i = 0; i < 200000; ++i) {
    const uint32_t w = i < 1000 ? ~uint32_t(i) : i < 2000 ? uint32_t(i - 1000) : i < 2032 ? ~(1u << (i - 2000)) : rng();
    const double u = (w + 0.5) / 4294967296.0;
    EXPECT_NEAR(gumbel_of_word(w), -std::log(-std::log(u)), 2e-6) << w;
    EXPECT_LE(gumbel_of_word(w), gumbel_bound(w)) << w;
  }
}

TEST(Noise, GumbelHasItsMeanAndVariance) {
  double sum = 0, squares = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double g = double(gumbel(7, 0, uint32_t(i / 500), i % 500));
    sum += g, squares += g * g;
  }
  const double mean = sum / n, variance = squares / n - mean * mean;
  EXPECT_NEAR(mean, 0.5772, 0.012);
  EXPECT_NEAR(variance, 1.6449, 0.04);
}

TEST(Noise, GoldenValues) {
  // A change here changes every recorded run: raise the receipts' version with it.
  EXPECT_EQ(std::bit_cast<uint32_t>(gumbel(0, 0, 0, 0)), 1068234035u);
  EXPECT_EQ(std::bit_cast<uint32_t>(gumbel(42, 1, 1000, 151643)), 1056213266u);
  EXPECT_EQ(std::bit_cast<uint32_t>(gumbel(~0ull, 7, 5, 31999)), 1068474244u);
}

TEST(Noise, EveryPartOfTheKeyMatters) {
  const float g = gumbel(1, 2, 3, 4);
  EXPECT_NE(g, gumbel(2, 2, 3, 4));
  EXPECT_NE(g, gumbel(1ull | 1ull << 40, 2, 3, 4));
  EXPECT_NE(g, gumbel(1, 3, 3, 4));
  EXPECT_NE(g, gumbel(1, 2, 4, 4));
  EXPECT_NE(g, gumbel(1, 2, 3, 5));
}

TEST(Mass, IsTheScaledExponential) {
  EXPECT_EQ(mass(0.f), int32_t(kMassOne));
  EXPECT_EQ(mass(-kInf), 0);
  EXPECT_EQ(mass(kNan), 0);
  EXPECT_EQ(mass(-25.f), 0);
  for (float x = 0; x > -30; x -= 0.00117f) {
    const double e = std::exp(double(x)) * double(kMassOne);
    ASSERT_NEAR(mass(x), e, e * 4e-7 + 1) << x;
    ASSERT_GE(mass(x), mass(x - 0.01f)) << x;
  }
}

TEST(Mass, SumDoesNotDependOnOrder) {
  auto logits = random_logits(5003, 3);
  const float max = max_logit(logits);
  const uint64_t sum = total_mass(logits, max);
  std::shuffle(logits.begin(), logits.end(), std::mt19937(9));
  EXPECT_EQ(total_mass(logits, max), sum);
}

TEST(Select, TopKIsTheSortedPrefix) {
  std::mt19937 rng(5);
  for (int round = 0; round < 200; ++round) {
    const size_t n = 1 + rng() % 3000;
    auto logits = random_logits(n, rng());
    if (round % 2)
      for (float& x : logits) x = std::round(x);  // many ties
    if (round % 3 == 0)
      for (size_t i = 0; i < n; i += 7) logits[i] = i % 2 ? kNan : -kInf;
    std::vector<Candidate> all;
    for (size_t i = 0; i < n; ++i)
      if (logits[i] > -kInf) all.push_back({int32_t(i), logits[i]});
    std::sort(all.begin(), all.end(), before);
    std::vector<float> maxima(block_count(n));
    block_maxima(logits, maxima.data());
    const size_t k = 1 + rng() % 80;
    std::vector<Candidate> got;
    top_k(logits, maxima, k, got);
    ASSERT_EQ(got.size(), std::min(k, all.size()));
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].token, all[i].token);
    ASSERT_EQ(argmax(logits), all.empty() ? -1 : all[0].token);
  }
}

TEST(Sample, GreedyTakesTheLowestOfTheLargest) {
  Params params;
  params.temperature = 0;
  std::vector<float> logits(10000, 1.f);
  EXPECT_EQ(draw(logits, params).token, 0);
  logits[9000] = logits[4711] = 2.f;
  EXPECT_EQ(draw(logits, params).token, 4711);
  logits[0] = -0.f;
  EXPECT_EQ(draw({-0.f, 0.f}, params).token, 0);
}

TEST(Sample, TopKOneIsGreedyAtAnyTemperature) {
  Params greedy, one;
  greedy.temperature = 0;
  one.top_k = 1;
  one.temperature = 3.f;
  for (uint32_t i = 0; i < 50; ++i) {
    const auto logits = random_logits(997, i);
    EXPECT_EQ(draw(logits, one, i).token, draw(logits, greedy).token);
  }
}

TEST(Sample, DistributionMatchesTheNaiveOne) {
  const auto logits = random_logits(300, 11, 2.f);
  const std::vector<TokenId> history = {1, 5, 5, 9, 200, 5, 17, 299, 1, 8};
  Params plain;
  plain.top_k = 0, plain.top_p = 1, plain.temperature = 1;
  expect_distribution(logits, plain);
  for (const auto& [k, p, m, t] : std::vector<std::tuple<int, float, float, float>>{{40, 0.9f, 0.f, 0.8f},
                                                                                    {0, 0.9f, 0.f, 1.3f},
                                                                                    {0, 1.f, 0.05f, 0.7f},
                                                                                    {20, 1.f, 0.f, 2.f},
                                                                                    {100, 0.95f, 0.1f, 0.6f}}) {
    Params params;
    params.top_k = k, params.top_p = p, params.min_p = m, params.temperature = t;
    SCOPED_TRACE(testing::Message() << k << " " << p << " " << m << " " << t);
    expect_distribution(logits, params);
    params.repeat_penalty = 1.3f, params.frequency_penalty = 0.2f, params.presence_penalty = -0.4f;
    params.repeat_last_n = 6;
    params.logit_bias = {{3, 4.f}, {4, -100.f}, {5, -1.f}};
    expect_distribution(logits, params, history);
  }
}

TEST(Sample, NucleusCanHoldMostOfALargeVocabulary) {
  Params params;
  params.top_k = 0, params.top_p = 0.9f, params.temperature = 1;
  expect_distribution(std::vector<float>(3000, 0.25f), params);
}

TEST(Sample,
     NucleusIsExactlyTheSmallestOne) {  // at all sizes: the seen tokens are the naive support
  for (float spread : {0.5f, 2.f, 6.f}) {
    const auto logits = random_logits(400, 8, spread);
    for (float p : {0.f, 0.3f, 0.9f, 0.99f}) {
      Params params;
      params.top_k = 0, params.top_p = p,
      params.temperature = 50;  // nearly even among the survivors
      std::map<TokenId, int> seen;
      for (uint32_t i = 0; i < 8000; ++i) ++seen[draw(logits, params, i).token];
      EXPECT_EQ(seen.size(), naive(logits, params, {}).size()) << spread << " " << p;
      for (auto [t, probability] : naive(logits, params, {})) EXPECT_TRUE(seen.count(t)) << t;
    }
  }
}

TEST(Sample, PenaltiesLookBackAsFarAsTold) {
  Params params;
  params.temperature = 0;
  params.presence_penalty = 10;
  const std::vector<float> logits = {0.f, 3.f, 2.f, 1.f};
  const std::vector<TokenId> history = {1, 2, 3, 3};
  params.repeat_last_n = 0;
  EXPECT_EQ(draw(logits, params, 0, 0, {}, history).token, 1);
  params.repeat_last_n = 2;
  EXPECT_EQ(draw(logits, params, 0, 0, {}, history).token, 1);
  params.repeat_last_n = 4;
  EXPECT_EQ(draw(logits, params, 0, 0, {}, history).token, 0);
  params.repeat_last_n = -1;
  EXPECT_EQ(draw(logits, params, 0, 0, {}, history).token, 0);
  const std::vector<TokenId> strange = {-1, 99, 1 << 30, 1};
  EXPECT_EQ(draw(logits, params, 0, 0, {}, strange).token, 2);
}

TEST(Sample, MaskRules) {
  const auto logits = random_logits(100, 2);
  std::vector<uint32_t> mask(4, 0);
  Params params;
  params.top_k = 0, params.top_p = 1;
  EXPECT_EQ(draw(logits, params, 0, 0, mask).token, -1);
  params.temperature = 0;
  EXPECT_EQ(draw(logits, params, 0, 0, mask).token, -1);
  params.temperature = 1;
  mask[1] = 1u << 3, mask[3] = 1u << 2;
  for (uint32_t i = 0; i < 200; ++i) {
    const TokenId t = draw(logits, params, i, 0, mask).token;
    EXPECT_TRUE(t == 35 || t == 98) << t;
  }
  mask.resize(2);  // a short mask forbids the rest
  EXPECT_EQ(draw(logits, params, 0, 0, mask).token, 35);
  params.logit_bias = {{35, -1000.f}};
  EXPECT_EQ(draw(logits, params, 0, 0, mask).token, -1);
  params.logit_bias = {{35, -kInf}, {-5, 1.f}, {1000, 1.f}};
  EXPECT_EQ(draw(logits, params, 0, 0, mask).token, -1);
}

TEST(Sample, NotANumberAndInfinityNeverCrash) {
  std::vector<Params> all(5);
  all[0].temperature = 0;
  all[1].top_k = 0, all[1].top_p = 1;
  all[2].top_k = 0, all[2].top_p = 0.5f;
  all[3].top_k = 0, all[3].top_p = 1, all[3].min_p = 0.1f;
  all[4].repeat_penalty = 1.5f, all[4].frequency_penalty = -3e38f;
  const std::vector<TokenId> history = {0, 1, 1, 2, 2, 3};
  for (Params& params : all) {
    EXPECT_EQ(draw({}, params, 0, 0, {}, history, 3).token, -1);
    EXPECT_EQ(draw({kNan, kNan, -kInf, kNan}, params, 0, 0, {}, history, 3).token, -1);
    EXPECT_EQ(draw({kNan, 1.f, -kInf, kNan}, params, 0, 0, {}, history, 3).token, 1);
    const TokenId t = draw({kNan, 1.f, kInf, -kInf}, params, 0, 0, {}, history, 3).token;
    EXPECT_TRUE(t == 2 || params.frequency_penalty != 0.f) << t;
    for (float tiny : {1e-45f, 1e-38f, 1e-6f}) {
      Params p = params;
      p.temperature = tiny;
      EXPECT_EQ(draw({-3e38f, 1.f, 3e38f, 1.f}, p, 0, 0, {}, {}, 2).token, 2);
    }
  }
}

TEST(Sample, TheSameSeedStreamAndPositionDrawTheSame) {
  const auto logits = random_logits(5000, 21);
  Params params;
  params.seed = 42;
  std::vector<TokenId> first, again, other_stream, other_seed;
  for (uint32_t i = 0; i < 64; ++i) first.push_back(draw(logits, params, i).token);
  for (uint32_t i = 64; i-- > 0;) again.insert(again.begin(), draw(logits, params, i).token);
  for (uint32_t i = 0; i < 64; ++i) other_stream.push_back(draw(logits, params, i, 1).token);
  params.seed = 43;
  for (uint32_t i = 0; i < 64; ++i) other_seed.push_back(draw(logits, params, i).token);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other_stream);
  EXPECT_NE(first, other_seed);
  // The noise does not depend on the filters: if all of them let the same token win, it wins.
  Params loose = params;
  loose.top_k = 0, loose.top_p = 1;
  const auto support = naive(logits, params, {});
  for (uint32_t i = 0; i < 64; ++i) {
    const TokenId t = draw(logits, loose, i).token;
    if (support.count(t)) {
      EXPECT_EQ(t, other_seed[i]);
    }
  }
}

TEST(Sample, DrawFromAllIsTheRaceOverAll) {
  Params params;
  params.top_k = 0, params.top_p = 1, params.temperature = 1.7f, params.seed = 5;
  for (uint32_t round = 0; round < 60; ++round) {
    const auto logits = random_logits(1 + round * 37, round);
    const float max = max_logit(logits);
    float best = -kInf;
    TokenId winner = -1;
    for (size_t i = 0; i < logits.size(); ++i) {
      const float x = (logits[i] - max) / params.temperature + gumbel(5, 3, round, TokenId(i));
      if (x > best) best = x, winner = TokenId(i);
    }
    EXPECT_EQ(draw(logits, params, round, 3).token, winner);
  }
}

// The nucleus of a flat distribution is never laid out when its first guess holds; equal logits on its edge go by id.
TEST(Sample, ALargeNucleusIsTheRaceOfItsTokens) {
  Params params;
  params.top_k = 0, params.seed = 9;
  int outside = 0;  // draws whose winner among all tokens is not in the nucleus
  for (uint32_t round = 0; round < 40; ++round) {
    auto logits = random_logits(20000, round, 0.4f);
    if (round % 2)
      for (float& x : logits) x = std::round(2 * x) / 2;  // few values, so that ties reach across the edge
    params.top_p = round % 4 < 2 ? 0.95f : 0.5f;
    params.min_p = round % 5 == 0 ? 0.05f : 0.f;
    params.temperature = 0.5f + 0.1f * float(round % 8);
    const float max = max_logit(logits);
    ASSERT_GT(total_mass(logits, max), 2000 * kMassOne) << "not flat";
    std::vector<TokenId> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = TokenId(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return logits[size_t(a)] > logits[size_t(b)]; });
    const uint64_t goal = nucleus_goal(params.top_p, total_mass(logits, max));
    uint64_t sum = 0;
    float best = -kInf, best_of_all = -kInf;
    TokenId winner = -1, winner_of_all = -1;
    for (size_t i = 0; i < order.size(); ++i) {
      const TokenId t = order[i];
      const float x = (logits[size_t(t)] - max) / params.temperature + gumbel(9, 2, round, t);
      const auto own = uint64_t(mass(logits[size_t(t)] - max));
      if (i % 500 == 0) {
        EXPECT_EQ(mass_before(logits, max, size_t(t)), sum);
      }
      if (x > best_of_all) best_of_all = x, winner_of_all = t;
      if (sum < goal && own >= mass_fraction(params.min_p) && x > best) best = x, winner = t;
      sum += own;
    }
    outside += winner_of_all != winner;
    EXPECT_EQ(draw(logits, params, round, 2).token, winner) << round;
  }
  EXPECT_GT(outside, 0);
  EXPECT_LT(outside, 40);
}

TEST(Sample, GoldenDraws) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = float((i * 7919) % 1000) / 125.f;  // exact everywhere
  Params params;
  params.seed = 1234;
  std::vector<TokenId> drawn;
  for (uint32_t i = 0; i < 8; ++i) drawn.push_back(draw(logits, params, i, i / 4).token);
  EXPECT_EQ(drawn, (std::vector<TokenId>{321, 173, 383, 62, 642, 556, 321, 667}));
}

TEST(Sample, LogprobsAreOfTheModelsDistribution) {
  const auto logits = random_logits(1003, 4);
  double sum = 0;
  const double max = double(max_logit(logits));
  for (float x : logits) sum += std::exp(double(x) - max);
  const double normalizer = max + std::log(sum);
  EXPECT_NEAR(log_normalizer(logits), normalizer, 1e-9);
  Params params;
  params.temperature = 0.3f;
  params.logit_bias = {{17, 50.f}};
  const Sampled s = draw(logits, params, 0, 0, {}, {}, 5);
  EXPECT_EQ(s.token, 17);
  EXPECT_NEAR(s.logprob, double(logits[17]) - normalizer, 1e-5);
  ASSERT_EQ(s.top.size(), 5u);
  EXPECT_EQ(s.top[0].token, argmax(logits));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(s.top[i].logprob, double(logits[size_t(s.top[i].token)]) - normalizer, 1e-5);
    if (i > 0) {
      EXPECT_LE(s.top[i].logprob, s.top[i - 1].logprob);
    }
  }
  EXPECT_TRUE(draw(logits, params, 0, 0, {}, {}, 0).top.empty());
}

TEST(Params, ValidationNamesTheOption) {
  EXPECT_TRUE(validate(Params{}).ok());
  auto message = [](auto change) {
    Params p;
    change(p);
    auto r = validate(p);
    return r.ok() ? std::string() : r.error().message;
  };
  EXPECT_NE(message([](Params& p) { p.temperature = -1; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.temperature = kNan; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.top_p = -0.1f; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.min_p = 1.5f; }).find("min_p"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.repeat_penalty = 0; }).find("repeat_penalty"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.repeat_last_n = -2; }).find("repeat_last_n"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.presence_penalty = kInf; }).find("presence_penalty"), std::string::npos);
  EXPECT_NE(message([](Params& p) { p.logit_bias = {{-3, 1.f}}; }).find("logit_bias"), std::string::npos);
  EXPECT_TRUE(message([](Params& p) { p.logit_bias = {{3, -kInf}}; }).empty());
}

}  // namespace
}  // namespace ponder::sample
