// Reading of requests: each refusal names the field and the reason.
#include "server/requests.h"

#include <gtest/gtest.h>

#include "server/fields.h"

namespace ponder::server {
namespace {

using nlohmann::json;

struct Case {
  const char* more;      ///< merged over a good request
  const char* expected;  ///< part of the error
};

template <class Read>
void expect_refusals(const Read& read, const json& good, std::initializer_list<Case> cases) {
  ASSERT_TRUE(read(good).ok()) << read(good).error().message;
  for (const auto& c : cases) {
    json body = good;
    const json more = json::parse(c.more);
    for (const auto& [key, value] : more.items()) body[key] = value;
    const auto r = read(body);
    ASSERT_FALSE(r.ok()) << c.more;
    EXPECT_NE(r.error().message.find(c.expected), std::string::npos) << c.more << " said: " << r.error().message;
    EXPECT_TRUE(r.error().code == ErrorCode::invalid_argument || r.error().code == ErrorCode::unsupported) << c.more;
  }
}

const json kChat = json::parse(R"({"model": "m", "messages": [{"role": "user", "content": "hi"}]})");
const json kGenerate = json::parse(R"({"model": "m", "prompt": "hi"})");

// What /api/chat and /api/generate refuse alike.
const std::initializer_list<Case> kCommon = {
    {R"({"model": 5})", "\"model\" must be a string, not number"},
    {R"({"model": ""})", "model is required"},
    {R"({"stream": "yes"})", "\"stream\" must be true or false, not string"},
    {R"({"stream": 1})", "\"stream\" must be true or false"},
    {R"({"options": []})", "\"options\" must be an object"},
    {R"({"options": {"temperature": "hot"}})", "\"temperature\" must be a number, not string"},
    {R"({"options": {"temperature": -1}})", "\"temperature\" is -1"},
    {R"({"options": {"num_ctx": 1.5}})", "\"num_ctx\" must be a whole number"},
    {R"({"options": {"num_predict": 99999999999}})", "\"num_predict\""},
    {R"({"options": {"seed": 1e300}})", "\"seed\""},
    {R"({"options": {"stop": [1]}})", "\"stop\" must be a string"},
    {R"({"options": {"logit_bias": {"x": 1}}})", "\"logit_bias\""},
    {R"({"think": "hot"})", "\"think\" takes true, false, \"minimal\""},
    {R"({"think": []})", "\"think\" takes true, false"},
    {R"({"think": 1.5})", "\"think\" takes a whole number between -1 and"},
    {R"({"think": {"tokens": -2}})", "\"think.tokens\" takes a whole number"},
    {R"({"think": {"seconds": 0}})", "\"think.seconds\" takes seconds"},
    {R"({"think": {"close": "soft"}})", "\"think.close\" takes \"graceful\", \"hard\", not \"soft\""},
    {R"({"think": {"budget": 5}})", "\"think.budget\" is not known"},
    {R"({"options": {"think": "hot"}})", "\"options.think\" takes"},
    {R"({"vote": 0})", "\"vote\" takes a whole number between 1 and 64"},
    {R"({"vote": "8"})", "\"vote\" takes a number of chains"},
    {R"({"options": {"vote": {"n": 4, "stop": "soon"}}})", "\"vote.stop\" takes"},
    {R"({"request_id": "a b"})", "\"request_id\" must be 1 to 64 letters"},
    {R"({"draft": "often"})", "draft must be auto, off or a number"},
    {R"({"options": {"draft": 99}})", "\"draft\" is 99"},
    {R"({"reasoning_effort": "hot"})", "\"reasoning_effort\" takes a level"},
    {R"({"keep_alive": "soon"})", "keep_alive is \"soon\""},
    {R"({"keep_alive": []})", "keep_alive is []"},
    {R"({"logprobs": 3})", "\"logprobs\" must be true or false"},
    {R"({"top_logprobs": 21})", "\"top_logprobs\" is 21; it must be a whole number between 0 and 20"},
    {R"({"top_logprobs": -1})", "\"top_logprobs\""},
    {R"({"top_logprobs": "5"})", "\"top_logprobs\" must be a whole number, not string"},
    {R"({"format": "json"})", "\"format\" (constrained output) is not supported"},
    {R"({"format": {"type": "object"}})", "\"format\""},
    {R"({"tools": [{"type": "function"}]})", "\"tools\" are not supported"},
};

TEST(Requests, Chat) {
  expect_refusals(read_chat, kChat, kCommon);
  expect_refusals(
      read_chat, kChat,
      {{R"({"messages": "hi"})", "\"messages\" must be a list, not string"},
       {R"({"messages": ["hi"]})", "messages[0]"},
       {R"({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": 5}]})", "messages[1]"},
       {R"({"messages": [{"content": "a"}]})", "role"},
       {R"({"messages": [{"role": 5, "content": "a"}]})", "role"},
       {R"({"messages": [{"role": "wizard", "content": "a"}]})", "messages[0].role: is \"wizard\"; known are"},
       {R"({"messages": [{"role": "user", "content": "a", "images": ["aGk="]}]})", "\"images\" are not supported"}});
  EXPECT_TRUE(read_chat(kChat)->stream);
  json drafted = kChat;
  drafted["draft"] = "off";
  EXPECT_EQ(read_chat(drafted)->chat.options.draft, 0);
  json empty = {{"model", "m"},     {"format", ""},       {"tools", json::array()},
                {"think", nullptr}, {"options", nullptr}, {"messages", nullptr}};
  const auto r = read_chat(empty);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_TRUE(r->chat.messages.empty());
  EXPECT_EQ(r->chat.think, runtime::ThinkOptions());
}

