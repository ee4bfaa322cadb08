// The engine: many sequences, one loop. Tokens in, tokens out; no text, no HTTP. It schedules prefill chunks and decode
// rows into batches, lets controllers steer each sequence, and reports events. One owner thread runs the loop; everyone
// else talks to it through a queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/result.h"
#include "engine/recording.h"
#include "sample/sample.h"

namespace ponder::engine {

using TokenId = int32_t;
using SequenceId = uint64_t;

/// Why a sequence ended. `reason` strings of controllers pass through as they are.
namespace finish {
inline constexpr const char* kStop = "stop";        ///< end token, or a controller's stop
inline constexpr const char* kLength = "length";    ///< max_new_tokens reached
inline constexpr const char* kContext = "context";  ///< the context is full: stated, never a silent cut
inline constexpr const char* kCancelled = "cancelled";
inline constexpr const char* kError = "error";          ///< see Finished::error
inline constexpr const char* kPrefilled = "prefilled";  ///< all that SequenceRequest::background asked for
}  // namespace finish

/// A token that now belongs to a sequence.
struct TokenEvent {
  TokenId token = -1;
  int32_t position = 0;     ///< absolute
  bool forced = false;      ///< put there by a controller, not drawn
  bool end = false;         ///< an end-of-generation token: not part of the text
  sample::Sampled sampled;  ///< log-probabilities if asked for
};

/// What a controller wants after a token. Several controllers of a sequence are all asked, in order, and their answers
/// joined: the first finish wins over everything else; of params and stream the last given counts; the smallest
/// rewind_to counts; forces are concatenated, after those still waiting. A rewind drops forced tokens that were still
/// waiting, and happens before what is forced with it. Forks are asked for with Engine::fork.
struct Decision {
  std::optional<std::string> finish;     ///< end the sequence now, with this reason
  std::vector<TokenId> force;            ///< append these tokens next (each comes back as a forced TokenEvent)
  std::optional<sample::Params> params;  ///< sample with these from now on
  std::optional<uint32_t> stream;        ///< draw from this stream from now on
  /// Drop tokens from this absolute position on (not into the prompt). The same stream draws the same token again: give
  /// a fresh one with it. Sinks see a rewind as an event whose position is not the next. Dropping an end token that
  /// was just drawn lets the sequence go on.
  std::optional<int32_t> rewind_to;
  std::string why;  ///< who or what decided ("budget", "user", "loop"): for receipts only
};

/// Steers one sequence. All calls come on the engine's thread; they must be quick. A reason to end that comes from a
/// controller wins over an end token, that over max_new_tokens, that over a full context.
class Controller {
 public:
  virtual ~Controller() = default;
  /// Before the first token; `prompt` is the whole prompt. May force or finish already.
  virtual Decision on_start(std::span<const TokenId> prompt) {
    (void)prompt;
    return {};
  }
  virtual Decision on_token(const TokenEvent& event) = 0;
  /// Between tokens at every step once it started: for time limits and messages from other threads.
  virtual Decision on_step() { return {}; }
  /// Allowed next tokens; empty: all. Must stay valid until the next call.
  virtual sample::MaskWords mask() { return {}; }
  /// The sequence ended.
  virtual void on_finish(const std::string& reason) { (void)reason; }
};

/// A token that may come next.
struct Draft {
  TokenId token = -1;
  float odds = 0;  ///< how likely it is right if those before it are; 1: certain, computed as a prompt is
};

/// Proposes what a sequence may say next. Proposals are computed together with the next token and checked: exactly those
/// that the sequence would have drawn itself are accepted, so a drafter changes the speed and never the text. Controllers
/// see accepted tokens only, one after the other. While a controller gives a mask nothing is drafted.
class Drafter {
 public:
  virtual ~Drafter() = default;
  /// Writes up to draft.size() tokens that may follow `tokens` (prompt and output so far); returns how many, 0 for none.
  /// The engine computes as many as its measured step times make worth while; it corrects the odds by what became of
  /// earlier ones. Called on the engine's thread, at most once a step; must be quick.
  virtual int propose(std::span<const TokenId> tokens, std::span<Draft> draft) = 0;
  /// What became of the last proposal: its first `accepted` tokens were right, of `checked` that were looked at.
  virtual void verified(int checked, int accepted) { (void)checked, (void)accepted; }
  /// One for a copy of the sequence; null: the copy drafts nothing.
  virtual std::shared_ptr<Drafter> fork() const { return nullptr; }
};

struct Stats {
  int prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  int draft_tokens = 0, accepted_tokens = 0;  ///< drafts that were computed, and those of them that were right
  double queue_seconds = 0;                   ///< from submit until its first row ran
  double prefill_seconds = 0;                 ///< until the first token was there
  double decode_seconds = 0;                  ///< from the first to the last token
};

struct Finished {
  std::string reason;
  std::optional<Error> error;
  Stats stats;
};

/// Progress of a long prefill (tokens done, tokens in all), for bars and keep-alives.
struct PrefillProgress {
  int done = 0, total = 0;
};

/// Called on the engine's thread. Must not block; may call submit, fork, cancel and status.
struct Sink {
  std::function<void(const TokenEvent&)> on_token;  ///< after the controllers saw it
  std::function<void(const PrefillProgress&)> on_prefill;
  std::function<void(const Finished&)> on_finish;  ///< exactly once, last
};

struct SequenceRequest {
  std::vector<TokenId> prompt;  ///< at least one token
  sample::Params sampling;
  uint32_t stream = 0;
  int max_new_tokens = -1;  ///< -1: until the context is full; forced tokens count
  int context_length = 0;   ///< this sequence's limit; 0: the engine's
  std::vector<TokenId> end_tokens;
  int top_logprobs = -1;    ///< see sample::Request
  std::string client;       ///< whose cache it may use
  bool index_reply = true;  ///< full pages of the reply may be found by later prompts; false: only those of the prompt
  /// Draws nothing: computes the prompt's full pages into the prefix cache, only while nothing else runs or waits, and
  /// ends (cancelled, at once, what is done stays cached) when anything else is asked for.
  bool background = false;
  std::vector<std::shared_ptr<Controller>> controllers;  // shared with the caller, who may read results from them
  std::shared_ptr<Drafter> drafter;                      // shared with the caller likewise; null: none
  std::shared_ptr<Recording> recording;                  // filled for the caller, who reads it after the end; null: not
  Sink sink;
};

/// A copy of a request from its beginning (Engine::submit_all).
struct Branch {
  uint32_t stream = 0;
  std::vector<std::shared_ptr<Controller>> controllers;  // shared with the caller
  std::shared_ptr<Recording> recording;                  // shared likewise; null: not recorded
  Sink sink;
};

struct EngineOptions {
  int context_length = 4096;  ///< limit of one sequence
  int max_sequences = 16;     ///< running at once; more wait in the queue
  int max_batch_rows = 512;
  double target_step_seconds = 0.1;  ///< prefill chunks are sized so that a mixed step takes about this long
  bool prefix_cache = true;
  int max_output_rows = 32;       ///< the plan's (PlanOptions): sequences that may draw in one step
  std::function<double()> clock;  ///< seconds, never going back; empty: the system's (tests use a fake one)
};

struct EngineStatus {
  int running = 0, waiting = 0;
  int background = 0;  ///< requests of SequenceRequest::background that are not done; they do not count above
  int pages_used = 0, pages_total = 0;
  uint64_t steps = 0, prefill_tokens = 0, decode_tokens = 0;
  uint64_t preemptions = 0;  ///< times a sequence gave its pages up and had to be computed again

