// Reading requests. What the two of Ollama's routes share comes first, then OpenAI's.
#include "server/requests.h"

#include <limits>
#include <optional>
#include <utility>

#include "chat/chat.h"
#include "runtime/think.h"
#include "runtime/vote_json.h"
#include "runtime/wire.h"
#include "server/fields.h"

namespace ponder::server {
namespace {

using json = nlohmann::ordered_json;  // templates print tool arguments in the order they came
namespace wire = runtime::wire;

constexpr int kMaxJsonDepth = 64;
constexpr int64_t kMaxJsonValues = 1'000'000;

// Looks at the brackets and commas outside strings. The parser itself copes with any depth; what walks the tree later
// may not, and a value of one byte of text costs many in memory.
const char* too_much(std::string_view text) {
  int depth = 0;
  int64_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return "the request body is nested more than 64 levels deep";
      ++values;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ',') {
      ++values;
    }
  }
  return values > kMaxJsonValues ? "the request body has more than a million values" : nullptr;
}

// Fields of ours that every dialect has: how the reply begins and what comes with it.
Result<void> read_own(const json& body, runtime::ChatRequest& r) {
  PONDER_TRY(r.receipt, extra_bool(body, "receipt", false));
  PONDER_TRY(r.keep_thoughts, extra_bool(body, "keep_thoughts", false));
  for (const char* name : {"continue", "continue_final_message"}) {
    if (extra_field(body, name) == nullptr) continue;
    PONDER_TRY(r.continue_last, extra_bool(body, name, true));
    if (r.continue_last && (r.messages.empty() || r.messages.back().role != "assistant"))
      return Error{ErrorCode::invalid_argument, std::string("\"") + name +
                                                    "\" is true, but the last message is not of the assistant: there "
                                                    "is nothing to continue"};
  }
  return {};
}

auto vote_field(const json& body) {
  const auto* v = extra_field(body, "vote");
  return runtime::parse_vote(v == nullptr ? json() : *v, "vote");
}

// Beside `options`, where it is one of them.
Result<std::optional<int>> draft_field(const json& value) {
  PONDER_TRY(const auto options, runtime::options_from_json({{"draft", value}}, nullptr));
  return options.draft;
}

// What chat and generate share.
Result<OllamaRequest> read_common(const json& body) {
  OllamaRequest request;
  runtime::ChatRequest& r = request.chat;
  PONDER_TRY(r.model, model_field(body));
  if (const auto* options = field(body, "options")) {
    PONDER_TRY(r.options, runtime::options_from_json(*options, &request.warnings));
  }
  if (const auto* draft = field(body, "draft")) {
    PONDER_TRY(r.options.draft, draft_field(*draft));
  }
  PONDER_TRY(r.think, runtime::think_of_body(body));
  PONDER_TRY(r.vote, vote_field(body));
  PONDER_TRY(r.id, request_id_field(body));
  if (const auto* keep = field(body, "keep_alive")) {
    PONDER_TRY(r.keep_alive, wire::parse_keep_alive(*keep));
  }
  PONDER_TRY(r.logprobs, bool_field(body, "logprobs", false));
  PONDER_TRY(r.top_logprobs, int_field(body, "top_logprobs", 0, 0, 20));
  if (const auto* format = field(body, "format");
      format != nullptr && !(format->is_string() && format->get_ref<const std::string&>().empty()))
    return Error{ErrorCode::unsupported,
                 "\"format\" (constrained output) is not supported by this version; leave it out"};
  if (const auto* tools = field(body, "tools"); tools != nullptr && !tools->empty())
    return Error{ErrorCode::unsupported,
                 "\"tools\" are not supported by this version: tool calls in a reply are not recognised yet"};
  PONDER_TRY(request.stream, bool_field(body, "stream", true));
  return request;
}

Error no_images() { return {ErrorCode::unsupported, "\"images\" are not supported: this program runs text models"}; }

