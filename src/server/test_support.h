// For the tests of the server: a Runtime that plays scripts, and a peer that speaks HTTP byte by byte, so that a test
// can say what no client library would.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/client.h"
#include "runtime/replay.h"
#include "server/server.h"

namespace ponder::server::testing {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

inline double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Behaves as the model's name says:
///   echo      thinks "Let me see." and says the last message back, in two pieces
///   slow      a piece every 5 ms until it is cancelled
///   silent    nothing until it is cancelled
///   flood     64 KiB pieces as fast as they go, until it is cancelled
///   deaf      pieces for another half second after it was cancelled
///   missing   not found, before the first piece
///   breaks    an internal error after the first piece
///   full, odd errors before the first piece: out_of_range, and cancelled
///   repents   takes half of a thought back, with its log-probabilities
///   warned    as echo, with a warning
///   throws    (not of chats) an exception
///   counts    its request's seed (200 by default) pieces, numbered
class FakeRuntime : public runtime::Runtime {
 public:
  explicit FakeRuntime(store::Store& store) : store_(store) {}
  ~FakeRuntime() override {
    std::vector<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      quit_ = true;
      threads.swap(threads_);
    }
    for (auto& t : threads) t.join();
  }

  void chat(runtime::ChatRequest request, runtime::ChatSink sink,
            std::shared_ptr<const runtime::CancelFlag> cancel) override {
    std::lock_guard lock(mutex_);
    last_ = request;
    ++active_;
    threads_.emplace_back([this, request = std::move(request), sink = std::move(sink), cancel = std::move(cancel)] {
      play(request, sink, *cancel);
      --active_;
    });
  }

  std::vector<runtime::RunningModel> running() override {
    runtime::RunningModel m;
    m.name = "echo:latest";
    m.processor = "100% CPU";
    m.context_length = 4096;
    return {m};
  }
  Result<runtime::ShowResult> show(const std::string& model, bool) override {
    if (model == "missing") return Error{ErrorCode::not_found, "model 'missing' not found"};
    if (model == "throws") throw std::runtime_error("a library's own words");
    runtime::ShowResult s;
    PONDER_TRY(s.info.name, store::Name::parse(model));
    s.capabilities = {"completion", "thinking"};
    return s;
  }
  Result<void> stop(const std::string& model) override {
    return Error{ErrorCode::not_found, "model '" + model + "' is not loaded"};
  }
  Result<std::string> control(const std::string& id, const runtime::Control& control) override {
    if (id != "running") return Error{ErrorCode::not_found, "no request with the id \"" + id + "\" is running"};
    std::lock_guard lock(mutex_);
    controls_.push_back(control);
    return std::string("thinking");
  }
  Result<runtime::ReplayReport> replay(const std::string& model, const runtime::Receipts&, bool,
                                       std::shared_ptr<const runtime::CancelFlag>) override {
    if (model == "throws") throw std::runtime_error("a library's own words");
    return Error{ErrorCode::not_found, "model '" + model + "' not found"};
  }
  store::Store& store() override { return store_; }

  std::vector<runtime::Control> controls() {
    std::lock_guard lock(mutex_);
    return controls_;
  }
  runtime::ChatRequest last() {
    std::lock_guard lock(mutex_);
    return last_;
  }
  int active() const { return active_; }
  /// When the last chat saw its flag; the epoch before.
  Clock::time_point cancelled_at() {
    std::lock_guard lock(mutex_);
    return cancelled_at_;
  }
  /// Until no chat runs; false when that takes more than `seconds`.
  bool quiet(double seconds = 5) const {
    for (const auto start = Clock::now(); since(start) < seconds;
         std::this_thread::sleep_for(std::chrono::milliseconds(1)))
      if (active_ == 0) return true;
    return false;
  }

 private:
  static runtime::ChatDelta piece(std::string content, std::string thinking = {}) {
    runtime::ChatDelta d;
    d.content = std::move(content);
    d.thinking = std::move(thinking);
    return d;
  }

  static runtime::ChatResult result(std::string reason, int tokens) {
    runtime::ChatResult r;
    r.done_reason = std::move(reason);
    r.total_seconds = 0.5;
    r.load_seconds = 0.125;
    r.prompt_seconds = 0.0625;
    r.decode_seconds = 0.25;
    r.first_token_seconds = 0.25;
    r.prompt_tokens = 7;
    r.cached_tokens = 2;
    r.drafted_tokens = 6;
    r.accepted_tokens = 4;
    r.thinking_tokens = 3;
    r.answer_tokens = tokens - 5;
    r.output_tokens = tokens;
    r.context_length = 4096;
    r.seed = 42;
    r.context = {1, 2, 3};
    return r;
  }

