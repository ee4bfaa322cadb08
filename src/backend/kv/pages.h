// KV pages: 64 tokens of all layers under one logical id. The pool counts references and hands ids out; each backend
// stores a page in its own layout. A sequence is a page table with a length: forks share pages, a write to a shared
// page copies it first.
// Source of the idea: Kwon et al. 2023 (PagedAttention).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ponder::backend::kv {

using PageId = int32_t;
constexpr int kPageTokens = 64;

/// Ids 0 .. capacity-1 with reference counts. Owned by a Plan; used on the engine's thread only.
class PagePool {
 public:
  explicit PagePool(int capacity) : references_(size_t(capacity), 0) {}
  int capacity() const { return int(references_.size()); }
  int used() const { return used_; }
  int available() const { return capacity() - used_; }

  /// A page with one reference; an Error (out_of_memory) when none is left. Freed ids are reused, lowest first.
  Result<PageId> allocate();
  void retain(PageId page);
  void release(PageId page);
  int references(PageId page) const { return references_[size_t(page)]; }

 private:
  std::vector<int32_t> references_;
  std::vector<PageId> free_;  // a min-heap
  int used_ = 0, next_ = 0;
};

/// What a backend does for pages: make sure a page has storage, copy one.
struct PageStore {
  virtual ~PageStore() = default;
  virtual Result<void> prepare_page(PageId page) = 0;
  virtual void copy_page(PageId from, PageId to) = 0;
};

/// A sequence's state on the devices: pages of its first length() tokens.
class SequenceState {
 public:
  SequenceState(PagePool& pool, PageStore& store) : pool_(&pool), store_(&store) {}
  ~SequenceState() { trim(0); }
  SequenceState(const SequenceState&) = delete;
  SequenceState& operator=(const SequenceState&) = delete;

  int length() const { return length_; }
  std::span<const PageId> pages() const { return pages_; }

  /// Makes room for `n` more tokens: allocates pages, copies a shared last page. On error nothing has changed.
  Result<void> reserve(int n);
  /// After a batch: the first `n` reserved tokens now count.
  void advance(int n) { length_ += n; }
  /// Forgets everything from `length` on.
  void trim(int length);
  /// A second sequence with the same content; costs no memory until one of them writes.
  std::unique_ptr<SequenceState> fork() const;
  /// Takes full pages found in the prefix index as the beginning of this (empty) sequence; retains them.
  void adopt(std::span<const PageId> full_pages);

 private:
  PagePool* pool_;  // both outlive every sequence: they belong to the Plan
  PageStore* store_;
  std::vector<PageId> pages_;
  int length_ = 0;
};

/// Finds pages by the tokens they hold. Keys chain: a page matches only after all pages before it. `salt` keeps
/// clients apart (one client can never learn from timing what another one asked). Least recently used pages leave
/// first, when the pool runs short or the index is full.
class PrefixIndex {
 public:
  explicit PrefixIndex(PagePool& pool);
  ~PrefixIndex();

  /// Longest run of indexed full pages for the start of `tokens`; at most `max_tokens` of them are matched.
  std::vector<PageId> find(std::string_view salt, std::span<const int32_t> tokens, int max_tokens);
  /// Indexes the full pages of a sequence that holds `tokens` (retains them). Known ones are refreshed.
  void insert(std::string_view salt, std::span<const int32_t> tokens, std::span<const PageId> pages);
  /// Drops least recently used entries (leaves of the chain first) until the pool has `n` free pages or nothing is left.
  void make_room(int n);
  void clear();
  int size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ponder::backend::kv
