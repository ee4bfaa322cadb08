// One request and its reply, as the routes see them. A route is a coroutine over an Exchange; it either sends one
// whole reply or begins a stream and sends pieces. Every send says whether the peer is still there.
//
// Coroutines here are named functions whose arguments are locals: g++ 12 miscompiles some temporaries in co_await.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <nlohmann/json.hpp>

#include "base/result.h"
#include "runtime/client.h"

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
  asio::thread_pool& blocking;   ///< for calls that wait on disk or network
  std::atomic<bool> stopping{false};
};

class Exchange {
 public:
  Exchange(Shared& shared, beast::tcp_stream& stream, http::request<http::string_body> request)
      : shared_(shared), stream_(stream), request_(std::move(request)) {}

  Shared& shared() { return shared_; }
  runtime::Runtime& runtime() { return shared_.runtime; }
  const http::request<http::string_body>& request() const { return request_; }
  /// Path without the query; and what a route's trailing "*" stood for.
  std::string path, rest;
  /// Headers that every reply carries (CORS).
  std::vector<std::pair<std::string, std::string>> headers;
  beast::tcp_stream& stream() { return stream_; }

  /// The body as a JSON object, or the Error for the client (empty body, not JSON, nested too deep, not an object).
  Result<nlohmann::json> json_body() const;

  Task<bool> send(unsigned status, std::string content_type, std::string body);
  Task<bool> send_json(unsigned status, nlohmann::json body);

  Task<bool> begin_stream(std::string content_type);
  Task<bool> send_piece(std::string piece);
  Task<bool> end_stream();

  bool streaming() const { return streaming_; }
  bool keep_alive() const { return keep_alive_; }
  void close_after() { keep_alive_ = false; }

 private:
  template <class Response>
  void decorate(Response& response) const;

  Shared& shared_;
  beast::tcp_stream& stream_;
  http::request<http::string_body> request_;
  bool streaming_ = false, keep_alive_ = true;
};

/// Events from threads of the runtime to one coroutine, in order. The producer may outlive the coroutine.
template <class Event>
class Channel : public std::enable_shared_from_this<Channel<Event>> {
 public:
  explicit Channel(asio::any_io_executor executor) : executor_(std::move(executor)), timer_(executor_) {}

  /// From any thread.
  void push(Event event) {
    {
      std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    wake();
  }
  /// From any thread: next() looks at the reason why.
  void wake() {
    asio::post(executor_, [self = this->shared_from_this()] { self->timer_.cancel(); });
  }

  /// On the coroutine's executor. Waits for an event or a wake(); false when there was none.
  Task<bool> next(Event& event) {
    if (take(event)) co_return true;
    timer_.expires_at(asio::steady_timer::time_point::max());
    boost::system::error_code ignored;
    auto token = asio::redirect_error(asio::use_awaitable, ignored);
    co_await timer_.async_wait(token);
    co_return take(event);
  }

 private:
  bool take(Event& event) {
    std::lock_guard lock(mutex_);
    if (events_.empty()) return false;
    event = std::move(events_.front());
    events_.pop_front();
    return true;
  }

  asio::any_io_executor executor_;
  asio::steady_timer timer_;
  std::mutex mutex_;
  std::deque<Event> events_;
};

/// One event of a reply that is being made.
struct ChatEvent {
  enum class Kind { none, delta, done, error } kind = Kind::none;
  runtime::ChatDelta delta;
  runtime::ChatResult result;
  Error error;
};

/// A chat that runs: events in order, and the flag that ends it. When the peer hangs up or the server stops, the flag is
/// set at once and next() gives `none` with gone() true.
class RunningChat {
 public:
  static std::shared_ptr<RunningChat> start(Exchange& exchange, runtime::ChatRequest request);
  Task<ChatEvent> next();
  bool gone() const { return *cancel_; }
  /// Stops watching the socket, so that the connection can be used for the next request. Ends the work if it still runs.
  void release();

 private:
  explicit RunningChat(Exchange& exchange);
  void watch();
  Exchange& exchange_;
  std::shared_ptr<Channel<ChatEvent>> channel_;   // shared with the runtime's callbacks
  std::shared_ptr<runtime::CancelFlag> cancel_;   // shared with the runtime
  std::shared_ptr<bool> watching_;                // shared with the socket's wait
};

/// Runs `work` on the blocking pool and gives its result to the coroutine.
template <class T>
Task<Result<T>> run_blocking(Exchange& exchange, std::function<Result<T>()> work) {
  struct Slot {
    std::optional<Result<T>> value;
  };
  const auto executor = exchange.stream().get_executor();
  auto channel = std::make_shared<Channel<std::shared_ptr<Slot>>>(executor);   // shared with the pool's thread
  asio::post(exchange.shared().blocking, [channel, work = std::move(work)] {
    auto slot = std::make_shared<Slot>();
    slot->value.emplace(work());
    channel->push(std::move(slot));
  });
  std::shared_ptr<Slot> slot;
  while (!slot) co_await channel->next(slot);
  co_return std::move(*slot->value);
}

using Handler = Task<void> (*)(Exchange&);
struct Route {
  http::verb method;
  const char* path;      ///< exact, or ending in '*'
  Handler handler;
};

/// The dialects. Each also knows how its errors look.
std::vector<Route> ollama_routes();
std::vector<Route> openai_routes();
nlohmann::json ollama_error(const Error& error);
nlohmann::json openai_error(const Error& error);

/// Sends `error` in the dialect of the request's path: as a reply, or as the last piece of a stream that has begun.
Task<void> send_error(Exchange& exchange, Error error);

/// Host and Origin: nullptr if the request may come in, else why not. Fills the exchange's CORS headers.
/// Source of the threats: DNS rebinding (CVE-2024-28224) and cross-site requests to loopback servers.
const char* refuse(Exchange& exchange, const std::vector<std::string>& origins);

}  // namespace ponder::server
