// The splitter against a reference that looks at the whole text at once, for all positions and many
// cuts.
#include <gtest/gtest.h>

#include <random>

#include "chat/chat.h"

namespace ponder::chat {
namespace {

using tokenizer::TokenId;

// Bytes are tokens 0..255; more tokens as given.
class FakeTokenizer : public tokenizer::Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> extra) : extra_(std::move(extra)) {
    for (int i = 0; i < 256; ++i) bytes_.push_back(std::string(1, char(i)));
  }
  std::vector<TokenId> encode(std::span<const tokenizer::Segment> segments,
                              const tokenizer::EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const auto& s : segments) {
      for (const char c : s.text) ids.push_back(uint8_t(c));
    }
    return ids;
  }
  std::string_view piece(TokenId id, bool render_control) const override {
    if (id >= 0 && id < 256) return bytes_[size_t(id)];
    if (id < 256 || size_t(id - 256) >= extra_.size()) return {};
    return kind(id) == tokenizer::TokenKind::control && !render_control ? std::string_view() : extra_[size_t(id - 256)];
  }
  int vocab_size() const override { return 256 + int(extra_.size()); }
  tokenizer::TokenKind kind(TokenId id) const override {
    return id >= 256 && extra_[size_t(id - 256)].starts_with("<") ? tokenizer::TokenKind::control
                                                                  : tokenizer::TokenKind::normal;
  }
  std::optional<TokenId> find(std::string_view text) const override {
    for (size_t i = 0; i < extra_.size(); ++i) {
      if (extra_[i] == text) return TokenId(256 + i);
    }
    return std::nullopt;
  }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  bool add_bos() const override { return false; }
  bool add_eos() const override { return false; }
  std::span<const TokenId> end_of_generation() const override { return {}; }
  std::string_view pre_tokenizer() const override { return "fake"; }

 private:
  std::vector<std::string> bytes_, extra_;
};

std::shared_ptr<const Template> compile(std::string_view source) {
  auto t = Template::compile(source);
  EXPECT_TRUE(t) << t.error().message;
  return *t;
}

