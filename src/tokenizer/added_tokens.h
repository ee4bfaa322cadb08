// Finds control and user-defined tokens in text: at the leftmost place where any begins, the
// longest one. Where a token may be found depends on its kind and on where the text came from: a
// user-defined token (R1's <think>) anywhere; a control token only if all of its characters come
// from a template, so that a user who types it gets text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace ponder::tokenizer {

/// A half-open range of bytes.
struct Range {
  size_t begin, end;
};

class AddedTokens {
 public:
  explicit AddedTokens(const Vocabulary& vocabulary);

  struct Match {
    size_t begin, end;
    TokenId id;
  };
  /// The first match at or after `from`. `template_ranges`: sorted, apart from one another
  /// (adjacent ranges joined); control tokens must lie inside one of them.
  std::optional<Match> find(std::string_view text, size_t from, std::span<const Range> template_ranges) const;

 private:
  // A trie; the children of a node are a linked list, except those of the root, which are a table.
  struct Node {
    int32_t first_child = -1, next_sibling = -1;
    TokenId id = -1;
    uint8_t byte = 0;
    bool control = false;
  };
  void insert(std::string_view text, TokenId id, bool control);

  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;
};

}  // namespace ponder::tokenizer
