// The whole plan on a card, on the small synthetic models of the CPU's tests: right against the reference with the same
// activation rounding, the same bits in every batch, chunking, graph and cache; draws, stops, limits.
#include "backend/cuda/plan.h"

#include <cmath>
#include <cstring>
#include <map>
#include <thread>

#include "backend/cpu/front.h"
#include "backend/cuda/test_card.h"
#include "backend/reference/reference.h"
#include "backend/testing.h"

namespace ponder::backend::cuda {
namespace {

constexpr int kPrompt = 281, kGenerated = 6;

/// What `cuda.i12x256` keeps of a row (linear.h).
void round_activations(std::span<float> x) {
  for (size_t first = 0; first < x.size(); first += 256) {
    const auto part = x.subspan(first, std::min<size_t>(256, x.size() - first));
    float largest = 0;
    for (float v : part) largest = std::max(largest, std::abs(v));
    if (largest == 0) continue;
    const float scale = largest * (1.f / 2047), inverse = 2047 / largest;
    for (float& v : part) v = std::rint(v * inverse) * scale;
  }
}

int32_t token_at(uint64_t sequence, int position, int vocab) {
  uint64_t h = sequence * 0x9e3779b97f4a7c15ull + uint64_t(position) * 0xd1b54a32d192ed03ull + 12345;
  h ^= h >> 29;
  h *= 0xbf58476d1ce4e5b9ull;
  h ^= h >> 32;
  return int32_t(h % uint64_t(vocab));
}

PlanOptions options() {
  PlanOptions o;
  o.kv_tokens = 8192;
  o.max_batch_rows = 640;
  o.max_output_rows = 640;
  return o;
}

std::unique_ptr<Plan> make_plan(const std::shared_ptr<const model::Model>& model, PlanOptions o = options()) {
  auto backend = make_backend();
  EXPECT_TRUE(backend.ok()) << (backend.ok() ? "" : backend.error().message);
  auto plan = (*backend)->compile(model, o);
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().message);
  if (!plan.ok()) return nullptr;
  const auto loaded = (*plan)->load({}, nullptr);
  EXPECT_TRUE(loaded.ok()) << (loaded.ok() ? "" : loaded.error().message);
  return std::move(*plan);
}

void add(const Plan& plan, Batch& batch, SequenceState& s, uint64_t id, int n, bool want) {
  ASSERT_TRUE(s.reserve(n).ok());
  for (int i = 0; i < n; ++i) {
    Row row;
    row.sequence = &s;
    row.position = s.length() + i;
    row.token = token_at(id, row.position, plan.spec().vocab_size);
    row.want_logits = want;
    batch.rows.push_back(row);
  }
}

std::vector<RowResult> run(Plan& plan, const Batch& batch) {
  const auto launched = plan.launch(batch, nullptr);
  EXPECT_TRUE(launched.ok()) << (launched.ok() ? "" : launched.error().message);
  auto results = plan.collect();
  EXPECT_TRUE(results.ok()) << (results.ok() ? "" : results.error().message);
  return results.ok() ? std::move(*results) : std::vector<RowResult>{};
}

TEST(CudaPlan, AgreesWithTheReferenceThatRoundsAlike) {
  PONDER_NEEDS_A_CARD();
  for (const cpu::Named& m : cpu::models()) {
    PlanOptions o = options();
    auto card = make_plan(m.model, o);
    ASSERT_NE(card, nullptr) << m.name;
    auto judge = reference::make_backend(round_activations)->compile(m.model, o);
    ASSERT_TRUE(judge.ok() && (*judge)->load({}, nullptr).ok());
    std::vector<TokenId> ids;
    for (int i = 0; i < kPrompt; ++i) ids.push_back(token_at(0, i, m.model->spec.vocab_size));
    std::vector<std::vector<float>> expected;
    ASSERT_TRUE(testing::run_window(**judge, ids, {}, 300, [&](int, std::span<const float> l) {
                  expected.emplace_back(l.begin(), l.end());
                }).ok());
    testing::RelativeL2 distance;
    ASSERT_TRUE(testing::run_window(*card, ids, {}, 300, [&](int p, std::span<const float> l) {
                  distance.add(l, expected[size_t(p)]);
                }).ok());
    // A rounding that falls the other way after a last-bit difference moves what follows; random weights feed that.
    EXPECT_LT(distance.value(), 3e-3) << m.name;
    std::printf("  %-24s relative L2 against the rounding reference %.2e\n", m.name, distance.value());
  }
}

TEST(CudaPlan, KeysAndValuesAsBytes) {
  PONDER_NEEDS_A_CARD();
  for (const cpu::Named& m : cpu::models()) {
    PlanOptions o = options();
    auto judge = reference::make_backend()->compile(m.model, o);
    ASSERT_TRUE(judge.ok() && (*judge)->load({}, nullptr).ok());
    o.kv_format = KvFormat::q8;
    auto card = make_plan(m.model, o);
    ASSERT_NE(card, nullptr) << m.name;
    EXPECT_EQ(card->info().kv_format, KvFormat::q8);
    std::vector<TokenId> ids;
    for (int i = 0; i < kPrompt; ++i) ids.push_back(token_at(0, i, m.model->spec.vocab_size));
    std::vector<std::vector<float>> expected;
    ASSERT_TRUE(testing::run_window(**judge, ids, {}, 300, [&](int, std::span<const float> l) {
                  expected.emplace_back(l.begin(), l.end());
                }).ok());
    testing::RelativeL2 distance;
    ASSERT_TRUE(testing::run_window(*card, ids, {}, 300, [&](int p, std::span<const float> l) {
                  distance.add(l, expected[size_t(p)]);
                }).ok());
    std::printf("  %-24s q8, relative L2 against the reference %.2e\n", m.name, distance.value());
    EXPECT_LT(distance.value(), 1.5e-2) << m.name;
    // Pages are about half as large.
    PlanOptions halves = options();
    auto other = (*make_backend())->compile(m.model, halves);
    ASSERT_TRUE(other.ok());
    EXPECT_LT(card->memory_report().kv_per_token * 100, (*other)->memory_report().kv_per_token * 56);
  }
}

struct Story {
  int neighbours = 1, chunk = 64;
  bool cached = false, all_want = false;
};

bool watched(int position) { return position >= kPrompt - 1 || position == 200 || position == 255 || position == 256; }
using Logits = std::map<int, std::vector<float>>;

Logits tell(Plan& plan, const Story& c) {
  Logits logits;
  auto s = plan.new_state();
  kv::PrefixIndex index(plan.pages());
  if (c.cached) {
    auto first = plan.new_state();
    while (first->length() < 192) {
      Batch b;
      add(plan, b, *first, 0, std::min(50, 192 - first->length()), false);
      run(plan, b);
    }
    std::vector<int32_t> text;
    for (int i = 0; i < kPrompt; ++i) text.push_back(token_at(0, i, plan.spec().vocab_size));
    index.insert("", text, first->pages());
    s->adopt(index.find("", text, kPrompt - 1));
    EXPECT_EQ(s->length(), 192);
  }
  std::vector<std::unique_ptr<SequenceState>> others;
  for (int i = 1; i < c.neighbours; ++i) others.push_back(plan.new_state());
  for (uint32_t step = 0; s->length() < kPrompt + kGenerated; ++step) {
    const bool decode = s->length() >= kPrompt;
    const int n = decode ? 1 : std::min(c.chunk, kPrompt - s->length());
    Batch b;
    size_t at = 0;
    for (size_t i = 0; i <= others.size(); ++i) {
      if (i == others.size() / 2) {
        at = b.rows.size();
        add(plan, b, *s, 0, n, c.all_want);
        for (int k = 0; k < n; ++k) {
          Row& row = b.rows[at + size_t(k)];
          row.want_logits = row.want_logits || watched(row.position);
        }
      }
      if (i == others.size() || (c.chunk == 1 && !decode && s->length() < kPrompt - 20 && step % 7 != 0)) continue;
      auto& other = *others[i];
      if (other.length() > 24) other.trim(int((step + i) % 5));
      add(plan, b, other, i + 1, decode ? 1 : 1 + int((step * 7 + i * 3) % 4), c.all_want);
    }
    const auto results = run(plan, b);
    for (int i = 0; i < n && at + size_t(i) < results.size(); ++i) {
      const int position = b.rows[at + size_t(i)].position;
      const auto& l = results[at + size_t(i)].logits;
      if (!l.empty() && watched(position)) logits[position].assign(l.begin(), l.end());
    }
  }
  return logits;
}

void expect_the_same_bits(KvFormat format) {
  PlanOptions o = options();
  o.kv_format = format;
  for (const cpu::Named& m : cpu::models()) {
    auto plan = make_plan(m.model, o);
    ASSERT_NE(plan, nullptr) << m.name;
    Logits want;
    for (int neighbours : {1, 2, 3, 8, 16})
      for (int chunk : {1, 7, 64, 512})
        for (bool cached : {false, true})
          for (bool all_want : {false, true}) {
            if (all_want && chunk == 512 && neighbours > 2) continue;
            const Logits got = tell(*plan, {neighbours, chunk, cached, all_want});
            if (want.empty()) {
              want = got;
              ASSERT_GE(want.size(), size_t(kGenerated + 3));
              for (float x : want.rbegin()->second) ASSERT_TRUE(std::isfinite(x));
            }
            for (const auto& [position, logits] : want) {
              if (cached && position < 192) continue;
              const auto found = got.find(position);
              ASSERT_NE(found, got.end());
              int differing = 0;
              for (size_t i = 0; i < logits.size(); ++i)
                differing += std::memcmp(&logits[i], &found->second[i], 4) != 0;
              ASSERT_EQ(differing, 0) << m.name << ": batch " << neighbours << ", chunk " << chunk
                                      << (cached ? ", cached" : "") << (all_want ? ", graph" : "") << ", position "
                                      << position;
            }
          }
  }
}

TEST(CudaPlan, TheSameBitsInEveryBatchChunkAndCache) {
  PONDER_NEEDS_A_CARD();
  expect_the_same_bits(KvFormat::f16);
}

TEST(CudaPlan, TheSameBitsWithBytes) {
  PONDER_NEEDS_A_CARD();
  expect_the_same_bits(KvFormat::q8);
}

TEST(CudaPlan, OneLaunchOfManyRowsGivesTheBitsOfFew) {
  PONDER_NEEDS_A_CARD();
  // Wide enough for every ring of buffers to go round several times in each kernel.
  synth::Options o;
  o.shape.layers = 1;
  o.shape.hidden = 1280;
  o.shape.ffn = 2560;
  o.shape.heads = 10;
  o.shape.kv_heads = 2;
  o.shape.vocab = 520;
  o.type = "Q4_K_M";
  auto plan = make_plan(cpu::make_model("wide", o));
  const auto logits = [&](int chunk) {
    auto s = plan->new_state();
    std::vector<float> last;
    for (int done = 0; done < 150; done += chunk) {
      Batch b;
      add(*plan, b, *s, 0, std::min(chunk, 150 - done), false);
      b.rows.back().want_logits = true;
      const auto results = run(*plan, b);
      last.assign(results.back().logits.begin(), results.back().logits.end());
    }
    return last;
  };
  const auto want = logits(150);
  EXPECT_EQ(logits(75), want);
  EXPECT_EQ(logits(50), want);
  EXPECT_EQ(logits(15), want);
}

void expect_forks_to_continue(KvFormat format) {
  PlanOptions o = options();
  o.kv_format = format;
  auto plan = make_plan(cpu::models()[0].model, o);
  auto s = plan->new_state();
  const auto feed = [&](SequenceState& state, int n) {
    Batch b;
    add(*plan, b, state, 0, n, false);
    b.rows.back().want_logits = true;
    const auto results = run(*plan, b);
    return std::vector<float>(results.back().logits.begin(), results.back().logits.end());
  };
  feed(*s, 100);
  auto fork = s->fork();
  const auto want = feed(*s, 40);
  EXPECT_EQ(feed(*fork, 40), want);
  s->trim(70);
  EXPECT_EQ(feed(*s, 70), want);
  EXPECT_NE(feed(*s, 1), want);
}

TEST(CudaPlan, ForksAndRewindsContinueWithTheSameBits) {
  PONDER_NEEDS_A_CARD();
  expect_forks_to_continue(KvFormat::f16);
  expect_forks_to_continue(KvFormat::q8);
}

TEST(CudaPlan, DrawsWhatWasAskedForPerRow) {
  PONDER_NEEDS_A_CARD();
  auto plan = make_plan(cpu::models()[0].model);
  sample::Params greedy, warm;
  greedy.temperature = 0;
  warm.seed = 9;
  sample::Request a, b, c;
  a.params = &greedy;
  b.params = c.params = &warm;
  b.position = 12;
  c.position = 5;
  c.top_logprobs = 3;
  auto s = plan->new_state(), t = plan->new_state();
  Batch batch;
  add(*plan, batch, *s, 1, 12, false);
  add(*plan, batch, *t, 2, 5, false);
  batch.rows[4].sampling = &a;
  batch.rows[4].want_logits = true;
  batch.rows[11].sampling = &b;
  batch.rows[11].want_logits = true;
  batch.rows[15].sampling = &c;
  batch.rows[16].sampling = &a;
  const auto results = run(*plan, batch);
  ASSERT_EQ(results.size(), 17u);
  EXPECT_EQ(results[3].sampled.token, -1);
  EXPECT_TRUE(results[3].logits.empty());
  std::vector<float> scratch;
  EXPECT_EQ(results[4].sampled.token, sample::sample(results[4].logits, a, scratch).token);
  EXPECT_EQ(results[11].sampled.token, sample::sample(results[11].logits, b, scratch).token);
  EXPECT_GE(results[15].sampled.token, 0);
  EXPECT_EQ(results[15].sampled.top.size(), 3u);
  EXPECT_GE(results[16].sampled.token, 0);
  EXPECT_TRUE(results[16].logits.empty());
  EXPECT_EQ(s->length(), 12);
}

TEST(CudaPlan, AnAbandonedBatchLeavesSequencesAsBefore) {
  PONDER_NEEDS_A_CARD();
  auto plan = make_plan(cpu::models()[0].model);
  auto s = plan->new_state();
  Batch first;
  add(*plan, first, *s, 1, 30, false);
  run(*plan, first);
  std::vector<float> want;
  bool abandoned = false;
  for (int delay : {0, 1, 100, 1000, -1}) {
    Batch b;
    add(*plan, b, *s, 1, 400, false);
    b.rows.back().want_logits = true;
    StopFlag stop{delay == 0};
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay));
      if (delay > 0) stop = true;
    });
    ASSERT_TRUE(plan->launch(b, &stop).ok());
    const auto results = plan->collect();
    other.join();
    if (!results.ok()) {
      EXPECT_EQ(results.error().code, ErrorCode::cancelled);
      EXPECT_EQ(s->length(), 30);
      abandoned = true;
      continue;
    }
    const std::vector<float> got(results->back().logits.begin(), results->back().logits.end());
    if (want.empty()) want = got;
    EXPECT_EQ(got, want);
    s->trim(30);
  }
  EXPECT_TRUE(abandoned);
  EXPECT_FALSE(want.empty());
}

