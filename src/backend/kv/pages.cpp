// The pool (reference counts, lowest free id first) and the page table of a sequence. Everything
// that can fail is done before anything is changed, so that an error leaves sequence and pool as
// they were. Next to read: prefix_index.cpp.
#include "backend/kv/pages.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <string>

namespace ponder::backend::kv {
namespace {

int pages_for(int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace

Result<PageId> PagePool::allocate() {
  PageId page;
  if (!free_.empty()) {
    std::pop_heap(free_.begin(), free_.end(), std::greater<>());
    page = free_.back();
    free_.pop_back();
  } else if (next_ < capacity()) {
    page = next_++;
  } else {
    return Error{ErrorCode::out_of_memory, "the KV cache is full: all " + std::to_string(capacity()) + " pages (" +
                                               std::to_string(int64_t(capacity()) * kPageTokens) +
                                               " tokens) are in use; ask for less context or a larger cache"};
  }
  references_[size_t(page)] = 1;
  ++used_;
  return page;
}

void PagePool::retain(PageId page) {
  assert(references_[size_t(page)] > 0);
  ++references_[size_t(page)];
}

void PagePool::release(PageId page) {
  assert(references_[size_t(page)] > 0);
  if (--references_[size_t(page)] > 0) return;
  --used_;
  free_.push_back(page);
  std::push_heap(free_.begin(), free_.end(), std::greater<>());
}

Result<void> SequenceState::reserve(int n) {
  const int have = int(pages_.size());
  const int last = length_ / kPageTokens;  // the page that token length_ goes to
  const bool copy = n > 0 && last < have && pool_->references(pages_[size_t(last)]) > 1;
  const int fresh = std::max(0, pages_for(length_ + n) - have) + (copy ? 1 : 0);

  std::vector<PageId> got;
  got.reserve(size_t(fresh));
  const auto undo = [&](Error e) {
    for (PageId page : got) pool_->release(page);
    return e;
  };
  for (int i = 0; i < fresh; ++i) {
    auto page = pool_->allocate();
    if (!page.ok()) return undo(std::move(page).error());
    got.push_back(*page);
    auto ready = store_->prepare_page(*page);
    if (!ready.ok()) return undo(std::move(ready).error());
  }
  size_t next = 0;
  if (copy) {
    PageId& page = pages_[size_t(last)];
    if (length_ % kPageTokens != 0) store_->copy_page(page, got[0]);
    pool_->release(page);
    page = got[next++];
  }
  pages_.insert(pages_.end(), got.begin() + ptrdiff_t(next), got.end());
  return {};
}

void SequenceState::trim(int length) {
  length_ = std::clamp(length, 0, length_);
  while (int(pages_.size()) > pages_for(length_)) {
    pool_->release(pages_.back());
    pages_.pop_back();
  }
}

std::unique_ptr<SequenceState> SequenceState::fork() const {
  auto twin = std::make_unique<SequenceState>(*pool_, *store_);
  twin->pages_.assign(pages_.begin(), pages_.begin() + pages_for(length_));
  twin->length_ = length_;
  for (PageId page : twin->pages_) pool_->retain(page);
  return twin;
}

void SequenceState::adopt(std::span<const PageId> full_pages) {
  assert(length_ == 0);
  for (PageId page : full_pages) pool_->retain(page);
  trim(0);
  for (PageId page : pages_) pool_->release(page);
  pages_.assign(full_pages.begin(), full_pages.end());
  length_ = int(full_pages.size()) * kPageTokens;
}

}  // namespace ponder::backend::kv
