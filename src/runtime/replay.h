// Repeats what a receipt says and compares every drawn token, at the speed of a prompt: the recorded text is its own draft.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/replay.h"
#include "runtime/client.h"
#include "runtime/loaded_model.h"
#include "runtime/receipt.h"

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

/// A model that is ready to replay receipts that were made with it.
class Replayer {
 public:
  /// `options` as on the command line; backend, precision and KV format come from the receipt where a person did not
  /// choose. `kv_tokens`: see tokens_needed().
  static Result<std::unique_ptr<Replayer>> load(std::shared_ptr<const OpenModel> model, const RuntimeOptions& options,
                                                int64_t kv_tokens, const std::function<void(double)>& progress,
                                                const CancelFlag* cancel);

  /// Why this receipt must be expected to differ here (another model file, other numerics); empty when it must not.
  std::string objection(const Receipt& receipt) const;
  /// Differences that should not matter: another build, device or instruction set.
  std::vector<std::string> remarks(const Receipt& receipt) const;

  Result<ReplayResult> run(const Receipt& receipt, const CancelFlag* cancel);

 private:
  std::shared_ptr<const OpenModel> model_;
  std::string digest_;
  std::unique_ptr<engine::Engine> engine_;
};

/// KV tokens that a receipt's replay takes.
int64_t tokens_needed(const Receipt& receipt);

}  // namespace ponder::runtime
