// Client over HTTP to a Ponder server on this machine: `ponder run` uses it when a server is up, so that a loaded model
// is used again. Plain HTTP/1.1, one connection a call, replies read line by line as they arrive.
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

#include <charconv>

#include "base/os/system.h"
#include "runtime/client.h"
#include "runtime/vote_json.h"
#include "runtime/wire.h"

namespace ponder::runtime {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using nlohmann::json;

constexpr size_t kMaxLine = size_t(64) << 20;
constexpr auto kPoll = std::chrono::milliseconds(50);
constexpr double kControlSeconds = 5;

Error unreachable(const Address& a, const std::string& why) {
  return {ErrorCode::not_found, "no server answers at " + authority(a) + " (" + why + ")"};
}

ErrorCode code_of(unsigned status) {
  switch (status) {
    case 400:
      return ErrorCode::invalid_argument;
    case 403:
      return ErrorCode::permission;
    case 404:
      return ErrorCode::not_found;
    case 409:
      return ErrorCode::already_exists;
    case 499:
      return ErrorCode::cancelled;
    case 502:
      return ErrorCode::network;
    case 507:
      return ErrorCode::out_of_memory;
    default:
      return ErrorCode::internal;
  }
}

// {"error": "..."} or {"error": {"message": "..."}}.
std::string error_text(const json& body) {
  const auto e = body.is_object() ? body.find("error") : body.end();
  if (!body.is_object() || e == body.end()) return {};
  if (e->is_string()) return e->get<std::string>();
  if (e->is_object() && e->contains("message") && (*e)["message"].is_string())
    return (*e)["message"].get<std::string>();
  return e->dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 200);
}

// A field of what a server sent, whatever it sent.
std::string text_of(const json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}
uint64_t count_of(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() ? it->get<uint64_t>() : 0;
}
json list_of(const json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && it != object.end() && it->is_array() ? *it : json::array();
}

// A name as one part of a path: it may have slashes, and be an address with a query.
std::string percent_encoded(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain)
      out += c;
    else
      ((out += '%') += kDigits[uint8_t(c) >> 4]) += kDigits[uint8_t(c) & 15];
  }
  return out;
}

// One request and its reply. Each asynchronous step is driven by poll(), which looks at the cancel flag and the deadline.
class Exchange {
 public:
  Exchange(const Address& address, const CancelFlag* cancel, double deadline_seconds)
      : address_(address),
        cancel_(cancel),
        deadline_(deadline_seconds > 0 ? os::monotonic_seconds() + deadline_seconds : 0) {}

  /// Of the reply, once its headers are here; 0 before.
  unsigned status() const { return status_; }

  /// Sends; calls on_data with body bytes as they come; returns the status.
  Result<unsigned> run(http::verb verb, const std::string& target, const std::string& body,
                       const std::function<Result<void>(std::string_view)>& on_data) {
    tcp::resolver resolver(context_);
    beast::error_code ec;
    const auto endpoints = resolver.resolve(address_.host, std::to_string(address_.port), ec);
    if (ec) return unreachable(address_, ec.message());
    bool connected = false;
    asio::async_connect(socket_, endpoints,
                        [&](beast::error_code e, const tcp::endpoint&) { ec = e, connected = true; });
    PONDER_CHECK_OK(poll(connected));
    if (ec) return unreachable(address_, ec.message());

    http::request<http::string_body> request{verb, target, 11};
    request.set(http::field::host, authority(address_));
    request.set(http::field::user_agent, "ponder");
    if (!body.empty()) request.set(http::field::content_type, "application/json");
    request.body() = body;
    request.prepare_payload();
    bool sent = false;
    http::async_write(socket_, request, [&](beast::error_code e, size_t) { ec = e, sent = true; });
    PONDER_CHECK_OK(poll(sent));
    if (ec) return broken(ec);

    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    beast::flat_buffer buffer;
    while (!parser.is_done()) {
      bool got = false;
      http::async_read_some(socket_, buffer, parser, [&](beast::error_code e, size_t) { ec = e, got = true; });
      PONDER_CHECK_OK(poll(got));
      if (ec && ec != http::error::end_of_stream) return broken(ec);
      if (parser.is_header_done()) status_ = unsigned(parser.get().result_int());
      if (parser.is_header_done() && !parser.get().body().empty()) {
        const std::string piece = std::exchange(parser.get().body(), {});
        if (on_data) PONDER_CHECK_OK(on_data(piece));
      }
      if (ec) break;
    }
    return status_;
  }

 private:
  Error broken(const beast::error_code& ec) const {
    return {ErrorCode::network, "the connection to the server at " + authority(address_) + " broke: " + ec.message()};
  }

  Result<void> poll(const bool& done) {
    while (!done) {
      context_.restart();
      context_.run_for(kPoll);
      if (done) break;
      const bool cancelled = cancel_ != nullptr && *cancel_;
      const bool late = deadline_ > 0 && os::monotonic_seconds() > deadline_;
      if (cancelled || late) {
        beast::error_code ignored;
        socket_.close(ignored);  // the server sees it and stops the work
        context_.restart();
        context_.run();
        if (cancelled) return Error{ErrorCode::cancelled, "cancelled"};
        return unreachable(address_, "no answer in time");
      }
    }
    return {};
  }