struct Split {
  std::string thinking, content;
  int thinking_tokens = 0, answer_tokens = 0;
  bool operator==(const Split&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Split& s) {
  return out << "thinking \"" << s.thinking << "\" (" << s.thinking_tokens << "), content \"" << s.content << "\" ("
             << s.answer_tokens << ")";
}

Split run(const std::shared_ptr<const tokenizer::Tokenizer>& tokenizer, const std::optional<ThinkingTags>& tags,
          bool inside, const std::vector<TokenId>& ids) {
  ThinkingSplitter splitter(tokenizer, tags, inside);
  Split split;
  const auto take = [&](const std::vector<SplitPiece>& pieces) {
    for (const SplitPiece& p : pieces) {
      (p.channel == Channel::thinking ? split.thinking : split.content) += p.text;
      (p.channel == Channel::thinking ? split.thinking_tokens : split.answer_tokens) += p.n_tokens;
    }
  };
  for (const TokenId id : ids) {
    const int before = splitter.thinking_tokens();
    take(splitter.push(id));
    EXPECT_GE(splitter.thinking_tokens(), before);
  }
  take(splitter.finish());
  EXPECT_EQ(split.thinking_tokens, splitter.thinking_tokens());
  EXPECT_EQ(split.answer_tokens, splitter.answer_tokens());
  return split;
}

const std::string kTemplate = "{{ messages }}<think></think>";

struct Single {
  std::shared_ptr<const FakeTokenizer> tokenizer = std::make_shared<FakeTokenizer>(
      std::vector<std::string>{"<think>", "</think>", "\n\n", "Hello", "\xE4\xBD", "\xA0"});
  ThinkingTags tags = *find_thinking_tags(*compile(kTemplate), *tokenizer);
  // '{' and '}' stand for the tags.
  std::vector<TokenId> ids(std::string_view text) const {
    std::vector<TokenId> out;
    for (const char c : text) out.push_back(c == '{' ? 256 : c == '}' ? 257 : TokenId(uint8_t(c)));
    return out;
  }
  Split run(std::string_view text, bool inside) const { return chat::run(tokenizer, tags, inside, ids(text)); }
};

TEST(ThinkingSplitter, TagsOfOneToken) {
  const Single s;
  ASSERT_EQ(s.tags.open, std::vector<TokenId>{256});
  ASSERT_EQ(s.tags.close, std::vector<TokenId>{257});
  EXPECT_EQ(s.run("{\nab\n}\n\nc\n", false), (Split{"ab", "c\n", 4, 4}));
  EXPECT_EQ(s.run("ab}c", true), (Split{"ab", "c", 2, 1}));
  EXPECT_EQ(s.run("}c", true), (Split{"", "c", 0, 1}));
  EXPECT_EQ(s.run("\n}\n\nc", true), (Split{"", "c", 1, 3}));
  EXPECT_EQ(s.run("a\nb\n", true), (Split{"a\nb\n", "", 4, 0})) << "unfinished: nothing to drop newlines for";
  EXPECT_EQ(s.run("abc", false), (Split{"", "abc", 0, 3})) << "no thought";
  EXPECT_EQ(s.run(" \n{a}b", false), (Split{"a", "b", 3, 1})) << "white space before the tag";
  EXPECT_EQ(s.run(" \nb", false), (Split{"", " \nb", 0, 3})) << "white space before an answer";
  EXPECT_EQ(s.run("a} x {b} c", true), (Split{"a", " x <think>b</think> c", 1, 8})) << "a second thought is content";
  EXPECT_EQ(s.run("a{b}c", true), (Split{"a<think>b", "c", 3, 1})) << "an opening tag inside is text";
  EXPECT_EQ(s.run("x{b}c", false), (Split{"", "x<think>b</think>c", 0, 5})) << "not at the start";
  EXPECT_EQ(s.run("a</think>b}c", true), (Split{"a</think>b", "c", 10, 1})) << "spelled out it is text";
  EXPECT_EQ(s.run("  a  } b", true), (Split{"  a  ", " b", 5, 2})) << "only newlines are dropped";
  EXPECT_EQ(s.run("", true), (Split{}));
  EXPECT_EQ(chat::run(s.tokenizer, std::nullopt, true, s.ids("a{b}")), (Split{"", "ab", 0, 4}))
      << "no tags: all is content";
}

TEST(ThinkingSplitter, State) {
  const Single s;
  ThinkingSplitter splitter(s.tokenizer, s.tags, false);
  EXPECT_FALSE(splitter.inside_thought());
  splitter.push(256);
  EXPECT_TRUE(splitter.inside_thought());
  splitter.push('\n');
  EXPECT_EQ(splitter.thinking_tokens(), 1);
  EXPECT_EQ(splitter.push('a').size(), 1u);
  EXPECT_TRUE(splitter.push('\n').empty()) << "a closing tag might follow";
  EXPECT_EQ(splitter.thinking_tokens(), 3) << "held newlines count";
  EXPECT_EQ(splitter.push('b')[0].text, "\nb");
  splitter.push(257);
  EXPECT_FALSE(splitter.inside_thought());
}

TEST(ThinkingSplitter, PiecesAreWholeCharacters) {
  const Single s;
  ThinkingSplitter splitter(s.tokenizer, s.tags, true);
  EXPECT_TRUE(splitter.push(260).empty());  // the first two bytes of a character
  const auto pieces = splitter.push(261);
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].text, "你");
  EXPECT_EQ(pieces[0].n_tokens, 2);
  EXPECT_TRUE(splitter.push(260).empty());
  const auto broken = splitter.push(257);
  ASSERT_EQ(broken.size(), 1u) << "half a character before the tag";
  EXPECT_EQ(broken[0].text, "\xEF\xBF\xBD");
  EXPECT_EQ(broken[0].channel, Channel::thinking);
}

// What the rules in chat.h say, read off the whole text.
Split reference(std::string text, bool inside, const std::string& open, const std::string& close) {
  Split split;
  const auto drop_front = [](std::string& s) { s.erase(0, std::min(s.find_first_not_of('\n'), s.size())); };
  if (!inside) {
    const size_t start = text.find_first_not_of(" \t\r\n");
    if (start == text.npos || text.compare(start, open.size(), open) != 0) {
      split.content = text;
      return split;
    }
    text.erase(0, start + open.size());
  }
  drop_front(text);
  const size_t end = text.find(close);
  split.thinking = text.substr(0, end);
  if (end == text.npos) return split;
  while (!split.thinking.empty() && split.thinking.back() == '\n') split.thinking.pop_back();
  split.content = text.substr(end + close.size());
  drop_front(split.content);
  return split;
}

