// A request made ready for the engine. A plain reply runs one chain of it, a vote several: all chains share the turn
// (prompt, limits, sampling), and each has its own listener and controllers.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "reason/thought.h"
#include "runtime/desk.h"
#include "runtime/loaded_model.h"
#include "runtime/reply.h"
#include "runtime/types.h"

namespace ponder::runtime {

struct Turn {
  engine::SequenceRequest sequence;  ///< controllers and sink not set
  Reply::Setup reply;                ///< `deliver` not set
  reason::ThoughtSetup thought;      ///< `steering` not set
  std::shared_ptr<Ticket> ticket;    ///< set by who runs the turn: each chain can be steered. Shared with the chains
};

/// Renders, encodes and checks. Fills what the result can know before the first token: prompt and context sizes, seed,
/// warnings.
Result<Turn> make_turn(const LoadedModel& model, const ChatRequest& request, ChatResult& result);

/// What listens to one chain and steers it. Everything that has a state of its own for each chain (a budget, a loop
/// detector) is made here.
struct Chain {
  std::shared_ptr<Reply> reply;                                  // shared with the engine
  std::shared_ptr<reason::Thought> thought;                      // shared with the engine
  std::vector<std::shared_ptr<engine::Controller>> controllers;  // shared with the engine; `reply` among them

  /// What the chain can say of itself at its end: its counts of thinking and answer.
  void describe(ChatResult& result) const;
};
/// `stream`: the chain's random stream.
Chain make_chain(const Turn& turn, std::function<void(ChatDelta)> deliver, uint32_t stream = 0);

}  // namespace ponder::runtime
