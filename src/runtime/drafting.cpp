// The phrases themselves are touched by the engine's thread only; here they are made and handed on.
#include "runtime/drafting.h"

#include <algorithm>

#include "runtime/types.h"

namespace ponder::runtime {

static_assert(kDraftMost == engine::TextDrafter::kMost);

std::shared_ptr<engine::Drafter> Drafting::drafter(const std::string& client, int most) {
  if (most == 0) return nullptr;
  std::lock_guard lock(mutex_);
  auto at = std::find_if(clients_.begin(), clients_.end(), [&](const Client& c) { return c.name == client; });
  if (at == clients_.end()) {
    if (clients_.size() >= kClients) clients_.erase(clients_.begin());
    clients_.push_back({client, std::make_shared<engine::Phrases>()});
    at = clients_.end() - 1;
  }
  std::rotate(at, at + 1, clients_.end());
  return std::make_shared<engine::TextDrafter>(clients_.back().phrases, most == kDraftAuto ? kDraftMost : most);
}

}  // namespace ponder::runtime
