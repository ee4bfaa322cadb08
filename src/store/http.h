// An HTTP client for downloads: libcurl, opened at run time, behind the rules that pull promises.
// Internal to this library.
//  - redirects are followed by us: at most 10, never from https to http, never to a loopback or
//  private address unless the
//    first host is one itself; a request's Authorization header goes to the origin it was given for
//    and nowhere else
//  - link-local addresses (cloud metadata) are never talked to
//  - bodies are counted while they arrive; cancel is asked every 100 ms
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ponder::store {

struct HttpOptions {
  bool insecure = false;    ///< http:// to any host, TLS certificates not checked
  bool allow_http = false;  ///< http:// to any host (what is fetched is checked against a digest known before)
  int connect_timeout_s = 20;
  int stall_timeout_s = 30;
  std::function<bool()> cancelled;
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  ///< "Name: value", sent to every hop
  std::string authorization;         ///< value of Authorization, sent to the origin of `url` only
  uint64_t range_from = 0;           ///< "Range: bytes=N-" when not 0
  std::string if_range;              ///< ETag that must still hold for the range
  uint64_t body_limit = 0;           ///< more than this ends the transfer with an error
  std::string trusted_host;          ///< the host whose address decides what addresses redirects may have;
                                     ///< empty: that of `url`
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< names in lower case; the last one of a name wins
  std::string body;                            ///< when no sink was given
  std::string url;                             ///< of the last hop
  std::string header(const std::string& name) const;
};

/// What went wrong, and whether trying again may help.
struct HttpError {
  Error error;
  bool transient = false;
  bool unreachable = false;  ///< nobody answered at all: not worth many tries
  int retry_after_s = 0;
};

/// Receives a reply that has status 2xx. An Error from either function ends the transfer and is
/// final.
struct HttpSink {
  std::function<Result<void>(const HttpResponse& head)> on_head;
  std::function<Result<void>(std::string_view piece)> on_data;
};

class HttpClient {
 public:
  /// not_found when libcurl cannot be loaded; the message says what to install.
  static Result<HttpClient> create(HttpOptions options);
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;
  ~HttpClient();

  /// One request with its redirects. A status other than 2xx is a response, not an error (its body
  /// is dropped); what breaks on the way is an error.
  bool send(const HttpRequest& request, const HttpSink* sink, HttpResponse* response, HttpError* error);

 private:
  struct State;
  explicit HttpClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// `reference` (absolute or relative) as seen from the page `base`. Needs libcurl.
Result<std::string> resolve_url(const std::string& base, const std::string& reference);
/// Same scheme, host and port. Needs libcurl; false when it is not there.
bool same_origin(const std::string& a, const std::string& b);

/// "localhost", *.localhost, 127.x.x.x, [::1]; with or without a port.
bool is_loopback_host(std::string_view host_and_port);

enum class AddressKind {
  open,
  local,
  loopback,
  forbidden
};  // the internet; private networks; this machine; link-local
/// Of a numeric address as text (IPv4 or IPv6); anything else is `open`.
AddressKind address_kind(std::string_view address);

}  // namespace ponder::store
