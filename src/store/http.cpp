// One transfer at a time through curl's multi interface: its wait returns often enough to ask for
// cancellation, which the simple interface does only once a second. Redirects are not left to curl,
// because it would not know our rules.
#include "store/http.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "base/ascii.h"
#include "base/os/system.h"
#include "store/curl_api.h"

namespace ponder::store {
namespace {

constexpr int kMaxRedirects = 10;
constexpr size_t kMaxHeaders = 64 << 10;  // bytes of all headers of a reply

using ascii::lower;

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(uint8_t(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(uint8_t(text.back()))) text.remove_suffix(1);
  return text;
}

// Scheme, host and port decide who sees a credential.
struct Origin {
  std::string scheme, host, port;
  bool operator==(const Origin&) const = default;
};

class Url {
 public:
  explicit Url(const CurlApi& curl) : curl_(curl), handle_(curl.url()) {}
  ~Url() { curl_.url_cleanup(handle_); }
  Url(const Url&) = delete;
  Url& operator=(const Url&) = delete;

  // Absolute, or relative to what was set before.
  bool set(const std::string& url) {
    return handle_ != nullptr && curl_.url_set(handle_, CURLUPART_URL, url.c_str(), CURLU_URLENCODE) == CURLUE_OK;
  }
  std::string get(CURLUPart part, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_.url_get(handle_, part, &text, flags) != CURLUE_OK || text == nullptr) return "";
    std::string out(text);
    curl_.free(text);
    return out;
  }
  Origin origin() const {
    return {lower(get(CURLUPART_SCHEME)), lower(get(CURLUPART_HOST)), get(CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  }

 private:
  const CurlApi& curl_;
  CURLU* handle_;
};

// A proxy's address says nothing about the host behind it.
bool proxy_configured() {
  for (const char* name : {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"})
    if (os::env(name)) return true;
  return false;
}

// State of one hop, filled by curl's callbacks.
struct Transfer {
  const HttpRequest* request;
  const HttpSink* sink;
  HttpResponse response;
  size_t header_bytes = 0;
  uint64_t body_bytes = 0;
  bool head_done = false;
  std::optional<Error> failure;  // ours: ends the transfer
  std::function<std::optional<Error>(std::string_view address)> check_address;

  bool success() const { return response.status >= 200 && response.status < 300; }

  bool header_line(std::string_view line) {
    header_bytes += line.size();
    if (header_bytes > kMaxHeaders) {
      failure = Error{ErrorCode::network, "the server's reply has more than 64 KiB of headers"};
      return false;
    }
    if (line.starts_with("HTTP/")) {  // also after "100 Continue"
      response.headers.clear();
      const size_t space = line.find(' ');
      response.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
      return true;
    }
    if (const size_t colon = line.find(':'); colon != std::string_view::npos)
      response.headers[lower(trim(line.substr(0, colon)))] = std::string(trim(line.substr(colon + 1)));
    return true;
  }

  bool begin_body() {
    if (head_done) return true;
    head_done = true;
    if (!success() || sink == nullptr || !sink->on_head) return true;
    if (auto good = sink->on_head(response); !good.ok()) {
      failure = std::move(good).error();
      return false;
    }
    return true;
  }

  bool body_piece(std::string_view piece) {
    if (!begin_body()) return false;
    body_bytes += piece.size();
    if (!success()) return body_bytes <= (1 << 20);  // an error page is read to its end and dropped, within reason
    if (body_bytes > request->body_limit) {
      failure = Error{ErrorCode::network, "the server sent more than the " + std::to_string(request->body_limit) +
                                              " bytes that were expected"};
      return false;
    }
    if (sink != nullptr && sink->on_data) {
      if (auto good = sink->on_data(piece); !good.ok()) {
        failure = std::move(good).error();
        return false;
      }
    } else {
      response.body.append(piece);
    }
    return true;
  }
};

size_t on_header(char* data, size_t size, size_t count, void* user) {
  return static_cast<Transfer*>(user)->header_line({data, size * count}) ? size * count : 0;
}

size_t on_body(char* data, size_t size, size_t count, void* user) {
  // curl takes any other number as "failed"; an empty piece must not look like that.
  return static_cast<Transfer*>(user)->body_piece({data, size * count}) ? size * count : size * count + 1;
}

#if LIBCURL_VERSION_NUM >= 0x075000
int on_connected(void* user, char* remote_address, char*, int, int) {
  auto* transfer = static_cast<Transfer*>(user);
  if (auto refused = transfer->check_address(remote_address != nullptr ? remote_address : "")) {
    transfer->failure = std::move(refused);
    return CURL_PREREQFUNC_ABORT;
  }
  return CURL_PREREQFUNC_OK;
}
#endif

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string HttpResponse::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

struct HttpClient::State {
  const CurlApi* curl = nullptr;
  HttpOptions options;
  CURL* easy = nullptr;
  CURLM* multi = nullptr;
  std::string ca_file, ca_folder;
  bool proxied = false;
  std::map<std::string, AddressKind> kinds;  // of the hosts that were connected to

  ~State() {
    if (easy != nullptr) curl->easy_cleanup(easy);
    if (multi != nullptr) curl->multi_cleanup(multi);
  }

  std::optional<Error> check_url(const Url& url) const;
  CURLcode run(Transfer& transfer, const std::string& url, bool send_authorization, bool* cancelled);
};

HttpClient::HttpClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;

Result<HttpClient> HttpClient::create(HttpOptions options) {
  auto state = std::make_unique<State>();
  PONDER_TRY(state->curl, curl_api());
  state->options = std::move(options);
  state->easy = state->curl->easy_init();
  state->multi = state->curl->multi_init();
  if (state->easy == nullptr || state->multi == nullptr)
    return Error{ErrorCode::out_of_memory, "libcurl could not be initialised"};
  state->ca_file = os::env("PONDER_CA_FILE").value_or(os::env("SSL_CERT_FILE").value_or(""));
  state->ca_folder = os::env("SSL_CERT_DIR").value_or("");
  state->proxied = proxy_configured();
  return HttpClient(std::move(state));
}

std::optional<Error> HttpClient::State::check_url(const Url& url) const {
  const Origin o = url.origin();
  if (o.scheme != "https" && o.scheme != "http")
    return Error{ErrorCode::network, "only https addresses can be downloaded from"};
  if (!url.get(CURLUPART_USER).empty() || !url.get(CURLUPART_PASSWORD).empty())
    return Error{ErrorCode::network, "addresses with a user name or password in them are refused"};
  if (o.scheme == "http" && !options.insecure && !options.allow_http && !is_loopback_host(o.host))
    return Error{ErrorCode::permission, "http:// to " + o.host +
                                            " is not encrypted and therefore refused; use https://, or --insecure if "
                                            "you trust the network"};
  return std::nullopt;
}

CURLcode HttpClient::State::run(Transfer& transfer, const std::string& url, bool send_authorization, bool* cancelled) {
  const CurlApi& c = *curl;
  const HttpRequest& request = *transfer.request;
  c.easy_reset(easy);
  curl_slist* headers = nullptr;
  const auto add = [&](const std::string& line) { headers = c.slist_append(headers, line.c_str()); };
  for (const std::string& line : request.headers) add(line);
  if (send_authorization && !request.authorization.empty()) add("Authorization: " + request.authorization);
  if (request.range_from > 0 && !request.if_range.empty()) add("If-Range: " + request.if_range);
  std::string range;
  if (request.range_from > 0) range = std::to_string(request.range_from) + "-";

  const auto set = [&](CURLoption option, auto value) { (void)c.easy_setopt(easy, option, value); };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_HTTPHEADER, headers);
  if (!range.empty()) set(CURLOPT_RANGE, range.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_BUFFERSIZE, 512L << 10);
  set(CURLOPT_CONNECTTIMEOUT, long(options.connect_timeout_s));
  set(CURLOPT_LOW_SPEED_LIMIT, 1024L);
  set(CURLOPT_LOW_SPEED_TIME, long(options.stall_timeout_s));
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
  set(CURLOPT_PROTOCOLS_STR, "http,https");
#endif
  set(CURLOPT_SSLVERSION, long(CURL_SSLVERSION_TLSv1_2));
  if (!ca_file.empty()) set(CURLOPT_CAINFO, ca_file.c_str());
  if (!ca_folder.empty()) set(CURLOPT_CAPATH, ca_folder.c_str());
  if (options.insecure) {
    set(CURLOPT_SSL_VERIFYPEER, 0L);
    set(CURLOPT_SSL_VERIFYHOST, 0L);
  }
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, &transfer);
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, &transfer);
#if LIBCURL_VERSION_NUM >= 0x075000
  if (!proxied) {
    set(CURLOPT_PREREQFUNCTION, &on_connected);
    set(CURLOPT_PREREQDATA, &transfer);
  }
#endif

  CURLcode code = CURLE_FAILED_INIT;
  if (c.multi_add_handle(multi, easy) == CURLM_OK) {
    // CURLOPT_NOSIGNAL leaves this to us: TLS writes to a peer that is gone.
    const os::BlockedSigpipe blocked;
    for (int running = 1; running > 0;) {
      if (c.multi_perform(multi, &running) != CURLM_OK) break;
      if (running == 0) break;
      if (options.cancelled && options.cancelled()) {
        *cancelled = true;
        break;
      }
      int n_sockets = 0;
      if (c.multi_wait(multi, nullptr, 0, 100, &n_sockets) != CURLM_OK) break;
    }
    int left = 0;
    while (const CURLMsg* message = c.multi_info_read(multi, &left))
      if (message->msg == CURLMSG_DONE) code = message->data.result;
#if LIBCURL_VERSION_NUM >= 0x075700
    // A cancelled look-up of a name is left to its thread instead of being waited for.
    if (*cancelled) set(CURLOPT_QUICK_EXIT, 1L);
#endif
    c.multi_remove_handle(multi, easy);
  }
  c.slist_free_all(headers);
  return code;
}

bool HttpClient::send(const HttpRequest& request, const HttpSink* sink, HttpResponse* response, HttpError* error) {
  State& s = *state_;
  const auto fail = [&](Error e, bool transient = false, bool unreachable = false) {
    *error = HttpError{std::move(e), transient, unreachable, 0};
    return false;
  };
  Url url(*s.curl);
  if (!url.set(request.url)) return fail({ErrorCode::invalid_argument, "not a valid address: " + request.url});
  const Origin first = url.origin();
  const std::string trusted = request.trusted_host.empty() ? first.host : lower(request.trusted_host);
  bool secure = first.scheme == "https";
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    if (auto refused = s.check_url(url)) return fail(std::move(*refused));
    const Origin here = url.origin();
    Transfer transfer{&request, sink, {}, 0, 0, false, {}, {}};
    transfer.check_address = [&](std::string_view address) -> std::optional<Error> {
      const AddressKind kind = address_kind(address);
      s.kinds[here.host] = kind;
      if (kind == AddressKind::open || s.options.insecure) return std::nullopt;
      const bool named = here.host == trusted;
      // The user may name a machine of the own network; others may not lead there. A public name
      // that resolves to this machine is a trick either way.
      if (kind == AddressKind::loopback && is_loopback_host(here.host) && (named || is_loopback_host(trusted)))
        return std::nullopt;
      const auto home = s.kinds.find(trusted);
      const bool at_home = is_loopback_host(trusted) || (home != s.kinds.end() && home->second == AddressKind::local);
      if (kind == AddressKind::local && (named || at_home)) return std::nullopt;
      return Error{ErrorCode::permission, here.host + " leads to an address of this machine or network (" +
                                              std::string(address) + "), which is refused"};
    };
    // Numeric hosts are judged before anything is sent, with a proxy or an old curl too.
    std::string numeric = here.host;
    if (numeric.starts_with('[') && numeric.ends_with(']')) numeric = numeric.substr(1, numeric.size() - 2);
    if (auto refused = address_kind(numeric) == AddressKind::open ? std::nullopt : transfer.check_address(numeric))
      return fail(std::move(*refused));
    bool cancelled = false;
    const CURLcode code = s.run(transfer, url.get(CURLUPART_URL), here == first, &cancelled);
    if (cancelled) return fail({ErrorCode::cancelled, "cancelled"});
    if (transfer.failure) return fail(std::move(*transfer.failure));
    if (code == CURLE_OK && transfer.response.status == 0)
      return fail({ErrorCode::network, here.host + " did not answer in HTTP"});
    if (code != CURLE_OK) {
      const bool unreachable =
          code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_PROXY;
      std::string why = s.curl->easy_strerror(code);
      if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        why += " (a private certificate authority is named by PONDER_CA_FILE)";
      return fail({ErrorCode::network, "cannot download from " + here.host + ": " + why}, is_transient(code),
                  unreachable);
    }
    const int status = transfer.response.status;
    const std::string location = transfer.response.header("location");
    const bool redirect = (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
    if (!redirect || location.empty()) {
      if (transfer.success() && !transfer.begin_body()) return fail(std::move(*transfer.failure));
      *response = std::move(transfer.response);
      response->url = url.get(CURLUPART_URL);
      return true;
    }
    if (!url.set(location))
      return fail({ErrorCode::network, here.host + " redirects to something that is not an address"});
    const bool now_secure = url.origin().scheme == "https";
    if (secure && !now_secure)
      return fail(
          {ErrorCode::network, here.host + " redirects from https to an unencrypted address, which is refused"});
    secure = now_secure;
  }
  return fail({ErrorCode::network, "more than 10 redirects from " + first.host});
}

Result<std::string> resolve_url(const std::string& base, const std::string& reference) {
  PONDER_TRY(const CurlApi* curl, curl_api());
  Url url(*curl);
  if (!url.set(base) || !url.set(reference))
    return Error{ErrorCode::network, "a page of the server names something that is not an address"};
  return url.get(CURLUPART_URL);
}

bool same_origin(const std::string& a, const std::string& b) {
  const auto curl = curl_api();
  if (!curl.ok()) return false;
  Url left(**curl), right(**curl);
  return left.set(a) && right.set(b) && left.origin() == right.origin();
}

bool is_loopback_host(std::string_view host) {
  std::string name = lower(host);
  if (name.starts_with('[')) {
    name = name.substr(1, name.find(']') == std::string::npos ? name.npos : name.find(']') - 1);
  } else if (std::count(name.begin(), name.end(), ':') == 1) {
    name = name.substr(0, name.find(':'));
  }
  return name == "localhost" || name.ends_with(".localhost") || address_kind(name) == AddressKind::loopback;
}

}  // namespace ponder::store
