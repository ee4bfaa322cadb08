// Options, addresses, and the JSON that server and HttpClient share.
#include <gtest/gtest.h>

#include <limits>

#include <nlohmann/json.hpp>

#include "runtime/client.h"
#include "runtime/drafting.h"
#include "runtime/types.h"
#include "runtime/wire.h"

namespace ponder::runtime {
namespace {

using nlohmann::json;

TEST(Options, ReadsOllamasNamesAndNamesWhatIsWrong) {
  std::vector<std::string> warnings;
  auto o = options_from_json(
      json::parse(R"({"temperature":0.5,"top_k":7.0,"seed":-1,"stop":"x","num_gpu":-1,"nonsense":1,"min_p":null})"),
      &warnings);
  ASSERT_TRUE(o.ok());
  EXPECT_EQ(*o->temperature, 0.5f);
  EXPECT_EQ(*o->top_k, 7);
  EXPECT_EQ(o->stop->at(0), "x");
  EXPECT_FALSE(o->min_p);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("nonsense"), std::string::npos);

  for (const char* bad :
       {R"({"temperature":"warm"})", R"({"temperature":-1})", R"({"temperature":1e400})", R"({"top_k":1.5})",
        R"({"top_k":99999999999})", R"({"num_ctx":-5})", R"({"stop":[1]})", R"({"top_p":2})",
        R"({"logit_bias":{"a":1}})", R"({"logit_bias":{"5":1e39}})", R"({"logit_bias":{"5":-1e39}})",
        R"({"seed":1e30})", R"([1])", R"({"num_predict":18446744073709551615})"}) {
    const json j = json::parse(bad, nullptr, false);
    if (j.is_discarded()) continue;  // 1e400 is not a number for this parser
    auto r = options_from_json(j, nullptr);
    ASSERT_FALSE(r.ok()) << bad;
    EXPECT_EQ(r.error().code, ErrorCode::invalid_argument);
    if (j.is_object()) {
      EXPECT_NE(r.error().message.find(j.begin().key()), std::string::npos) << r.error().message;
    }
  }
}

// What would change the output and does not here is said; the value that changes nothing, and what never does, is not.
TEST(Options, ThoseWithoutEffectAreNotIgnoredInSilence) {
  const auto warned = [](const char* text) {
    std::vector<std::string> warnings;
    EXPECT_TRUE(options_from_json(json::parse(text), &warnings).ok()) << text;
    std::string all;
    for (const auto& w : warnings) all += w + "\n";
    return all;
  };
  EXPECT_EQ(warned(R"({"mirostat":0,"mirostat_tau":5,"mirostat_eta":0.1,"typical_p":1,"tfs_z":1.0,"num_gpu":-1,
                       "penalize_newline":true,"num_keep":4,"num_batch":512,"main_gpu":0,"use_mmap":true,"numa":false,
                       "use_mlock":false,"low_vram":false,"f16_kv":true,"logits_all":false,"vocab_only":false,
                       "think":true,"vote":8})"),
            "");
  EXPECT_EQ(warned(R"({"num_gpu":0})"),
            "option \"num_gpu\" has no effect: layers on the card are chosen when the server starts (--gpu-layers, "
            "--backend cpu)\n");
  for (const char* bad : {R"({"mirostat":2})", R"({"typical_p":0.7})", R"({"tfs_z":0.5})",
                          R"({"penalize_newline":false})", R"({"f16_kv":false})", R"({"mirostat":"x"})"}) {
    const std::string name = json::parse(bad).begin().key();
    const std::string said = warned(bad);
    EXPECT_TRUE(said.starts_with("option \"" + name + "\" has no effect: ")) << said;
    Options o;
    const std::string value = json::parse(bad).begin().value().dump();
    const auto set = set_option(o, name, value);
    ASSERT_FALSE(set.ok()) << bad;
    if (value != "\"x\"") {
      EXPECT_EQ(set.error().message + "\n", said);
    }
  }
  Options o;
  EXPECT_TRUE(set_option(o, "mirostat", "0").ok());
  EXPECT_TRUE(set_option(o, "penalize_newline", "true").ok());
  EXPECT_FALSE(set_option(o, "temperature", "true").ok());
  EXPECT_FALSE(set_option(o, "vote", "8").ok()) << "no option, and nothing would come of it";
}