  Address address_;
  const CancelFlag* cancel_;
  double deadline_;
  unsigned status_ = 0;
  asio::io_context context_;
  tcp::socket socket_{context_};
};

class HttpClient : public Client {
 public:
  explicit HttpClient(Address address) : address_(std::move(address)) {}

  Result<ChatResult> chat(const ChatRequest& request, const ChatSink& sink, const CancelFlag* cancel) override {
    ChatResult result;
    ChatDelta all;
    const double start = os::monotonic_seconds();
    const auto on_line = [&](const json& line) -> Result<void> {
      ChatDelta delta;
      if (const auto m = line.find("message"); m != line.end() && m->is_object()) {
        delta.thinking = text_of(*m, "thinking");
        delta.content = text_of(*m, "content");
        delta.thinking_retracted = int(count_of(*m, "thinking_retracted"));
      }
      if (const auto l = line.find("logprobs"); l != line.end()) delta.logprobs = wire::logprobs_from(*l);
      delta.logprobs_retracted = int(count_of(line, "logprobs_retracted"));
      const auto d = line.find("done");
      const bool last = d != line.end() && *d == true;
      if (last) result = wire::result_from(line);
      if (const auto v = line.find("vote"); v != line.end() && !last && sink.on_vote)
        sink.on_vote(vote_report_from(*v));
      if (sink.on_delta && (!delta.thinking.empty() || !delta.content.empty() || !delta.logprobs.empty() ||
                            delta.thinking_retracted > 0 || delta.logprobs_retracted > 0))
        sink.on_delta(std::move(delta));
      return {};
    };
    auto done = lines(http::verb::post, "/api/chat", wire::chat_request(request), on_line, cancel);
    if (!done.ok()) {
      if (done.error().code != ErrorCode::cancelled) return done.error();
      result.done_reason = "cancelled";
      result.total_seconds = os::monotonic_seconds() - start;
      return result;
    }
    if (result.done_reason.empty()) return Error{ErrorCode::network, "the server ended the reply without saying why"};
    return result;
  }

  Result<std::vector<store::ModelInfo>> list() override {
    PONDER_TRY(const json reply, object(http::verb::get, "/api/tags", nullptr));
    std::vector<store::ModelInfo> all;
    for (const auto& m : list_of(reply, "models")) {
      PONDER_TRY(auto info, wire::model_info_from(m));
      all.push_back(std::move(info));
    }
    return all;
  }

  Result<std::vector<RunningModel>> running() override {
    PONDER_TRY(const json reply, object(http::verb::get, "/api/ps", nullptr));
    std::vector<RunningModel> all;
    for (const auto& m : list_of(reply, "models")) all.push_back(wire::running_model_from(m));
    return all;
  }

  Result<bool> exists(const std::string& model) override {
    const auto reply = object(http::verb::get, "/v1/models/" + percent_encoded(model), nullptr);
    if (!reply.ok() && reply.error().code != ErrorCode::not_found) return reply.error();
    return reply.ok();
  }

  Result<ShowResult> show(const std::string& model, bool verbose) override {
    PONDER_TRY(const json reply, object(http::verb::post, "/api/show", {{"model", model}, {"verbose", verbose}}));
    return wire::show_from(reply, model);
  }

  Result<void> pull(const std::string& model, bool insecure,
                    const std::function<void(const store::PullProgress&)>& progress,
                    const CancelFlag* cancel) override {
    return lines(
        http::verb::post, "/api/pull", {{"model", model}, {"insecure", insecure}, {"stream", true}},
        [&](const json& line) -> Result<void> {
          if (progress)
            progress({text_of(line, "status"), text_of(line, "digest"), count_of(line, "total"),
                      count_of(line, "completed")});
          return {};
        },
        cancel);
  }

  Result<void> remove(const std::string& model) override {
    auto reply = object(http::verb::delete_, "/api/delete", {{"model", model}});
    if (!reply.ok()) return std::move(reply).error();
    return {};
  }

  Result<void> stop(const std::string& model) override {
    auto reply = object(http::verb::post, "/api/generate", {{"model", model}, {"keep_alive", 0}, {"stream", false}});
    if (!reply.ok()) return std::move(reply).error();
    return {};
  }

  Result<std::string> control(const std::string& id, const Control& control) override {
    json body = {{"request_id", id}, {"action", control.action}};
    if (!control.text.empty()) body["text"] = control.text;
    if (control.tokens > 0) body["tokens"] = control.tokens;
    PONDER_TRY(const json reply, object(http::verb::post, "/api/control", body, kControlSeconds));
    return text_of(reply, "phase");
  }

