// The HTTP server: Ollama's and OpenAI's routes over a Runtime. One file per dialect; everything that must hold for all
// of them (Host and Origin, limits, deadlines, errors) is checked once, before a route is looked up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/client.h"

namespace ponder::server {

struct ServerOptions {
  runtime::Address address;  ///< port 0: any free one. Only loopback for now: anything else is refused with a reason
  std::vector<std::string> origins;  ///< more origins that browsers may come from (OLLAMA_ORIGINS)
  uint64_t max_body_bytes = uint64_t(64) << 20;
  uint64_t max_bodies_bytes = uint64_t(256) << 20;  ///< of all requests that are read or answered, together
  int max_connections = 1024;
  double header_timeout_seconds = 10;
  double idle_timeout_seconds = 60;  ///< between two requests of a connection, and for a request's body
  double send_timeout_seconds = 30;  ///< a reader that takes nothing for so long is dropped
  int threads = 2;                   ///< for connections; the model has its own
};

/// Serves until stopped. The runtime must outlive it.
class Server {
 public:
  /// Binds and listens; a taken port is an error (already_exists) that names the port and the mend.
  static Result<std::unique_ptr<Server>> start(runtime::Runtime& runtime, const ServerOptions& options);
  virtual ~Server() = default;  ///< stops
  virtual int port() const = 0;
  /// Stops accepting, cancels running requests, closes connections. Returns when all is quiet.
  virtual void stop() = 0;
};

}  // namespace ponder::server