// Names of this route that are options of ours under the same or another name.
constexpr std::pair<const char*, const char*> kOptionFields[] = {{"temperature", "temperature"},
                                                                 {"top_p", "top_p"},
                                                                 {"presence_penalty", "presence_penalty"},
                                                                 {"frequency_penalty", "frequency_penalty"},
                                                                 {"seed", "seed"},
                                                                 {"stop", "stop"},
                                                                 {"logit_bias", "logit_bias"},
                                                                 {"max_tokens", "num_predict"},
                                                                 {"max_completion_tokens", "num_predict"},
                                                                 {"top_k", "top_k"},
                                                                 {"min_p", "min_p"},
                                                                 {"repeat_penalty", "repeat_penalty"},
                                                                 {"num_ctx", "num_ctx"},
                                                                 {"draft", "draft"},
                                                                 {"speculative.n_max", "draft_num_predict"}};

// An error about an option, with the name that the client used.
Error in_words_of(Error error, const std::string& ours, const std::string& theirs) {
  const std::string quoted = "\"" + ours + "\"";
  if (const size_t at = error.message.find(quoted); at != std::string::npos)
    error.message.replace(at + 1, ours.size(), theirs);
  return error;
}

}  // namespace

Result<json> parse_body(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return Error{ErrorCode::invalid_argument, "missing request body"};
  if (const char* why = too_much(text)) return Error{ErrorCode::invalid_argument, why};
  json body = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (body.is_discarded()) return Error{ErrorCode::invalid_argument, "the request body is not valid JSON"};
  if (!body.is_object()) return Error{ErrorCode::invalid_argument, "the request body must be a JSON object"};
  return body;
}

Result<OllamaRequest> read_chat(const json& body) {
  PONDER_TRY(auto request, read_common(body));
  const auto* messages = field(body, "messages");
  if (messages == nullptr) return request;  // load only
  if (!messages->is_array()) return wrong_field("messages", "a list", *messages);
  for (const auto& m : *messages) {
    if (!m.is_object()) continue;
    if (const auto* images = field(m, "images"); images != nullptr && !images->empty()) return no_images();
  }
  PONDER_TRY(request.chat.messages, chat::messages_from_json(*messages));
  PONDER_CHECK_OK(read_own(body, request.chat));
  return request;
}

Result<OllamaRequest> read_generate(const json& body) {
  PONDER_TRY(auto request, read_common(body));
  runtime::ChatRequest& r = request.chat;
  PONDER_TRY(const auto prompt, string_field(body, "prompt"));
  PONDER_TRY(const auto system, string_field(body, "system"));
  PONDER_TRY(const auto suffix, string_field(body, "suffix"));
  PONDER_TRY(const auto override_template, string_field(body, "template"));
  PONDER_TRY(const bool raw, bool_field(body, "raw", false));
  PONDER_TRY(r.receipt, extra_bool(body, "receipt", false));
  if (!suffix.empty()) return Error{ErrorCode::invalid_argument, "\"" + r.model + "\" does not support insert"};
  if (!override_template.empty())
    return Error{ErrorCode::unsupported,
                 "\"template\" is not supported: the model's own template is used; send \"raw\": true to write the "
                 "prompt yourself"};
  if (const auto* images = field(body, "images"); images != nullptr && !images->empty()) return no_images();
  if (const auto* context = field(body, "context")) {
    if (!context->is_array()) return wrong_field("context", "a list of token ids", *context);
    for (const auto& id : *context) {
      if (!id.is_number_integer()) return wrong_field("context", "a list of token ids", id);
      const int64_t value = id.get<int64_t>();
      if (value < 0 || value > std::numeric_limits<int32_t>::max())
        return Error{ErrorCode::invalid_argument, "\"context\" holds " + id.dump() + ", which is not a token id"};
      r.context.push_back(int32_t(value));
    }
  }
  if (raw) {
    if (!system.empty() || !r.context.empty())
      return Error{ErrorCode::invalid_argument, "raw mode does not support template, system, or context"};
    r.raw_prompt = prompt;
    if (prompt.empty()) r.raw_prompt.reset();
    return request;
  }
  if (prompt.empty() && system.empty()) return request;  // load only
  const auto add = [&](const char* role, const std::string& content) {
    chat::Message m;
    m.role = role;
    m.content = content;
    r.messages.push_back(std::move(m));
  };
  if (!system.empty()) add("system", system);
  if (!prompt.empty()) add("user", prompt);
  return request;
}

