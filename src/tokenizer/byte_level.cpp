// Puts the parts together: added tokens, normalisation, pre-tokenizer, byte-pair encoding. Read
// byte_level.h for the order and why; tokenizer.cpp chooses this class by the file's
// tokenizer.ggml.model.
#include "tokenizer/byte_level.h"

#include <algorithm>
#include <bit>
#include <deque>

#include "base/log.h"
#include "base/utf8.h"
#include "tokenizer/normalize.h"

namespace ponder::tokenizer {

/// Words repeat. Within one call the tokens of a piece are found again by its text: entries point
/// into the text and into the tokens already written, so nothing is copied, nothing is shared
/// between threads, and the size is fixed.
class ByteLevelTokenizer::PieceCache {
 public:
  explicit PieceCache(size_t text_size) {
    if (text_size >= 512) entries_.resize(std::bit_ceil(std::min<size_t>(text_size / 16, 8192)));
  }

  void encode(std::string_view piece, const Bpe& bpe, const Vocabulary& vocabulary, std::vector<TokenId>& out) {
    if (entries_.empty() || piece.size() > 64) return bpe.encode(piece, vocabulary, out);
    Entry& e = entries_[hash_bytes(piece) & (entries_.size() - 1)];
    const size_t begin = out.size();
    if (e.piece == piece) {
      out.resize(begin + e.count);
      std::copy_n(out.begin() + e.begin, e.count, out.begin() + begin);
      return;
    }
    bpe.encode(piece, vocabulary, out);
    e = Entry{piece, begin, out.size() - begin};
  }

  /// Keeps a normalised text alive as long as the entries that point into it.
  std::string_view keep(std::string text) { return kept_.emplace_back(std::move(text)); }

  std::vector<std::string_view> pieces;  ///< scratch of encode_plain

 private:
  struct Entry {
    std::string_view piece;
    size_t begin = 0, count = 0;
  };
  std::vector<Entry> entries_;
  std::deque<std::string> kept_;
};

ByteLevelTokenizer::ByteLevelTokenizer(Vocabulary vocabulary, Bpe bpe, Splitter splitter, const PreTokenizerSpec& spec)
    : vocabulary_(std::move(vocabulary)),
      bpe_(std::move(bpe)),
      added_(vocabulary_),
      splitter_(std::move(splitter)),
      nfc_(spec.nfc) {}

Result<std::shared_ptr<const Tokenizer>> ByteLevelTokenizer::load(const gguf::File& file) {
  constexpr std::string_view kPre = "tokenizer.ggml.pre";
  std::string_view name = "default";
  if (file.find(kPre) != nullptr) {
    PONDER_TRY(name, file.require_string(kPre));
  } else {
    log(LogLevel::warning, file.path() +
                               ": no tokenizer.ggml.pre; the default pre-tokenizer may split text "
                               "otherwise than the model was trained");
  }
  const PreTokenizerSpec* spec = find_pre_tokenizer(name);
  if (spec == nullptr) {
    std::string known;
    for (const std::string_view n : pre_tokenizer_names()) {
      known.append(known.empty() ? "" : ", ").append(n);
    }
    return Error{ErrorCode::unsupported, std::string(kPre) + ": unknown pre-tokenizer \"" +
                                             std::string(name.substr(0, 80)) + "\"; known: " + known};
  }
  PONDER_TRY(Vocabulary vocabulary, Vocabulary::load(file));
  PONDER_TRY(Bpe bpe, Bpe::load(file, vocabulary, spec->ignore_merges));
  PONDER_TRY(Splitter splitter, Splitter::compile(*spec));
  std::shared_ptr<ByteLevelTokenizer> t(
      new ByteLevelTokenizer(std::move(vocabulary), std::move(bpe), std::move(splitter), *spec));
  t->pre_tokenizer_ = name;
  t->add_bos_ = file.get_bool("tokenizer.ggml.add_bos_token").value_or(spec->add_bos);
  t->add_eos_ = file.get_bool("tokenizer.ggml.add_eos_token").value_or(false);
  return std::shared_ptr<const Tokenizer>(std::move(t));
}

std::vector<TokenId> ByteLevelTokenizer::encode(std::span<const Segment> segments, const EncodeOptions& options) const {
  std::string joined;
  std::string_view text;
  std::vector<Range> template_ranges;
  size_t size = 0;
  for (const Segment& segment : segments) {
    const Range range{size, size + segment.text.size()};
    size = range.end;
    if (!segment.from_template || !options.parse_control || range.begin == range.end) continue;
    if (!template_ranges.empty() && template_ranges.back().end == range.begin) {
      template_ranges.back().end = range.end;
    } else {
      template_ranges.push_back(range);
    }
  }
  if (segments.size() == 1) {
    text = segments[0].text;
  } else {
    joined.reserve(size);
    for (const Segment& segment : segments) joined += segment.text;
    text = joined;
  }

  std::vector<TokenId> out;
  out.reserve(size / 3 + 8);
  PieceCache cache(size);
  for (size_t done = 0; done < text.size();) {
    const auto match = added_.find(text, done, template_ranges);
    encode_plain(text.substr(done, (match ? match->begin : text.size()) - done), cache, out);
    if (!match) break;
    out.push_back(match->id);
    done = match->end;
  }
  const auto& bos = vocabulary_.bos;
  if (options.add_bos && add_bos_ && bos && (out.empty() || out.front() != *bos)) {
    out.insert(out.begin(), *bos);
  }
  return out;
}

void ByteLevelTokenizer::encode_plain(std::string_view run, PieceCache& cache, std::vector<TokenId>& out) const {
  while (!run.empty()) {
    // The longest prefix that is valid UTF-8, then whatever is not.
    size_t valid = 0;
    utf8::Decoded d{0, 0, true};
    while (valid < run.size()) {
      if (uint8_t(run[valid]) < 0x80) {
        ++valid;
        continue;
      }
      d = utf8::decode(run.substr(valid));
      if (!d.valid) break;
      valid += d.length;
    }
    std::string_view text = run.substr(0, valid);
    if (nfc_ && !is_surely_nfc(text)) text = cache.keep(to_nfc(text));
    cache.pieces.clear();
    splitter_.split(text, cache.pieces);
    for (const std::string_view piece : cache.pieces) cache.encode(piece, bpe_, vocabulary_, out);
    run.remove_prefix(valid);
    if (!run.empty()) {
      for (const char c : run.substr(0, d.length)) bpe_.encode({&c, 1}, vocabulary_, out);
      run.remove_prefix(d.length);
    }
  }
}

std::string_view ByteLevelTokenizer::piece(TokenId id, bool render_control) const {
  if (!vocabulary_.contains(id)) return {};
  const TokenKind kind = vocabulary_.kind(id);
  if (!render_control && (kind == TokenKind::control || kind == TokenKind::unknown)) return {};
  return vocabulary_.bytes(id);
}

TokenKind ByteLevelTokenizer::kind(TokenId id) const {
  return vocabulary_.contains(id) ? vocabulary_.kind(id) : TokenKind::unused;
}

}  // namespace ponder::tokenizer