TEST(Options, TextAndJsonAgreeAndMergeKeepsWhatIsNotSet) {
  Options a;
  ASSERT_TRUE(set_option(a, "top-p", "0.9").ok());
  ASSERT_TRUE(set_option(a, "stop", "one").ok());
  ASSERT_TRUE(set_option(a, "stop", "two").ok());
  EXPECT_EQ(to_json(a).dump(), R"({"stop":["one","two"],"top_p":0.9})");
  EXPECT_FALSE(set_option(a, "top_p", "much").ok());
  EXPECT_NE(set_option(a, "warmth", "1").error().message.find("temperature"), std::string::npos);
  Options over;
  over.temperature = 0.25f;
  a.merge(over);
  EXPECT_EQ(*a.temperature, 0.25f);
  EXPECT_EQ(*a.top_p, 0.9f);
}

TEST(Options, DraftIsAWordOrANumber) {
  const auto read = [](const char* text) {
    auto o = options_from_json(json::parse(text), nullptr);
    return o.ok() ? std::to_string(o->draft.value_or(-99)) : o.error().message;
  };
  EXPECT_EQ(read(R"({})"), "-99");
  EXPECT_EQ(read(R"({"draft": "auto"})"), "-1");
  EXPECT_EQ(read(R"({"draft": true})"), "-1");
  EXPECT_EQ(read(R"({"draft": "off"})"), "0");
  EXPECT_EQ(read(R"({"draft": false})"), "0");
  EXPECT_EQ(read(R"({"draft": 0})"), "0");
  EXPECT_EQ(read(R"({"draft": 4})"), "4");
  EXPECT_EQ(read(R"({"draft": "4"})"), "4");
  EXPECT_EQ(read(R"({"draft_num_predict": 64})"), "15");
  EXPECT_EQ(read(R"({"draft_num_predict": 0})"), "0");
  EXPECT_EQ(read(R"({"draft": "often"})"), "draft must be auto, off or a number of tokens from 0 to 15, not \"often\"");
  EXPECT_EQ(read(R"({"draft": 16})"), "option \"draft\" is 16; it must be between 0.0 and 15.0");
  EXPECT_EQ(read(R"({"draft": [1]})"), "option \"draft\" must be \"auto\", \"off\" or a number of tokens, not array");
  Options o;
  ASSERT_TRUE(set_option(o, "draft", "off").ok());
  EXPECT_EQ(to_json(o).dump(), R"({"draft":"off"})");
  ASSERT_TRUE(set_option(o, "draft", "7").ok());
  EXPECT_EQ(to_json(o).dump(), R"({"draft":7})");
  ASSERT_TRUE(set_option(o, "draft", "auto").ok());
  EXPECT_EQ(to_json(o).dump(), R"({"draft":"auto"})");
  EXPECT_FALSE(set_option(o, "draft", "16").ok());
  EXPECT_FALSE(set_option(o, "draft", "").ok());
  const Options back = options_from_json(to_json(o), nullptr).value();
  EXPECT_EQ(back.draft, kDraftAuto);
}

// What a client's texts said drafts for that client only, and not for ever.
TEST(Drafting, PhrasesAreOneClients) {
  Drafting drafting;
  EXPECT_EQ(drafting.drafter("a", 0), nullptr);
  std::vector<int32_t> text;
  for (int i = 0; i < 40; ++i) text.push_back(i * i % 101 + 7 * i);
  std::vector<engine::Draft> draft(4);
  const std::span<const int32_t> beginning(text.data(), 15);
  EXPECT_EQ(drafting.drafter("a", kDraftAuto)->propose(text, draft), 0);
  EXPECT_GT(drafting.drafter("a", kDraftAuto)->propose(beginning, draft), 2);
  EXPECT_EQ(draft[0].token, text[15]);
  EXPECT_EQ(drafting.drafter("a", 1)->propose(beginning, draft), 1);
  EXPECT_EQ(drafting.drafter("b", kDraftAuto)->propose(beginning, draft), 0);
  for (size_t i = 0; i < Drafting::kClients; ++i) drafting.drafter("c" + std::to_string(i), 1);
  EXPECT_EQ(drafting.drafter("a", kDraftAuto)->propose(beginning, draft), 0);
}

