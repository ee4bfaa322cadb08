// Receipts survive the way to JSON and back, bit by bit, and what is no receipt is refused with the field's name.
#include "runtime/receipt.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "base/os/system.h"
#include "engine/replay.h"
#include "runtime/json_mutations_support.h"
#include "runtime/replay.h"
#include "runtime/tiny_support.h"
#include "runtime/vote_json.h"

namespace ponder::runtime {
namespace {

using engine::Action;
using nlohmann::json;
using Kind = Action::Kind;

Action act(Kind kind, int position, std::vector<int32_t> tokens = {}) {
  Action a;
  a.kind = kind;
  a.position = position;
  a.tokens = std::move(tokens);
  return a;
}

json example() {
  Receipt r;
  r.model = "m";
  r.model_digest = std::string(64, 'a');
  r.version = "1";
  r.sequence.prompt = {1, 2, 3};
  r.sequence.sampling.temperature = 0.6f;
  r.sequence.sampling.top_p = 0.1f + 0.2f;
  r.sequence.sampling.seed = std::numeric_limits<uint64_t>::max();
  r.sequence.sampling.logit_bias = {{7, -std::numeric_limits<float>::infinity()}, {8, 0.3f}};
  r.sequence.stream = 4'000'000'000u;
  r.sequence.context_length = 100;
  r.sequence.end_tokens = {9};
  r.done_reason = "stop";
  auto& actions = r.recording.actions;
  actions.push_back(act(Kind::drawn, 3, {10, 11, 12}));
  actions.push_back(act(Kind::forced, 6, {20}));
  actions.back().text = "budget";
  actions.push_back(act(Kind::rewind, 7));
  actions.back().rewind_to = 5;
  actions.push_back(act(Kind::stream, 5));
  actions.back().stream = 3;
  actions.push_back(act(Kind::params, 5));
  actions.back().params = r.sequence.sampling;
  actions.back().params->temperature = 1.1f;
  actions.push_back(act(Kind::mask, 5));
  actions.back().mask = {4, 9, 100, 1};
  actions.back().mask_digest = engine::mask_digest(engine::mask_words(actions.back().mask), 200);
  actions.push_back(act(Kind::drawn, 5, {9}));
  actions.push_back(act(Kind::mask, 6));
  actions.push_back(act(Kind::finish, 6));
  actions.back().text = "loop";
  json j = to_json(r);
  // As make_receipt() computes them: SHA-256 of 01 00 00 00 02 ... and of the tokens 10, 11, 9.
  j["prompt"]["sha256"] = "4636993d3e1da4e9d6b8f87b79e8f7c6d018580d52661950eabc3845c5897a4d";
  j["output"]["sha256"] = "610a7a98a9038f89a67020ab3c201b734f922f3eab236c80af11de529aa7cbe4";
  return j;
}

TEST(Receipt, SurvivesTheRoundTrip) {
  const json j = example();
  auto r = receipt_from(json::parse(j.dump()));
  ASSERT_TRUE(r.ok()) << r.error().message;
  json back = to_json(*r);
  EXPECT_EQ(back.dump(), j.dump());
  EXPECT_EQ(r->sequence.sampling.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(r->sequence.sampling.top_p, 0.1f + 0.2f);
  EXPECT_LE(r->sequence.sampling.logit_bias[0].second, -100);
  EXPECT_EQ(r->recording.actions[1].text, "budget");
  EXPECT_EQ(output_of(r->recording, 3), (std::vector<int32_t>{10, 11, 9}));
  EXPECT_TRUE(engine::Replay::check(r->recording, 3, 200).ok());
  EXPECT_GE(tokens_needed(*r), 7);
  // A whole reply that has one in it.
  EXPECT_TRUE(receipt_from(json{{"model", "m"}, {"receipt", j}}).ok());
}

TEST(Receipt, NamesTheFieldThatIsWrong) {
  const auto error = [](const char* pointer, json value) {
    json j = example();
    j[json::json_pointer(pointer)] = std::move(value);
    auto r = receipt_from(j);
    return r.ok() ? std::string("accepted") : r.error().message;
  };
  EXPECT_NE(error("/receipt", 2).find("version 2"), std::string::npos);
  EXPECT_NE(error("/model/sha256", 1).find("receipt.model: \"sha256\""), std::string::npos);
  EXPECT_NE(error("/request/params/top_k", "x").find("\"top_k\""), std::string::npos);
  EXPECT_NE(error("/request/params/temperature", -3).find("temperature"), std::string::npos);
  EXPECT_NE(error("/request/stream", -1).find("\"stream\""), std::string::npos);
  EXPECT_NE(error("/prompt/tokens/1", 5).find("digest"), std::string::npos);
  EXPECT_NE(error("/prompt/tokens/1", -5).find("not a token id"), std::string::npos);
  EXPECT_NE(error("/actions/0/drawn/0", 7).find("changed"), std::string::npos);
  EXPECT_NE(error("/actions/3", json{{"at", 5}, {"dance", 1}}).find("actions[3]"), std::string::npos);
  EXPECT_NE(error("/actions/5/mask/digest", 0).find("digest"), std::string::npos);
  EXPECT_NE(receipt_from(json::array()).error().message.find("no receipt"), std::string::npos);
}

// A path is bytes, and JSON is UTF-8: what is no character there is replaced, on the engine's thread too.
TEST(Receipt, AFileMayHaveAnyName) {
  const auto folder = std::filesystem::temp_directory_path() / ("ponder-receipt-" + std::to_string(os::random_u64()));
  std::filesystem::create_directories(folder);
  ChatRequest request = ask_tiny("What is 17 + 25?");
  request.model = (folder / "caf\xe9.gguf").string();
  request.receipt = true;
  request.options.num_predict = 4;
  std::filesystem::create_symlink(kTinyFile, request.model);
  for (const bool vote : {false, true}) {
    if (vote) request.vote = parse_vote_text("2").value(), request.options.temperature = 1.f;
    TinyRuntime runtime;
    const auto result = make_local_client(*runtime)->chat(request, {}, nullptr);
    ASSERT_TRUE(result.ok()) << result.error().message;
    const json receipt = json::parse(result->receipt_json, nullptr, false);
    ASSERT_TRUE(receipt.is_object()) << result->receipt_json;
    EXPECT_TRUE(receipt["model"]["name"].get<std::string>().ends_with("caf\xef\xbf\xbd.gguf")) << receipt["model"];
  }
  std::filesystem::remove_all(folder);
}

// Anything may stand anywhere: an error or a receipt, never a crash.
TEST(Receipt, NothingBreaksTheReader) {
  int accepted = 0;
  mutate(example(), 3000, [&](const json& j) {
    const auto r = receipt_from(j);
    if (!r.ok()) return;
    ++accepted;
    (void)engine::Replay::check(r->recording, int(r->sequence.prompt.size()), 200);
    (void)tokens_needed(*r);
  });
  EXPECT_LT(accepted, 2500);
}

}  // namespace
}  // namespace ponder::runtime