  Result<json> object(http::verb verb, const std::string& target, const json& body, double deadline = 0) {
    std::string text;
    Exchange exchange(address_, nullptr, deadline);
    PONDER_TRY(
        const unsigned status,
        exchange.run(verb, target, body.is_null() ? "" : body.dump(-1, ' ', false, json::error_handler_t::replace),
                     [&](std::string_view piece) -> Result<void> {
                       text += piece;
                       if (text.size() > (size_t(256) << 20))
                         return Error{ErrorCode::network, "the server's reply is too large"};
                       return {};
                     }));
    json reply = json::parse(text, nullptr, false);
    if (status >= 400)
      return Error{code_of(status), error_text(reply).empty()
                                        ? "the server answered with status " + std::to_string(status)
                                        : error_text(reply)};
    if (text.empty()) return json::object();
    if (reply.is_discarded()) return Error{ErrorCode::network, "the server's reply is not JSON"};
    return reply;
  }

 private:
  // A reply of one JSON object a line. An {"error"} line ends it.
  Result<void> lines(http::verb verb, const std::string& target, const json& body,
                     const std::function<Result<void>(const json&)>& on_line, const CancelFlag* cancel) {
    std::string held;
    Exchange exchange(address_, cancel, 0);
    const auto one = [&](std::string_view text) -> Result<void> {
      if (text.empty()) return {};
      const json line = json::parse(text, nullptr, false);
      if (exchange.status() >= 400) {
        const std::string e = error_text(line);
        return Error{code_of(exchange.status()),
                     e.empty() ? "the server answered with status " + std::to_string(exchange.status()) : e};
      }
      if (!line.is_object()) return Error{ErrorCode::network, "the server sent a line that is not a JSON object"};
      if (const std::string e = error_text(line); !e.empty()) return Error{ErrorCode::internal, e};
      return on_line(line);
    };
    auto status = exchange.run(verb, target, body.dump(-1, ' ', false, json::error_handler_t::replace),
                               [&](std::string_view piece) -> Result<void> {
                                 held += piece;
                                 if (held.size() > kMaxLine)
                                   return Error{ErrorCode::network, "the server sent a line that is too long"};
                                 size_t at = 0;
                                 for (size_t end; (end = held.find('\n', at)) != std::string::npos; at = end + 1)
                                   PONDER_CHECK_OK(one(std::string_view(held).substr(at, end - at)));
                                 held.erase(0, at);
                                 return {};
                               });
    if (!status.ok()) return std::move(status).error();
    PONDER_CHECK_OK(one(held));
    if (*status >= 400) return Error{code_of(*status), "the server answered with status " + std::to_string(*status)};
    return {};
  }

  Address address_;
};

}  // namespace

Result<std::unique_ptr<Client>> connect(const Address& address, double timeout_seconds) {
  auto client = std::make_unique<HttpClient>(address);
  auto version = client->object(http::verb::get, "/api/version", nullptr, timeout_seconds);
  if (!version.ok() && version.error().code == ErrorCode::not_found && version.error().message.starts_with("no server"))
    return version.error();
  if (!version.ok() || !version->is_object() || text_of(*version, "server") != "ponder")
    return Error{
        ErrorCode::already_exists,
        authority(address) + " is taken by another program (Ollama?); stop it or choose another port with OLLAMA_HOST"};
  return std::unique_ptr<Client>(std::move(client));
}

std::string authority(const Address& a) {
  const bool v6 = a.host.find(':') != std::string::npos;
  return (v6 ? "[" + a.host + "]" : a.host) + ":" + std::to_string(a.port);
}

Result<Address> parse_address(const std::string& input) {
  Address a;
  std::string text = input;
  if (text.empty()) return a;
  if (const auto scheme = text.find("://"); scheme != std::string::npos) {
    if (text.substr(0, scheme) != "http")
      return Error{ErrorCode::invalid_argument,
                   "address \"" + input + "\": only http:// is served; put a proxy in front for https"};
    text.erase(0, scheme + 3);
    a.port = 80;
  }
  text = text.substr(0, text.find('/'));
  std::string port;
  if (!text.empty() && text[0] == '[') {  // [::1]:11434
    const size_t end = text.find(']');
    if (end == std::string::npos)
      return Error{ErrorCode::invalid_argument, "address \"" + input + "\": a ] is missing"};
    a.host = text.substr(1, end - 1);
    if (end + 1 < text.size() && text[end + 1] == ':') port = text.substr(end + 2);
  } else {
    const size_t colon = text.rfind(':');
    const bool bare_ipv6 = colon != std::string::npos && text.find(':') != colon;
    if (!bare_ipv6 && colon != std::string::npos) {
      port = text.substr(colon + 1);
      text.resize(colon);
    }
    if (!text.empty()) a.host = text;
  }
  if (!port.empty()) {
    const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), a.port);
    if (ec != std::errc() || end != port.data() + port.size() || a.port < 0 || a.port > 65535)
      return Error{ErrorCode::invalid_argument, "address \"" + input + "\": the port must be a number up to 65535"};
  }
  return a;
}

}  // namespace ponder::runtime
