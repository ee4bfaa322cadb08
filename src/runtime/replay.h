// Repeats what a receipt says and compares every drawn token, at the speed of a prompt: the recorded text is its own draft.
// In an engine of its own (`ponder replay`), or among the other requests of a server (POST /api/replay): a sequence's bits
// do not depend on its company.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/replay.h"
#include "runtime/client.h"
#include "runtime/loaded_model.h"
#include "runtime/receipt.h"
#include "runtime/vote_receipt.h"

namespace ponder::runtime {

struct ReplayResult {
  int verified_tokens = 0;  ///< as recorded, dropped ones included
  int prompt_tokens = 0;
  double prompt_seconds = 0, verify_seconds = 0;
  std::string output;  ///< the recorded reply's text, thought and answer, tags included
  /// The first difference, with the text before it and both tokens' texts; empty: the reply ended there.
  std::optional<engine::Replay::Difference> difference;
  std::string before, recorded_text, drawn_text;
  std::string recorded_reason, reason;  ///< why the two ended
};

/// What became of a file of receipts.
struct ReplayReport {
  std::vector<ReplayResult> chains;  ///< one, or those of a vote; up to the first that differs
  std::optional<VoteRecord> recorded_vote, vote;
  std::vector<std::string> remarks;  ///< differences that should not matter

  /// The chain that differs, if one does; -1: none.
  int differing_chain() const;
  bool equal() const;
};
/// As `ponder replay --json` and POST /api/replay give it.
nlohmann::json to_json(const ReplayReport& report);

/// Why this receipt must be expected to differ on a plan like `info` with the model file `digest` (another file, other
/// numerics); empty when it must not.
std::string replay_objection(const Receipt& receipt, const backend::PlanInfo& info, const std::string& digest);
/// Differences that should not matter: another build, device or instruction set.
std::vector<std::string> replay_remarks(const Receipt& receipt, const backend::PlanInfo& info);

/// Submits the replay of one receipt. `done` is called once, on the engine's thread.
Result<engine::SequenceId> start_replay(engine::Engine& engine, const OpenModel& model, const Receipt& receipt,
                                        std::function<void(Result<ReplayResult>)> done);

/// A model that is ready to replay receipts that were made with it.
class Replayer {
 public:
  /// `options` as on the command line; backend, precision and KV format come from the receipt where a person did not
  /// choose. `kv_tokens`: see tokens_needed().
  static Result<std::unique_ptr<Replayer>> load(std::shared_ptr<const OpenModel> model, const RuntimeOptions& options,
                                                int64_t kv_tokens, const std::function<void(double)>& progress,
                                                const CancelFlag* cancel);

  std::string objection(const Receipt& receipt) const;
  Result<ReplayReport> run(const Receipts& receipts, const CancelFlag* cancel);

 private:
  std::shared_ptr<const OpenModel> model_;
  std::string digest_;
  std::unique_ptr<engine::Engine> engine_;
};

/// Replays chain after chain and then the vote, waiting for each. For an engine that may be shared.
Result<ReplayReport> replay_all(engine::Engine& engine, const OpenModel& model, const Receipts& receipts,
                                const CancelFlag* cancel);

/// The same with a loaded model. Refused with the reason when the receipts must be expected to differ, unless `force`.
Result<ReplayReport> replay_on(LoadedModel& model, const Receipts& receipts, bool force, const CancelFlag* cancel);

/// KV tokens that a receipt's replay takes in an engine of its own.
int64_t tokens_needed(const Receipt& receipt);

}  // namespace ponder::runtime
