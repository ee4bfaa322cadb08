// The card's draws against the host's: every kind of request, on ordinary and on nasty logits, must give the same token.
#include "backend/cuda/sampler.h"

#include <cmath>
#include <random>

#include "backend/cuda/memory.h"
#include "backend/cuda/test_card.h"

namespace ponder::backend::cuda {
namespace {

using sample::Params;

struct Case {
  Params params;
  std::vector<sample::TokenId> history;
  std::vector<uint32_t> mask;
  uint32_t stream = 0, position = 0;
};

/// Draws all cases from their logits on the card, in one batch.
std::vector<int32_t> draw_on_card(const std::vector<std::vector<float>>& logits, const std::vector<Case>& cases) {
  const int rows = int(cases.size()), vocab = int(logits[0].size());
  DrawBatch batch;
  for (const Case& c : cases) {
    sample::Request request;
    request.params = &c.params;
    request.history = c.history;
    request.mask = c.mask;
    request.stream = c.stream;
    request.position = c.position;
    EXPECT_TRUE(batch.add(request, vocab));
  }
  const auto upload = [](const auto& v) {
    auto b = DeviceBuffer::allocate(std::max<size_t>(1, v.size()) * sizeof(v[0]), "test");
    EXPECT_TRUE(b.ok());
    EXPECT_EQ(cudaMemcpy(b->data(), v.data(), v.size() * sizeof(v[0]), cudaMemcpyHostToDevice), cudaSuccess);
    return std::move(*b);
  };
  std::vector<float> all;
  for (const auto& l : logits) all.insert(all.end(), l.begin(), l.end());
  const auto on_card = upload(all), requests = upload(batch.rows), edits = upload(batch.edits),
             mask = upload(batch.mask);
  auto scratch = DeviceBuffer::allocate(sampler_scratch_bytes(rows, vocab), "test");
  auto tokens = PinnedBuffer::allocate(size_t(rows) * 4, "test");
  EXPECT_TRUE(scratch.ok() && tokens.ok());
  DeviceLimits limits;
  EXPECT_EQ(read_limits(0, &limits), cudaSuccess);
  const Launch launch{nullptr, &limits, limits.compute >= 90};
  EXPECT_EQ(draw(on_card.as<float>(), vocab, rows, requests.as<DrawRequest>(), edits.as<LogitEdit>(),
                 mask.as<uint32_t>(), batch.changes, scratch->data(), tokens->as<int32_t>(), launch),
            cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::vector<float> back(all.size());
  EXPECT_EQ(cudaMemcpy(back.data(), on_card.data(), all.size() * 4, cudaMemcpyDeviceToHost), cudaSuccess);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(back[i] == all[i] || std::isnan(all[i]));
  return {tokens->as<int32_t>(), tokens->as<int32_t>() + rows};
}

std::vector<Case> all_cases(int vocab, std::mt19937& rng) {
  std::vector<Case> cases;
  for (const auto& [k, p, m, t] : std::vector<std::tuple<int, float, float, float>>{{40, 0.9f, 0.f, 0.8f},
                                                                                    {0, 1.f, 0.f, 0.f},
                                                                                    {1, 0.5f, 0.f, 1.f},
                                                                                    {0, 0.95f, 0.f, 0.6f},
                                                                                    {0, 1.f, 0.f, 1.f},
                                                                                    {0, 1.f, 0.05f, 0.7f},
                                                                                    {0, 0.999f, 0.f, 1.5f},
                                                                                    {20, 1.f, 0.f, 2.f},
                                                                                    {1000, 0.99f, 0.f, 1.f},
                                                                                    {100, 0.95f, 0.1f, 0.6f},
                                                                                    {0, 0.5f, 0.2f, 0.9f},
                                                                                    {0, 0.f, 0.f, 1.f},
                                                                                    {5, 0.f, 0.f, 1.f},
                                                                                    {40, 0.9f, 1.f, 0.8f},
                                                                                    {64, 0.7f, 0.f, 1e-30f},
                                                                                    {0, 1.f, 0.f, 30.f}}) {
    for (int kind = 0; kind < 4; ++kind) {
      Case c;
      c.params.top_k = k, c.params.top_p = p, c.params.min_p = m, c.params.temperature = t;
      c.params.seed = uint64_t(rng()) << 32 | rng();
      c.stream = rng() % 8, c.position = rng() % 100000;
      if (kind == 1 || kind == 3) {
        c.params.repeat_penalty = 1.2f, c.params.frequency_penalty = 0.3f, c.params.presence_penalty = -0.2f;
        c.params.repeat_last_n = kind == 1 ? 16 : -1;
        for (int i = 0; i < 50; ++i) c.history.push_back(int32_t(rng() % uint32_t(std::min(vocab, 60))) - 2);
        c.params.logit_bias = {{3, 4.f}, {int32_t(vocab - 1), 2.f}, {4, -100.f}, {3, -1.f}, {vocab + 7, 3.f}};
      }
      if (kind >= 2) {
        c.mask.resize(size_t(vocab + 31) / 32);
        for (auto& w : c.mask) w = rng() | rng();
      }
      cases.push_back(c);
    }
  }
  return cases;
}

void compare(const std::vector<std::vector<float>>& logits, const std::vector<Case>& cases, int may_give_up) {
  std::vector<float> scratch;
  for (size_t first = 0; first < cases.size(); first += 16) {
    const size_t n = std::min<size_t>(16, cases.size() - first);
    const std::vector<std::vector<float>> l(logits.begin() + long(first), logits.begin() + long(first + n));
    const std::vector<Case> c(cases.begin() + long(first), cases.begin() + long(first + n));
    const auto tokens = draw_on_card(l, c);
    for (size_t i = 0; i < n; ++i) {
      sample::Request request;
      request.params = &c[i].params;
      request.history = c[i].history;
      request.mask = c[i].mask;
      request.stream = c[i].stream;
      request.position = c[i].position;
      if (tokens[i] == kDrawOnHost && may_give_up-- > 0) continue;
      const Params& p = c[i].params;
      ASSERT_EQ(tokens[i], sample::sample(l[i], request, scratch).token)
          << "case " << first + i << ": top_k " << p.top_k << ", top_p " << p.top_p << ", min_p " << p.min_p
          << ", temperature " << p.temperature << ", edits " << p.logit_bias.size() << ", mask " << c[i].mask.size();
    }
  }
}

TEST(CardSampler, DrawsWhatTheHostDraws) {
  PONDER_NEEDS_A_CARD();
  std::mt19937 rng(7);
  for (int vocab : {1, 63, 520, 5003, 152064})
    for (float spread : {0.3f, 2.f, 6.f}) {
      SCOPED_TRACE(testing::Message() << "vocabulary " << vocab << ", spread " << spread);
      const auto cases = all_cases(vocab, rng);
      std::normal_distribution<float> normal(0, spread);
      std::vector<std::vector<float>> logits(cases.size(), std::vector<float>(size_t(vocab)));
      for (auto& l : logits)
        for (float& x : l) x = normal(rng);
      compare(logits, cases, 8);
      if (testing::Test::HasFatalFailure()) return;
    }
}

TEST(CardSampler, TiesInfinitiesAndNotANumber) {
  PONDER_NEEDS_A_CARD();
  std::mt19937 rng(8);
  constexpr float kInf = HUGE_VALF;
  const auto cases = all_cases(3000, rng);
  std::vector<std::vector<float>> logits;
  for (size_t i = 0; i < cases.size(); ++i) {
    std::vector<float> l(3000);
    for (float& x : l) x = std::round(float(rng() % 1000) / 100.f);
    if (i % 3 == 1)
      for (size_t j = 0; j < l.size(); j += 5) l[j] = j % 2 ? -kInf : std::nanf("");
    if (i % 4 == 3) l[rng() % l.size()] = kInf;
    if (i % 5 == 4) l.assign(l.size(), i % 2 ? -kInf : std::nanf(""));
    if (i % 7 == 6) l.assign(l.size(), -0.f), l[17] = 0.f;
    logits.push_back(l);
  }
  compare(logits, cases, 0);
}

TEST(CardSampler, EqualLogitsBeyondItsListGoToTheHost) {
  PONDER_NEEDS_A_CARD();
  Case c;
  c.params.top_k = 10, c.params.temperature = 1;
  EXPECT_EQ(draw_on_card({std::vector<float>(20000, 1.f)}, {c})[0], kDrawOnHost);
}

TEST(DrawBatch, SendsToTheHostWhatTheCardCannotDo) {
  DrawBatch batch;
  Params params;
  sample::Request request;
  request.params = &params;
  EXPECT_TRUE(batch.add(request, 1000));
  request.top_logprobs = 0;
  EXPECT_FALSE(batch.add(request, 1000));
  request.top_logprobs = -1;
  params.top_k = kMaxDeviceTopK + 1;
  EXPECT_FALSE(batch.add(request, 100000));
  EXPECT_TRUE(batch.add(request, 1000));
  EXPECT_EQ(batch.rows.size(), 4u);
  EXPECT_EQ(batch.rows[1].active, 0);
}

}  // namespace
}  // namespace ponder::backend::cuda
