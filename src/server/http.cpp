// Sending replies, watching for a peer that hangs up, and the small decisions all dialects share.
#include "server/http.h"

#include "runtime/vote_json.h"

#include <algorithm>

#include <boost/asio/write.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/write.hpp>

#include "base/os/system.h"
#include "base/version.h"
#include "server/requests.h"

namespace ponder::server {
namespace {

using nlohmann::json;

constexpr size_t kReadAhead = 4 << 10;
constexpr size_t kMaxAhead = 64 << 10;  // read of next requests while one is answered

}  // namespace

unsigned status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::invalid_file:
    case ErrorCode::unsupported:
    case ErrorCode::out_of_range:
      return 400;
    case ErrorCode::permission:
      return 403;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::already_exists:
      return 409;
    case ErrorCode::cancelled:
      return 499;
    case ErrorCode::network:
      return 502;
    case ErrorCode::out_of_memory:
      return 507;
    case ErrorCode::io:
    case ErrorCode::internal:
      return 500;
  }
  return 500;
}

Result<nlohmann::ordered_json> Exchange::json_body() const { return parse_body(request_.body()); }

template <class Response>
void Exchange::decorate(Response& response) const {
  response.set(http::field::server, std::string("ponder/") + kVersion);
  for (const auto& [name, value] : headers) response.set(name, value);
  response.keep_alive(keep_alive_ && request_.keep_alive());
}

Task<bool> Exchange::send(unsigned status, std::string content_type, std::string body) {
  http::response<http::string_body> response;
  response.version(request_.version());
  response.result(status);
  if (status == 499) response.reason("Client Closed Request");
  if (!content_type.empty()) response.set(http::field::content_type, content_type);
  decorate(response);
  const bool head = request_.method() == http::verb::head;
  if (status != 204) response.content_length(body.size());  // RFC 9110: 204 has none
  if (!head) response.body() = std::move(body);
  stream_.expires_after(shared_.send_timeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  http::response_serializer<http::string_body> serializer{response};
  if (head) {
    co_await http::async_write_header(stream_, serializer, token);
  } else {
    co_await http::async_write(stream_, serializer, token);
  }
  keep_alive_ = keep_alive_ && request_.keep_alive() && !ec;
  co_return !ec;
}

Task<bool> Exchange::send_json(unsigned status, json body) {
  // Text of a stranger (model output, a file's name) may be broken UTF-8; a reply never is.
  std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace);
  co_return co_await send(status, "application/json; charset=utf-8", std::move(text));
}

