// Byte-level BPE as in GPT-2: each of the 256 bytes is written as one printable character
// (printable Latin-1 as itself, the rest as U+0100 upwards), a merge joins two tokens that exist
// already, an earlier merge binds tighter.
#include "synth/vocabulary.h"

#include <array>
#include <string_view>
#include <unordered_set>

#include "base/utf8.h"

namespace ponder::synth {
namespace {

// Token types of tokenizer.ggml.token_type.
enum : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

/// GPT-2's character for every byte.
std::array<std::string, 256> byte_characters() {
  std::array<std::string, 256> table;
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    utf8::append(table[size_t(b)], printable ? char32_t(b) : next++);
  }
  return table;
}

// Written with a plain space for GPT-2's word mark. Both sides of each pair are bytes or results of
// earlier lines.
constexpr std::pair<std::string_view, std::string_view> kMerges[] = {
    {" ", "t"},   {"h", "e"},   {" ", "a"},   {"i", "n"},  {"r", "e"},   {"o", "n"},    {" t", "he"}, {"e", "r"},
    {" ", "s"},   {"a", "t"},   {" ", "w"},   {" ", "o"},  {"e", "n"},   {" ", "c"},    {"i", "t"},   {"i", "s"},
    {"a", "n"},   {"o", "r"},   {"e", "s"},   {" ", "b"},  {"e", "d"},   {" ", "f"},    {"in", "g"},  {" ", "p"},
    {"o", "u"},   {" a", "n"},  {"a", "l"},   {"a", "r"},  {" t", "o"},  {" ", "m"},    {" o", "f"},  {" ", "in"},
    {" ", "d"},   {" ", "h"},   {" an", "d"}, {"i", "c"},  {"a", "s"},   {"l", "e"},    {" t", "h"},  {"i", "on"},
    {"o", "m"},   {"l", "l"},   {"en", "t"},  {" ", "n"},  {" ", "l"},   {"s", "t"},    {" ", "re"},  {"v", "e"},
    {"r", "o"},   {"l", "y"},   {" b", "e"},  {" ", "g"},  {" i", "s"},  {" i", "t"},   {" w", "h"},  {" th", "at"},
    {" y", "ou"}, {"th", "er"}, {" f", "or"}, {" s", "o"}, {" w", "as"}, {" w", "ith"},
};

constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>", kEnd = "<｜end▁of▁sentence｜>", kPad = "<｜▁pad▁｜>";

constexpr std::pair<std::string_view, int32_t> kSpecial[] = {
    {kEnd, kControl},   {"<｜User｜>", kControl},  {"<｜Assistant｜>", kControl},
    {kBegin, kControl}, {"<think>", kUserDefined}, {"</think>", kUserDefined},
    {kPad, kControl},
};

// The turns of R1's distilled models: thinking starts at once, thoughts of earlier turns are left
// out.
constexpr std::string_view kTemplate =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ "
    "message['content'] }}"
    "{% endif %}{% endfor %}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<｜User｜>' + message['content'] }}{% elif message['role'] == 'assistant' %}"
    "{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' "
    "}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}";

struct Merges {
  std::vector<std::string> tokens, pairs;
};

/// The merges whose two sides exist, in byte characters.
Merges merges() {
  const auto characters = byte_characters();
  const auto spell = [&](std::string_view s) {
    std::string out;
    for (const char c : s) out += characters[uint8_t(c)];
    return out;
  };
  std::unordered_set<std::string> known(characters.begin(), characters.end());
  Merges m;
  for (const auto& [left, right] : kMerges) {
    const std::string a = spell(left), b = spell(right);
    if (!known.count(a) || !known.count(b) || !known.insert(a + b).second) continue;
    m.tokens.push_back(a + b);
    m.pairs.push_back(a + " " + b);
  }
  return m;
}

}  // namespace

uint64_t smallest_vocabulary() { return 256 + merges().tokens.size() + std::size(kSpecial); }

Result<void> add_own_vocabulary(uint64_t size, const std::string& pre, gguf::Writer& writer) {
  if (size < smallest_vocabulary()) {
    return Error{ErrorCode::invalid_argument, "--vocab: " + std::to_string(size) + " is less than the " +
                                                  std::to_string(smallest_vocabulary()) +
                                                  " tokens of the built-in vocabulary"};
  }
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (const auto& c : byte_characters()) tokens.push_back(c);
  const Merges m = merges();
  tokens.insert(tokens.end(), m.tokens.begin(), m.tokens.end());
  types.assign(tokens.size(), kNormal);
  uint32_t begin = 0, end = 0, pad = 0;
  for (const auto& [text, type] : kSpecial) {
    const auto id = uint32_t(tokens.size());
    if (text == kBegin) begin = id;
    if (text == kEnd) end = id;
    if (text == kPad) pad = id;
    tokens.emplace_back(text);
    types.push_back(type);
  }
  while (tokens.size() < size) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    types.push_back(kUnused);
  }
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", pre);
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_i32s("tokenizer.ggml.token_type", types);
  writer.add_strings("tokenizer.ggml.merges", m.pairs);
  writer.add_u32("tokenizer.ggml.bos_token_id", begin);
  writer.add_u32("tokenizer.ggml.eos_token_id", end);
  writer.add_u32("tokenizer.ggml.padding_token_id", pad);
  writer.add_bool("tokenizer.ggml.add_bos_token", true);
  writer.add_bool("tokenizer.ggml.add_eos_token", false);
  writer.add_string("tokenizer.chat_template", kTemplate);
  return {};
}

Result<uint64_t> vocabulary_size(const gguf::File& from) {
  PONDER_TRY(const gguf::ArrayView* tokens, from.require_array("tokenizer.ggml.tokens", gguf::ValueType::string));
  return tokens->size();
}

Result<uint64_t> copy_vocabulary(const gguf::File& from, gguf::Writer& writer) {
  PONDER_TRY(const uint64_t size, vocabulary_size(from));
  for (const auto& kv : from.metadata()) {
    if (std::string_view(kv.key).starts_with("tokenizer.")) writer.add(kv);
  }
  return size;
}

}  // namespace ponder::synth