  void play(const runtime::ChatRequest& q, const runtime::ChatSink& sink, const runtime::CancelFlag& cancel) {
    using std::chrono::milliseconds;
    const auto nap = [](int ms) { std::this_thread::sleep_for(milliseconds(ms)); };
    const auto cancelled = [&] {
      if (cancel || quit_) {
        std::lock_guard lock(mutex_);
        if (cancelled_at_ == Clock::time_point()) cancelled_at_ = Clock::now();
        return true;
      }
      return false;
    };
    const std::string& m = q.model;
    if (m == "missing") return sink.on_error({ErrorCode::not_found, "model 'missing' not found"});
    if (m == "full") return sink.on_error({ErrorCode::out_of_range, "the prompt has 9 tokens and the context holds 8"});
    if (m == "odd") return sink.on_error({ErrorCode::cancelled, "cancelled before it began"});
    if (m == "breaks") {
      sink.on_delta(piece("Hel"));
      nap(20);
      return sink.on_error({ErrorCode::internal, "the engine stopped: \"x\"\nsecond line"});
    }
    if (m == "slow" || m == "silent" || m == "flood" || m == "deaf") {
      int n = 0;
      while (!cancelled()) {
        if (m == "slow" || m == "deaf") sink.on_delta(piece("word " + std::to_string(n)));
        if (m == "flood" && n < 4096) sink.on_delta(piece(std::string(64 << 10, 'x')));  // at most 256 MiB
        ++n;
        if (m != "flood" || n % 16 == 0) nap(m == "silent" ? 1 : 5);
      }
      if (m == "deaf")
        for (int i = 0; i < 50; ++i) nap(10), sink.on_delta(piece("still here"));
      return sink.on_done(result("cancelled", n + 5));
    }
    if (m == "counts") {
      const int64_t n = q.options.seed.value_or(200);
      for (int64_t i = 0; i < n; ++i) {
        sink.on_delta(piece(std::to_string(i) + " "));
        if (i % 16 == 15) nap(1);
      }
      return sink.on_done(result("stop", int(n) + 5));
    }
    if (q.messages.empty() && !q.raw_prompt) return sink.on_done(result(q.keep_alive == 0.0 ? "unload" : "load", 0));
    std::string said = q.raw_prompt ? *q.raw_prompt : q.messages.back().content;
    const bool think = !q.think.is_off();
    if (think) sink.on_delta(piece("", "Let me "));
    if (think) sink.on_delta(piece("", "see."));
    if (m == "repents") {  // of one of two tokens
      auto two = piece("", "No. ");
      two.logprobs = {{"N", -1, {}}, {"o. ", -2, {}}};
      sink.on_delta(std::move(two));
      auto back = piece("", "ow. ");
      back.thinking_retracted = 3;
      back.logprobs_retracted = 1;
      back.logprobs = {{"ow. ", -3, {}}};
      sink.on_delta(std::move(back));
      return sink.on_done(result("stop", 9));
    }
    auto first = piece(said.substr(0, said.size() / 2));
    if (q.logprobs) first.logprobs.push_back({"\xe2\x82", -0.5, {{"a", -0.5}, {"b", -1.5}}});
    sink.on_delta(std::move(first));
    sink.on_delta(piece(said.substr(said.size() / 2)));
    auto r = result("stop", 9);
    if (!think) r.thinking_tokens = 0;
    if (m == "warned") r.warnings = {"the runtime's own"};
    sink.on_done(std::move(r));
  }

  store::Store& store_;
  std::mutex mutex_;
  std::vector<std::thread> threads_;
  runtime::ChatRequest last_;
  std::vector<runtime::Control> controls_;
  Clock::time_point cancelled_at_;
  std::atomic<int> active_{0};
  std::atomic<bool> quit_{false};
};

/// One reply as it came: `chunks` in their framing, `body` joined.
struct Reply {
  int status = 0;  ///< 0: the connection ended, or nothing came in time
  std::string head, body;
  std::map<std::string, std::string> headers;  ///< lower case
  std::vector<std::string> chunks;
  bool chunked = false;
  json object() const { return json::parse(body, nullptr, false); }
  std::vector<json> lines() const {
    std::vector<json> all;
    for (size_t at = 0, end; (end = body.find('\n', at)) != std::string::npos; at = end + 1)
      all.push_back(json::parse(body.substr(at, end - at), nullptr, false));
    return all;
  }
};

