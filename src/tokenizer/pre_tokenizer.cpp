// Splitting with PCRE2. Its JIT makes a pattern as fast as hand-written code (a megabyte in some 20
// ms); where the JIT is missing or gives up, the interpreter does the same slower.
//
// Hostile text: the patterns in pre/ are ours, not a stranger's, and each is written so that a
// match costs time linear in what it scans (pre_tokenizer_test.cpp feeds megabytes of one character
// to all of them). Still a limit could be hit, so that the order of attempts is: JIT, then the
// interpreter with limits lifted as far as they go; if even that fails, which only lack of memory
// can cause, the next character becomes a piece. Text is never lost.
#include "tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>

#include "base/utf8.h"

namespace ponder::tokenizer {

#define PONDER_PRE_TOKENIZER(name) const PreTokenizerSpec& pre_tokenizer_##name();
#include "pre_tokenizers.inc"
#undef PONDER_PRE_TOKENIZER

namespace {

using SpecOf = const PreTokenizerSpec& (*)();
constexpr SpecOf kFamilies[] = {
#define PONDER_PRE_TOKENIZER(name) &pre_tokenizer_##name,
#include "pre_tokenizers.inc"
#undef PONDER_PRE_TOKENIZER
};

// PCRE2's \s with Unicode properties also takes U+180E, which lost the property White_Space in
// Unicode 6.3; Oniguruma and Rust do not. So \s and \S are spelled out.
std::string with_unicode_spaces(std::string_view pattern) {
  constexpr std::string_view kSpaces = "\\t-\\r\\x{85}\\p{Z}";
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's' && in_class) {
        out += kSpaces;
      } else if (next == 's' || (next == 'S' && !in_class)) {
        out.append(next == 's' ? "[" : "[^").append(kSpaces).append("]");
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

struct MatchData {
  MatchData() : data(pcre2_match_data_create(1, nullptr)), context(pcre2_match_context_create(nullptr)) {
    if (context != nullptr) {
      pcre2_set_match_limit(context, UINT32_MAX);
      pcre2_set_depth_limit(context, UINT32_MAX);
      pcre2_set_heap_limit(context, 1u << 20);  // KiB
    }
  }
  ~MatchData() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;
  pcre2_match_data* data;
  pcre2_match_context* context;
};

}  // namespace

const PreTokenizerSpec* find_pre_tokenizer(std::string_view name) {
  for (const SpecOf family : kFamilies) {
    const PreTokenizerSpec& spec = family();
    if (std::find(spec.names.begin(), spec.names.end(), name) != spec.names.end()) return &spec;
  }
  return nullptr;
}

std::vector<std::string_view> pre_tokenizer_names() {
  std::vector<std::string_view> names;
  for (const SpecOf family : kFamilies) {
    names.insert(names.end(), family().names.begin(), family().names.end());
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Splitter::Pattern {
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Free> code;

  /// The next match in text at or after `from`, never empty; false if there is none.
  bool next(std::string_view text, size_t from, const MatchData& match, size_t& begin, size_t& end) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    while (from < text.size()) {
      int rc = PCRE2_ERROR_NOMEMORY;
      if (match.data != nullptr) {
        rc = pcre2_match(code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, match.data, match.context);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
          rc = pcre2_match(code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match.data,
                           match.context);
        }
      }
      if (rc == PCRE2_ERROR_NOMATCH) return false;
      if (rc < 0) {
        begin = from;
        end = from + utf8::decode(text.substr(from)).length;
        return true;
      }
      const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(match.data);
      if (offsets[1] > offsets[0]) {
        begin = offsets[0];
        end = offsets[1];
        return true;
      }
      from = offsets[1] + utf8::decode(text.substr(offsets[1])).length;
    }
    return false;
  }
};

Splitter::Splitter() = default;
Splitter::~Splitter() = default;
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;

Result<Splitter> Splitter::compile(const PreTokenizerSpec& spec, bool use_jit) {
  Splitter splitter;
  for (const std::string_view source : spec.patterns) {
    const std::string pattern = with_unicode_spaces(source);
    int error = 0;
    PCRE2_SIZE at = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
    if (code == nullptr) {
      PCRE2_UCHAR text[160] = {};
      pcre2_get_error_message(error, text, sizeof text);
      return Error{ErrorCode::internal, "pre-tokenizer " + std::string(spec.names.front()) + ": pattern \"" + pattern +
                                            "\" does not compile at " + std::to_string(at) + ": " +
                                            reinterpret_cast<const char*>(text)};
    }
    if (use_jit) pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it, pcre2_match interprets
    splitter.patterns_.emplace_back();
    splitter.patterns_.back().code.reset(code);
  }
  return splitter;
}

void Splitter::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  if (text.empty()) return;
  const MatchData match;
  // Apart from the last, a pattern's pieces are the next one's texts.
  std::vector<std::string_view> texts{text}, next_texts;
  for (size_t p = 0; p < patterns_.size(); ++p) {
    const bool last = p + 1 == patterns_.size();
    std::vector<std::string_view>& out = last ? pieces : next_texts;
    for (const std::string_view t : texts) {
      size_t done = 0, begin = 0, end = 0;
      while (patterns_[p].next(t, done, match, begin, end)) {
        if (begin > done) out.push_back(t.substr(done, begin - done));
        out.push_back(t.substr(begin, end - begin));
        done = end;
      }
      if (done < t.size()) out.push_back(t.substr(done));
    }
    if (!last) {
      texts.swap(next_texts);
      next_texts.clear();
    }
  }
  if (patterns_.empty()) pieces.push_back(text);
}

}  // namespace ponder::tokenizer
