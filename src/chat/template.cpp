// The public Template: a parsed program, what it can do, and rendering. The language itself lies in
// jinja/.
#include <chrono>
#include <functional>
#include <set>

#include "base/utf8.h"
#include "chat/chat.h"
#include "chat/jinja/evaluator.h"
#include "chat/jinja/parser.h"
#include "chat/template_input.h"

namespace ponder::chat {
namespace {

using namespace jinja;

constexpr size_t kMaxSource = 1 << 20;

// Calls `see` for every expression of the tree and `bind` for every name that the template itself
// gives a value.
class Walker {
 public:
  std::function<void(const Expr&)> see;
  std::function<void(int)> bind;

  void walk(const Body& body) {
    for (const Stmt& s : body) {
      walk(s.expr);
      walk(s.condition);
      walk(s.target);
      if (s.symbol >= 0) bind(s.symbol);
      for (const Parameter& p : s.parameters) {
        bind(p.symbol);
        walk(p.default_value);
      }
      for (const auto& [target, value] : s.assignments) {
        walk(target);
        walk(value);
      }
      walk(s.body);
      walk(s.else_body);
      for (const Stmt::Branch& branch : s.branches) {
        walk(branch.condition);
        walk(branch.body);
      }
    }
  }

 private:
  void walk(const ExprPtr& e) {
    if (e == nullptr) return;
    see(*e);
    for (const ExprPtr& child : e->children) walk(child);
    if (e->arguments == nullptr) return;
    for (const ExprPtr& child : e->arguments->positional) walk(child);
    for (const auto& named : e->arguments->named) walk(named.second);
    walk(e->arguments->rest);
    walk(e->arguments->rest_named);
  }

  void walk(const Target& t) {
    if (t.symbol >= 0 && t.attribute.empty()) bind(t.symbol);
    for (const Target& inner : t.several) walk(inner);
  }
};

TemplateTraits traits_of(const Program& program) {
  TemplateTraits traits;
  std::set<int> read, bound;
  Walker walker;
  walker.bind = [&](int symbol) { bound.insert(symbol); };
  walker.see = [&](const Expr& e) {
    if (e.kind == ExprKind::name) read.insert(e.symbol);
  };
  walker.walk(program.body);
  const auto reads = [&](std::string_view name, bool even_if_bound) {
    const int symbol = program.find(name);
    return symbol >= 0 && read.count(symbol) > 0 && (even_if_bound || bound.count(symbol) == 0);
  };
  traits.reads_enable_thinking = reads("enable_thinking", true);
  traits.reads_thinking = reads("thinking", false);
  traits.reads_tools = reads("tools", true);
  return traits;
}

class JinjaTemplate : public Template {
 public:
  JinjaTemplate(std::string source, std::shared_ptr<const Program> program)
      : source_(std::move(source)), program_(std::move(program)), traits_(traits_of(*program_)) {
    probe();
  }

  Result<std::vector<tokenizer::Segment>> render(const RenderInput& input, const RenderLimits& limits) const override {
    int64_t now = 0;
    if (input.date) {
      now = *input.date;
    } else {
      using std::chrono::system_clock;
      now = std::chrono::duration_cast<std::chrono::seconds>(system_clock::now().time_since_epoch()).count();
    }
    Evaluator evaluator(*program_, limits, now);
    PONDER_TRY(Value messages, messages_value(input.messages, traits_));
    evaluator.set("messages", std::move(messages));
    Value tools = traits_.absent_tools_undefined ? Value() : Value(None{});
    if (!input.tools_json.empty()) {
      Result<Value> parsed = from_json(input.tools_json, Origin::user);
      if (!parsed) return parsed.error().with_context("tools");
      if (!parsed->is_list() && !parsed->is_none())
        return Error{ErrorCode::invalid_argument, "tools: must be a JSON array"};
      if (truthy(*parsed)) tools = std::move(*parsed);
    }
    evaluator.set("tools", std::move(tools));
    evaluator.set("documents", None{});
    evaluator.set("add_generation_prompt", input.add_generation_prompt);
    evaluator.set("bos_token", Value::literal(utf8::sanitize(input.bos_token)));
    evaluator.set("eos_token", Value::literal(utf8::sanitize(input.eos_token)));
    if (input.enable_thinking) {
      evaluator.set("enable_thinking", *input.enable_thinking);
      if (!traits_.reads_enable_thinking && traits_.reads_thinking) evaluator.set("thinking", *input.enable_thinking);
    }
    for (const auto& [name, json] : input.variables) {
      Result<Value> value = from_json(json, Origin::user);
      if (!value) return value.error().with_context("template variable '" + name + "'");
      evaluator.set(name, std::move(*value));
    }
    PONDER_TRY(const Text text, evaluator.run());
    return text.segments();
  }

