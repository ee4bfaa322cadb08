// One request and its reply, as the routes see them. A route is a coroutine over an Exchange; it either sends one
// whole reply or begins a stream and sends pieces. Every send says whether the peer is still there.
//
// Coroutines here are named functions whose arguments are locals: g++ 12 miscompiles some temporaries in co_await.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "runtime/client.h"
#include "server/channel.h"

namespace ponder::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
template <class T>
using Task = asio::awaitable<T>;

/// HTTP status of an error's class (base/result.h lists them).
unsigned status_of(ErrorCode code);

/// What all connections share.
struct Shared {
  runtime::Runtime& runtime;
  asio::thread_pool& blocking;             ///< for calls that wait on the disk
  asio::thread_pool& pulls;                ///< for transfers, which take minutes: they must not keep `list` waiting
  std::chrono::milliseconds send_timeout;  ///< a reader that stalls longer is dropped
  std::atomic<bool> stopping{false};
};

class Exchange {
 public:
  Exchange(Shared& shared, beast::tcp_stream& stream, beast::flat_buffer& ahead,
           http::request<http::string_body> request)
      : shared_(shared), stream_(stream), ahead_(ahead), request_(std::move(request)) {}

  Shared& shared() { return shared_; }
  runtime::Runtime& runtime() { return shared_.runtime; }
  const http::request<http::string_body>& request() const { return request_; }
  /// Path without the query; and what a route's trailing "*" stood for.
  std::string path, rest;
  /// Headers that every reply carries (CORS).
  std::vector<std::pair<std::string, std::string>> headers;
  beast::tcp_stream& stream() { return stream_; }
  /// Bytes of the peer's next requests that have been read already.
  beast::flat_buffer& ahead() { return ahead_; }

  /// The body as a JSON object (server/requests.h).
  Result<nlohmann::ordered_json> json_body() const;

  Task<bool> send(unsigned status, std::string content_type, std::string body);
  Task<bool> send_json(unsigned status, nlohmann::json body);

  Task<bool> begin_stream(std::string content_type);
  Task<bool> send_piece(std::string piece);
  Task<bool> end_stream();

  bool streaming() const { return streaming_; }
  bool keep_alive() const { return keep_alive_; }
  void close_after() { keep_alive_ = false; }
  /// The dialect of the request's path.
  bool openai() const { return path.starts_with("/v1/"); }

 private:
  template <class Response>
  void decorate(Response& response) const;

  Shared& shared_;
  beast::tcp_stream& stream_;
  beast::flat_buffer& ahead_;
  http::request<http::string_body> request_;
  bool streaming_ = false, chunked_ = false, keep_alive_ = true;
};

/// Notices a peer that hangs up while its reply is being made, and calls `gone` once, on the connection's executor. Bytes
/// that come meanwhile are the next request; they are kept in Exchange::ahead().
class HangUp {
 public:
  HangUp(Exchange& exchange, std::function<void()> gone);
  ~HangUp() { *watching_ = false; }
  HangUp(const HangUp&) = delete;
  HangUp& operator=(const HangUp&) = delete;
  /// Stops watching, so that the connection can be used for the next request.
  void release();

 private:
  void watch();
  Exchange& exchange_;
  std::function<void()> gone_;
  std::shared_ptr<bool> watching_;  // shared with the socket's wait
};

/// One event of a reply that is being made.
struct ChatEvent {
  enum class Kind { none, delta, vote, done, error } kind = Kind::none;
  runtime::ChatDelta delta;
  nlohmann::json vote;  ///< progress of a vote
  runtime::ChatResult result;
  Error error;
};

/// A chat that runs: events in order, and the flag that ends it. When the peer hangs up or the server stops, the flag is
/// set at once and next() gives `none` with gone() true.
class RunningChat {
 public:
  static std::shared_ptr<RunningChat> start(Exchange& exchange, runtime::ChatRequest request);
  ~RunningChat();
  Task<ChatEvent> next();
  bool gone() const { return *cancel_; }
  /// Stops watching the socket, so that the connection can be used for the next request. Ends the work if it still runs.
  void release();

 private:
  explicit RunningChat(Exchange& exchange);
  Exchange& exchange_;
  ChannelReader<ChatEvent> events_;              // its other end is with the runtime's callbacks
  std::shared_ptr<runtime::CancelFlag> cancel_;  // shared with the runtime
  HangUp hang_up_;
};

/// Does `work` on a thread that may not end with an exception: one of a library's (no memory, say) is an Error of the
/// request that met it.
template <class T>
Result<T> guarded(const std::function<Result<T>()>& work) {
  try {
    return work();
  } catch (const std::exception& e) {
    return Error{ErrorCode::internal, e.what()};
  }
}

/// Runs `work` on the blocking pool and gives its result to the coroutine.
template <class T>
Task<Result<T>> run_blocking(Exchange& exchange, std::function<Result<T>()> work) {
  struct Slot {
    std::optional<Result<T>> value;
  };
  const auto executor = exchange.stream().get_executor();
  ChannelReader<std::shared_ptr<Slot>> done(executor);
  asio::post(exchange.shared().blocking, [channel = done.shared(), work = std::move(work)] {
    auto slot = std::make_shared<Slot>();
    slot->value.emplace(guarded(work));
    channel->push(std::move(slot));
  });
  std::shared_ptr<Slot> slot;
  while (!slot) co_await done.next(slot);
  co_return std::move(*slot->value);
}

using Handler = Task<void> (*)(Exchange&);
struct Route {
  http::verb method;
  const char* path;  ///< exact, or ending in '*'
  Handler handler;
};

/// The dialects. Each also knows how its errors look.
std::vector<Route> ollama_routes();
std::vector<Route> openai_routes();
std::vector<Route> replay_routes();
nlohmann::json ollama_error(const Error& error);
nlohmann::json openai_error(const Error& error, unsigned status);

/// Sends `error` in the dialect of the request's path: as a reply (with `status`, or the one of the error's class), or as
/// the last piece of a stream that has begun.
Task<void> send_error(Exchange& exchange, Error error, unsigned status = 0);

/// Gives a request an id if its client gave none, and puts it into the reply's X-Request-Id.
std::string name_request(Exchange& exchange, runtime::ChatRequest& request, const char* prefix);

struct ControlRequest;
/// Steers the request that is named, and says where it was met.
Task<void> answer_control(Exchange& exchange, Result<ControlRequest> request);

/// Host and Origin: nullptr if the request may come in, else why not. Fills the exchange's CORS headers.
/// Source of the threats: DNS rebinding (CVE-2024-28224) and cross-site requests to loopback servers.
const char* refuse(Exchange& exchange, const std::vector<std::string>& origins);

}  // namespace ponder::server
