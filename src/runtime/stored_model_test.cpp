// What a store says of a model besides its weights: messages that stand before every chat, adapters, projectors.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "base/os/system.h"
#include "runtime/direct.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kMessages = R"([{"role": "user", "content": "Ping?"},
  {"role": "assistant", "content": "Pong.", "thinking": "It is a game."}])";

// The built-in model with messages of its own.
OpenModel with_messages(const std::string& messages = kMessages, const std::string& system = "") {
  OpenModel model = tiny();
  model.stored.messages_json = messages;
  model.stored.system = system;
  return model;
}

ChatRequest request(std::vector<chat::Message> messages) {
  ChatRequest r;
  r.model = "tiny";
  r.messages = std::move(messages);
  return r;
}

// The same request, with the model's messages written into it.
ChatRequest spelled_out(ChatRequest r, const std::string& system = "") {
  size_t at = 0;
  if (!system.empty()) r.messages.insert(r.messages.begin(), say("system", system));
  while (at < r.messages.size() && r.messages[at].role == "system") ++at;
  r.messages.insert(r.messages.begin() + long(at), {say("user", "Ping?"), say("assistant", "Pong.", "It is a game.")});
  return r;
}

std::string text(const OpenModel& model, const ChatRequest& r) { return chat::to_text(model.render(r).value()); }

TEST(ModelMessages, StandBeforeTheRequestsOwn) {
  const auto model = with_messages();
  for (const bool keep : {false, true}) {
    for (auto r : {request({say("user", "Hi")}), request({say("system", "Be brief."), say("user", "Hi")}),
                   request({say("user", "Hi"), say("assistant", "Yes?", "Somebody."), say("user", "Bye")}),
                   request({say("user", "Hi"), say("assistant", "So", "a thought")}),
                   request({say("user", "Hi"), say("assistant", "", "a thought")})}) {
      r.keep_thoughts = keep;
      EXPECT_EQ(text(model, r), text(tiny(), spelled_out(r)));
      EXPECT_EQ(text(model, r).find("It is a game.") != std::string::npos, keep);
      EXPECT_EQ(model.continuation_of(r), tiny().continuation_of(spelled_out(r)));
      // What is computed ahead of the next turn begins as that turn will.
      EXPECT_EQ(next_history(model, r, "Let me think.", "Well."),
                next_history(tiny(), spelled_out(r), "Let me think.", "Well."));
      EXPECT_GT(next_history(model, r, "Let me think.", "Well.").size(), 10u);
    }
  }
  const auto told = with_messages(kMessages, "Be kind.");
  const auto r = request({say("user", "Hi")});
  EXPECT_EQ(text(told, r), text(tiny(), spelled_out(r, "Be kind.")));
  const auto own = request({say("system", "Be brief."), say("user", "Hi")});
  EXPECT_EQ(text(told, own), text(tiny(), spelled_out(own))) << "the request's system message replaces the model's";
}

TEST(ModelMessages, AreLeftOutWhereThereIsNoChat) {
  const auto model = with_messages();
  ChatRequest raw;
  raw.raw_prompt = "as it is";
  EXPECT_EQ(text(model, raw), "as it is");
  auto goes_on = request({say("user", "Hi")});  // generate's old context has them already
  goes_on.context = {1, 2, 3};
  EXPECT_EQ(text(model, goes_on), text(tiny(), goes_on));
}

TEST(ModelMessages, DamagedOnesAreNamed) {
  for (const char* bad : {"{", "[1]", R"([{"content": "x"}])", "7"}) {
    const auto r = with_messages(bad).render(request({say("user", "Hi")}));
    ASSERT_FALSE(r.ok()) << bad;
    EXPECT_NE(r.error().message.find("MESSAGE"), std::string::npos) << r.error().message;
  }
}

TEST(StoredModel, WhyThereIsNoTemplateIsNotMixedUpWithOtherNotes) {
  OpenModel model = tiny();
  model.chat_template = nullptr;
  model.why_no_template = "nobody wrote one";
  model.notes = {model.why_no_template, "something else"};
  EXPECT_EQ(model.render(request({say("user", "Hi")})).error().message, "nobody wrote one");
}

TEST(StoredModel, AnAdapterIsNotIgnored) {
  OpenModel model = tiny();
  model.stored.adapters = {"/somewhere/lora.gguf"};
  const auto open = std::make_shared<const OpenModel>(model);
  RuntimeOptions options;
  options.backend = "cpu";
  const auto loaded = LoadedModel::load(open, options, 0, {}, nullptr);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::unsupported);
  EXPECT_NE(loaded.error().message.find("LoRA adapter"), std::string::npos) << loaded.error().message;
  const auto plan = load_plan(*open, options, 512, 1, {}, nullptr);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().message, loaded.error().message);
}

TEST(StoredModel, AProjectorIsTold) {
  const fs::path root = fs::temp_directory_path() / ("ponder-stored-" + std::to_string(os::random_u64()));
  store::StoreOptions options;
  options.root = root.string();
  store::Store store(options);
  const auto name = store::Name::parse("sees").value();
  const std::string weights = PONDER_SOURCE_DIR "/tests/golden/tokenizer/ponder-tiny-vocabulary.gguf";
  ASSERT_TRUE(store.create_from_file(name, weights).ok());
  const auto told = [&] {
    const auto open = open_model(store, "sees", false);
    EXPECT_TRUE(open.ok()) << open.error().message;
    if (!open.ok()) return false;
    for (const auto& n : (*open)->notes)
      if (n.find("images are not read") != std::string::npos) return true;
    return false;
  };
  EXPECT_FALSE(told());
  auto blob = store.new_blob().value();
  ASSERT_TRUE(blob.write(std::string_view("a projector")).ok());
  const std::string digest = blob.commit().value().hex();
  for (const auto& entry : fs::recursive_directory_iterator(root / "manifests")) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path());
    json manifest = json::parse(in);
    manifest["layers"].push_back(
        {{"mediaType", "application/vnd.ollama.image.projector"}, {"digest", "sha256:" + digest}, {"size", 11}});
    std::ofstream(entry.path()) << manifest.dump();
  }
  EXPECT_TRUE(told());
  fs::remove_all(root);
}

}  // namespace
}  // namespace ponder::runtime
