// Two inputs in one. Bytes that begin with "GGUF" are a vocabulary: load it and use whatever comes out. Anything else is
// text for a small sound vocabulary: encode it under both provenances, and every byte must come back.

// links: tokenizer gguf

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace ponder;
using namespace ponder::tokenizer;

std::shared_ptr<const Tokenizer> small(std::string_view pre) {
  std::vector<std::string> tokens(byte_characters().begin(), byte_characters().end());
  for (const char* t : {"he", "ll", "hell", "ĠĠ", "aa", "aaaa", "<s>", "<think>", "<|im_end|>", "<<"})
    tokens.push_back(t);
  std::vector<int32_t> kinds(tokens.size(), 1);
  kinds[262] = kinds[264] = 3;
  kinds[263] = kinds[265] = 4;
  gguf::Writer w;
  w.add_string("tokenizer.ggml.model", "gpt2").add_string("tokenizer.ggml.pre", pre);
  w.add_strings("tokenizer.ggml.tokens", tokens).add_i32s("tokenizer.ggml.token_type", kinds);
  w.add_strings("tokenizer.ggml.merges", std::vector<std::string>{"h e", "l l", "he ll", "Ġ Ġ", "a a", "aa aa"});
  w.add_u32("tokenizer.ggml.bos_token_id", 262).add_bool("tokenizer.ggml.add_bos_token", true);
  const auto bytes = std::make_shared<const std::string>(w.header());
  const auto file = gguf::File::parse({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()}, bytes, "fuzz");
  if (!file.ok()) std::abort();
  const auto t = Tokenizer::load(**file);
  if (!t.ok()) std::abort();
  return *t;
}

void use(const Tokenizer& t, std::string_view text, bool whole) {
  const size_t half = text.size() / 2;
  const std::array<Segment, 2> segments{Segment{std::string(text.substr(0, half)), true},
                                        Segment{std::string(text.substr(half)), false}};
  for (const bool parse_control : {true, false}) {
    const auto ids = t.encode(segments, {.parse_control = parse_control, .add_bos = false});
    for (const TokenId id : ids) {
      if (id < 0 || id >= t.vocab_size()) std::abort();
      if (!parse_control && t.kind(id) == TokenKind::control) std::abort();
    }
    if (whole && t.decode(ids, true) != text) std::abort();
    StreamDecoder decoder(nullptr);
    std::string streamed;
    for (const TokenId id : ids) {
      const std::string out = decoder.push_bytes(t.piece(id, true));
      if (!utf8::is_valid(out)) std::abort();
      streamed += out;
    }
    streamed += decoder.finish();
    if (whole && streamed != utf8::sanitize(text)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.starts_with("GGUF")) {
    const auto file = gguf::File::parse({data, size}, nullptr, "fuzz", {.metadata_only = true});
    if (!file.ok()) return 0;
    const auto t = Tokenizer::load(**file);
    if (!t.ok()) {
      if (t.error().message.size() > 4096) std::abort();  // a message must never echo the file
      return 0;
    }
    use(**t, "hello <|im_end|> w\xc3\xb6rld \xff 123\n", false);
    for (TokenId id = -1; id <= std::min((*t)->vocab_size(), 5000); ++id) {
      if ((*t)->piece(id, false).size() > (*t)->piece(id, true).size()) std::abort();
    }
    return 0;
  }
  // Families that do not normalise give every byte back. Long inputs only cost rounds.
  static const auto all = [] {
    std::vector<std::pair<std::shared_ptr<const Tokenizer>, bool>> v;
    std::set<const PreTokenizerSpec*> seen;
    for (const auto name : pre_tokenizer_names()) {
      const PreTokenizerSpec* spec = find_pre_tokenizer(name);
      if (seen.insert(spec).second) v.emplace_back(small(name), !spec->nfc);
    }
    return v;
  }();
  for (const auto& [t, whole] : all) use(*t, input.substr(0, 1024), whole);
  return 0;
}
