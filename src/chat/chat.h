// Conversations to prompts: messages, tools and the model's own Jinja template give a list of
// segments in which every character knows whether the template or the user wrote it. Only template
// text may become control tokens. Sources: Jinja2's documentation (semantics), the templates
// published with the models (features needed).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace ponder::chat {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  ///< JSON text of an object
};

struct Message {
  std::string role;  ///< "system", "user", "assistant", "tool"
  std::string content;
  std::string thinking;  ///< of an assistant's earlier turn; most templates drop it
  std::vector<ToolCall> tool_calls;
  std::string tool_name;  ///< of a tool's reply
  std::string tool_call_id;
};

/// Messages and tools as OpenAI-style JSON (an array of {role, content, ...}); errors name the
/// index and the field. Roles are the four above, in either case; OpenAI's "developer" reads as
/// "system". Prefer ordered_json: the arguments of earlier tool calls keep the order of their keys
/// then.
Result<std::vector<Message>> messages_from_json(const nlohmann::json& array);
Result<std::vector<Message>> messages_from_json(const nlohmann::ordered_json& array);

struct RenderInput {
  std::vector<Message> messages;
  std::string tools_json;  ///< JSON array text, or empty
  bool add_generation_prompt = true;
  std::optional<bool> enable_thinking;  ///< variable `enable_thinking` of templates that know it
  std::string bos_token, eos_token;
  /// Extra template variables: name and JSON value.
  std::vector<std::pair<std::string, std::string>> variables;
  /// For strftime_now (which shows UTC); seconds since the epoch (UTC), or now when empty.
  std::optional<int64_t> date;
};

struct RenderLimits {
  uint64_t max_steps = 2'000'000;            ///< evaluated nodes and loop turns
  uint64_t max_output = uint64_t(64) << 20;  ///< bytes
  int max_depth = 400;                       ///< nesting of expressions, blocks and macro calls together
};

/// A compiled template. Compiling and rendering never throw and never run away; errors carry line
/// and column.
class Template {
 public:
  static Result<std::shared_ptr<const Template>> compile(std::string_view source);
  virtual ~Template() = default;
  virtual Result<std::vector<tokenizer::Segment>> render(const RenderInput& input,
                                                         const RenderLimits& limits = {}) const = 0;
  virtual const std::string& source() const = 0;
  /// What the template can do, found by reading and probing it.
  virtual bool supports_tools() const = 0;
  virtual bool reads_enable_thinking() const = 0;
};

/// The built-in template for a file that has none, chosen by architecture and vocabulary; an Error
/// that says what to do if nothing fits. `name` (for the note to the user) is one of "chatml",
/// "llama3", "deepseek-r1", ...
struct BuiltinTemplate {
  std::string name;
  std::string_view source;
};
Result<BuiltinTemplate> builtin_template(std::string_view architecture, const tokenizer::Tokenizer& vocabulary);

/// All segments joined.
std::string to_text(const std::vector<tokenizer::Segment>& segments);

/// How a model marks its chain of thought.
struct ThinkingTags {
  std::vector<tokenizer::TokenId> open,
      close;                          ///< one or several tokens each; close is never empty
  std::string open_text, close_text;  ///< "<think>", "</think>"
};
/// Found in the vocabulary and the template; nullopt for a model that does not think.
std::optional<ThinkingTags> find_thinking_tags(const Template& chat_template, const tokenizer::Tokenizer& vocabulary);

/// Where a piece of generated text belongs.
enum class Channel : uint8_t { thinking, content };

struct SplitPiece {
  Channel channel;
  std::string text;  ///< whole characters; empty when only tokens are left to report at the end of
                     ///< a channel
  int n_tokens = 0;  ///< model tokens that this piece accounts for; all pieces together account for
                     ///< every token once
};

/// Splits a stream of tokens into thought and answer. Every byte is kept but these: the tags;
/// newlines directly after the opening tag (or at the start, if the template opened the thought);
/// newlines directly before and directly after the closing tag; and white space before an opening
/// tag with which the model begins its output. A thought can begin only at the start of the output,
/// and there is one: later tags are text. A tag of one token is recognised by its id. A tag that
/// the vocabulary has to spell is recognised by its bytes, however the model cuts it; a partial one
/// that goes on differently is text. Tokens with a byte of a tag are not counted, all others are,
/// dropped newlines included.
class ThinkingSplitter {
 public:
  /// `tags` empty: everything is content. `starts_inside`: the template already opened the thought.
  /// `continues`: the thought's first words stand in the prompt, so newlines at the start are text.
  ThinkingSplitter(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::optional<ThinkingTags> tags,
                   bool starts_inside, bool continues = false);
  ~ThinkingSplitter();
  ThinkingSplitter(ThinkingSplitter&&) noexcept;
  ThinkingSplitter& operator=(ThinkingSplitter&&) noexcept;

  std::vector<SplitPiece> push(tokenizer::TokenId id);
  std::vector<SplitPiece> finish();

  bool inside_thought() const;  ///< the next token belongs to the thought
  int thinking_tokens() const;  ///< model tokens so far, tags not counted
  int answer_tokens() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// True when the rendered prompt ends inside an open thought (its last tokens are the opening tag
/// and white space).
bool ends_inside_thought(const std::vector<tokenizer::Segment>& prompt, const ThinkingTags& tags);

/// What stands in place of a thought when the model shall not think: "<think>\n\n</think>\n\n", or with a sentence
/// "<think>\nSENTENCE\n</think>\n\n" (Ma et al. 2025, arXiv 2504.09858, "NoThinking").
std::string empty_thought(const ThinkingTags& tags, std::string_view sentence = {});
/// The prompt with that written in advance, exactly once: after an opening tag that the template
/// wrote (R1:
/// "<｜Assistant｜><think>\n"), at the end where it wrote none (Qwen3), not at all where it closed
/// the thought itself. For thinking on there is no counterpart: a template that does not open the
/// thought leaves that to its model.
std::vector<tokenizer::Segment> close_thought(std::vector<tokenizer::Segment> prompt, const ThinkingTags& tags,
                                              std::string_view sentence = {});

}  // namespace ponder::chat
