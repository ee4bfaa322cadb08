// Prompts that somebody may ask for later (a conversation without the thought of its last turn): their full pages are
// computed while nothing else is to be done and stay in the prefix index, where the real request finds them. The batch is
// an ordinary one, so the pages hold the bits that a request would have computed. Anything else that is asked for ends
// this at once: submit() abandons the batch in flight, drop_background() the rest. Next to read: loop.cpp.
#include <algorithm>

#include "engine/loop.h"

namespace ponder::engine {

void Loop::drop_background() {
  if (background_.empty() || (running_.empty() && waiting_.empty())) return;
  for (auto& s : background_) s->end(finish::kCancelled);
  reap();
}

void Loop::work_ahead() {
  constexpr int kPage = backend::kv::kPageTokens;
  Sequence& s = *background_.front();
  const int full = int(s.tokens().size()) / kPage * kPage;
  if (!index_) return s.end(finish::kPrefilled);
  if (!s.state) {
    s.state = plan_->new_state();
    const auto pages = index_->find(s.client(), s.tokens(), full);
    s.state->adopt(pages);
    s.indexed_pages = int(pages.size());
    s.add_cached(s.state->length());
  }
  const int missing = full - s.state->length();
  if (missing <= 0) return s.end(finish::kPrefilled);

  const Work work{missing, false, false, 0, {}};
  const int rows = scheduler_.schedule(std::span(&work, 1)).front().rows;
  auto reserved = s.state->reserve(rows);
  if (!reserved.ok()) {
    index_->make_room((rows + kPage - 1) / kPage + 1);
    reserved = s.state->reserve(rows);
  }
  if (!reserved.ok()) return s.end(finish::kPrefilled);  // what fits is there; nobody was promised more
  const std::vector<Share> shares = {{&s, rows, false, 0}};
  const backend::Batch batch = assemble(shares);
  settle(shares, run(batch, shares));
}

}  // namespace ponder::engine
