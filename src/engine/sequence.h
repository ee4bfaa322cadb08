// One sequence inside the engine: its tokens, what its controllers decided, and its events. Knows nothing of batches;
// the loop asks what is pending, feeds it, and hands back what was drawn.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/scheduler.h"

namespace ponder::engine {

struct Ending {
  std::string reason;
  std::optional<Error> error;
};

class Sequence {
 public:
  Sequence(SequenceId id, SequenceRequest request, int limit, int vocab_size, double now);

  SequenceId id() const { return id_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }
  const std::string& client() const { return request_.client; }
  bool background() const { return request_.background; }
  int prompt_size() const { return prompt_size_; }
  int indexable() const { return request_.index_reply ? int(tokens_.size()) : prompt_size_; }  ///< tokens, see request
  int pending() const { return int(tokens_.size()) - (state ? state->length() : 0); }
  bool generating() const { return first_token_ >= 0; }  ///< has drawn a token
  bool may_draw() const { return forced_.empty(); }
  bool started() const { return started_; }
  bool ended() const { return ending_.has_value(); }

  /// A copy from here; the engine gives the KV.
  std::unique_ptr<Sequence> fork(SequenceId id, uint32_t stream, std::vector<std::shared_ptr<Controller>> controllers,
                                 std::shared_ptr<Recording> recording, Sink sink, double now) const;

  /// First admission: the controllers see the prompt.
  void start();
  /// Between steps: on_step of the controllers, then forced tokens that still wait.
  void poll();
  /// Asks the drafter for up to `most` tokens: the odds of each, corrected by what became of earlier ones. Valid until
  /// the next call.
  std::span<const float> propose(int most);
  /// What the last pending row and the rows of `drafts` drafts after it draw with; valid until the next event of this
  /// sequence. Until take_drafts_back() the drafts stand at the end of tokens().
  std::span<const sample::Request> prepare_draws(int drafts);
  void take_drafts_back();
  /// Results of those rows: drawn tokens join the sequence as long as they are what was drafted. All events and decisions
  /// that follow happen here. Returns how many drafts were right.
  int drawn(std::span<const backend::RowResult> rows, double now);
  /// This sequence's part of the step that drew, and how many of its drafts were right.
  void account(const StepCost& part, int right);
  /// Seconds that drafts may cost now if none is right: a small part of the time spent so far, and what earlier ones saved.
  double draft_spare() const { return draft_spare_; }
  void prefilled(int cached_now);
  void first_row(double now);

  void end(std::string reason, std::optional<Error> error = std::nullopt);
  /// Tells the controllers and the sink; the last thing that happens to a sequence.
  void finish();

  std::unique_ptr<backend::SequenceState> state;  ///< null while it has no pages
  std::optional<SequenceId> parent;               ///< a fork of a prompt that was not computed yet: worth waiting for
  uint64_t last_turn = 0;                         ///< see Work
  int indexed_pages = 0;                          ///< full pages known to the prefix index
  void add_cached(int tokens) { stats_.cached_tokens += tokens; }

 private:
  template <class Ask>
  void consult(Ask ask);
  void join(TokenId token, bool forced, const sample::Sampled& sampled);
  void draw_one(const sample::Sampled& sampled, double now);
  bool masked() const;
  Action* record(Action::Kind kind);
  void drain_forced();
  void rewind(int position);

  SequenceId id_;
  SequenceRequest request_;  // its prompt is moved to tokens_
  int prompt_size_, limit_, vocab_size_;
  std::vector<TokenId> tokens_;
  std::deque<TokenId> forced_;
  bool started_ = false;
  std::optional<Ending> ending_;
  std::vector<sample::Request> draws_;
  std::vector<uint32_t> joint_mask_;
  uint64_t changes_ = 0;      // of parameters, stream or past tokens: what later rows were drawn with no longer holds
  std::vector<Draft> draft_;  // the first laid_ of them stand in tokens_ while a batch runs
  std::vector<float> odds_;   // of draft_, corrected
  int laid_ = 0;
  double draft_hits_ = 0, draft_expected_ = 0;  // of late: drafts that were right, and the sum of their odds
  double draft_spare_ = 0;
  std::string force_why_;  // of what waits in forced_, for the recording
  uint64_t recorded_mask_ = 0;
  Stats stats_;
  double submitted_, first_row_ = -1, first_token_ = -1, last_token_ = -1;
};

}  // namespace ponder::engine
