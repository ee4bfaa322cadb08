// What happened to a sequence, in order and complete: with the prompt and the request's parameters it determines every
// draw, so that a run can be repeated and checked (replay.h). Written where the engine carries decisions out, so that it
// covers every controller there is.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sample/sample.h"

namespace ponder::engine {

struct Action {
  enum class Kind : uint8_t {
    drawn,   ///< tokens, drawn one after the other
    forced,  ///< tokens, put there by a controller
    rewind,  ///< everything from rewind_to on was dropped
    params,  ///< drawn with `params` from now on
    stream,  ///< drawn from `stream` from now on
    mask,    ///< only tokens of `mask` allowed from now on; empty digest: all again
    finish,  ///< a controller ended the sequence, `text` is the reason
  };
  Kind kind = Kind::drawn;
  int32_t position = 0;  ///< absolute, of the first token; else where the next token would have stood
  std::vector<int32_t> tokens;
  int32_t rewind_to = 0;
  uint32_t stream = 0;
  std::optional<sample::Params> params;
  /// Runs of allowed ids: first, count, first, count ... Left out (with a digest) when there are more than kMaxRuns;
  /// empty too when nothing is allowed.
  std::vector<int32_t> mask;
  uint64_t mask_digest = 0;  ///< FNV-1a of the mask's words; 0: no mask
  std::string text;          ///< finish: the reason; others: who decided (Decision::why)

  static constexpr size_t kMaxRuns = 8192;
};

struct Recording {
  std::vector<Action> actions;
};

/// Of the bits that stand for tokens; 0 for no mask.
uint64_t mask_digest(sample::MaskWords words, int vocab_size);
/// Empty when there are more than Action::kMaxRuns (or nothing is allowed).
std::vector<int32_t> mask_runs(sample::MaskWords words, int vocab_size);
/// The mask again, as short as it can be.
std::vector<uint32_t> mask_words(std::span<const int32_t> runs);

}  // namespace ponder::engine
