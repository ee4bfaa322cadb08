// See tally.h. The sums have at most a few dozen terms; logarithms of factorials keep them exact enough.
#include "reason/tally.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace ponder::reason {
namespace {

// log n!, for n >= 0. Summed here because lgamma writes a global.
double log_factorial(int n) {
  static const auto kTable = [] {
    std::array<double, 256> table{};
    for (size_t i = 2; i < table.size(); ++i) table[i] = table[i - 1] + std::log(double(i));
    return table;
  }();
  return kTable[size_t(std::clamp(n, 0, int(kTable.size()) - 1))];
}

// log B(a, b) for whole numbers.
double log_beta(int a, int b) { return log_factorial(a - 1) + log_factorial(b - 1) - log_factorial(a + b - 1); }

}  // namespace

std::vector<Group> tally(std::span<const Ballot> ballots) {
  std::vector<Group> groups;
  const auto join = [&](Group& g, const Ballot& b) { g.chains.push_back(b.chain); };
  for (const Ballot& b : ballots) {  // those with a unit, or without any: each in its own group
    if (!b.answer) continue;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return g.answer.key == b.answer->key && g.answer.unit == b.answer->unit;
    });
    if (same != groups.end()) {
      join(*same, b);
    } else {
      groups.push_back({{b.chain}, *b.answer});
    }
  }
  // Groups without a unit go to the largest of the same number with one.
  for (size_t i = 0; i < groups.size(); ++i) {
    if (!groups[i].answer.unit.empty()) continue;
    size_t into = groups.size();
    for (size_t j = 0; j < groups.size(); ++j)
      if (j != i && groups[j].answer.key == groups[i].answer.key &&
          (into == groups.size() || groups[j].count() > groups[into].count()))
        into = j;
    if (into == groups.size()) continue;
    groups[into].chains.insert(groups[into].chains.end(), groups[i].chains.begin(), groups[i].chains.end());
    groups.erase(groups.begin() + long(i));
    --i;
  }
  const auto order = [&](int chain) {
    return std::find_if(ballots.begin(), ballots.end(), [&](const Ballot& b) { return b.chain == chain; }) -
           ballots.begin();
  };
  for (Group& g : groups)
    std::sort(g.chains.begin(), g.chains.end(), [&](int a, int b) { return order(a) < order(b); });
  std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
    if (a.count() != b.count()) return a.count() > b.count();
    return *std::min_element(a.chains.begin(), a.chains.end()) < *std::min_element(b.chains.begin(), b.chains.end());
  });
  return groups;
}

double overturn_risk(int first, int second, int left) {
  if (first <= second) return left > 0 || first == second ? 1 : 0;
  double risk = 0;
  const double prior = log_beta(first + 1, second + 1);
  for (int x = 0; x <= left; ++x) {  // x of those left vote for the leader
    const int leader = first + x, other = second + left - x;
    if (leader > other) continue;
    const double log_p = log_factorial(left) - log_factorial(x) - log_factorial(left - x) +
                         log_beta(first + 1 + x, second + 1 + left - x) - prior;
    risk += std::exp(log_p) * (leader == other ? 0.5 : 1.0);
  }
  return std::min(risk, 1.0);
}

double lead_certainty(int first, int second) {
  // P(Beta(a, b) > 1/2) is a binomial tail: P(X <= first), X ~ Bin(first + second + 1, 1/2).
  const int n = first + second + 1;
  double sum = 0;
  for (int k = 0; k <= first; ++k)
    sum += std::exp(log_factorial(n) - log_factorial(k) - log_factorial(n - k) - n * std::log(2.0));
  return sum;
}

}  // namespace ponder::reason