TEST(Requests, Generate) {
  expect_refusals(read_generate, kGenerate, kCommon);
  expect_refusals(read_generate, kGenerate,
                  {{R"({"prompt": 5})", "\"prompt\" must be a string"},
                   {R"({"system": []})", "\"system\" must be a string"},
                   {R"({"suffix": "}"})", "does not support insert"},
                   {R"({"template": "{{ .Prompt }}"})", "\"template\" is not supported"},
                   {R"({"images": ["aGk="]})", "\"images\" are not supported"},
                   {R"({"raw": 1})", "\"raw\" must be true or false"},
                   {R"({"raw": true, "system": "s"})", "raw mode does not support"},
                   {R"({"raw": true, "context": [1]})", "raw mode does not support"},
                   {R"({"context": "x"})", "\"context\" must be a list"},
                   {R"({"context": [1.5]})", "\"context\""},
                   {R"({"context": [-1]})", "\"context\" holds -1"},
                   {R"({"context": [4294967296]})", "\"context\" holds 4294967296"}});
}

TEST(Requests, Completions) {
  expect_refusals(
      read_chat_completion, kChat,
      {{R"({"messages": []})", "\"messages\" must be a list with at least one"},
       {R"({"messages": null})", "\"messages\""},
       {R"({"max_tokens": "5"})", "\"max_tokens\" must be a whole number"},
       {R"({"max_completion_tokens": 1.5})", "\"max_completion_tokens\""},
       {R"({"temperature": "x"})", "\"temperature\" must be a number"},
       {R"({"top_p": 2})", "\"top_p\" is 2"},
       {R"({"n": 2})", "\"n\" above 1 is not supported"},
       {R"({"n": 0})", "\"n\" is 0"},
       {R"({"n": "2"})", "\"n\" must be a whole number"},
       {R"({"tools": [{}]})", "\"tools\" are not supported"},
       {R"({"response_format": {"type": "json_object"}})", "\"response_format\""},
       {R"({"response_format": "json"})", "\"response_format\" must be an object"},
       {R"({"reasoning_effort": "hot"})", "\"reasoning_effort\" takes a level, not \"hot\""},
       {R"({"reasoning": {"effort": 3}})", "\"reasoning.effort\" takes a level"},
       {R"({"reasoning": "low"})", "\"reasoning\" takes an object"},
       {R"({"thinking_budget_tokens": "x"})", "\"thinking_budget_tokens\" takes a whole number"},
       {R"({"chat_template_kwargs": {"enable_thinking": "yes"}})", "\"enable_thinking\""},
       {R"({"stream_options": 5})", "\"stream_options\" must be an object"},
       {R"({"stream_options": {"include_usage": 1}})", "\"include_usage\""},
       {R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]})",
        "image"}});
  json body = kChat;
  body.update(json::parse(
      R"({"max_tokens": 5, "max_completion_tokens": 7, "seed": 3, "stop": "x", "options": {"top_k": 4, "seed": 1},
    "chat_template_kwargs": {"enable_thinking": false}, "n": 1, "draft": 3, "response_format": {"type": "text"}, "user": "u", "metadata": {}})"));
  const auto r = read_chat_completion(body);
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(r->chat.options.num_predict, 7);
  EXPECT_EQ(r->chat.options.seed, 3);
  EXPECT_EQ(r->chat.options.top_k, 4);
  EXPECT_EQ(r->chat.options.draft, 3);
  EXPECT_TRUE(r->chat.think.is_off());
  EXPECT_FALSE(r->stream);
  json parts = json::parse(
      R"({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})");
  const auto joined = read_chat_completion(parts);
  ASSERT_TRUE(joined.ok()) << joined.error().message;
  EXPECT_NE(joined->chat.messages[0].content.find('a'), std::string::npos);
}

TEST(Requests, Bodies) {
  const auto said = [](const std::string& text) {
    return parse_body(text).ok() ? std::string("ok") : parse_body(text).error().message;
  };
  EXPECT_EQ(said(""), "missing request body");
  EXPECT_EQ(said(" \r\n\t"), "missing request body");
  EXPECT_EQ(said("{"), "the request body is not valid JSON");
  EXPECT_EQ(said("{} {}"), "the request body is not valid JSON");
  EXPECT_EQ(said("{\"a\": \"\xff\"}"), "the request body is not valid JSON");
  EXPECT_EQ(said("{\"a\": NaN}"), "the request body is not valid JSON");
  EXPECT_EQ(said("[1]"), "the request body must be a JSON object");
  EXPECT_EQ(said("null"), "the request body must be a JSON object");
  const std::string deep = "{\"a\": " + std::string(63, '[') + std::string(63, ']') + "}";
  EXPECT_EQ(said(deep), "ok");
  EXPECT_EQ(said("{\"a\": " + std::string(64, '[') + std::string(64, ']') + "}"),
            "the request body is nested more than 64 levels deep");
  EXPECT_EQ(said(std::string(10'000'000, '[')), "the request body is nested more than 64 levels deep");
  EXPECT_EQ(said("{\"a\": \"" + std::string(100, '[') + "\\\"" + std::string(100, '{') + "\"}"), "ok")
      << "brackets in a string are text";
  std::string wide = "{\"a\": [0";
  for (int i = 0; i < 1'000'001; ++i) wide += ",0";
  EXPECT_EQ(said(wide + "]}"), "the request body has more than a million values");
}

TEST(Requests, MessagesDoNotEchoTheRequest) {
  const std::string big(100000, 'x');
  for (const char* key : {"think", "top_logprobs", "keep_alive", "format"}) {
    json body = kChat;
    body[key] = big;
    const auto r = read_chat(body);
    ASSERT_FALSE(r.ok()) << key;
    EXPECT_LT(r.error().message.size(), 400u) << key;
  }
}

}  // namespace
}  // namespace ponder::server
