// Prompts beside the template's doing, on the built-in model's own template and vocabulary.
#include "runtime/history.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

ChatRequest request(std::vector<chat::Message> messages) {
  ChatRequest r;
  r.model = "tiny";
  r.messages = std::move(messages);
  return r;
}

std::string text(const ChatRequest& r) { return chat::to_text(tiny().render(r).value()); }

TEST(BeginReply, GoesOnWhereTheMessageStops) {
  const auto bare = request({say("user", "Hi")});
  const std::string prompt = text(bare);
  ASSERT_TRUE(tiny().thinking);
  const std::string open = tiny().thinking->open_text, close = tiny().thinking->close_text;
  const size_t at = prompt.rfind(open);
  const std::string opened = at == std::string::npos ? prompt + open + "\n" : prompt;

  auto r = request({say("user", "Hi"), say("assistant", "", "So far")});
  EXPECT_EQ(tiny().continuation_of(r), Continuation::thought);
  EXPECT_EQ(text(r), opened + "So far");
  r.messages.back().content = "Well";
  EXPECT_EQ(tiny().continuation_of(r), Continuation::content);
  EXPECT_EQ(text(r), opened + "So far\n" + close + "\n\nWell");
  r.messages.back().thinking.clear();
  EXPECT_TRUE(text(r).ends_with(close + "\n\nWell"));
  r.messages.back().content.clear();
  EXPECT_EQ(tiny().continuation_of(r), Continuation::none);

  r = request({say("user", "Hi"), say("assistant", "", "So far")});
  r.think.on = false;
  EXPECT_FALSE(tiny().render(r).ok());
  r.continue_last = false;
  EXPECT_EQ(tiny().continuation_of(r), Continuation::none);

  // Control tokens that a client writes are text.
  const auto eos = tiny().tokenizer->eos().value();
  const auto count = [&](const ChatRequest& q) {
    const auto ids = tiny().tokenizer->encode(tiny().render(q).value(), {});
    return std::count(ids.begin(), ids.end(), eos);
  };
  r = request({say("user", "Hi"), say("assistant", "", "a " + std::string(tiny().tokenizer->piece(eos, true)) + " b")});
  EXPECT_EQ(count(r), count(bare));
}

TEST(KeptThoughts, StandBeforeTheirAnswers) {
  auto r = request({say("user", "One?"), say("assistant", "First.", "thought 1"), say("user", "Two?"),
                    say("assistant", "Second.", "thought 2"), say("user", "Three?")});
  const std::string dropped = text(r);
  EXPECT_EQ(dropped.find("thought 1"), std::string::npos);
  r.keep_thoughts = true;
  const std::string kept = text(r), close = tiny().thinking->close_text;
  EXPECT_NE(kept.find(tiny().thinking->open_text + "\nthought 1\n" + close + "\n\nFirst."), std::string::npos) << kept;
  EXPECT_NE(kept.find("thought 2\n" + close + "\n\nSecond."), std::string::npos) << kept;
  EXPECT_EQ(kept.find("\xee\x80\x80"), std::string::npos);
  // Somebody who writes the mark's characters gets them back.
  r.messages[0].content =
      "\xee\x80\x80"
      "12\xee\x80\x81"
      "0;";
  EXPECT_NE(text(r).find(r.messages[0].content), std::string::npos);
}

TEST(NextHistory, IsWhatTheNextPromptBeginsWith) {
  const auto encode = [](const ChatRequest& r) {
    tokenizer::EncodeOptions options;
    options.add_bos = true;
    return tiny().tokenizer->encode(tiny().render(r).value(), options);
  };
  for (const bool keep : {false, true}) {
    auto r = request({say("user", "Are you there?")});
    r.keep_thoughts = keep;
    const auto next = next_history(tiny(), r, "Let me think.", "Yes, I am.");
    ASSERT_GT(next.size(), 10u);
    for (const char* question : {"What?", "0", "\n\nnew", "Why not?", "\xc3\xa9"}) {
      auto following = r;
      following.messages.push_back(say("assistant", "Yes, I am.", "Let me think."));
      following.messages.push_back(say("user", question));
      const auto tokens = encode(following);
      const auto same = std::mismatch(next.begin(), next.end(), tokens.begin(), tokens.end()).first - next.begin();
      EXPECT_GE(same, long(next.size()) - 1) << question;  // a question may join the mark before it
    }
  }
  ChatRequest raw;
  raw.raw_prompt = "x";
  EXPECT_TRUE(next_history(tiny(), raw, "a", "b").empty());
  // A reply that went on from a message is one message with it.
  auto begun = request({say("user", "Hi"), say("assistant", "", "So ")});
  EXPECT_EQ(next_history(tiny(), begun, "far.", "Yes."),
            next_history(tiny(), request({say("user", "Hi")}), "So far.", "Yes."));
}

}  // namespace
}  // namespace ponder::runtime
