// The language case by case (tests/cases/template/*.case, verified against Jinja2 by tools/make-golden/templates.py),
// limits, provenance through every operation, messages from JSON.
#include <filesystem>

#include <nlohmann/json.hpp>

#include "chat/test_support.h"

namespace ponder::chat {
namespace {

constexpr int64_t kDate = 1767323045;  // the date of templates.py

Result<std::vector<tokenizer::Segment>> render(const std::string& source, const std::string& variables_json,
                                               const RenderLimits& limits = {}) {
  PONDER_TRY(const auto compiled, Template::compile(source));
  RenderInput input;
  input.date = kDate;
  const auto variables = nlohmann::ordered_json::parse(variables_json.empty() ? "{}" : variables_json, nullptr, false);
  EXPECT_TRUE(variables.is_object()) << variables_json;
  for (const auto& [name, value] : variables.items()) input.variables.emplace_back(name, value.dump());
  return compiled->render(input, limits);
}

TEST(TemplateCases, AllHold) {
  int n = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PONDER_SOURCE_DIR) + "/tests/cases/template")) {
    if (entry.path().extension() != ".case") continue;
    SCOPED_TRACE(entry.path().filename().string());
    ++n;
    auto c = test::read_case(entry.path().string());
    ASSERT_TRUE(c.count("template") == 1 && c.count("expected") + c.count("error") == 1);
    const auto result = render(c["template"], c["input"]);
    if (c.count("error") == 1) {
      ASSERT_FALSE(result) << "rendered " << to_text(*result);
      EXPECT_NE(result.error().message.find(c["error"]), std::string::npos) << result.error().message;
      EXPECT_TRUE(result.error().message.starts_with("template line ")) << result.error().message;
    } else {
      ASSERT_TRUE(result) << result.error().message;
      EXPECT_EQ(to_text(*result), c["expected"]);
    }
  }
  EXPECT_GT(n, 70);
}

// "T" and "U" before each run: template, user.
std::string marked(const std::string& source, const std::string& variables) {
  const auto result = render(source, variables);
  if (!result) return result.error().message;
  std::string out;
  for (const auto& s : *result) out += (s.from_template ? "T(" : "U(") + s.text + ")";
  return out;
}

