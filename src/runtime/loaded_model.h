// A model as a person sees it: file, vocabulary, template, defaults, and the engine that runs it. Opening reads only
// metadata (show, render, tokenize need no more); start() places the weights.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "chat/chat.h"
#include "engine/engine.h"
#include "gguf/gguf.h"
#include "model/model.h"
#include "runtime/client.h"
#include "runtime/drafting.h"
#include "runtime/types.h"
#include "store/store.h"
#include "tokenizer/tokenizer.h"

namespace ponder::runtime {

/// Where a reply begins that continues a message the client began.
enum class Continuation : uint8_t { none, thought, content };

/// File, vocabulary, template and defaults of a model; nothing of size in memory.
struct OpenModel {
  store::Model stored;                                    ///< where it came from
  std::shared_ptr<const gguf::File> file;                 // shared with model and tokenizer
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;  // shared with every reply
  std::shared_ptr<const chat::Template> chat_template;    // shared with show
  std::string template_source;                            ///< "file" or "built-in chatml"
  std::string why_no_template;                            ///< when there is none
  std::optional<chat::ThinkingTags> thinking;             ///< set when the model thinks
  bool opens_thought = false;                             ///< replies are to begin inside a thought (R1)
  Options defaults;                                       ///< the model's own over the house's
  std::vector<std::string> notes;                         ///< for the person

  /// Whether the reply to this request goes on from the request's last message, and where.
  Continuation continuation_of(const ChatRequest& request) const;
  /// The request's messages with those of the model (MESSAGE lines of a Modelfile) before them, after its system message.
  /// A context of generate has them already.
  Result<std::vector<chat::Message>> chat_of(const ChatRequest& request) const;
  /// The prompt as segments; errors as the template raises them.
  Result<std::vector<tokenizer::Segment>> render(const ChatRequest& request) const;
};

/// True when `model` is the path of a file and not a model's name: a bare word is a name unless it ends in .gguf, and
/// what reads as an address or as a hub's file is a path only where that file is.
bool is_path(const std::string& model);

/// Opens a name of the store or (if `allow_path`) the path of a GGUF file.
Result<std::shared_ptr<const OpenModel>> open_model(const store::Store& store, const std::string& name_or_path,
                                                    bool allow_path);

/// An open model with its weights placed and its engine running.
class LoadedModel {
 public:
  static Result<std::unique_ptr<LoadedModel>> load(std::shared_ptr<const OpenModel> open, const RuntimeOptions& options,
                                                   int min_context, const std::function<void(double)>& progress,
                                                   const CancelFlag* cancel);

  const OpenModel& open() const { return *open_; }
  engine::Engine& engine() { return *engine_; }
  const engine::Engine& engine() const { return *engine_; }
  int context_limit() const { return context_limit_; }      ///< most that one sequence may have here
  int default_context() const { return default_context_; }  ///< when num_ctx is not given
  double load_seconds() const { return load_seconds_; }
  /// For one sequence of a client; null when nothing is to be drafted. Thread-safe.
  std::shared_ptr<engine::Drafter> drafter(const std::string& client, std::optional<int> most) const {
    return drafting_.drafter(client, most.value_or(draft_));
  }
  uint64_t memory_bytes() const;  ///< weights, KV pages in use, scratch
  /// SHA-256 of the model's file; the first call may read all of it. Thread-safe.
  const std::string& digest() const;

 private:
  std::shared_ptr<const OpenModel> open_;  // shared with replies in flight
  std::unique_ptr<engine::Engine> engine_;
  int context_limit_ = 0, default_context_ = 0;
  double load_seconds_ = 0;
  mutable Drafting drafting_;
  int draft_ = kDraftAuto;  // when a request does not say
  mutable std::once_flag digest_once_;
  mutable std::string digest_;
};

}  // namespace ponder::runtime
