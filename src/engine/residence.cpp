// Who has pages. A waiting sequence is let in when its tokens fit beside the running ones; what the prefix index holds is
// taken over instead of computed. When pages run out while running, the index gives up what it keeps, then the youngest
// sequence gives its pages back, waits, and is computed again later (same tokens, same bits). The oldest sequence is
// never made to wait, so something always advances; if even alone it does not fit, it ends with an error.
// Next to read: backend/kv/prefix_index.cpp.
#include <algorithm>
#include <utility>

#include "engine/loop.h"

namespace ponder::engine {
namespace {
int pages_for(int tokens) { return (tokens + backend::kv::kPageTokens - 1) / backend::kv::kPageTokens; }
}  // namespace

Sequence* Loop::find(SequenceId id) const {
  for (const auto* list : {&running_, &waiting_})
    for (const auto& s : *list)
      if (s->id() == id && !s->ended()) return s.get();
  return nullptr;
}

// A fork of a prompt waits while the original computes it.
bool Loop::worth_waiting(const Sequence& s) const {
  if (!s.parent) return false;
  const Sequence* parent = find(*s.parent);
  if (parent == nullptr || !parent->state) return false;
  return parent->state->length() < s.prompt_size() - 1 && int(parent->tokens().size()) >= s.prompt_size();
}

void Loop::admit() {
  for (size_t i = 0; i < waiting_.size() && int(running_.size()) < options_.max_sequences;) {
    Sequence& s = *waiting_[i];
    if (s.ended() || worth_waiting(s)) {
      ++i;
      continue;
    }
    if (!settle_in(s)) break;  // in order of arrival: a small one does not overtake for ever
    const auto place = std::lower_bound(running_.begin(), running_.end(), s.id(),
                                        [](const auto& a, SequenceId id) { return a->id() < id; });
    running_.insert(place, std::move(waiting_[i]));
    waiting_.erase(waiting_.begin() + long(i));
    if (!s.started()) s.start();
  }
  reap();
}

// Gives the sequence its state, with as much of its beginning as is known; false if there is no room for the rest now.
bool Loop::settle_in(Sequence& s) {
  if (s.state) return true;  // a fork of a running sequence
  const std::span<const TokenId> tokens(s.tokens());
  const int reusable = int(tokens.size()) - 1;  // the last token is always computed: its logits are needed
  const bool first_time = !s.started();

  const Sequence* parent = s.parent ? find(*s.parent) : nullptr;
  if (parent != nullptr && parent->state && parent->state->length() >= reusable &&
      std::equal(tokens.begin(), tokens.begin() + reusable, parent->tokens().begin())) {
    s.state = parent->state->fork();
    s.state->trim(reusable);
    s.parent.reset();
    s.add_cached(reusable);
    return true;
  }

  s.state = plan_->new_state();
  s.indexed_pages = 0;
  if (index_) {
    const auto pages = index_->find(s.client(), tokens, reusable);
    s.state->adopt(pages);
    s.indexed_pages = int(pages.size());
  }
  const int needed = pages_for(int(tokens.size()) + 1) - int(s.state->pages().size());
  if (!running_.empty()) {
    bool room = plan_->pages().capacity() - pages_held() >= needed;
    if (room && index_) index_->make_room(needed);
    room = room && plan_->pages().available() >= needed;
    if (!room) {
      s.state.reset();
      return false;
    }
  }
  if (first_time) s.add_cached(s.state->length());
  return true;
}

// Pages of sequences, waiting ones that have been given some included: each once, however many share it. The index can
// give up only the others.
int Loop::pages_held() const {
  std::vector<bool> held(size_t(plan_->pages().capacity()));
  int n = 0;
  for (const auto* list : {&running_, &waiting_})
    for (const auto& s : *list) {
      if (!s->state) continue;
      for (const auto page : s->state->pages()) {
        n += !held[size_t(page)];
        held[size_t(page)] = true;
      }
    }
  return n;
}

bool Loop::make_place(Sequence& s, int rows, std::vector<Share>& shares) {
  for (bool asked_index = false;;) {
    auto reserved = s.state->reserve(rows);
    if (reserved.ok()) return true;
    if (reserved.error().code != ErrorCode::out_of_memory) {
      s.end(finish::kError, reserved.error());
      return false;
    }
    if (index_ && !asked_index) {
      asked_index = true;
      index_->make_room(pages_for(s.state->length() + rows) - int(s.state->pages().size()) + 1);
      continue;
    }
    // Forks that wait for their turn hold pages too, and nothing was computed for them yet.
    const auto holder =
        std::find_if(waiting_.rbegin(), waiting_.rend(), [](const auto& w) { return w->state != nullptr; });
    if (holder != waiting_.rend()) {
      (*holder)->state.reset();
      asked_index = false;
      continue;
    }
    Sequence* youngest = nullptr;
    for (const auto& other : running_)
      if (!other->ended()) youngest = other.get();
    if (youngest != &s) {
      preempt(*youngest, shares);
      asked_index = false;  // its pages may still stand in the index
      continue;
    }
    if (running_.front().get() == &s) {
      s.end(finish::kError,
            reserved.error().with_context("the sequence stopped at " + std::to_string(s.tokens().size()) + " tokens"));
    } else {
      preempt(s, shares);
    }
    return false;
  }
}

void Loop::preempt(Sequence& s, std::vector<Share>& shares) {
  std::erase_if(shares, [&](const Share& share) { return share.sequence == &s; });
  s.state.reset();
  s.indexed_pages = 0;
  ++counts_.preemptions;
  const auto from = std::find_if(running_.begin(), running_.end(), [&](const auto& x) { return x.get() == &s; });
  const auto place = std::lower_bound(waiting_.begin(), waiting_.end(), s.id(),
                                      [](const auto& a, SequenceId id) { return a->id() < id; });
  waiting_.insert(place, std::move(*from));
  running_.erase(from);
}

void Loop::index_pages(Sequence& s) {
  const int full = std::min(s.state->length(), s.indexable()) / backend::kv::kPageTokens;
  if (full <= s.indexed_pages) return;
  index_->insert(s.client(), std::span(s.tokens()).first(size_t(full * backend::kv::kPageTokens)),
                 s.state->pages().first(size_t(full)));
  s.indexed_pages = full;
}

}  // namespace ponder::engine