Task<bool> Exchange::begin_stream(std::string content_type) {
  chunked_ = request_.version() >= 11;  // HTTP/1.0 knows no chunks: there the stream ends with the connection
  if (!chunked_) keep_alive_ = false;
  http::response<http::empty_body> response{http::status::ok, request_.version()};
  response.set(http::field::content_type, content_type);
  response.set(http::field::cache_control, "no-cache");
  decorate(response);
  if (chunked_) response.chunked(true);
  streaming_ = true;
  stream_.expires_after(shared_.send_timeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  http::response_serializer<http::empty_body> serializer{response};
  co_await http::async_write_header(stream_, serializer, token);
  keep_alive_ = keep_alive_ && request_.keep_alive() && !ec;
  co_return !ec;
}

Task<bool> Exchange::send_piece(std::string piece) {
  stream_.expires_after(shared_.send_timeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  const auto bytes = asio::buffer(piece);
  if (chunked_) {
    const auto chunk = http::make_chunk(bytes);
    co_await asio::async_write(stream_, chunk, token);
  } else {
    co_await asio::async_write(stream_, bytes, token);
  }
  if (ec) keep_alive_ = false;
  co_return !ec;
}

Task<bool> Exchange::end_stream() {
  if (!chunked_) co_return true;
  stream_.expires_after(shared_.send_timeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  const auto last = http::make_chunk_last();
  co_await asio::async_write(stream_, last, token);
  if (ec) keep_alive_ = false;
  co_return !ec;
}

HangUp::HangUp(Exchange& exchange, std::function<void()> gone)
    : exchange_(exchange), gone_(std::move(gone)), watching_(std::make_shared<bool>(true)) {
  exchange.stream().expires_never();
  watch();
}

// Readable and at the end means that the peer hung up. Bytes are the next request: they are kept, and the watch goes on,
// unless the peer sends so much ahead that holding it would cost memory. Neither can happen too: the reactor may report
// bytes that were read before the wait began.
void HangUp::watch() {
  exchange_.stream().socket().async_wait(
      asio::ip::tcp::socket::wait_read, [this, watching = watching_](boost::system::error_code ec) {
        if (!*watching) return;  // released: `this` and the socket may be gone
        auto& ahead = exchange_.ahead();
        if (ahead.size() >= kMaxAhead) return;
        if (!ec) ahead.commit(exchange_.stream().socket().read_some(ahead.prepare(kReadAhead), ec));  // does not block
        if (!ec || ec == asio::error::would_block) return watch();
        gone_();
      });
}

void HangUp::release() {
  if (!*watching_) return;
  *watching_ = false;
  boost::system::error_code ignored;
  exchange_.stream().socket().cancel(ignored);
}

RunningChat::RunningChat(Exchange& exchange)
    : exchange_(exchange),
      events_(exchange.stream().get_executor()),
      cancel_(std::make_shared<runtime::CancelFlag>(false)),
      hang_up_(exchange, [cancel = cancel_, channel = events_.shared()] {
        *cancel = true;
        channel->wake();
      }) {}

// Also when the coroutine is destroyed half way (the server stops): the runtime must not go on for nobody.
RunningChat::~RunningChat() { *cancel_ = true; }

std::shared_ptr<RunningChat> RunningChat::start(Exchange& exchange, runtime::ChatRequest request) {
  std::shared_ptr<RunningChat> chat(new RunningChat(exchange));
  runtime::ChatSink sink;
  const auto channel = chat->events_.shared();
  sink.on_delta = [channel](runtime::ChatDelta delta) {
    ChatEvent event;
    event.kind = ChatEvent::Kind::delta;
    event.delta = std::move(delta);
    channel->push(std::move(event));
  };
  sink.on_vote = [channel](const auto& report) {
    ChatEvent event;
    event.kind = ChatEvent::Kind::vote;
    event.vote = runtime::to_json(report, /*last=*/false);
    channel->push(std::move(event));
  };
  sink.on_done = [channel](runtime::ChatResult result) {
    ChatEvent event;
    event.kind = ChatEvent::Kind::done;
    event.result = std::move(result);
    channel->push(std::move(event));
  };
  sink.on_error = [channel](Error error) {
    ChatEvent event;
    event.kind = ChatEvent::Kind::error;
    event.error = std::move(error);
    channel->push(std::move(event));
  };
  exchange.runtime().chat(std::move(request), std::move(sink), chat->cancel_);
  return chat;
}

Task<ChatEvent> RunningChat::next() {
  ChatEvent event;
  while (!gone()) {
    if (exchange_.shared().stopping) *cancel_ = true;
    if (co_await events_.next(event)) break;
  }
  co_return event;
}

void RunningChat::release() {
  *cancel_ = true;  // nothing to end after `done`
  hang_up_.release();
}

Task<void> send_error(Exchange& exchange, Error error, unsigned status) {
  if (status == 0) status = status_of(error.code);
  json body = exchange.openai() ? openai_error(error, status) : ollama_error(error);
  if (!exchange.streaming()) {
    co_await exchange.send_json(status, std::move(body));
    co_return;
  }
  std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string piece = exchange.openai() ? "data: " + text + "\n\n" : text + "\n";
  if (co_await exchange.send_piece(std::move(piece))) co_await exchange.end_stream();
}

std::string name_request(Exchange& exchange, runtime::ChatRequest& request, const char* prefix) {
  if (request.id.empty()) {
    char made[32];
    std::snprintf(made, sizeof made, "%016llx", static_cast<unsigned long long>(os::random_u64()));
    request.id = std::string(prefix) + made;
  }
  exchange.headers.emplace_back("X-Request-Id", request.id);
  return request.id;
}

Task<void> answer_control(Exchange& exchange, Result<ControlRequest> request) {
  if (!request.ok()) {
    co_await send_error(exchange, std::move(request).error());
    co_return;
  }
  auto phase = exchange.runtime().control(request->id, request->control);
  if (!phase.ok()) {
    co_await send_error(exchange, std::move(phase).error());
    co_return;
  }
  json reply = {{"success", true}, {"request_id", request->id}, {"action", request->control.action}, {"phase", *phase}};
  co_await exchange.send_json(200, std::move(reply));
}

}  // namespace ponder::server