TEST(Provenance, ThroughEveryOperation) {
  const std::string v = R"({"u": "ab<x>", "n": 5, "d": {"k": "v"}, "l": ["p", "q"]})";
  const auto m = [&](const std::string& source) { return marked(source, v); };
  EXPECT_EQ(m("<s>{{ u }}</s>"), "T(<s>)U(ab<x>)T(</s>)");
  EXPECT_EQ(m("{{ '[' + u + ']' }}"), "T([)U(ab<x>)T(])");
  EXPECT_EQ(m("{{ '[' ~ u ~ n }}"), "T([)U(ab<x>)T(5)");
  EXPECT_EQ(m("{{ ('T' + u + 'T')[0:3] }}"), "T(T)U(ab)");
  EXPECT_EQ(m("{{ ('TT' + u)[::-1] }}"), "U(>x<ba)T(TT)");
  EXPECT_EQ(m("{{ (' t ' + u + ' t ').strip() }}"), "T(t )U(ab<x>)T( t)");
  EXPECT_EQ(m("{{ u.replace('<', '{<}') }}"), "U(ab)T({<})U(x>)");
  EXPECT_EQ(m("{{ 'a-b' | replace('-', u) }}"), "T(a)U(ab<x>)T(b)");
  EXPECT_EQ(m("{{ u.split('<')[1] }}{{ 'T' }}"), "U(x>)T(T)");
  EXPECT_EQ(m("{{ l | join('<sep>') }}"), "U(p)T(<sep>)U(q)");
  EXPECT_EQ(m("{{ u.join(['1', '2']) }}"), "T(1)U(ab<x>)T(2)");
  EXPECT_EQ(m("{{ ('t' + u) | upper }}{{ ('t' + u).title() }}"), "T(T)U(AB<X>)T(T)U(ab<X>)");
  EXPECT_EQ(m("{{ u | tojson }}"), "T(\")U(ab<x>)T(\")");
  EXPECT_EQ(m("{{ d | tojson }}"), "T({\")U(k)T(\": \")U(v)T(\"})");
  EXPECT_EQ(m("{{ d }}"), "T({')U(k)T(': ')U(v)T('})");
  EXPECT_EQ(m("{{ '<%s>' | format(u) }}{{ '<{}>'.format(u) }}"), "T(<)U(ab<x>)T(><)U(ab<x>)T(>)");
  EXPECT_EQ(m("{{ u | indent(2, true) }}"), "T(  )U(ab<x>)");
  EXPECT_EQ(m("{{ u.center(9, '*') }}{{ u | center(9) }}"), "T(**)U(ab<x>)T(**  )U(ab<x>)T(  )");
  EXPECT_EQ(m("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(u) }}{{ f(u) | trim }}"), "T([)U(ab<x>)T(][)U(ab<x>)T(])");
  EXPECT_EQ(m("{% set x %}[{{ u }}]{% endset %}{{ x }}{% filter upper %}a{{ u }}{% endfilter %}"),
            "T([)U(ab<x>)T(]A)U(AB<X>)");
  EXPECT_EQ(m("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}{{ u }}{% endcall %}"), "T(<)U(ab<x>)T(>)");
  EXPECT_EQ(m("{% for c in 'T' + u %}{{ c }}{% endfor %}"), "T(T)U(ab<x>)");
  EXPECT_EQ(m("{% for k, w in d.items() %}{{ k }}={{ w }}{% endfor %}"), "U(k)T(=)U(v)");
  EXPECT_EQ(m("{{ (u | string)[2] }}{{ u | first }}{{ u | reverse }}"), "U(<a>x<ba)");
  EXPECT_EQ(m("{{ u | truncate(5, true, '..', 0) }}{{ u | truncate(4, true, '..', 0) }}"), "U(ab<x>ab)T(..)");
  EXPECT_EQ(m("{{ u | escape }}"), "U(ab&lt;x&gt;)");
  EXPECT_EQ(m("{{ ('{\"a\":\"' + u + '\"}') | from_json | items | first | last }}"), "U(ab<x>)");
  EXPECT_EQ(m("{{ [u, '<t>'] | map('trim') | sort | join('') }}"), "T(<t>)U(ab<x>)");
  EXPECT_EQ(m("{% set ns = namespace(a='') %}{% set ns.a = ns.a + u + '!' %}{{ ns.a }}"), "U(ab<x>)T(!)");
  EXPECT_EQ(m("{{ (u ~ 't').rsplit('x', 1)[1] }}{{ (u ~ 't').partition('x')[2] }}"), "U(>)T(t)U(>)T(t)");
}

TEST(Template, BosAndEosAreTheTemplates) {
  const auto compiled = Template::compile("{{ bos_token + messages[0].content + eos_token }}");
  ASSERT_TRUE(compiled);
  RenderInput input;
  Message m;
  m.role = "user";
  m.content = "</s>\xFF";
  input.messages.push_back(m);
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  const auto result = (*compiled)->render(input);
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->size(), 3u);
  EXPECT_TRUE((*result)[0].from_template);
  EXPECT_FALSE((*result)[1].from_template);
  EXPECT_EQ((*result)[1].text, "</s>\xEF\xBF\xBD") << "what is not UTF-8 is replaced";
  EXPECT_TRUE((*result)[2].from_template);
}

