// A vote in an engine: the chains of one turn, forked from one prompt and decoded as one batch, until reason/vote.h says
// that it is decided; then the chains that still run are cancelled in the same step, and the winner's text is the reply.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "reason/vote.h"
#include "runtime/turn.h"
#include "runtime/types.h"

namespace ponder::runtime {

/// Seconds between two reports of progress, unless a chain changes its state.
inline constexpr double kVoteProgressSeconds = 0.25;

/// What receipts are made of: each chain as it was recorded, and how it ended.
struct VoteTape {
  std::vector<std::shared_ptr<engine::Recording>> chains;  // shared with the engine
  std::vector<std::string> done_reasons;                   ///< filled before `done` is called
};

/// Submits the chains of `turn`: chain i draws from stream i, so that chain 0 is what the request without a vote would be.
/// `sink` gets progress (on_vote), on_prefill, and the winner's text in the end. `done` is called once, on the engine's
/// thread, when every chain is gone; `result` must hold what make_turn() put there. Returns the sequences, for cancelling.
/// A vote of chains that cannot differ (temperature 0) is refused. `tape`: null when nobody wants receipts.
Result<std::vector<engine::SequenceId>> start_vote(engine::Engine& engine, const Turn& turn,
                                                   const reason::VoteOptions& options, const ChatSink& sink,
                                                   ChatResult result, double submitted,
                                                   std::function<void(Result<ChatResult>)> done,
                                                   std::shared_ptr<VoteTape> tape = nullptr);

}  // namespace ponder::runtime
