// Messages from OpenAI-style JSON, and from there to what a template sees. The two halves lie
// together because they are each other's inverse: a field added to one belongs into the other.
#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "base/utf8.h"
#include "chat/jinja/context.h"
#include "chat/template_input.h"

namespace ponder::chat {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::None;
using jinja::Origin;
using jinja::Text;
using jinja::Value;

constexpr size_t kMaxMessages = 100'000;

// Templates leave out messages of roles that they do not know, without a word. So only the four that they share are read,
// and OpenAI's later word for one of them.
std::string known_role(const std::string& written) {
  const std::string role = ascii::lower(written);  // as Ollama reads it
  if (role == "developer") return "system";
  for (const char* known : {"system", "user", "assistant", "tool"})
    if (role == known) return role;
  return {};
}

// Reads the fields of one message; every error begins with "messages[i].field: ".
template <class Json>
class Reader {
 public:
  Reader(const Json& message, size_t index) : message_(message), where_("messages[" + std::to_string(index) + "]") {}

  Result<Message> read() {
    if (!message_.is_object()) return fail("", "must be an object with role and content");
    Message m;
    PONDER_TRY(m.role, text(message_, "role", "role", true));
    const std::string role = known_role(m.role);
    if (role.empty())
      return fail("role", "is \"" + utf8::sanitize(m.role.substr(0, 40)) +
                              "\"; known are system (or developer), user, assistant and tool");
    m.role = role;
    PONDER_TRY(m.content, content());
    for (const char* field : {"reasoning_content", "thinking", "reasoning"}) {
      PONDER_TRY(m.thinking, text(message_, field, field, false));
      if (!m.thinking.empty()) break;
    }
    PONDER_TRY(m.tool_calls, tool_calls());
    PONDER_TRY(m.tool_call_id, text(message_, "tool_call_id", "tool_call_id", false));
    PONDER_TRY(m.tool_name, text(message_, "tool_name", "tool_name", false));
    if (m.tool_name.empty()) {
      PONDER_TRY(m.tool_name, text(message_, "name", "name", false));
    }
    return m;
  }

 private:
  Error fail(const std::string& field, std::string_view message) const {
    return Error{ErrorCode::invalid_argument,
                 where_ + (field.empty() ? "" : "." + field) + ": " + std::string(message)};
  }

  // A string field; absent and null are "".
  Result<std::string> text(const Json& object, const char* key, const std::string& path, bool required) const {
    const auto it = object.find(key);
    if (it == object.end())
      return required ? Result<std::string>(fail(path, "is missing")) : Result<std::string>(std::string());
    if (it->is_null() && !required) return std::string();
    if (!it->is_string()) return fail(path, "must be a string");
    return it->template get<std::string>();
  }

  Result<std::string> content() const {
    const auto it = message_.find("content");
    if (it == message_.end() || it->is_null()) return std::string();
    if (it->is_string()) return it->template get<std::string>();
    if (!it->is_array())
      return fail("content", "must be a string or an array of {\"type\": \"text\", \"text\": ...} parts");
    std::string joined;
    for (size_t i = 0; i < it->size(); ++i) {
      const Json& part = (*it)[i];
      const std::string path = "content[" + std::to_string(i) + "]";
      if (part.is_string()) {
        joined += part.template get<std::string>();
        continue;
      }
      if (!part.is_object()) return fail(path, "must be an object with type and text");
      PONDER_TRY(const std::string type, text(part, "type", path + ".type", false));
      if (type != "text" && type != "input_text" && type != "output_text" && !(type.empty() && part.contains("text"))) {
        return fail(path + ".type", "is \"" + type + "\"; this model reads text only");
      }
      PONDER_TRY(const std::string piece, text(part, "text", path + ".text", true));
      joined += piece;
    }
    return joined;
  }