// The vocabulary has to spell the tags; texts of the tags' own letters, cut in every way.
TEST(ThinkingSplitter, SpelledTagsWhereverTheModelCuts) {
  const std::vector<std::string> words = {"<",  "/", "think", ">",      "\n",  "</think>", "<think>",
                                          "</", "a", " ",     "</thin", "thi", "é",        ">\n\n"};
  const auto byte_tokenizer = std::make_shared<FakeTokenizer>(std::vector<std::string>{});
  const ThinkingTags tags = *find_thinking_tags(*compile(kTemplate), *byte_tokenizer);
  ASSERT_EQ(tags.close.size(), 8u);
  std::mt19937 random(7);
  int thoughts = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    const int n = int(random() % 9);
    for (int i = 0; i < n; ++i) text += words[random() % words.size()];
    const bool inside = random() % 2 == 0;
    // A random cut: the pieces become a vocabulary of their own.
    std::vector<std::string> pieces;
    std::vector<TokenId> ids;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 6;
      pieces.push_back("x" + text.substr(at, length));  // "x": not a control token of the fake
      at += length;
    }
    class Pieces : public FakeTokenizer {
     public:
      explicit Pieces(std::vector<std::string> p) : FakeTokenizer({}), pieces_(std::move(p)) {}
      std::string_view piece(TokenId id, bool) const override {
        return std::string_view(pieces_[size_t(id)]).substr(1);
      }
      std::vector<std::string> pieces_;
    };
    const auto cut = std::make_shared<Pieces>(pieces);
    for (size_t i = 0; i < pieces.size(); ++i) ids.push_back(TokenId(i));
    const Split got = run(cut, tags, inside, ids);
    const Split expected = reference(text, inside, "<think>", "</think>");
    ASSERT_EQ(got.thinking, expected.thinking) << "in " << text;
    ASSERT_EQ(got.content, expected.content) << "in " << text;
    thoughts += !expected.thinking.empty();
    // Tokens: all of them, but those with a byte of a tag.
    ASSERT_LE(got.thinking_tokens + got.answer_tokens, int(ids.size()));
    if (expected.content == text) {
      ASSERT_EQ(got.answer_tokens, int(ids.size()));
    }
    if (inside && text.find("</think>") == text.npos) {
      ASSERT_EQ(got.thinking_tokens, int(ids.size()));
    }
  }
  EXPECT_GT(thoughts, 5'000);
}

TEST(ThinkingSplitter, SpelledTagsCountExactly) {
  const auto t = std::make_shared<FakeTokenizer>(std::vector<std::string>{"x</", "think", ">\n\n", "Hi"});
  const ThinkingTags tags = *find_thinking_tags(*compile(kTemplate), *t);
  EXPECT_EQ(run(t, tags, true, {'a', 'b', 256, 257, 258, 259}), (Split{"abx", "Hi", 2, 1}))
      << "tokens with a byte of the tag do not count";
  EXPECT_EQ(run(t, tags, true, {'a', 256, 257, 'y', 259}), (Split{"ax</thinkyHi", "", 5, 0}))
      << "a partial tag is text";
  EXPECT_EQ(run(t, tags, true, {'a', 256, 257}), (Split{"ax</think", "", 3, 0})) << "and so at the end";
}

TEST(ThinkingTags, NeedATemplateThatThinks) {
  const FakeTokenizer vocabulary({"<think>", "</think>", "[THINK]", "[/THINK]"});
  EXPECT_FALSE(find_thinking_tags(*compile("{{ messages[0].content }}"), vocabulary));
  const auto mistral = find_thinking_tags(*compile("{{ '[THINK]' }}"), vocabulary);
  ASSERT_TRUE(mistral);
  EXPECT_EQ(mistral->close_text, "[/THINK]");
  EXPECT_EQ(mistral->close, std::vector<TokenId>{259});
  const auto only_close = find_thinking_tags(*compile("{{ x.split('</think>')[-1] }}"), vocabulary);
  ASSERT_TRUE(only_close);
  EXPECT_EQ(only_close->open_text, "<think>");
}

using Segments = std::vector<tokenizer::Segment>;