  /// For `ps`: nothing runs or waits (keep-alive counts from then on), and bytes of KV cache in use.
  bool idle() const { return running + waiting == 0; }
  uint64_t kv_bytes(const backend::MemoryReport& report) const {
    return uint64_t(pages_used) * backend::kv::kPageTokens * report.kv_per_token;
  }
};

class Engine {
 public:
  /// Takes a loaded plan. start() runs the loop on a thread of its own; without it, tests call step().
  static Result<std::unique_ptr<Engine>> create(std::unique_ptr<backend::Plan> plan, const EngineOptions& options);
  virtual ~Engine() = default;  ///< cancels everything and joins

  virtual void start() = 0;
  /// One turn of the loop on the calling thread (only without start()); false when there was nothing to do.
  virtual bool step() = 0;

  /// Errors at once for what can be known at once (empty prompt, prompt longer than the context, bad token id).
  virtual Result<SequenceId> submit(SequenceRequest request) = 0;
  /// A request and copies of it, as forks of its prompt: the prompt is computed once and its pages are shared. All or none
  /// are accepted. Ids in order, the request's own first.
  virtual Result<std::vector<SequenceId>> submit_all(SequenceRequest request, std::vector<Branch> branches) = 0;
  /// A copy of a sequence from its current position with its own stream, controllers and sink; shares KV. Everything so
  /// far is the copy's prompt. Asked for in a controller, it is the sequence with that decision carried out; if the
  /// sequence ends before it can be copied, the copy finishes with an error.
  virtual Result<SequenceId> fork(SequenceId source, uint32_t stream,
                                  std::vector<std::shared_ptr<Controller>> controllers, Sink sink) = 0;
  /// Ends a sequence within one step (a batch in flight is abandoned if it holds only cancelled sequences).
  virtual void cancel(SequenceId id) = 0;
  virtual EngineStatus status() const = 0;
  virtual const backend::Plan& plan() const = 0;
};

}  // namespace ponder::engine