TEST(CudaPlan, RefusesWhatDoesNotFitWithNumbers) {
  PONDER_NEEDS_A_CARD();
  auto backend = make_backend();
  ASSERT_TRUE(backend.ok());
  PlanOptions o;
  o.gpu_memory = 1 << 20;
  auto plan = (*backend)->compile(cpu::models()[0].model, o);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, ErrorCode::out_of_memory);
  EXPECT_NE(plan.error().message.find("GiB"), std::string::npos) << plan.error().message;
  o.gpu_memory = 0;
  o.kv_tokens = int64_t(1) << 30;
  plan = (*backend)->compile(cpu::models()[0].model, o);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, ErrorCode::out_of_memory) << plan.error().message;
  o.kv_tokens = 0;
  EXPECT_FALSE((*backend)->compile(cpu::models()[0].model, o).ok());
  o.kv_tokens = 64;
  o.kv_format = KvFormat::f32;
  EXPECT_FALSE((*backend)->compile(cpu::models()[0].model, o).ok());
  o.kv_format = KvFormat::f16;
  o.precision = Precision::exact;
  plan = (*backend)->compile(cpu::models()[0].model, o);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, ErrorCode::unsupported);
}

TEST(CudaPlan, ASplitModelIsAsRightAsAWholeOne) {
  PONDER_NEEDS_A_CARD();
  auto backend = make_backend(cpu::make_front_layers);
  ASSERT_TRUE(backend.ok());
  for (const cpu::Named& m : cpu::models()) {
    if (m.model->spec.n_layers < 2) continue;
    PlanOptions o = options();
    o.gpu_layers = 1;
    auto split = (*backend)->compile(m.model, o);
    ASSERT_TRUE(split.ok()) << split.error().message;
    ASSERT_TRUE((*split)->load({}, nullptr).ok());
    EXPECT_EQ((*split)->info().gpu_layers, 1);
    EXPECT_NE((*split)->info().placement.find("layer 1 on the processor, layer 2 on"), std::string::npos)
        << (*split)->info().placement;
    auto judge = reference::make_backend()->compile(m.model, o);
    ASSERT_TRUE(judge.ok() && (*judge)->load({}, nullptr).ok());
    std::vector<TokenId> ids;
    for (int i = 0; i < kPrompt; ++i) ids.push_back(token_at(0, i, m.model->spec.vocab_size));
    std::vector<std::vector<float>> expected;
    ASSERT_TRUE(testing::run_window(**judge, ids, {}, 300, [&](int, std::span<const float> l) {
                  expected.emplace_back(l.begin(), l.end());
                }).ok());
    testing::RelativeL2 distance;
    ASSERT_TRUE(testing::run_window(**split, ids, {}, 300, [&](int p, std::span<const float> l) {
                  distance.add(l, expected[size_t(p)]);
                }).ok());
    std::printf("  %-24s split, relative L2 against the reference %.2e\n", m.name, distance.value());
    EXPECT_LT(distance.value(), 3e-2) << m.name;
    // The same bits however the prompt is cut, here too.
    const Logits want = tell(**split, {1, 512, false, false});
    for (const Story& story : {Story{3, 7, false, false}, Story{8, 64, true, false}, Story{1, 1, false, true}})
      for (const auto& [position, logits] : tell(**split, story)) EXPECT_EQ(logits, want.at(position)) << m.name;
  }
}