TEST(Address, ReadsWhatOllamaHostMayHold) {
  const auto is = [](const char* text, const char* host, int port) {
    const auto a = parse_address(text);
    ASSERT_TRUE(a.ok()) << text;
    EXPECT_EQ(a->host, host) << text;
    EXPECT_EQ(a->port, port) << text;
  };
  is("", "127.0.0.1", 11434);
  is("localhost", "localhost", 11434);
  is("localhost:80", "localhost", 80);
  is(":5000", "127.0.0.1", 5000);
  is("http://10.0.0.1:7000/", "10.0.0.1", 7000);
  is("http://10.0.0.1", "10.0.0.1", 80);
  is("[::1]:9", "::1", 9);
  is("::1", "::1", 11434);
  EXPECT_EQ(authority({"localhost", 80}), "localhost:80");
  EXPECT_EQ(authority({"::1", 9}), "[::1]:9");
  EXPECT_EQ(authority(parse_address("[::1]:9").value()), "[::1]:9");
  for (const char* bad : {"x:y", "x:70000", "https://a", "[::1"}) EXPECT_FALSE(parse_address(bad).ok()) << bad;
}

TEST(Wire, ResultsSurviveTheRoundTrip) {
  ChatResult r;
  r.done_reason = "context";
  r.total_seconds = 1.5;
  r.prompt_tokens = 12;
  r.cached_tokens = 3;
  r.drafted_tokens = 9;
  r.accepted_tokens = 5;
  r.output_tokens = 40;
  r.thinking_tokens = 30;
  r.answer_tokens = 9;
  r.thinking_done_reason = "budget";
  r.id = "a-1";
  r.first_token_seconds = 0.25;
  r.context_length = 99;
  r.seed = 0x7fffffffffffffffull;
  r.warnings = {"w"};
  json j = {{"model", "m"}};
  wire::add_result(j, r);
  const ChatResult back = wire::result_from(json::parse(j.dump()));
  EXPECT_EQ(back.done_reason, "context");
  EXPECT_DOUBLE_EQ(back.total_seconds, 1.5);
  EXPECT_EQ(back.thinking_tokens, 30);
  EXPECT_EQ(back.answer_tokens, 9);
  EXPECT_EQ(back.thinking_done_reason, "budget");
  EXPECT_EQ(back.id, "a-1");
  EXPECT_EQ(back.cached_tokens, 3);
  EXPECT_EQ(back.drafted_tokens, 9);
  EXPECT_EQ(back.accepted_tokens, 5);
  EXPECT_EQ(back.seed, r.seed);
  EXPECT_EQ(back.warnings, r.warnings);
  EXPECT_EQ(j["eval_count"], 40);
}

TEST(Wire, LogprobsKeepBytesThatAreHalfACharacter) {
  const std::vector<TokenLogprob> list = {{"\xF0\x9F", -0.5, {{"a", -0.5}, {"\xFF", -2}}}};
  const auto back = wire::logprobs_from(json::parse(wire::logprobs(list).dump()));
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].token, "\xF0\x9F");
  EXPECT_EQ(back[0].top[1].token, "\xFF");
}

TEST(Wire, TimesAndKeepAlive) {
  EXPECT_EQ(wire::timestamp(1'700'000'000'123'456'789), "2023-11-14T22:13:20.123456789Z");
  EXPECT_EQ(wire::parse_timestamp("2023-11-14T22:13:20.123Z"), 1'700'000'000);
  EXPECT_EQ(wire::parse_timestamp("yesterday"), 0);
  EXPECT_EQ(wire::parse_keep_alive(300).value(), 300);
  EXPECT_EQ(wire::parse_keep_alive("5m").value(), 300);
  EXPECT_EQ(wire::parse_keep_alive("1h30m").value(), 5400);
  EXPECT_EQ(wire::parse_keep_alive("500ms").value(), 0.5);
  EXPECT_EQ(wire::parse_keep_alive("-1").value(), -1);
  // More than a clock can count is for ever, not undefined.
  EXPECT_EQ(wire::parse_keep_alive(1e18).value(), -1);
  EXPECT_EQ(wire::parse_keep_alive("1e308h").value(), -1);
  EXPECT_EQ(wire::parse_keep_alive("9999999999999999999999h").value(), -1);
  EXPECT_EQ(wire::parse_keep_alive(-1e300).value(), -1e300);
  EXPECT_EQ(wire::parse_keep_alive("876000h").value(), 876000 * 3600.0);  // 100 years
  EXPECT_FALSE(wire::parse_keep_alive(std::numeric_limits<double>::quiet_NaN()).ok());
  for (const char* bad : {"\"\"", "\"soon\"", "\"5x\"", "[]", "\"1h-5m\""})
    EXPECT_FALSE(wire::parse_keep_alive(json::parse(bad)).ok()) << bad;
}

}  // namespace
}  // namespace ponder::runtime