Result<CompletionRequest> read_chat_completion(const json& body) {
  CompletionRequest r;
  PONDER_TRY(r.chat.model, model_field(body));
  const auto* messages = field(body, "messages");
  if (messages == nullptr || !messages->is_array() || messages->empty())
    return Error{ErrorCode::invalid_argument, "\"messages\" must be a list with at least one message"};
  PONDER_TRY(r.chat.messages, chat::messages_from_json(*messages));
  PONDER_TRY(r.stream, bool_field(body, "stream", false));
  if (const auto* options = field(body, "stream_options")) {
    if (!options->is_object()) return wrong_field("stream_options", "an object", *options);
    PONDER_TRY(r.include_usage, bool_field(*options, "include_usage", false));
  }
  if (const auto* options = field(body, "options")) {  // Ollama's object works here too
    PONDER_TRY(r.chat.options, runtime::options_from_json(*options, &r.warnings));
  }
  for (const auto& [theirs, ours] : kOptionFields) {
    const auto* v = field(body, theirs);
    if (v == nullptr) continue;
    const json one = {{ours, *v}};
    auto option = runtime::options_from_json(one, nullptr);
    if (!option.ok()) return in_words_of(option.error(), ours, theirs);
    r.chat.options.merge(*option);
  }
  PONDER_TRY(r.chat.think, runtime::think_of_body(body));
  PONDER_TRY(r.chat.vote, vote_field(body));
  PONDER_TRY(r.chat.id, request_id_field(body));
  PONDER_CHECK_OK(read_own(body, r.chat));
  PONDER_TRY(r.chat.logprobs, bool_field(body, "logprobs", false));
  PONDER_TRY(r.chat.top_logprobs, int_field(body, "top_logprobs", 0, 0, 20));
  if (const auto* keep = field(body, "keep_alive")) {
    PONDER_TRY(r.chat.keep_alive, wire::parse_keep_alive(*keep));
  }
  PONDER_TRY(const int n, int_field(body, "n", 1, 1, 1 << 20));
  if (n != 1)
    return Error{
        ErrorCode::unsupported,
        "\"n\" above 1 is not supported: one reply comes back; for the answer of several chains send \"vote\""};
  if (const auto* tools = field(body, "tools"); tools != nullptr && !tools->empty())
    return Error{ErrorCode::unsupported,
                 "\"tools\" are not supported by this version: tool calls in a reply are not recognised yet"};
  if (const auto* format = field(body, "response_format")) {
    if (!format->is_object()) return wrong_field("response_format", "an object", *format);
    if (const auto* type = field(*format, "type"); type == nullptr || *type != "text")
      return Error{ErrorCode::unsupported,
                   "\"response_format\" other than {\"type\": \"text\"} is not supported by this version"};
  }
  return r;
}

Result<ControlRequest> read_control(const json& body) {
  ControlRequest r;
  PONDER_TRY(r.id, string_field(body, "request_id"));
  if (r.id.empty()) {
    PONDER_TRY(r.id, string_field(body, "id"));
  }
  if (r.id.empty())
    return Error{ErrorCode::invalid_argument, "\"request_id\" is missing: the id of the request to steer"};
  PONDER_TRY(r.control.action, string_field(body, "action"));
  if (r.control.action == "reasoning_end") r.control.action = "answer";
  PONDER_TRY(r.control.text, string_field(body, "text"));
  PONDER_TRY(r.control.tokens, int_field(body, "tokens", 0, 0, std::numeric_limits<int>::max()));
  return r;
}

Result<ReplayRequest> read_replay(const json& body) {
  ReplayRequest r;
  auto receipts = runtime::receipts_from(nlohmann::json(body));
  // What is wrong with a file is here something that the client can mend.
  if (!receipts.ok()) return Error{ErrorCode::invalid_argument, receipts.error().message};
  r.receipts = std::move(*receipts);
  // Beside a receipt "model" says which model to use; a bare receipt's own is an object with its name and digest.
  r.model = r.receipts.chains[0].model;
  if (const auto* model = field(body, "model"); model != nullptr && !model->is_object()) {
    PONDER_TRY(r.model, string_field(body, "model", r.model));
  }
  PONDER_TRY(r.force, bool_field(body, "force", false));
  return r;
}

}  // namespace ponder::server
