// Who drafts for whom: what a client's texts said is kept for its later requests, and for nobody else's, because how fast
// an answer comes would tell others what was said before.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/text_drafter.h"

namespace ponder::runtime {

class Drafting {
 public:
  static constexpr size_t kClients = 16;  ///< whose phrases are kept, those of the last ones; a megabyte each

  /// Up to `most` tokens a step (kDraftAuto: as many as pay); null for 0. For one sequence of one engine, always the same.
  std::shared_ptr<engine::Drafter> drafter(const std::string& client, int most);

 private:
  struct Client {
    std::string name;
    std::shared_ptr<engine::Phrases> phrases;  // shared with its drafters
  };
  std::mutex mutex_;
  std::vector<Client> clients_;  // who asked last stands last
};

}  // namespace ponder::runtime