TEST(ThinkingTags, EndsInsideThought) {
  const Single s;
  EXPECT_TRUE(ends_inside_thought({{"<A><think>\n", true}}, s.tags));
  EXPECT_TRUE(ends_inside_thought({{"Hi", false}, {"<A><think>", true}}, s.tags));
  EXPECT_FALSE(ends_inside_thought({{"<A>", true}}, s.tags));
  EXPECT_FALSE(ends_inside_thought({{"<A><think>\n\n</think>\n\n", true}}, s.tags));
  EXPECT_FALSE(ends_inside_thought({{"<A>", true}, {"<think>", false}}, s.tags)) << "typed by the user";
  EXPECT_FALSE(ends_inside_thought({{"<A>", true}, {"<thi", false}, {"nk>", true}}, s.tags));
  EXPECT_FALSE(ends_inside_thought({}, s.tags));
}

TEST(ThinkingTags, CloseThought) {
  const Single s;
  const std::string empty = "<think>\n\n</think>\n\n";
  EXPECT_EQ(empty_thought(s.tags), empty);
  EXPECT_EQ(to_text(close_thought({{"Hi", false}, {"<A><think>\n", true}}, s.tags)), "Hi<A>" + empty);
  EXPECT_EQ(to_text(close_thought({{"<A>\n", true}}, s.tags)), "<A>\n" + empty);
  EXPECT_EQ(to_text(close_thought({{"<A>\n" + empty, true}}, s.tags)), "<A>\n" + empty) << "once is enough";
  const Segments closed = close_thought({{"<A>", true}, {"<think>", false}}, s.tags);
  EXPECT_EQ(to_text(closed), "<A><think>" + empty);
  EXPECT_TRUE(closed.back().from_template);
  EXPECT_EQ(closed.size(), 3u);
  EXPECT_EQ(to_text(close_thought({}, s.tags)), empty);
}

TEST(BuiltinTemplate, ByVocabulary) {
  const auto pick = [](std::vector<std::string> tokens, std::string_view architecture = "llama") {
    const FakeTokenizer vocabulary(std::move(tokens));
    const auto r = builtin_template(architecture, vocabulary);
    return r ? r->name : r.error().message;
  };
  EXPECT_EQ(pick({"<|im_start|>", "<|im_end|>"}), "chatml");
  EXPECT_EQ(pick({"<|start_header_id|>", "<|eot_id|>"}), "llama3");
  EXPECT_EQ(pick({"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<|im_start|>", "<|im_end|>"}, "qwen2"),
            "deepseek-r1");
  EXPECT_EQ(pick({"[INST]", "[/INST]"}), "mistral");
  EXPECT_EQ(pick({"<｜begin▁of▁sentence｜>"}, "deepseek2"), "deepseek");
  EXPECT_NE(pick({}).find("TEMPLATE in a Modelfile"), std::string::npos);
}

TEST(BuiltinTemplate, AllRender) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> expected = {
      {{"<|im_start|>", "<|im_end|>"},
       "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<"
       "|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n"
       "<|im_start|>assistant\n"},
      {{"<|start_header_id|>", "<|eot_id|>"},
       "<b><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_"
       "header_id|>\n\nQ1<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|><|start_header_id|>user<|end_"
       "header_id|>\n\nQ2<|eot_id|>"
       "<|start_header_id|>assistant<|end_header_id|>\n\n"},
      {{"<｜User｜>", "<｜Assistant｜>", "<think>"},
       "<b>S<｜User｜>Q1<｜Assistant｜>A1<｜end▁of▁sentence｜><｜User｜>Q2<｜Assistant｜><think>"
       "\n"},
      {{"[INST]", "[/INST]"}, "<b>[INST] Q1 [/INST] A1<e>[INST] S\n\nQ2 [/INST]"},
      {{"<｜begin▁of▁sentence｜>"}, "<b>S\n\nUser: Q1\n\nAssistant: A1<e>User: Q2\n\nAssistant:"}};
  for (const auto& [tokens, text] : expected) {
    const auto chosen = builtin_template("deepseek2", FakeTokenizer(tokens));
    ASSERT_TRUE(chosen) << chosen.error().message;
    RenderInput input;
    for (const auto& [role, content] :
         {std::pair("system", "S"), {"user", "Q1"}, {"assistant", "A1"}, {"user", "Q2"}}) {
      Message m;
      m.role = role;
      m.content = content;
      input.messages.push_back(std::move(m));
    }
    input.bos_token = "<b>";
    input.eos_token = "<e>";
    const auto result = compile(chosen->source)->render(input);
    ASSERT_TRUE(result) << chosen->name << ": " << result.error().message;
    EXPECT_EQ(to_text(*result), text) << chosen->name;
  }
}

}  // namespace
}  // namespace ponder::chat