  const std::string& source() const override { return source_; }
  bool supports_tools() const override { return supports_tools_; }
  bool reads_enable_thinking() const override { return traits_.reads_enable_thinking || traits_.reads_thinking; }

 private:
  std::optional<std::string> tried(const RenderInput& input) const {
    const auto result = render(input, RenderLimits{200'000, 1 << 20, 400});
    return result ? std::optional(chat::to_text(*result)) : std::nullopt;
  }

  static Message message(std::string role, std::string content) {
    Message m;
    m.role = std::move(role);
    m.content = std::move(content);
    return m;
  }

  // Renders small conversations to find out what the template can do and which forms it wants
  // (TemplateTraits).
  void probe() {
    RenderInput input;
    input.date = 0;
    input.messages = {message("user", "zq_question")};
    if (!tried(input)) {
      traits_.absent_tools_undefined = true;
      if (!tried(input)) traits_.absent_tools_undefined = false;
    }
    // Reading `tools` is not enough (some only check that it is empty): a tool's name must appear
    // in the prompt.
    input.tools_json =
        R"([{"type":"function","function":{"name":"zq_tool","description":"d","parameters":{"type":"object",)"
        R"("properties":{"a":{"type":"string","description":"d"}},"required":["a"]}}}])";
    const auto text = tried(input);
    supports_tools_ = traits_.reads_tools && text && text->find("zq_tool") != std::string::npos;
    Message call = message("assistant", "");
    call.tool_calls = {{"zqcall001", "zq_called", R"({"a":"zq_value"})"}};
    Message reply = message("tool", "zq_reply");
    reply.tool_name = "zq_called";
    reply.tool_call_id = "zqcall001";
    input.messages.push_back(std::move(call));
    input.messages.push_back(std::move(reply));
    const TemplateTraits before = traits_;
    for (const bool as_text : {false, true}) {
      for (const bool none : {false, true}) {
        traits_.arguments_as_text = as_text;
        traits_.none_content = none;
        const auto shown = tried(input);
        if (shown && shown->find("zq_called") != std::string::npos && shown->find("zq_value") != std::string::npos)
          return;
      }
    }
    traits_ = before;
  }

  const std::string source_;
  const std::shared_ptr<const Program> program_;  // shared: parse() hands it out so
  TemplateTraits traits_;
  bool supports_tools_ = false;
};

}  // namespace

Result<std::shared_ptr<const Template>> Template::compile(std::string_view source) {
  if (source.size() > kMaxSource) return Error{ErrorCode::invalid_file, "the chat template is larger than 1 MiB"};
  PONDER_TRY(std::shared_ptr<const Program> program, parse(source));
  return std::shared_ptr<const Template>(std::make_shared<JinjaTemplate>(std::string(source), std::move(program)));
}

std::string to_text(const std::vector<tokenizer::Segment>& segments) {
  std::string text;
  for (const tokenizer::Segment& s : segments) text += s.text;
  return text;
}

}  // namespace ponder::chat
