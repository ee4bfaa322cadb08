// Which running requests can be steered, by their ids. A request opens a ticket; each of its chains gets a Steering of its
// own from it, and a command for the request goes to all of them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "reason/steering.h"

namespace ponder::runtime {

class Desk;

class Ticket : public std::enable_shared_from_this<Ticket> {
 public:
  ~Ticket();
  const std::string& id() const { return id_; }
  /// A door for one more chain. It keeps the ticket open as long as it is held.
  std::shared_ptr<reason::Steering> add();

 private:
  friend class Desk;
  Ticket(Desk& desk, std::string id) : desk_(desk), id_(std::move(id)) {}
  bool over();  // every chain has ended: a client that heard so may use the id again
  Desk& desk_;
  std::string id_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<reason::Steering>> doors_;
};

/// Must outlive its tickets.
class Desk {
 public:
  /// An empty id: one is made. An error if a running request has it.
  Result<std::shared_ptr<Ticket>> open(std::string id);
  /// To every chain that can still follow it. Says in which phase the request was met; the error of the last chain when
  /// none could.
  Result<reason::Phase> post(const std::string& id, const reason::Command& command);

 private:
  friend class Ticket;
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Ticket>> open_;
};

}  // namespace ponder::runtime