class Peer {
 public:
  explicit Peer(int port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    const int on = 1;  // as the clients do: headers and body go out at once, in segments of their own
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_port = htons(uint16_t(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a), 0) << std::strerror(errno);
  }
  ~Peer() { close(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return;  // the server may close early; the test looks at the reply
      text.remove_prefix(size_t(n));
    }
  }
  void get(const std::string& target, const std::string& more = {}) {
    send("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + more + "\r\n");
  }
  void post(const std::string& target, const std::string& body, const std::string& more = {}) {
    send("POST " + target + " HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + more + "\r\n" + body);
  }

  /// The next reply; `head_only` for replies to HEAD.
  Reply reply(bool head_only = false, double seconds = 10) {
    deadline_ = Clock::now() + std::chrono::milliseconds(int64_t(seconds * 1000));
    Reply r;
    while (buffer_.find("\r\n\r\n") == std::string::npos)
      if (!more()) return r;
    const size_t end = buffer_.find("\r\n\r\n") + 4;
    r.head = buffer_.substr(0, end);
    buffer_.erase(0, end);
    r.status = std::atoi(r.head.c_str() + 9);
    for (size_t at = r.head.find("\r\n") + 2; at < r.head.size() - 2;) {
      const size_t stop = r.head.find("\r\n", at), colon = r.head.find(':', at);
      std::string name = r.head.substr(at, colon - at);
      for (char& c : name) c = char(std::tolower(uint8_t(c)));
      r.headers[name] = r.head.substr(colon + 2, stop - colon - 2);
      at = stop + 2;
    }
    if (head_only || r.status == 204 || r.status == 100) return r;
    r.chunked = r.headers["transfer-encoding"] == "chunked";
    if (r.chunked) {
      while (read_chunk(r)) {
      }
    } else if (r.headers.count("content-length") > 0) {
      const size_t n = size_t(std::atoll(r.headers["content-length"].c_str()));
      while (buffer_.size() < n && more()) {
      }
      r.body = buffer_.substr(0, n);
      buffer_.erase(0, n);
    } else {  // until the connection ends
      while (more()) {
      }
      r.body.swap(buffer_);
    }
    return r;
  }

  /// True when the server closes within the time; what came before stays unread.
  bool closed(double seconds = 5) {
    deadline_ = Clock::now() + std::chrono::milliseconds(int64_t(seconds * 1000));
    while (more()) {
    }
    return ended_;
  }
  /// Waits until `text` came, without taking anything.
  bool saw(const std::string& text, double seconds = 5) {
    deadline_ = Clock::now() + std::chrono::milliseconds(int64_t(seconds * 1000));
    while (buffer_.find(text) == std::string::npos)
      if (!more()) return false;
    return true;
  }

 private:
  bool more() {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
    pollfd p = {fd_, POLLIN, 0};
    if (left <= 0 || ::poll(&p, 1, int(left)) <= 0) return false;
    char bytes[65536];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) ended_ = true;
    if (n > 0) buffer_.append(bytes, size_t(n));
    return n > 0;
  }
  bool read_chunk(Reply& r) {
    while (buffer_.find("\r\n") == std::string::npos)
      if (!more()) return false;
    const size_t line = buffer_.find("\r\n") + 2;
    const size_t n = std::stoul(buffer_.substr(0, line), nullptr, 16);
    while (buffer_.size() < line + n + 2)
      if (!more()) return false;
    if (n > 0) r.chunks.push_back(buffer_.substr(line, n));
    if (n > 0) r.body += r.chunks.back();
    buffer_.erase(0, line + n + 2);
    return n > 0;
  }

  int fd_;
  std::string buffer_;
  Clock::time_point deadline_;
  bool ended_ = false;
};

/// A server over a FakeRuntime and a store in a temporary folder.
class ServerTest : public ::testing::Test {
 protected:
  ServerTest()
      : folder_(::testing::TempDir() + "ponder-server-test-" + std::to_string(::getpid())), store_(store_options()) {
    options_.address.port = 0;
  }
  ~ServerTest() override {
    server_.reset();
    runtime_.reset();
    [[maybe_unused]] const int rc = std::system(("rm -rf '" + folder_ + "'").c_str());
  }

  void start() {
    auto server = Server::start(*runtime_, options_);
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = std::move(*server);
  }
  int port() const { return server_->port(); }

  /// One request on its own connection.
  Reply post(const std::string& target, const json& body, const std::string& more = {}) {
    return post_text(target, body.dump(), more);
  }
  Reply post_text(const std::string& target, const std::string& body, const std::string& more = {}) {
    Peer peer(port());
    peer.post(target, body, more);
    return peer.reply();
  }
  Reply get(const std::string& target, const std::string& more = {}) {
    Peer peer(port());
    peer.get(target, more);
    return peer.reply();
  }

  ServerOptions options_;
  std::string folder_;
  store::Store store_;
  std::unique_ptr<FakeRuntime> runtime_ = std::make_unique<FakeRuntime>(store_);
  std::unique_ptr<Server> server_;

 private:
  store::StoreOptions store_options() const {
    store::StoreOptions o;
    o.root = folder_;
    return o;
  }
};

inline json ask(const std::string& model, const std::string& text = "hi") {
  return {{"model", model}, {"messages", json::array({{{"role", "user"}, {"content", text}}})}};
}

}  // namespace ponder::server::testing
