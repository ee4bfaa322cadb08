// A reply whose controllers take tokens back: what a reader joins from the pieces is what the final tokens say.
#include "runtime/reply.h"

#include <gtest/gtest.h>

#include <string>

#include "base/utf8.h"
#include "gguf/gguf.h"

namespace ponder::runtime {
namespace {

std::shared_ptr<const tokenizer::Tokenizer> vocabulary() {
  auto file = gguf::File::open(std::string(PONDER_SOURCE_DIR) + "/tests/golden/tokenizer/ponder-tiny-vocabulary.gguf");
  EXPECT_TRUE(file.ok());
  return *tokenizer::Tokenizer::load(**file);
}

chat::ThinkingTags tags(const tokenizer::Tokenizer& v) {
  return {{*v.find("<think>")}, {*v.find("</think>")}, "<think>", "</think>"};
}

TEST(Reply, WhatIsTakenBackIsRetracted) {
  const auto v = vocabulary();
  const auto ids = v->encode("Okay, 小明有三个苹果。\nSo wait, 等等,\nlet me see again.\n", false);
  const auto answer = v->encode("</think>\n\nIt is 7.", true);
  // Take back to every place from every place, then go on; a reader sees the same as without.
  for (size_t from = 1; from <= ids.size(); ++from) {
    for (size_t to = 0; to < from; ++to) {
      ChatDelta joined;
      Reply::Setup setup;
      setup.tokenizer = v;
      setup.tags = tags(*v);
      setup.starts_inside = true;
      setup.logprobs = true;
      setup.deliver = [&](ChatDelta d) {
        EXPECT_TRUE(utf8::is_valid(d.thinking + d.content));
        joined.append(std::move(d));
      };
      Reply reply(std::move(setup));
      const auto feed = [&](tokenizer::TokenId id, size_t at) {
        engine::TokenEvent e;
        e.token = id;
        e.position = int32_t(100 + at);
        reply.on_token(e);
      };
      for (size_t i = 0; i < from; ++i) feed(ids[i], i);
      size_t at = to;
      for (size_t i = to; i < ids.size(); ++i) feed(ids[i], at++);
      for (const auto id : answer) feed(id, at++);
      reply.on_finish("stop");
      ASSERT_EQ(joined.thinking, "Okay, 小明有三个苹果。\nSo wait, 等等,\nlet me see again.") << from << " to " << to;
      ASSERT_EQ(joined.content, "It is 7.");
      ASSERT_EQ(joined.thinking_retracted, 0) << "nothing was retracted that had not been delivered";
      ASSERT_EQ(reply.tokens().size(), ids.size() + answer.size());
      std::string text, told;
      for (const auto id : reply.tokens()) text += v->piece(id, true);
      for (const auto& entry : joined.logprobs) told += entry.token;
      ASSERT_EQ(told, text) << from << " to " << to << ": log-probabilities of tokens that are not there";
    }
  }
}

}  // namespace
}  // namespace ponder::runtime