// Where there is one card only, it plays both: all but the copy between two buses is the same.
TEST(CudaPlan, TwoCardsGiveTheBitsOfOne) {
  PONDER_NEEDS_A_CARD();
  const std::vector<Card> cards = *find_cards();
  for (const cpu::Named& m : cpu::models()) {
    if (m.model->spec.n_layers < 2) continue;
    auto whole = make_plan(m.model);
    std::vector<CardRoom> rooms;
    for (size_t i = 0; i < 2; ++i) {
      CardRoom room{.card = cards[i % cards.size()], .limits = {}};
      ASSERT_EQ(read_limits(room.card.index, &room.limits), cudaSuccess);
      room.budget = whole->memory_report().total() - 1;
      rooms.push_back(room);
    }
    auto two = CudaPlan::make(m.model, options(), rooms, {});
    ASSERT_TRUE(two.ok()) << two.error().message;
    ASSERT_TRUE((*two)->load({}, nullptr).ok());
    EXPECT_NE((*two)->info().placement.find("layer 1 on"), std::string::npos) << (*two)->info().placement;
    EXPECT_NE((*two)->info().placement.find("layer 2 on"), std::string::npos) << (*two)->info().placement;
    for (const Story& story : {Story{1, 64, false, false}, Story{8, 7, true, false}, Story{2, 1, false, true}}) {
      const Logits want = tell(*whole, story);
      for (const auto& [position, logits] : tell(**two, story)) EXPECT_EQ(logits, want.at(position)) << m.name;
    }
  }
}

TEST(CudaPlan, StopsLoadingAndMayBeTriedAgain) {
  PONDER_NEEDS_A_CARD();
  auto backend = make_backend();
  ASSERT_TRUE(backend.ok());
  auto plan = (*backend)->compile(cpu::models()[0].model, options());
  ASSERT_TRUE(plan.ok());
  StopFlag stop{true};
  const auto loaded = (*plan)->load({}, &stop);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::cancelled);
  double done = 0;
  EXPECT_TRUE((*plan)->load([&](double f) { done = f; }, nullptr).ok());
  EXPECT_EQ(done, 1.0);
  EXPECT_EQ((*plan)->info().numerics_id, "cuda.i12x256");
  EXPECT_FALSE((*plan)->info().device.empty());
}

}  // namespace
}  // namespace ponder::backend::cuda
