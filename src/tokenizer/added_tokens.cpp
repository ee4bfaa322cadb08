// A trie with a table for the first byte: ordinary text costs one table look-up per byte, and a
// vocabulary with a thousand added tokens costs no more than one with ten.
#include "tokenizer/added_tokens.h"

#include <algorithm>

namespace ponder::tokenizer {
namespace {

// A file could claim a token of a megabyte; looking for it at each of its own beginnings would take
// quadratic time. The longest of published vocabularies is under 100 bytes.
constexpr size_t kLongest = 1024;

}  // namespace

AddedTokens::AddedTokens(const Vocabulary& vocabulary) {
  roots_.fill(-1);
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const TokenKind kind = vocabulary.kind(id);
    if (kind != TokenKind::control && kind != TokenKind::user_defined) continue;
    const std::string_view text = vocabulary.text(id);
    if (text.empty() || text.size() > kLongest || vocabulary.is_filler(id)) continue;
    insert(text, id, kind == TokenKind::control);
  }
}

void AddedTokens::insert(std::string_view text, TokenId id, bool control) {
  int32_t node = -1;
  for (const char c : text) {
    const uint8_t byte = uint8_t(c);
    int32_t child = node < 0 ? roots_[byte] : nodes_[node].first_child;
    if (node >= 0) {
      while (child >= 0 && nodes_[child].byte != byte) child = nodes_[child].next_sibling;
    }
    if (child < 0) {
      child = int32_t(nodes_.size());
      Node fresh;
      fresh.byte = byte;
      if (node < 0) {
        roots_[byte] = child;
      } else {
        fresh.next_sibling = nodes_[node].first_child;
        nodes_[node].first_child = child;
      }
      nodes_.push_back(fresh);
    }
    node = child;
  }
  if (nodes_[node].id >= 0) return;  // the same text twice: the lower id stands
  nodes_[node].id = id;
  nodes_[node].control = control;
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, size_t from,
                                                    std::span<const Range> template_ranges) const {
  if (nodes_.empty()) return std::nullopt;
  // The template range that `from` is in, or the next one.
  auto range = std::partition_point(template_ranges.begin(), template_ranges.end(),
                                    [&](const Range& r) { return r.end <= from; });
  for (size_t begin = from; begin < text.size(); ++begin) {
    int32_t node = roots_[uint8_t(text[begin])];
    if (node < 0) continue;
    while (range != template_ranges.end() && range->end <= begin) ++range;
    // Control tokens that begin here must end by this place.
    const size_t control_end = range != template_ranges.end() && range->begin <= begin ? range->end : begin;
    std::optional<Match> longest;
    for (size_t end = begin + 1;; ++end) {
      const Node& n = nodes_[node];
      if (n.id >= 0 && (!n.control || end <= control_end)) longest = Match{begin, end, n.id};
      if (end == text.size()) break;
      node = n.first_child;
      while (node >= 0 && nodes_[node].byte != uint8_t(text[end])) node = nodes_[node].next_sibling;
      if (node < 0) break;
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace ponder::tokenizer
