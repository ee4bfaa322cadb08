// Sending replies, watching for a peer that hangs up, and the small decisions all dialects share.
#include "server/http.h"

#include <boost/asio/write.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/write.hpp>

#include "base/version.h"

namespace ponder::server {
namespace {

using nlohmann::json;

constexpr int kMaxJsonDepth = 64;
constexpr auto kSendTimeout = std::chrono::seconds(30);   // a reader that stalls longer is dropped

// Depth of nesting, strings skipped: the parser itself copes with any depth, what walks the tree later may not.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

unsigned status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::invalid_file:
    case ErrorCode::unsupported:
    case ErrorCode::out_of_range: return 400;
    case ErrorCode::permission: return 403;
    case ErrorCode::not_found: return 404;
    case ErrorCode::already_exists: return 409;
    case ErrorCode::cancelled: return 499;
    case ErrorCode::network: return 502;
    case ErrorCode::out_of_memory: return 507;
    case ErrorCode::io:
    case ErrorCode::internal: return 500;
  }
  return 500;
}

Result<json> Exchange::json_body() const {
  const std::string& text = request_.body();
  if (text.find_first_not_of(" \t\r\n") == std::string::npos)
    return Error{ErrorCode::invalid_argument, "missing request body"};
  if (too_deep(text)) return Error{ErrorCode::invalid_argument, "the request body is nested more than 64 levels deep"};
  json body = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (body.is_discarded()) return Error{ErrorCode::invalid_argument, "the request body is not valid JSON"};
  if (!body.is_object()) return Error{ErrorCode::invalid_argument, "the request body must be a JSON object"};
  return body;
}

template <class Response>
void Exchange::decorate(Response& response) const {
  response.set(http::field::server, std::string("ponder/") + kVersion);
  for (const auto& [name, value] : headers) response.set(name, value);
  response.keep_alive(keep_alive_ && request_.keep_alive());
}

Task<bool> Exchange::send(unsigned status, std::string content_type, std::string body) {
  http::response<http::string_body> response{http::int_to_status(status), request_.version()};
  if (!content_type.empty()) response.set(http::field::content_type, content_type);
  decorate(response);
  const bool head = request_.method() == http::verb::head;
  response.content_length(body.size());
  if (!head) response.body() = std::move(body);
  stream_.expires_after(kSendTimeout);
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
  http::response<http::empty_body> response{http::status::ok, request_.version()};
  response.set(http::field::content_type, content_type);
  response.set(http::field::cache_control, "no-cache");
  decorate(response);
  response.chunked(true);
  streaming_ = true;
  stream_.expires_after(kSendTimeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  http::response_serializer<http::empty_body> serializer{response};
  co_await http::async_write_header(stream_, serializer, token);
  keep_alive_ = keep_alive_ && request_.keep_alive() && !ec;
  co_return !ec;
}

Task<bool> Exchange::send_piece(std::string piece) {
  stream_.expires_after(kSendTimeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  const auto chunk = http::make_chunk(asio::buffer(piece));
  co_await asio::async_write(stream_, chunk, token);
  if (ec) keep_alive_ = false;
  co_return !ec;
}

Task<bool> Exchange::end_stream() {
  stream_.expires_after(kSendTimeout);
  boost::system::error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  const auto last = http::make_chunk_last();
  co_await asio::async_write(stream_, last, token);
  if (ec) keep_alive_ = false;
  co_return !ec;
}

RunningChat::RunningChat(Exchange& exchange)
    : exchange_(exchange),
      channel_(std::make_shared<Channel<ChatEvent>>(exchange.stream().get_executor())),
      cancel_(std::make_shared<runtime::CancelFlag>(false)),
      watching_(std::make_shared<bool>(true)) {}

std::shared_ptr<RunningChat> RunningChat::start(Exchange& exchange, runtime::ChatRequest request) {
  std::shared_ptr<RunningChat> chat(new RunningChat(exchange));
  runtime::ChatSink sink;
  const auto channel = chat->channel_;
  sink.on_delta = [channel](runtime::ChatDelta delta) {
    ChatEvent event;
    event.kind = ChatEvent::Kind::delta;
    event.delta = std::move(delta);
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
  exchange.stream().expires_never();
  chat->watch();
  exchange.runtime().chat(std::move(request), std::move(sink), chat->cancel_);
  return chat;
}

// Readable without bytes to read means that the peer hung up. Bytes are the next request: no more watching then.
void RunningChat::watch() {
  auto& socket = exchange_.stream().socket();
  socket.async_wait(asio::ip::tcp::socket::wait_read,
                    [watching = watching_, cancel = cancel_, channel = channel_, &socket](boost::system::error_code ec) {
                      if (!*watching) return;   // released: the socket may be gone
                      boost::system::error_code failed;
                      const bool bytes = !ec && socket.available(failed) > 0 && !failed;
                      if (bytes) return;
                      *cancel = true;
                      channel->wake();
                    });
}

Task<ChatEvent> RunningChat::next() {
  ChatEvent event;
  while (!gone()) {
    if (exchange_.shared().stopping) *cancel_ = true;
    if (co_await channel_->next(event)) break;
  }
  co_return event;
}

void RunningChat::release() {
  if (!*watching_) return;
  *watching_ = false;
  *cancel_ = true;   // nothing to end after `done`
  boost::system::error_code ignored;
  exchange_.stream().socket().cancel(ignored);
}

Task<void> send_error(Exchange& exchange, Error error) {
  const bool openai = exchange.path.starts_with("/v1/");
  json body = openai ? openai_error(error) : ollama_error(error);
  if (!exchange.streaming()) {
    co_await exchange.send_json(status_of(error.code), std::move(body));
    co_return;
  }
  std::string text = body.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string piece = openai ? "data: " + text + "\n\n" : text + "\n";
  if (co_await exchange.send_piece(std::move(piece))) co_await exchange.end_stream();
}

}  // namespace ponder::server
