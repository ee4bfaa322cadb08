// Counting a vote, and knowing when it is settled. Pure arithmetic: no engine, no text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "reason/answer.h"

namespace ponder::reason {

/// Chains that gave the same answer.
struct Group {
  std::vector<int> chains;  ///< in the order in which they finished
  Answer answer;            ///< as the first of them wrote it, with a unit if any of them wrote one
  int count() const { return int(chains.size()); }
};

struct Ballot {
  int chain = 0;
  std::optional<Answer> answer;  ///< none: the chain said nothing that can be compared
};

/// Groups of the ballots (in the order in which they were cast), the most votes first; of equal ones that with the chain
/// of the lowest number, so that a vote in which nobody agrees is chain 0. (Not that of the shortest chain: at high
/// temperatures those are the ones that broke off, and of ponder-tiny's votes of three it costs 6 points.) An answer
/// without a unit joins the largest group of its number, whatever unit that has, so the result does not depend on who
/// wrote the unit.
std::vector<Group> tally(std::span<const Ballot> ballots);

/// How likely it is that the chains still to come will change the leader: `first` and `second` are the two largest
/// counts, `left` how many chains may still vote. The share p of the leader among the two is taken from its posterior
/// Beta(first + 1, second + 1), so the number of further votes for it is beta-binomial; everyone who comes is assumed to
/// vote for one of the two, which errs towards going on. A tie counts half.
/// Adaptive-Consistency (arXiv 2305.11860) asks P(p > 1/2) of the same posterior, which ignores that the vote ends:
/// of 8, a 3:0 is as good as decided (risk 0.008), but P(p > 1/2) = 0.94 and its rule goes on.
double overturn_risk(int first, int second, int left);

/// P(p > 1/2), p ~ Beta(first + 1, second + 1): the rule of that paper, to compare with.
double lead_certainty(int first, int second);

/// A vote is settled at this risk. The posterior knows nothing of how hard the question is, so this is a threshold and no
/// promise; measured on 10,000 simulated questions (vote_test.cpp prints the table) a settled vote names another winner
/// than the full one in 1 % of the cases with 8 chains and in less than 5 % with up to 32.
inline constexpr double kSettledRisk = 0.10;

}  // namespace ponder::reason
