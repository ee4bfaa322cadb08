#include "runtime/desk.h"

#include <algorithm>
#include <cstdio>

#include "base/os/system.h"

namespace ponder::runtime {

Ticket::~Ticket() {
  std::lock_guard lock(desk_.mutex_);
  // Another request may have taken the name between our end and this line.
  const auto it = desk_.open_.find(id_);
  if (it != desk_.open_.end() && it->second.expired()) desk_.open_.erase(it);
}

std::shared_ptr<reason::Steering> Ticket::add() {
  std::lock_guard lock(mutex_);
  doors_.push_back(std::make_unique<reason::Steering>());
  return {shared_from_this(), doors_.back().get()};
}

bool Ticket::over() {
  std::lock_guard lock(mutex_);
  return !doors_.empty() &&
         std::all_of(doors_.begin(), doors_.end(), [](const auto& d) { return d->phase() == reason::Phase::done; });
}

Result<std::shared_ptr<Ticket>> Desk::open(std::string id) {
  if (id.empty()) {
    char made[32];
    std::snprintf(made, sizeof made, "req-%016llx", static_cast<unsigned long long>(os::random_u64()));
    id = made;
  }
  std::shared_ptr<Ticket> before;  // let go after the lock: its end takes the lock too
  std::lock_guard lock(mutex_);
  auto& place = open_[id];
  before = place.lock();
  if (before && !before->over())
    return Error{ErrorCode::already_exists, "a request with the id \"" + id + "\" is running; choose another id"};
  std::shared_ptr<Ticket> ticket(new Ticket(*this, id));
  place = ticket;
  return ticket;
}

Result<reason::Phase> Desk::post(const std::string& id, const reason::Command& command) {
  std::shared_ptr<Ticket> ticket;
  {
    std::lock_guard lock(mutex_);
    const auto it = open_.find(id);
    if (it != open_.end()) ticket = it->second.lock();
  }
  Error why{ErrorCode::not_found, "no request with the id \"" + id + "\" is running"};
  if (!ticket) return why;
  std::lock_guard lock(ticket->mutex_);
  std::optional<reason::Phase> met;
  for (const auto& door : ticket->doors_) {
    const reason::Phase phase = door->phase();
    auto posted = door->post(command);
    if (posted.ok()) {
      met = met ? std::min(*met, phase) : phase;
    } else {
      why = std::move(posted).error();
    }
  }
  if (met) return *met;
  return why;
}

}  // namespace ponder::runtime