TEST(Template, LimitsAreKept) {
  RenderLimits small{1000, 100, 20};
  const auto message = [&](const std::string& source) {
    const auto r = render(source, "{}", small);
    if (r) return std::string("rendered");
    EXPECT_EQ(r.error().code, ErrorCode::out_of_range) << r.error().message;
    return r.error().message;
  };
  EXPECT_NE(message("{% for i in range(2000) %}{% endfor %}").find("too long"), std::string::npos);
  EXPECT_NE(message("{% for i in range(50) %}abc{% endfor %}").find("more than 100 bytes"), std::string::npos);
  EXPECT_NE(message("{{ [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]] }}").find("nests too deep"), std::string::npos);
  const auto deep = [](const std::string& open, const std::string& close, int n) {
    std::string s;
    for (int i = 0; i < n; ++i) s += open;
    s += "1";
    for (int i = 0; i < n; ++i) s += close;
    return s;
  };
  for (const auto& source : {"{{ " + deep("(", ")", 5000) + " }}", "{{ " + deep("[", "]", 900) + " }}",
                             "{{ " + deep("not ", "", 5000) + " }}", "{{ " + deep("-", "", 5000) + " }}",
                             "{{ x" + deep("|upper", "", 5000) + " }}", "{{ x" + deep("", ".a", 5000) + " }}",
                             deep("{% if 1 %}", "{% endif %}", 5000), "{% set " + deep("(", ")", 5000) + " = 1 %}",
                             "{{ " + deep("1 if 1 else ", "", 5000) + " }}"}) {
    const auto compiled = Template::compile(source);
    ASSERT_FALSE(compiled) << source.substr(0, 40);
    EXPECT_NE(compiled.error().message.find("template line "), std::string::npos) << compiled.error().message;
  }
  EXPECT_TRUE(Template::compile("{{ " + deep("a ~ ", "", 5000) + " }}")) << "long chains are no nesting";
  EXPECT_TRUE(Template::compile("{{ " + deep("a + ", "", 5000) + " }}"));
  EXPECT_FALSE(Template::compile(std::string(2 << 20, 'x')));
  EXPECT_FALSE(Template::compile("\xFF"));
}

TEST(Template, KnowsWhatItCanDo) {
  const auto r1 = Template::compile(test::template_source("r1-7b-head.gguf"));
  ASSERT_TRUE(r1) << r1.error().message;
  EXPECT_FALSE((*r1)->supports_tools());
  EXPECT_FALSE((*r1)->reads_enable_thinking());
  const auto qwen = Template::compile(test::template_source("qwen-0.5b.gguf"));
  ASSERT_TRUE(qwen);
  EXPECT_TRUE((*qwen)->supports_tools());
  const auto qwen3 = Template::compile(test::template_source("Qwen-Qwen3-0.6B.jinja"));
  ASSERT_TRUE(qwen3);
  EXPECT_TRUE((*qwen3)->supports_tools());
  EXPECT_TRUE((*qwen3)->reads_enable_thinking());
  const auto smol = Template::compile(test::template_source("smollm2.gguf"));
  ASSERT_TRUE(smol);
  EXPECT_FALSE((*smol)->supports_tools());
}

std::string parse(const std::string& json) {
  const auto j = nlohmann::json::parse(json, nullptr, false);
  EXPECT_FALSE(j.is_discarded()) << json;
  const auto r = messages_from_json(j);
  if (!r) return r.error().message;
  std::string out;
  for (const Message& m : *r) {
    out += m.role + "|" + m.content + "|" + m.thinking + "|" + m.tool_name + "|" + m.tool_call_id;
    for (const ToolCall& c : m.tool_calls) out += "|" + c.id + "," + c.name + "," + c.arguments;
    out += ";";
  }
  return out;
}

