// Requests with retries, and the download of one blob. Internal to this library.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "store/http.h"
#include "store/pull.h"

namespace ponder::store {

/// Tells the caller of pull how far a layer is: never more often than every 100 ms, never
/// backwards.
class Progress {
 public:
  explicit Progress(const PullOptions& options) : options_(options) {}
  void status(const std::string& text);                                       ///< a new line without numbers
  void begin(const Digest* digest, const std::string& name, uint64_t total);  ///< "pulling <name>"
  void at(uint64_t completed);
  void end();  ///< completed = total

 private:
  void emit();
  const PullOptions& options_;
  PullProgress now_;
  double last_ = 0;
};

/// What to download.
struct Download {
  HttpRequest request;
  std::optional<Digest> digest;  ///< when known before
  std::optional<uint64_t> size;  ///< when known before; otherwise what the server says
  uint64_t max_size = 0;
  /// Called for 401: may set request.authorization anew and return true to try again (once per
  /// attempt).
  std::function<Result<bool>(const HttpResponse& refused, HttpRequest& request)> authorize;
  std::function<void(uint64_t completed, uint64_t total)> progress;
  std::string what;  ///< for messages: "the blob 1a2b3c4d5e6f"
};

class Fetcher {
 public:
  static Result<Fetcher> create(const PullOptions& options, bool allow_http = false);

  /// A small reply. Statuses other than 2xx are returned as responses; transient ones (429, 5xx)
  /// after all tries too.
  Result<HttpResponse> get(const HttpRequest& request);

  /// The first `n` bytes of a reply with status 200; the rest is not transferred.
  Result<std::string> peek(const HttpRequest& request, size_t n);

  /// Downloads into a new blob of the store, not yet committed; verifies size and digest. Goes on
  /// where a broken transfer stopped.
  Result<BlobWriter> download(Store& store, const Download& what);

  /// The error for a final status. `what` is "the manifest", "the blob 1a2b..."; nothing of the
  /// reply's body is quoted.
  static Error status_error(const HttpResponse& response, const std::string& what);

 private:
  Fetcher(HttpClient http, const PullOptions& options) : http_(std::move(http)), options_(&options) {}
  Result<void> pause(int attempt, int retry_after_s);
  HttpClient http_;
  const PullOptions* options_;
};

/// cancelled when the caller asked for it.
Result<void> check_cancelled(const PullOptions& options);
/// out_of_memory, with the numbers, unless `bytes` and a margin fit on the disk of `root`.
Result<void> check_space(const std::string& root, uint64_t bytes);

}  // namespace ponder::store
