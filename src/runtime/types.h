// What a person or a program asks of a loaded model, and what comes back: the one request type behind the command line
// and every API dialect. Times are seconds; the dialects convert.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "chat/chat.h"
#include "reason/vote.h"
#include "store/pull.h"
#include "store/store.h"

namespace ponder::runtime {

/// Sampling and load options by Ollama's names. Unset means: the model's own default, then the house's.
struct Options {
  std::optional<float> temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k, repeat_last_n, num_predict, num_ctx, num_thread;
  std::optional<int> draft;     ///< most tokens drafted a step; 0: none, kDraftAuto: as many as pay (docs/drafts.md)
  std::optional<int64_t> seed;  ///< negative: a fresh one for each request
  std::optional<std::vector<std::string>> stop;
  std::vector<std::pair<int32_t, float>> logit_bias;

  /// Values of `over` win.
  void merge(const Options& over);
};

inline constexpr int kDraftAuto = -1, kDraftMost = 15;
/// "auto", "off" or a number of tokens up to kDraftMost. Errors name `what`.
Result<int> parse_draft(std::string_view text, std::string_view what = "draft");

/// Reads an `options` object. A wrong type or a value out of range is an Error that names the option; a name we do not
/// know (Ollama ignores those), or an option of Ollama's that would change the output there and does not here, adds a line
/// to `warnings`.
Result<Options> options_from_json(const nlohmann::json& object, std::vector<std::string>* warnings);
/// Sets one option from text (`--top-p 0.9`, `/set parameter top_p 0.9`); `stop` adds one. What would be a warning above
/// is an Error: somebody asked for just that.
Result<void> set_option(Options& options, std::string_view name, std::string_view value);
nlohmann::json to_json(const Options& options);
/// The names set_option knows, in the order they are shown.
std::vector<std::string> option_names();

/// How much a model may think and how its thought ends. One parser (runtime/think.h) reads it for every dialect and the
/// command line. What is unset is the house's default (docs/thinking.md).
struct ThinkOptions {
  enum class Close : uint8_t {
    graceful,  ///< the end becomes likelier, then the sentence may end (up to 10 % over), then a closing sentence
    hard       ///< at the budget, in the middle of a word if need be
  };
  enum class Loop : uint8_t { ladder, conclude, stop, off };  ///< what is done about a thought that repeats itself

  std::optional<bool> on;              ///< unset: on where the model can
  std::string level;                   ///< "minimal", "low", "medium", "high", "max"; empty: none was named
  std::optional<int> tokens;           ///< of the thought, closing sentence not among them; negative: no limit
  std::optional<double> seconds;       ///< of thinking, from its first token
  std::optional<int> answer;           ///< tokens kept free for the answer
  std::optional<Close> close;          ///< graceful when unset
  std::optional<std::string> closing;  ///< the closing sentence; empty: only the tag
  int extend = 0;                      ///< so many times the model's own end of its thought is answered with "Wait"
  std::optional<Loop> loop;            ///< ladder when unset
  std::string off_form;  ///< how `on == false` is written: "empty", "sentence"; empty: the model's default

  bool is_off() const { return on == false || tokens == 0; }
  bool operator==(const ThinkOptions&) const = default;
  /// Values that `over` has win; its budget replaces a level, and its level a budget.
  void merge(const ThinkOptions& over);
};

struct ChatRequest {
  std::string id;                       ///< under which a running request can be steered; empty: the runtime makes one
  std::string model;                    ///< a name of the store, or the path of a GGUF file (local clients only)
  std::vector<chat::Message> messages;  ///< empty and no raw prompt: only load the model
  std::optional<std::string> raw_prompt;  ///< instead of messages: this text as it is, control tokens parsed
  std::vector<int32_t> context;           ///< generate's deprecated field: token ids that come before the prompt
  ThinkOptions think;
  std::optional<reason::VoteOptions> vote;  ///< several chains, and the answer of most of them
  Options options;
  std::optional<double> keep_alive;  ///< seconds; negative: for ever; unset: the default
  bool logprobs = false;
  int top_logprobs = 0;  ///< 0..20
  /// A last message of the assistant is the beginning of the reply: the model goes on exactly there, inside the thought
  /// when only `thinking` has text. False: it is a finished turn like any other.
  bool continue_last = true;
  bool keep_thoughts = false;  ///< thoughts of earlier turns stay in the prompt, whatever the template does with them
  bool receipt = false;        ///< see ChatResult::receipt_json
  std::string client;          ///< whose prefix cache; callers of one machine share ""
};

/// What a person says to a request that runs.
struct Control {
  std::string action;  ///< "answer", "more", "note", "stop"
  std::string text;    ///< of a note
  int tokens = 0;      ///< of "more"; 0: half of the budget again
};

/// One token's log-probability, with the text it stands for.
struct TokenLogprob {
  std::string token;
  double logprob = 0;
  struct Alternative {
    std::string token;
    double logprob = 0;
  };
  std::vector<Alternative> top;
};

/// A piece of the reply. Text is whole UTF-8 characters; stop strings never appear in it.
struct ChatDelta {
  std::string thinking, content;
  int thinking_retracted = 0;  ///< characters at the end of the thought so far that are taken back (before `thinking`)
  std::vector<TokenLogprob> logprobs;  ///< of the tokens whose text is in this piece, if asked for
  int logprobs_retracted = 0;          ///< of the last so far, whose tokens are taken back (before `logprobs`)