  Result<std::vector<ToolCall>> tool_calls() const {
    std::vector<ToolCall> calls;
    const auto it = message_.find("tool_calls");
    if (it == message_.end() || it->is_null()) return calls;
    if (!it->is_array()) return fail("tool_calls", "must be an array");
    for (size_t i = 0; i < it->size(); ++i) {
      const Json& item = (*it)[i];
      const std::string path = "tool_calls[" + std::to_string(i) + "]";
      if (!item.is_object()) return fail(path, "must be an object with a function");
      const auto function = item.find("function");
      if (function == item.end() || !function->is_object())
        return fail(path + ".function", "must be an object with name and arguments");
      ToolCall call;
      PONDER_TRY(call.id, text(item, "id", path + ".id", false));
      PONDER_TRY(call.name, text(*function, "name", path + ".function.name", true));
      const auto arguments = function->find("arguments");
      if (arguments == function->end() || arguments->is_null()) {
        call.arguments = "{}";
      } else if (arguments->is_object()) {
        call.arguments = arguments->dump(-1, ' ', false, Json::error_handler_t::replace);
      } else if (arguments->is_string()) {
        call.arguments = arguments->template get<std::string>();
        if (call.arguments.empty()) call.arguments = "{}";
        if (!Json::parse(call.arguments, nullptr, false).is_object()) {
          return fail(path + ".function.arguments", "must be an object, or a string that holds a JSON object");
        }
      } else {
        return fail(path + ".function.arguments", "must be an object, or a string that holds a JSON object");
      }
      calls.push_back(std::move(call));
    }
    return calls;
  }

  const Json& message_;
  const std::string where_;
};

template <class Json>
Result<std::vector<Message>> read_messages(const Json& array) {
  if (!array.is_array())
    return Error{ErrorCode::invalid_argument, "messages: must be an array of {\"role\": ..., \"content\": ...}"};
  if (array.size() > kMaxMessages)
    return Error{ErrorCode::invalid_argument, "messages: more than " + std::to_string(kMaxMessages)};
  std::vector<Message> messages;
  for (size_t i = 0; i < array.size(); ++i) {
    PONDER_TRY(Message m, Reader<Json>(array[i], i).read());
    messages.push_back(std::move(m));
  }
  return messages;
}

Value user_text(const std::string& text) { return Value(Text(utf8::sanitize(text), Origin::user)); }

Result<Value> tool_calls_value(const std::vector<ToolCall>& calls, const TemplateTraits& traits) {
  List list;
  for (size_t i = 0; i < calls.size(); ++i) {
    Dict function;
    function.put("name", user_text(calls[i].name));
    Result<Value> arguments =
        jinja::from_json(calls[i].arguments.empty() ? "{}" : std::string_view(calls[i].arguments), Origin::user);
    if (!arguments) return arguments.error().with_context("tool_calls[" + std::to_string(i) + "].function.arguments");
    function.put("arguments", traits.arguments_as_text ? user_text(calls[i].arguments) : std::move(*arguments));
    Dict call;
    if (!calls[i].id.empty()) call.put("id", user_text(calls[i].id));
    call.put("type", Value::literal("function"));
    call.put("function", Value(std::move(function)));
    list.items.emplace_back(std::move(call));
  }
  return Value(std::move(list));
}

}  // namespace

Result<std::vector<Message>> messages_from_json(const nlohmann::json& array) { return read_messages(array); }
Result<std::vector<Message>> messages_from_json(const nlohmann::ordered_json& array) { return read_messages(array); }

Result<Value> messages_value(const std::vector<Message>& messages, const TemplateTraits& traits) {
  List list;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& m = messages[i];
    Dict dict;
    dict.put("role", user_text(m.role));
    const bool none = m.content.empty() && !m.tool_calls.empty() && traits.none_content;
    dict.put("content", none ? Value(None{}) : user_text(m.content));
    if (!m.thinking.empty()) dict.put("reasoning_content", user_text(m.thinking));
    if (!m.tool_calls.empty()) {
      Result<Value> calls = tool_calls_value(m.tool_calls, traits);
      if (!calls) return calls.error().with_context("messages[" + std::to_string(i) + "]");
      dict.put("tool_calls", std::move(*calls));
    }
    if (!m.tool_name.empty()) dict.put("name", user_text(m.tool_name));
    if (!m.tool_call_id.empty()) dict.put("tool_call_id", user_text(m.tool_call_id));
    list.items.emplace_back(std::move(dict));
  }
  return Value(std::move(list));
}

}  // namespace ponder::chat
