// Connections: accept, read one request at a time under deadlines and limits, look the route up, answer, go on.
// Everything about what a request means is in the dialect files; who may come in is in gate.cpp.
#include "server/server.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <list>
#include <optional>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>

#include "base/log.h"
#include "server/body_memory.h"
#include "server/http.h"

namespace ponder::server {
namespace {

using asio::ip::tcp;

constexpr uint32_t kHeaderLimit = 32 << 10;
constexpr int kBlockingThreads = 4, kPullThreads = 8;
constexpr auto kLinger = std::chrono::seconds(2);  // for a peer to read our refusal before it hears that we are gone
constexpr size_t kLingerBytes = size_t(8) << 20;

std::chrono::milliseconds ms(double seconds) { return std::chrono::milliseconds(int64_t(seconds * 1000)); }

// "%2F" -> "/". A broken escape stays as it is: no model has such a name.
std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint8_t byte = 0;
    const char* begin = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() && std::from_chars(begin, begin + 2, byte, 16).ptr == begin + 2) {
      out += char(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

class ServerImpl : public Server {
 public:
  ServerImpl(runtime::Runtime& runtime, ServerOptions options)
      : options_(std::move(options)), shared_{runtime, blocking_, pulls_, ms(options_.send_timeout_seconds)} {
    for (auto* list : {&ollama_routes, &openai_routes, &replay_routes})
      for (auto& route : (*list)()) routes_.push_back(route);
  }

  ~ServerImpl() override { stop(); }

  Result<void> listen() {
    boost::system::error_code ec;
    tcp::resolver resolver(io_);
    const auto& a = options_.address;
    const auto endpoints = resolver.resolve(a.host, std::to_string(a.port), tcp::resolver::numeric_service, ec);
    if (ec || endpoints.empty())
      return Error{ErrorCode::invalid_argument, "cannot resolve the address \"" + a.host + "\": " + ec.message()};
    const tcp::endpoint endpoint = *endpoints.begin();
    if (!endpoint.address().is_loopback())
      return Error{ErrorCode::permission,
                   a.host +
                       " is not a loopback address. This version has no API keys, so it would be open to everyone on" +
                       " the network; serve on 127.0.0.1 (and reach it through ssh -L or a proxy with authentication)"};
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor_.bind(endpoint, ec);
    if (!ec) acceptor_.listen(asio::socket_base::max_listen_connections, ec);
    if (ec == boost::system::errc::address_in_use)
      return Error{
          ErrorCode::already_exists,
          "port " + std::to_string(a.port) + " on " + a.host +
              " is taken (by Ollama, or another Ponder?); stop that program, or choose another port: OLLAMA_HOST=" +
              runtime::authority({a.host, a.port + 1}) + " ponder serve"};
    if (ec) return Error{ErrorCode::io, "cannot listen on " + runtime::authority(a) + ": " + ec.message()};
    port_ = acceptor_.local_endpoint(ec).port();
    asio::co_spawn(acceptor_.get_executor(), accept_loop(), asio::detached);
    for (int i = 0; i < std::max(1, options_.threads); ++i) threads_.emplace_back([this] { io_.run(); });
    return {};
  }

  int port() const override { return port_; }

  void stop() override {
    if (shared_.stopping.exchange(true)) return;
    asio::post(acceptor_.get_executor(), [this] {
      boost::system::error_code ignored;
      acceptor_.close(ignored);
    });
    // Running requests see a hung-up peer and end within a tick; give them that, then drop what is left.
    {
      std::lock_guard lock(mutex_);
      for (auto& c : connections_)
        asio::post(c->get_executor(), [weak = std::weak_ptr<beast::tcp_stream>(c)] {
          boost::system::error_code ignored;
          if (auto stream = weak.lock()) stream->socket().shutdown(tcp::socket::shutdown_both, ignored);
        });
    }
    for (int i = 0; i < 100; ++i) {
      {
        std::lock_guard lock(mutex_);
        if (connections_.empty()) break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    io_.stop();
    for (auto& t : threads_) t.join();
    threads_.clear();
    for (auto* pool : {&blocking_, &pulls_}) {
      pool->stop();
      pool->join();  // a transfer looks at `stopping`
    }
  }

 private:
  Task<void> accept_loop() {
    for (;;) {
      const auto strand = asio::make_strand(io_);
      tcp::socket socket(strand);
      boost::system::error_code ec;
      auto token = asio::redirect_error(asio::use_awaitable, ec);
      co_await acceptor_.async_accept(socket, token);
      if (shared_.stopping || ec == asio::error::operation_aborted) co_return;
      if (ec) {  // out of descriptors, most likely: let some connections end
        log(LogLevel::warning, "accept: " + ec.message());
        asio::steady_timer pause(io_, std::chrono::milliseconds(100));
        co_await pause.async_wait(token);
        continue;
      }
      auto stream = std::make_shared<beast::tcp_stream>(std::move(socket));  // shared with stop()
      {
        std::lock_guard lock(mutex_);
        if (int(connections_.size()) >= options_.max_connections) continue;  // dropped: closes
        connections_.push_back(stream);
      }
      asio::co_spawn(strand, serve(stream), asio::detached);
    }
  }

  Task<void> serve(std::shared_ptr<beast::tcp_stream> stream) {
    const Leave leave{*this, stream};
    beast::flat_buffer buffer;
    boost::system::error_code ec;
    stream->socket().set_option(tcp::no_delay(true), ec);
    stream->socket().non_blocking(true, ec);  // for the look ahead of a running chat
    bool first = true, refused = false;
    for (bool go_on = true; go_on && !shared_.stopping;) {
      BodyMemory::Share share(bodies_);
      bool crowded = false;
      http::request_parser<http::string_body> parser;
      parser.header_limit(kHeaderLimit);
      parser.body_limit(options_.max_body_bytes);
      stream->expires_after(ms(first ? options_.header_timeout_seconds : options_.idle_timeout_seconds));
      auto token = asio::redirect_error(asio::use_awaitable, ec);
      co_await http::async_read_header(*stream, buffer, parser, token);
      first = false;
      // A body that is neither counted nor chunked would be taken for the next request.
      if (!ec && parser.get().count(http::field::transfer_encoding) > 0 && !parser.chunked())
        ec = http::error::bad_transfer_encoding;
      if (!ec) {
        stream->expires_after(ms(options_.idle_timeout_seconds));
        if (beast::iequals(parser.get()[http::field::expect], "100-continue") && !parser.is_done()) {
          http::response<http::empty_body> proceed{http::status::continue_, 11};
          co_await http::async_write(*stream, proceed, token);
        }
        parser.eager(true);
        while (!ec && !crowded && !parser.is_done()) {
          co_await http::async_read_some(*stream, buffer, parser, token);
          crowded = !share.grow_to(parser.get().body().size());
        }
      }
      if (ec && ec.category() != malformed_) break;  // the peer left, or was too slow
      if (ec == http::error::end_of_stream || ec == http::error::partial_message) break;
      Exchange exchange(shared_, *stream, buffer, parser.release());
      const std::string target(exchange.request().target());
      exchange.path = target.substr(0, target.find('?'));
      if (ec || crowded) {
        exchange.close_after();
        refused = true;
        const unsigned status = ec == http::error::body_limit     ? 413
                                : ec == http::error::header_limit ? 431
                                : ec                              ? 400
                                                                  : 503;
        if (status == 503) exchange.headers.emplace_back("Retry-After", "1");
        Error error{ErrorCode::invalid_argument, why_refused(status)};
        co_await send_error(exchange, std::move(error), status);
        break;
      }
      try {
        co_await answer(exchange);
      } catch (const std::exception& e) {  // a library's, such as no memory: this connection ends, the server does not
        log(LogLevel::error, exchange.path + ": " + e.what());
        exchange.close_after();
      }
      go_on = exchange.keep_alive();
    }
    stream->socket().shutdown(tcp::socket::shutdown_send, ec);
    if (refused && !shared_.stopping) co_await linger(*stream, buffer);
  }

  std::string why_refused(unsigned status) const {
    if (status == 413) return "the request's body is larger than " + std::to_string(options_.max_body_bytes) + " bytes";
    if (status == 503)
      return "the requests in progress hold " + std::to_string(bodies_.used()) +
             " bytes of bodies, and all together may" + " hold " + std::to_string(bodies_.limit()) +
             "; try again when one of them has ended";
    if (status == 431) return "the request's headers are larger than " + std::to_string(kHeaderLimit) + " bytes";
    return "this is not a valid HTTP request";
  }

  // Closing while the peer still sends would reset the connection, and the peer would never see why.
  Task<void> linger(beast::tcp_stream& stream, beast::flat_buffer& buffer) {
    stream.expires_after(kLinger);
    boost::system::error_code ec;
    auto token = asio::redirect_error(asio::use_awaitable, ec);
    for (size_t total = 0; !ec && total < kLingerBytes;) {
      buffer.clear();
      const auto space = buffer.prepare(64 << 10);
      total += co_await stream.async_read_some(space, token);
    }
  }

  // Takes a connection off the list, however its coroutine ends.
  struct Leave {
    ServerImpl& server;
    std::shared_ptr<beast::tcp_stream> stream;
    ~Leave() {
      std::lock_guard lock(server.mutex_);
      server.connections_.remove(stream);
    }
  };

  Task<void> answer(Exchange& exchange) {
    const auto& request = exchange.request();
    if (const char* why = refuse(exchange, options_.origins)) {
      exchange.close_after();
      Error error{ErrorCode::permission, why};
      co_await send_error(exchange, std::move(error));
      co_return;
    }
    if (request.method() == http::verb::options) {
      co_await exchange.send(204, "", "");
      co_return;
    }
    // HEAD is GET without a body.
    const auto method = request.method() == http::verb::head ? http::verb::get : request.method();
    std::string allowed;
    for (const auto& route : routes_) {
      const std::string_view pattern = route.path;
      const bool open_end = pattern.ends_with('*');
      const bool fits =
          open_end ? exchange.path.starts_with(pattern.substr(0, pattern.size() - 1)) : exchange.path == pattern;
      if (!fits) continue;
      if (route.method != method) {
        allowed += (allowed.empty() ? "" : ", ") + std::string(http::to_string(route.method));
        continue;
      }
      if (open_end) exchange.rest = percent_decoded(exchange.path.substr(pattern.size() - 1));
      co_await route.handler(exchange);
      co_return;
    }
    Error error{ErrorCode::not_found,
                std::string(request.method_string()) + " " + exchange.path + ": there is no such route"};
    if (!allowed.empty()) {
      exchange.headers.emplace_back("Allow", allowed);
      error = {ErrorCode::invalid_argument,
               std::string(request.method_string()) + " " + exchange.path + ": this route takes " + allowed};
    }
    co_await send_error(exchange, std::move(error), allowed.empty() ? 404 : 405);
  }

  const boost::system::error_category& malformed_ = http::make_error_code(http::error::bad_method).category();
  const ServerOptions options_;
  BodyMemory bodies_{options_.max_bodies_bytes};
  asio::thread_pool blocking_{kBlockingThreads}, pulls_{kPullThreads};
  Shared shared_;
  std::vector<Route> routes_;
  asio::io_context io_;
  tcp::acceptor acceptor_{asio::make_strand(io_)};
  int port_ = 0;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::list<std::shared_ptr<beast::tcp_stream>> connections_;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(runtime::Runtime& runtime, const ServerOptions& options) {
  auto server = std::make_unique<ServerImpl>(runtime, options);
  PONDER_CHECK_OK(server->listen());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace ponder::server