  /// Joins the next piece to this one; what it retracts is taken off first.
  void append(ChatDelta next);
};

struct ChatResult {
  std::string id;           ///< of the request
  std::string done_reason;  ///< "stop", "length", "context", "loop", "cancelled", "load", "unload"
  /// What ended the thought: "model", "budget", "time", "user", "loop", "off"; empty: none began, or it did not end.
  std::string thinking_done_reason;
  double total_seconds = 0, load_seconds = 0;
  double prompt_seconds = 0, decode_seconds = 0;
  double first_token_seconds = 0;  ///< from the request to the first token (TTFT)
  int prompt_tokens = 0, cached_tokens = 0;
  int thinking_tokens = 0, answer_tokens = 0;   ///< of the model, tags and the end token not counted
  int output_tokens = 0;                        ///< all drawn tokens
  int drafted_tokens = 0, accepted_tokens = 0;  ///< drafts that were computed, and those that were right
  int context_length = 0;                       ///< limit this sequence had
  uint64_t seed = 0;                            ///< that was used
  std::vector<int32_t> context;                 ///< prompt and reply as token ids
  std::vector<std::string> warnings;            ///< for the person: options ignored, context lowered, ...
  std::string receipt_json;                     ///< if asked for: docs/receipts.md
  uint64_t memory_bytes = 0;                    ///< of the loaded model: weights, KV in use, scratch
  uint64_t bytes_per_token = 0;                 ///< read by one decoded token (weights), for GB/s
  std::string backend;                          ///< "cpu", "cuda": whose memory reads them
  /// How the vote went. Thinking and answer above are then the winner's; output_tokens are of all chains.
  std::optional<reason::VoteReport> vote;
};

/// Called from threads of the runtime; must be quick. Exactly one of on_done and on_error comes last.
struct ChatSink {
  std::function<void(double fraction)> on_load;
  std::function<void(int done, int total)> on_prefill;
  std::function<void(reason::VoteReport)> on_vote;  ///< progress of a vote; its text comes in the end, at once
  std::function<void(ChatDelta)> on_delta;
  std::function<void(ChatResult)> on_done;
  std::function<void(Error)> on_error;
};

/// A model in memory, for `ps`.
struct RunningModel {
  std::string name, digest;
  store::Details details;
  uint64_t size = 0;  ///< bytes in memory (weights, KV in use, scratch)
  uint64_t size_vram = 0;
  std::string processor;  ///< "100% CPU"
  int context_length = 0;
  int running = 0, waiting = 0;  ///< sequences
  int64_t expires_at = 0;        ///< seconds since 1970; 0: never
  std::string numerics_id, precision, kv_format, isa;
};

/// Everything `show` prints.
struct ShowResult {
  store::ModelInfo info;
  std::string path;  ///< of the GGUF file; empty when built in
  std::string modelfile, parameters, template_text, system, license;
  std::string template_source;  ///< "file", "built-in chatml", ...
  std::vector<std::string> capabilities;
  std::vector<std::pair<std::string, int>> thinking_levels;  ///< tokens of thought by level; -1: no limit
  std::string model_info_json;                               ///< object: GGUF metadata; long arrays only with `verbose`
  std::string tensors_json;                                  ///< array of {name, type, shape}, with `verbose`
  std::vector<std::string> notes;  ///< for the person: what the model is distilled from, defaults used, ...
};

}  // namespace ponder::runtime
