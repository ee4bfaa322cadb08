// The receipt of a vote: one of each chain, and how the vote went. The chains are replayed one by one; the vote is then held
// again over what they say, so that its settled stop and its winner are verified too.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reason/vote.h"
#include "runtime/receipt.h"
#include "runtime/reply.h"
#include "runtime/voting.h"

namespace ponder::runtime {

/// How the chains' texts were read, and what came out.
struct VoteRecord {
  reason::VoteOptions options;
  bool starts_inside = false, continues = false, thinks = true;  ///< see Reply::Setup
  std::vector<std::string> stops;
  bool decided = false, settled = false;
  int winner = -1;
  std::string answer;  ///< of the winner; empty: there was nothing to compare

  bool same_outcome(const VoteRecord& other) const;
};

/// What a file of `ponder replay` holds.
struct Receipts {
  std::vector<Receipt> chains;  ///< one, or those of a vote in their order
  std::optional<VoteRecord> vote;
};

/// Puts the receipt of a vote that is over into its result; a warning instead if a chain failed. `sequence`: as every chain
/// had it, but for the stream.
void add_vote_receipt(const LoadedModel& model, const std::string& name, engine::SequenceRequest sequence,
                      const Reply::Setup& reply, const reason::VoteOptions& options, const VoteTape& tape,
                      ChatResult& result);

nlohmann::json to_json(const Receipts& receipts);
/// Takes what to_json() writes, or a whole reply that has it in "receipt".
Result<Receipts> receipts_from(const nlohmann::json& object);

/// Holds the vote again over the recorded chains, with the model's vocabulary and tags.
VoteRecord vote_again(const Receipts& receipts, const OpenModel& model);

}  // namespace ponder::runtime
