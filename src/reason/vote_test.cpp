// The vote's machine: its counts, its independence of scheduling, its winner; and the stop rule against the full vote on
// 10,000 simulated questions, with the table that docs/thinking.md shows.
#include "reason/vote.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <random>

namespace ponder::reason {
namespace {

Answer number(int n, const std::string& unit = {}) {
  const std::string text = std::to_string(n);
  return {text, text, unit};
}

std::vector<int> counts(const std::vector<Group>& groups) {
  std::vector<int> n;
  for (const auto& g : groups) n.push_back(g.count());
  return n;
}

TEST(Tally, MostVotesFirstThenTheLowestChain) {
  const std::vector<Ballot> ballots = {{3, number(7)}, {0, number(5)}, {1, {}},
                                       {2, number(5)}, {4, number(7)}, {5, number(9)}};
  const auto groups = tally(ballots);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(counts(groups), (std::vector<int>{2, 2, 1}));
  EXPECT_EQ(groups[0].answer.key, "5") << "chain 0 said it";
  EXPECT_EQ(groups[1].chains, (std::vector<int>{3, 4}));
}

TEST(Tally, UnitsJoinWhateverTheOrder) {
  std::vector<Ballot> ballots = {{0, number(5)},       {1, number(5, "cm")}, {2, number(5, "m")},
                                 {3, number(5, "cm")}, {4, number(5)},       {5, number(6)}};
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) {
    std::shuffle(ballots.begin(), ballots.end(), random);
    const auto groups = tally(ballots);
    EXPECT_EQ(counts(groups), (std::vector<int>{4, 1, 1}));
    EXPECT_EQ(groups[0].answer.unit, "cm");
  }
}

TEST(Tally, RiskOfBeingOverturned) {
  EXPECT_NEAR(overturn_risk(3, 0, 5), 0.0079365 + 0.5 * 0.0317460, 1e-6);  // x = 0 overturns, x = 1 ties
  EXPECT_EQ(overturn_risk(5, 0, 3), 0);                                    // all three could not
  EXPECT_EQ(overturn_risk(2, 2, 4), 1);
  EXPECT_EQ(overturn_risk(0, 0, 8), 1);
  EXPECT_EQ(overturn_risk(2, 1, 0), 0);
  EXPECT_NEAR(overturn_risk(2, 1, 1), 0.5 * 2.0 / 5, 1e-9);  // Beta(3, 2): the next is for the other with 2/5
  for (int left = 0; left <= 20; ++left)
    for (int second = 0; second <= 10; ++second)
      for (int first = second + 1; first <= 12; ++first) {
        const double risk = overturn_risk(first, second, left);
        EXPECT_GE(risk, 0);
        EXPECT_LE(risk, 1);
        EXPECT_LE(overturn_risk(first + 1, second, left), risk + 1e-12);
        EXPECT_LE(risk, overturn_risk(first, second + 1, left) + 1e-12);
      }
  EXPECT_NEAR(lead_certainty(4, 0), 0.969, 1e-3);  // the paper's: 4:0, 6:1 and 8:2 stop
  EXPECT_NEAR(lead_certainty(3, 0), 0.938, 1e-3);
  EXPECT_GE(lead_certainty(6, 1), 0.95);
  EXPECT_LT(lead_certainty(5, 1), 0.95);
  EXPECT_GE(lead_certainty(8, 2), 0.95);
}

// ---- The machine, fed by a scheduler that may do anything.

struct Script {
  std::vector<int> lengths;
  std::vector<std::optional<Answer>> answers;
  std::vector<bool> failed;
};

Script random_script(std::mt19937& random, int n) {
  Script s;
  for (int i = 0; i < n; ++i) {
    s.lengths.push_back(1 + int(random() % 30));
    const int a = int(random() % 6);
    s.failed.push_back(random() % 20 == 0);
    s.answers.push_back(a == 5 ? std::optional<Answer>() : number(a / 2));
  }
  return s;
}

// The vote's clock written the other way round: every length is known.
std::vector<int> order_of_ends(const Script& s, std::vector<int64_t>* starts = nullptr) {
  const int n = int(s.lengths.size());
  std::vector<std::pair<int64_t, int>> running;
  std::vector<int> order;
  int next = 0;
  int64_t now = 0;
  while (int(order.size()) < n) {
    for (; next < n && int(running.size()) < kSlots; ++next) {
      running.push_back({now + s.lengths[size_t(next)], next});
      if (starts) starts->push_back(now);
    }
    const auto first = std::min_element(running.begin(), running.end());
    now = first->first;
    order.push_back(first->second);
    running.erase(first);
  }
  return order;
}

VoteOptions random_options(std::mt19937& random) {
  VoteOptions o;
  o.n = 1 + int(random() % 20);
  o.min = 1 + int(random() % 6);
  o.settle = random() % 3 != 0;
  o.method = random() % 3 == 0 ? VoteOptions::Method::shortest : VoteOptions::Method::majority;
  return o;
}

// Plays a script with chains advancing in any order; stops when the vote is decided, as the engine does.
Vote play(const VoteOptions& options, const Script& s, std::mt19937& random, bool in_step) {
  Vote vote(options);
  const int n = int(s.lengths.size());
  std::vector<int> done(size_t(n), 0);
  while (!vote.decided()) {
    std::vector<int> open;
    for (int i = 0; i < n; ++i)
      if (done[size_t(i)] <= s.lengths[size_t(i)]) open.push_back(i);
    if (open.empty()) {
      ADD_FAILURE() << "every chain has ended and the vote is not decided";
      break;
    }
    std::vector<int> turn = open;
    if (!in_step) {
      std::shuffle(turn.begin(), turn.end(), random);
      turn.resize(1 + random() % turn.size());
    }
    for (const int i : turn) {
      if (vote.decided()) break;
      if (done[size_t(i)]++ < s.lengths[size_t(i)]) {
        vote.token(i);
      } else {
        vote.ended(i, s.answers[size_t(i)], s.failed[size_t(i)]);
      }
    }
  }
  return vote;
}

TEST(Vote, OutcomeDoesNotDependOnScheduling) {
  std::mt19937 random(7);
  int settled = 0;
  for (int i = 0; i < 3000; ++i) {
    const VoteOptions options = random_options(random);
    const Script script = random_script(random, options.n);
    const Vote one = play(options, script, random, true);
    settled += one.settled();
    // What the clock says, computed from the whole.
    const auto order = order_of_ends(script);
    ASSERT_LE(one.ballots().size(), order.size());
    for (size_t k = 0; k < one.ballots().size(); ++k) ASSERT_EQ(one.ballots()[k].chain, order[k]);
    for (int again = 0; again < 3; ++again) {
      const Vote other = play(options, script, random, false);
      ASSERT_EQ(other.winner(), one.winner());
      ASSERT_EQ(other.ballots().size(), one.ballots().size());
      for (size_t k = 0; k < one.ballots().size(); ++k) ASSERT_EQ(other.ballots()[k].chain, one.ballots()[k].chain);
      ASSERT_EQ(other.agreement(), one.agreement());
    }
  }
  EXPECT_GT(settled, 500);
}

TEST(Vote, WinnerIsTheFirstOfTheLargestGroupAndReportsAddUp) {
  std::mt19937 random(8);
  for (int i = 0; i < 3000; ++i) {
    const VoteOptions options = random_options(random);
    const Script script = random_script(random, options.n);
    const Vote vote = play(options, script, random, false);
    const VoteReport r = vote.report();
    EXPECT_TRUE(r.decided);
    EXPECT_EQ(r.finished + r.cancelled, options.n);
    EXPECT_EQ(r.settled, int(vote.ballots().size()) < options.n);
    int votes = 0;
    for (const auto& c : r.counts) votes += int(c.chains.size());
    EXPECT_EQ(votes + r.without_answer, int(vote.ballots().size()));
    if (!options.settle && options.method == VoteOptions::Method::majority) {
      EXPECT_FALSE(r.settled);
    }
    if (r.winner < 0) {  // only when every chain failed
      EXPECT_TRUE(std::all_of(script.failed.begin(), script.failed.end(), [](bool f) { return f; }));
      continue;
    }
    EXPECT_FALSE(script.failed[size_t(r.winner)]);
    if (r.counts.empty()) {
      EXPECT_EQ(r.agreement, 0);
      continue;
    }
    EXPECT_EQ(script.answers[size_t(r.winner)]->key, vote.groups()[0].answer.key);
    EXPECT_EQ(r.counts[0].chains[0], r.winner);
    for (const auto& c : r.counts) EXPECT_LE(c.chains.size(), r.counts[0].chains.size());
  }
}

TEST(Vote, OneChainIsAPlainReply) {
  VoteOptions o;
  Vote vote(o);
  EXPECT_FALSE(vote.decided());
  vote.token(0);
  vote.ended(0, {});
  EXPECT_TRUE(vote.decided());
  EXPECT_EQ(vote.winner(), 0);
  EXPECT_FALSE(vote.settled());
}

TEST(Vote, ShortestOfKCountsTheFirstAnswersOnly) {
  VoteOptions o;
  o.n = 5, o.min = 3, o.settle = false, o.method = VoteOptions::Method::shortest;
  std::mt19937 random(1);
  // Lengths 1..5: answers none, 1, 2, 2, 1. The first three answers are 1, 2, 2.
  const Script s{{1, 2, 3, 4, 5}, {{}, number(1), number(2), number(2), number(1)}, std::vector<bool>(5)};
  const Vote vote = play(o, s, random, true);
  EXPECT_EQ(vote.winner(), 2);
  EXPECT_EQ(vote.ballots().size(), 4u);
  o.settle = true;  // 2:0 of three cannot be overturned
  const Script t{{1, 2, 3, 4, 5}, {number(1), number(1), number(2), number(2), number(2)}, std::vector<bool>(5)};
  EXPECT_EQ(play(o, t, random, true).ballots().size(), 2u);
}

// ---- 10,000 questions. Each has its own chance of being answered right, its own wrong answers that attract, some chains
// without an answer, and lengths that spread; wrong chains are longer by the factor that short-m@k reports.

struct Question {
  std::vector<int> answers;  // -1: none; 0 is right
  std::vector<int> lengths;
};

Question simulate(std::mt19937& random, int n) {
  std::uniform_real_distribution<double> u(0, 1);
  std::gamma_distribution<double> gamma(0.7, 1);
  // How hard: from nearly sure to hopeless, most in between.
  const double a = gamma(random) + 1e-9, b = gamma(random) + 1e-9, right = a / (a + b);
  std::vector<double> wrong(1 + random() % 6);
  for (double& w : wrong) w = gamma(random);
  const double mute = u(random) < 0.3 ? 0.3 * u(random) : 0;
  std::normal_distribution<double> spread(0, 0.35);
  Question q;
  const double typical = 200 + 3000 * u(random);
  for (int i = 0; i < n; ++i) {
    int answer = -1;
    if (u(random) >= mute) {
      if (u(random) < right) {
        answer = 0;
      } else {
        std::discrete_distribution<int> which(wrong.begin(), wrong.end());
        answer = 1 + which(random);
      }
    }
    q.answers.push_back(answer);
    q.lengths.push_back(std::max(1, int(typical * std::exp(spread(random)) * (answer == 0 ? 1.0 : 1.3))));
  }
  return q;
}

// Tokens that a vote of chains in step spends, and how long it takes in tokens of one chain: nobody runs past the decision.
struct Spent {
  int winner = -1;
  int64_t tokens = 0, ticks = 0;
};

template <class Rule>
Spent run_rule(const Question& q, Rule stop) {
  const int n = int(q.answers.size());
  Script s;
  s.lengths = q.lengths;
  std::vector<int64_t> starts;
  const auto order = order_of_ends(s, &starts);
  std::vector<Ballot> ballots;
  Spent spent;
  int64_t end = 0;
  std::vector<Group> groups;
  for (const int i : order) {
    ballots.push_back({i, q.answers[size_t(i)] < 0 ? std::optional<Answer>() : number(q.answers[size_t(i)])});
    groups = tally(ballots);
    end = starts[size_t(i)] + q.lengths[size_t(i)];
    const int answers = int(std::count_if(ballots.begin(), ballots.end(), [](const Ballot& b) { return !!b.answer; }));
    const int first = groups.empty() ? 0 : groups[0].count(), second = groups.size() < 2 ? 0 : groups[1].count();
    if (stop(first, second, answers, n - int(ballots.size()))) break;
  }
  for (int i = 0; i < n; ++i) spent.tokens += std::clamp<int64_t>(end - starts[size_t(i)], 0, q.lengths[size_t(i)]);
  spent.ticks = end;
  spent.winner = groups.empty() ? -1 : std::stoi(groups[0].answer.key);
  return spent;
}

using Stop = std::function<bool(int first, int second, int answers, int left)>;

Stop settled(double risk, int min) {
  return [risk, min](int first, int second, int answers, int left) {
    const double r = overturn_risk(first, second, left);
    return r <= 0 || (answers >= min && r <= risk);
  };
}

TEST(Vote, SettledStopAgreesWithTheFullVoteOn10000Questions) {
  std::printf("%-34s%4s%11s%14s%12s%9s%11s\n", "rule", "n", "disagrees", "tokens saved", "time saved", "right",
              "full vote");
  for (const int n : {3, 5, 8, 16, 32}) {
    struct Row {
      const char* name;
      Stop stop;
      int differs = 0, right = 0;
      int64_t spent = 0, ticks = 0;
    };
    std::vector<Row> rows = {
        {"certain: cannot be overturned", [](int a, int b, int, int left) { return a > b + left; }},
        {"P(p > 1/2) >= 0.95 (the paper's)", [](int a, int b, int, int) { return lead_certainty(a, b) >= 0.95; }},
        {"first three answers (short-3@n)", [](int, int, int answers, int) { return answers >= 3; }},
        {"settled: risk <= 0.05, min 3", settled(0.05, 3)},
        {"settled: risk <= 0.10, min 3", settled(0.10, 3)},
        {"settled: risk <= 0.20, min 3", settled(0.20, 3)},
        {"settled: risk <= 0.10, min 2", settled(0.10, 2)}};
    std::mt19937 random(12345);
    int64_t full_tokens = 0, full_ticks = 0;
    int full_right = 0;
    constexpr int kQuestions = 10000;
    for (int i = 0; i < kQuestions; ++i) {
      const Question q = simulate(random, n);
      const Spent full = run_rule(q, [](int, int, int, int) { return false; });
      full_tokens += full.tokens;
      full_ticks += full.ticks;
      full_right += full.winner == 0;
      for (Row& row : rows) {
        const Spent s = run_rule(q, row.stop);
        row.differs += s.winner != full.winner;
        row.right += s.winner == 0;
        row.spent += s.tokens;
        row.ticks += s.ticks;
      }
    }
    for (const Row& row : rows)
      std::printf("%-34s%4d%10.2f%%%13.1f%%%11.1f%%%8.1f%%%10.1f%%\n", row.name, n, 100.0 * row.differs / kQuestions,
                  100.0 * double(full_tokens - row.spent) / double(full_tokens),
                  100.0 * double(full_ticks - row.ticks) / double(full_ticks), 100.0 * row.right / kQuestions,
                  100.0 * full_right / kQuestions);
    EXPECT_EQ(rows[0].differs, 0);
    EXPECT_LE(rows[4].differs, kQuestions / 20) << "n " << n;
    if (n == 8) {
      EXPECT_GE(full_tokens - rows[4].spent, full_tokens / 10);
      EXPECT_LT(rows[4].spent, rows[1].spent) << "it should stop before the paper's rule does";
    }
  }
}

// The same questions through the machine itself: its decisions are the rule's, and its estimate of what it saved is right
// on average.
TEST(Vote, SavedTokensAreEstimatedWithinAQuarterOnAverage) {
  std::mt19937 random(99);
  double estimated = 0, saved = 0;
  for (int i = 0; i < 1000; ++i) {
    const Question q = simulate(random, 8);
    VoteOptions o;
    o.n = 8;
    Script s;
    s.lengths = q.lengths;
    for (const int a : q.answers) s.answers.push_back(a < 0 ? std::optional<Answer>() : number(a));
    s.failed.assign(8, false);
    const Vote vote = play(o, s, random, true);
    const Spent rule = run_rule(q, settled(kSettledRisk, 3));
    ASSERT_EQ(vote.groups().empty() ? -1 : std::stoi(vote.groups()[0].answer.key), rule.winner);
    const auto total = std::accumulate(q.lengths.begin(), q.lengths.end(), int64_t(0));
    estimated += double(vote.tokens_saved());
    saved += double(total - vote.report().tokens);
  }
  std::printf("tokens saved: %.0f, estimated %.0f (%.2f)\n", saved, estimated, estimated / saved);
  EXPECT_NEAR(estimated / saved, 1.0, 0.25);
}

}  // namespace
}  // namespace ponder::reason
