// For tests of sameness: one sequence's story (prefill in chunks, a few generated tokens) told under a Case, and the logits
// it must have whatever the case. Used on synthetic models here and on real files in tests/sameness.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/plan.h"

namespace ponder::backend::cpu {

constexpr int kGenerated = 5;

struct Case {
  isa::Level level = isa::active();
  Precision precision = Precision::standard;
  KvFormat kv = KvFormat::f16;
  int threads = 1, neighbours = 1, chunk = 64;
  bool cached = false;
  int prompt = 281;  ///< past a partial's border and a page's
};

inline std::string name_of(const Case& c) {
  return std::string(isa::to_string(c.level)) + " " + to_string(c.precision) + " kv " + to_string(c.kv) + ", threads " +
         std::to_string(c.threads) + ", batch " + std::to_string(c.neighbours) + ", chunk " + std::to_string(c.chunk) +
         ", prompt " + std::to_string(c.prompt) + (c.cached ? ", cached" : ", cold");
}

/// The token of a sequence (0: the one that is watched) at a position.
using Text = std::function<TokenId(uint64_t sequence, int position)>;

inline TokenId random_token(uint64_t sequence, int position, int vocab) {
  uint64_t h = sequence * 0x9e3779b97f4a7c15ull + uint64_t(position) * 0xd1b54a32d192ed03ull + 12345;
  h ^= h >> 29;
  h *= 0xbf58476d1ce4e5b9ull;
  h ^= h >> 32;
  return TokenId(h % uint64_t(vocab));
}

using Logits = std::map<int, std::vector<float>>;  // by position

// A plan loaded once, on which stories are told under cases that share its level, precision, KV format and threads.
class Runner {
 public:
  Runner(std::shared_ptr<const model::Model> model, const Case& c, Text text = {},
         std::set<int> watched = {200, 255, 256})
      : case_(c), text_(std::move(text)), watched_(std::move(watched)) {
    if (!text_)
      text_ = [vocab = model->spec.vocab_size](uint64_t s, int position) { return random_token(s, position, vocab); };
    PlanOptions o;
    o.threads = c.threads;
    o.precision = c.precision;
    o.kv_format = c.kv;
    o.kv_tokens = 4096;
    o.max_batch_rows = 640;
    auto plan = CpuPlan::make(std::move(model), o, c.level);
    EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().message);
    plan_ = std::move(*plan);
    const auto loaded = plan_->load({}, nullptr);
    EXPECT_TRUE(loaded.ok()) << (loaded.ok() ? "" : loaded.error().message);
  }
  CpuPlan& plan() { return *plan_; }
  void set_case(const Case& c) { case_ = c; }

  // Appends `n` rows of a sequence (the text of `id`) to a batch; watched rows of sequence 0 want logits.
  void add(Batch& batch, SequenceState& s, uint64_t id, int n) {
    ASSERT_TRUE(s.reserve(n).ok());
    for (int i = 0; i < n; ++i) {
      Row row;
      row.sequence = &s;
      row.position = s.length() + i;
      row.token = text_(id, row.position);
      row.want_logits = id == 0 && watched(row.position);
      batch.rows.push_back(row);
    }
  }
  std::vector<RowResult> run(const Batch& batch) {
    const auto launched = plan_->launch(batch, nullptr);
    EXPECT_TRUE(launched.ok()) << (launched.ok() ? "" : launched.error().message);
    auto results = plan_->collect();
    EXPECT_TRUE(results.ok());
    return results.ok() ? std::move(*results) : std::vector<RowResult>{};
  }

  // The whole story of sequence 0 under the case in hand.
  Logits story() {
    Logits logits;
    auto s = plan_->new_state();
    kv::PrefixIndex index(plan_->pages());
    if (case_.cached) {  // another sequence with the same text, cut otherwise, has filled some pages
      auto first = plan_->new_state();
      const int pages = std::min(192, (case_.prompt - 1) / kv::kPageTokens * kv::kPageTokens);
      while (first->length() < pages) {
        Batch b;
        add(b, *first, 0, std::min(50, pages - first->length()));
        run(b);
      }
      std::vector<int32_t> text;
      for (int i = 0; i < case_.prompt; ++i) text.push_back(text_(0, i));
      index.insert("", text, first->pages());
      s->adopt(index.find("", text, case_.prompt - 1));
      EXPECT_EQ(s->length(), pages);
    }
    std::vector<std::unique_ptr<SequenceState>> others;
    for (int i = 1; i < case_.neighbours; ++i) others.push_back(plan_->new_state());
    for (uint32_t step = 0; s->length() < case_.prompt + kGenerated; ++step) {
      const int n = s->length() < case_.prompt ? std::min(case_.chunk, case_.prompt - s->length()) : 1;
      Batch b;
      size_t at = 0;
      for (size_t i = 0; i <= others.size(); ++i) {
        if (i == others.size() / 2) {  // sequence 0 in the middle of the batch
          at = b.rows.size();
          add(b, *s, 0, n);
        }
        // Neighbours come and go; with chunks of one only every seventh step, to save time.
        if (i == others.size() || (case_.chunk == 1 && s->length() < case_.prompt - 20 && step % 7 != 0)) continue;
        auto& other = *others[i];
        if (other.length() > 24) other.trim(int((step + i) % 5));
        add(b, other, i + 1, 1 + int((step * 7 + i * 3) % 4));
      }
      const auto results = run(b);
      for (int i = 0; i < n && at + size_t(i) < results.size(); ++i) {
        const RowResult& r = results[at + size_t(i)];
        if (!r.logits.empty()) logits[b.rows[at + size_t(i)].position].assign(r.logits.begin(), r.logits.end());
      }
    }
    return logits;
  }

 private:
  // Positions whose logits are compared: the end of the prompt, all generated ones, and those named.
  bool watched(int position) const { return position >= case_.prompt - 1 || watched_.contains(position); }

  Case case_;
  Text text_;
  std::set<int> watched_;
  std::unique_ptr<CpuPlan> plan_;
};

/// Every position of `got` must be known and have the same bits; at least `at_least` of them are there.
inline void expect_same(const Logits& want, const Logits& got, size_t at_least, const std::string& what) {
  ASSERT_GE(got.size(), at_least) << what;
  for (const auto& [position, logits] : got) {
    const auto found = want.find(position);
    ASSERT_NE(found, want.end()) << what << ": nothing to compare with at position " << position;
    ASSERT_EQ(logits.size(), found->second.size());
    ASSERT_EQ(std::memcmp(logits.data(), found->second.data(), logits.size() * sizeof(float)), 0)
        << what << ": other bits at position " << position;
  }
}

}  // namespace ponder::backend::cpu