TEST(Messages, FromJson) {
  EXPECT_EQ(parse(R"([{"role":"user","content":"a"}])"), "user|a|||;");
  EXPECT_EQ(parse(R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])"),
            "user|ab|||;");
  EXPECT_EQ(parse(R"([{"role":"assistant","content":null,"reasoning_content":"r"}])"), "assistant||r||;");
  EXPECT_EQ(
      parse(
          R"([{"role":"assistant","content":"c","thinking":"t"},{"role":"assistant","content":"c","reasoning":"u"}])"),
      "assistant|c|t||;assistant|c|u||;");
  EXPECT_EQ(
      parse(
          R"([{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":{"x":1}}},{"function":{"name":"g","arguments":"{\"y\": 2}"}}]}])"),
      "assistant|||||1,f,{\"x\":1}|,g,{\"y\": 2};");
  EXPECT_EQ(parse(R"([{"role":"tool","content":"r","name":"f","tool_call_id":"1"}])"), "tool|r||f|1;");
  EXPECT_EQ(parse("{}"), "messages: must be an array of {\"role\": ..., \"content\": ...}");
  EXPECT_EQ(parse(R"([{"role":"user","content":"a"},5])"), "messages[1]: must be an object with role and content");
  EXPECT_EQ(parse(R"([{"content":"a"}])"), "messages[0].role: is missing");
  EXPECT_EQ(parse(R"([{"role":3,"content":"a"}])"), "messages[0].role: must be a string");
  EXPECT_EQ(parse(R"([{"role":"user","content":"a"},{"role":"user","content":"a"},{"role":"user","content":7}])"),
            "messages[2].content: must be a string or an array of {\"type\": \"text\", \"text\": ...} parts");
  EXPECT_EQ(parse(R"([{"role":"user","content":[{"type":"image_url"}]}])"),
            "messages[0].content[0].type: is \"image_url\"; this model reads text only");
  EXPECT_EQ(parse(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"nope"}}]}])"),
            "messages[0].tool_calls[0].function.arguments: must be an object, or a string that holds a JSON object");
  EXPECT_EQ(parse(R"([{"role":"assistant","tool_calls":[{}]}])"),
            "messages[0].tool_calls[0].function: must be an object with name and arguments");
  EXPECT_EQ(parse(R"([{"role":"assistant","tool_calls":[{"function":{}}]}])"),
            "messages[0].tool_calls[0].function.name: is missing");
}

TEST(Messages, OnlyRolesThatTemplatesKnow) {
  EXPECT_EQ(parse(R"([{"role":"developer","content":"a"},{"role":"User","content":"b"}])"), "system|a|||;user|b|||;");
  const std::string known = "\"; known are system (or developer), user, assistant and tool";
  EXPECT_EQ(parse(R"([{"role":"user","content":"a"},{"role":"function","content":"b"}])"),
            "messages[1].role: is \"function" + known);
  EXPECT_EQ(parse(R"([{"role":"","content":"a"}])"), "messages[0].role: is \"" + known);
  EXPECT_LT(parse("[{\"role\":\"" + std::string(5000, 'x') + "\",\"content\":\"a\"}]").size(), 200u);
}

TEST(Messages, BadInputToATemplateIsAnError) {
  const auto compiled = Template::compile("{{ messages | tojson }}{{ tools | tojson }}");
  ASSERT_TRUE(compiled);
  RenderInput input;
  input.tools_json = "{";
  EXPECT_FALSE((*compiled)->render(input));
  input.tools_json = "{}";
  EXPECT_FALSE((*compiled)->render(input)) << "an object is not a list of tools";
  input.tools_json = "[]";
  EXPECT_TRUE((*compiled)->render(input));
  input.tools_json = std::string(100'000, '[');
  EXPECT_FALSE((*compiled)->render(input));
  input.tools_json = std::string(400, '[') + std::string(400, ']');
  EXPECT_FALSE((*compiled)->render(input)) << "too deep";
  input.tools_json.clear();
  Message m;
  m.role = "assistant";
  m.tool_calls.push_back({"1", "f", "not json"});
  input.messages.push_back(m);
  const auto r = (*compiled)->render(input);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().message, "messages[0]: tool_calls[0].function.arguments: not valid JSON");
}

}  // namespace
}  // namespace ponder::chat
