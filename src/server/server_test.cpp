// The server as a peer on the wire meets it: framing, limits, deadlines, who may come in, hanging up. What requests mean
// is in dialect_test.cpp and requests_test.cpp.
#include "server/test_support.h"

namespace ponder::server::testing {
namespace {

using Server_ = ServerTest;  // shorter names in the list of tests

TEST_F(Server_, RepliesCarryLengthTypeAndServer) {
  start();
  const auto r = get("/api/version");
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(r.headers.at("content-length"), std::to_string(r.body.size()));
  EXPECT_TRUE(r.headers.at("server").starts_with("ponder/")) << r.head;
  EXPECT_EQ(r.object()["server"], "ponder");
}

TEST_F(Server_, KeepsConnectionsAndAnswersPipelinedRequestsInOrder) {
  start();
  Peer peer(port());
  peer.get("/api/version");
  peer.post("/api/chat", ask("echo", "first").dump());
  peer.post("/api/chat",
            json(ask("echo", "second")).patch(json::parse(R"([{"op":"add","path":"/stream","value":false}])")).dump());
  peer.get("/nowhere");
  peer.get("/");
  EXPECT_EQ(peer.reply().status, 200);
  const auto streamed = peer.reply();
  EXPECT_EQ(streamed.status, 200);
  EXPECT_EQ(streamed.lines().size(), 5u);
  const auto whole = peer.reply();
  EXPECT_EQ(whole.object()["message"]["content"], "second");
  EXPECT_EQ(peer.reply().status, 404);
  EXPECT_EQ(peer.reply().body, "Ponder is running");
  EXPECT_FALSE(peer.closed(0.05)) << "the connection should stay";
}

TEST_F(Server_, BytesSentDuringAReplyAreTheNextRequest) {
  start();
  Peer peer(port());
  peer.post("/api/chat",
            R"({"model": "counts", "messages": [{"role": "user", "content": "x"}], "options": {"seed": 400}})");
  ASSERT_TRUE(peer.saw("\"1 \""));
  peer.get("/api/version");  // arrives in the middle of the stream
  EXPECT_EQ(peer.reply().lines().size(), 401u);
  EXPECT_EQ(peer.reply().object()["server"], "ponder");
}

// A reactor may report a socket readable for bytes that were already read: that is not a peer that hung up.
TEST_F(Server_, RequestsInTwoSegmentsAreNotTakenForHangingUp) {
  start();
  Peer peer(port());
  const std::string body =
      R"({"model": "counts", "messages": [{"role": "user", "content": "x"}], "options": {"seed": 33}})";
  for (int i = 0; i < 300; ++i) {
    peer.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n");
    peer.send(body);
    const auto r = peer.reply();
    ASSERT_EQ(r.status, 200) << "request " << i;
    ASSERT_EQ(r.lines().size(), 34u) << "request " << i;
  }
}

TEST_F(Server_, HeadIsGetWithoutBody) {
  start();
  Peer peer(port());
  for (const char* target : {"/", "/api/tags", "/api/version"}) {
    peer.send("HEAD " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const auto r = peer.reply(true);
    EXPECT_EQ(r.status, 200) << target;
    EXPECT_GT(std::stoi(r.headers.at("content-length")), 0) << target;
  }
  peer.get("/");
  EXPECT_EQ(peer.reply().body, "Ponder is running") << "a HEAD left bytes behind";
}

TEST_F(Server_, WrongPathsAndMethods) {
  start();
  auto r = get("/api/nowhere");
  EXPECT_EQ(r.status, 404);
  EXPECT_EQ(r.object()["error"], "GET /api/nowhere: there is no such route");
  r = get("/v1/nowhere");
  EXPECT_EQ(r.status, 404);
  EXPECT_EQ(r.object()["error"]["type"], "not_found_error");
  r = get("/api/chat");
  EXPECT_EQ(r.status, 405);
  EXPECT_EQ(r.headers.at("allow"), "POST");
  EXPECT_TRUE(r.object()["error"].is_string());
  r = post("/api/tags", {});
  EXPECT_EQ(r.status, 405);
  EXPECT_EQ(r.headers.at("allow"), "GET");
  EXPECT_EQ(get("/v1/chat/completions").object()["error"]["type"], "invalid_request_error");
  EXPECT_EQ(get("/api/version?x=1&y=/../").status, 200) << "a query does not change the route";
}

TEST_F(Server_, OldHttpGetsAStreamThatEndsWithTheConnection) {
  start();
  Peer peer(port());
  const std::string body = ask("echo", "old").dump();
  peer.send("POST /api/chat HTTP/1.0\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
            "\r\n\r\n" + body);
  const auto r = peer.reply();
  EXPECT_EQ(r.status, 200);
  EXPECT_FALSE(r.chunked);
  EXPECT_EQ(r.lines().size(), 5u);
  EXPECT_TRUE(peer.closed(1));
}

TEST_F(Server_, ConnectionCloseIsHonoured) {
  start();
  Peer peer(port());
  peer.get("/api/version", "Connection: close\r\n");
  EXPECT_EQ(peer.reply().status, 200);
  EXPECT_TRUE(peer.closed(1));
}

TEST_F(Server_, HostMustBeALoopbackName) {
  start();
  const auto with = [&](const std::string& host_lines) {
    Peer peer(port());
    peer.send("GET /api/version HTTP/1.1\r\n" + host_lines + "\r\n");
    return peer.reply().status;
  };
  for (const char* good : {"localhost", "localhost:11434", "LocalHost:1", "127.0.0.1", "127.8.9.10:99", "[::1]",
                           "[::1]:11434", "app.localhost"})
    EXPECT_EQ(with("Host: " + std::string(good) + "\r\n"), 200) << good;
  for (const char* bad :
       {"evil.com", "evil.com:11434", "localhost.evil.com", "127.0.0.1.evil.com", "127.0.0.1evil", "192.168.0.1", "",
        "[::2]", "[::1", "[::1]evil", "localhost:80@evil.com", "localhost:x", "evillocalhost", "0x7f.1.1.1", "127.1"})
    EXPECT_EQ(with("Host: " + std::string(bad) + "\r\n"), 403) << bad;
  EXPECT_EQ(with(""), 403) << "no Host";
  EXPECT_EQ(with("Host: localhost\r\nHost: localhost\r\n"), 403) << "two Hosts";
}

TEST_F(Server_, OriginsOfThisMachineOrTheListOnly) {
  options_.origins = {"https://chat.example.com", "https://*.trusted.org"};
  start();
  const auto origin = [&](const std::string& value) { return get("/api/version", "Origin: " + value + "\r\n"); };
  for (const char* good :
       {"http://localhost", "http://localhost:3000", "https://127.0.0.1:8443", "http://[::1]:5173", "app://obsidian.md",
        "vscode-webview://abc", "tauri://localhost", "https://chat.example.com", "https://a.trusted.org"}) {
    const auto r = origin(good);
    EXPECT_EQ(r.status, 200) << good;
    EXPECT_EQ(r.headers.at("access-control-allow-origin"), good);
    EXPECT_EQ(r.headers.at("vary"), "Origin");
  }
  for (const char* bad : {"http://evil.com", "null", "http://localhost.evil.com", "http://localhost:80@evil.com",
                          "https://chat.example.com.evil.com", "https://trusted.org.evil", "ftp://localhost",
                          "https://a.trusted.org.evil"}) {
    const auto r = origin(bad);
    EXPECT_EQ(r.status, 403) << bad;
    EXPECT_EQ(r.headers.count("access-control-allow-origin"), 0u) << bad;
    EXPECT_NE(r.body.find("OLLAMA_ORIGINS"), std::string::npos) << "the mend is named";
  }
}

TEST_F(Server_, PagesOfOtherSitesAreKeptOut) {
  start();
  EXPECT_EQ(get("/api/tags", "Sec-Fetch-Site: cross-site\r\n").status, 403);
  EXPECT_EQ(get("/api/tags", "Sec-Fetch-Site: same-origin\r\n").status, 200);
  EXPECT_EQ(get("/api/tags", "Sec-Fetch-Site: none\r\n").status, 200);
  // What a form can send is not enough for a browser to post.
  const json body = ask("echo");
  const std::string browser = "Origin: http://localhost:3000\r\n";
  EXPECT_EQ(post("/api/chat", body, browser).status, 403);
  EXPECT_EQ(post("/api/chat", body, browser + "Content-Type: text/plain\r\n").status, 403);
  EXPECT_EQ(post("/api/chat", body, browser + "Content-Type: application/x-www-form-urlencoded\r\n").status, 403);
  EXPECT_EQ(post("/api/chat", body, "Sec-Fetch-Site: same-origin\r\nContent-Type: text/plain\r\n").status, 403);
  EXPECT_EQ(post("/api/chat", body, browser + "Content-Type: Application/JSON; charset=utf-8\r\n").status, 200);
  EXPECT_EQ(post("/api/chat", body, "Content-Type: text/plain\r\n").status, 200) << "curl -d sends what it likes";
}

TEST_F(Server_, Preflight) {
  start();
  Peer peer(port());
  const auto preflight = [&](const std::string& origin, const std::string& headers) {
    Peer p(port());
    p.send("OPTIONS /api/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: " + origin +
           "\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: " + headers + "\r\n\r\n");
    return p.reply();
  };
  auto r = preflight("http://localhost:5173", "content-type,x-stainless-os");
  EXPECT_EQ(r.status, 204);
  EXPECT_EQ(r.headers.count("content-length"), 0u);
  EXPECT_EQ(r.headers.at("access-control-allow-origin"), "http://localhost:5173");
  EXPECT_EQ(r.headers.at("access-control-allow-headers"), "content-type,x-stainless-os");
  EXPECT_NE(r.headers.at("access-control-allow-methods").find("DELETE"), std::string::npos);
  EXPECT_EQ(preflight("http://localhost", "a\"b<c>").headers.at("access-control-allow-headers"),
            "Authorization, Content-Type");
  EXPECT_EQ(preflight("http://evil.com", "content-type").status, 403);
}

TEST_F(Server_, BodiesAndHeadersHaveLimits) {
  options_.max_body_bytes = 10000;
  start();
  auto r = post_text("/api/chat", std::string(10001, ' '));
  EXPECT_EQ(r.status, 413);
  EXPECT_EQ(r.object()["error"], "the request's body is larger than 10000 bytes");
  // Announced, with all of it on its way: the reply still arrives.
  r = post_text("/v1/chat/completions", std::string(3 << 20, ' '));
  EXPECT_EQ(r.status, 413);
  EXPECT_EQ(r.object()["error"]["type"], "invalid_request_error");
  EXPECT_EQ(r.headers.at("connection"), "close");
  {  // not announced
    Peer peer(port());
    peer.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 11; ++i) peer.send("3e8\r\n" + std::string(1000, ' ') + "\r\n");
    EXPECT_EQ(peer.reply().status, 413);
  }
  r = get("/api/version", "X-Long: " + std::string(40000, 'a') + "\r\n");
  EXPECT_EQ(r.status, 431);
  EXPECT_EQ(get("/" + std::string(40000, 'a')).status, 431);
  EXPECT_EQ(get("/api/version", "X-Long: " + std::string(20000, 'a') + "\r\n").status, 200);
}

TEST_F(Server_, BodiesOfAllConnectionsTogetherHaveALimit) {
  options_.max_bodies_bytes = 20000;
  start();
  const std::string large(12000, 'x');
  Peer announces(port());  // much, and sends nothing: that keeps nobody out
  announces.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19000\r\n\r\n");
  auto first = std::make_unique<Peer>(port());
  first->post("/api/chat", ask("silent", large).dump());
  for (int i = 0; i < 200 && runtime_->active() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_EQ(runtime_->active(), 1);
  const auto r = post("/api/chat", ask("echo", large));
  EXPECT_EQ(r.status, 503);
  EXPECT_NE(r.object()["error"].get<std::string>().find("all together may hold 20000"), std::string::npos) << r.body;
  EXPECT_EQ(r.headers.at("retry-after"), "1");
  EXPECT_EQ(r.headers.at("connection"), "close");
  EXPECT_EQ(post("/v1/chat/completions", ask("echo", large)).status, 503);
  {  // not announced
    Peer peer(port());
    peer.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 12; ++i) peer.send("3e8\r\n" + std::string(1000, ' ') + "\r\n");
    EXPECT_EQ(peer.reply().status, 503);
  }
  EXPECT_EQ(post("/api/chat", ask("echo", "small")).status, 200) << "what fits goes on";
  first->close();
  ASSERT_TRUE(runtime_->quiet());
  int status = 0;  // the first request's memory comes back when its connection has ended
  for (int i = 0; i < 100 && status != 200; ++i) {
    status = post("/api/chat", ask("echo", large)).status;
    if (status != 200) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(status, 200);
}

TEST_F(Server_, AmbiguousOrBrokenMessagesAreRefused) {
  start();
  const std::string post = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n", body = ask("echo").dump();
  const std::string length = "Content-Length: " + std::to_string(body.size()) + "\r\n";
  const auto raw = [&](const std::string& text) {
    Peer peer(port());
    peer.send(text);
    const auto r = peer.reply(false, 3);
    EXPECT_TRUE(r.status == 0 || peer.closed(3)) << "the connection must not go on after: " << text.substr(0, 120);
    return r.status;
  };
  EXPECT_EQ(raw(post + length + "Transfer-Encoding: chunked\r\n\r\n" + body), 400) << "both";
  EXPECT_EQ(raw(post + "Transfer-Encoding: chunked\r\n" + length + "\r\n" + body), 400) << "both, the other way round";
  EXPECT_EQ(raw(post + length + "Content-Length: 3\r\n\r\n" + body), 400) << "two lengths";
  EXPECT_EQ(raw(post + "Transfer-Encoding: gzip\r\n\r\n" + body), 400) << "no length at all";
  EXPECT_EQ(raw(post + "Content-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(raw(post + "Content-Length: 1x\r\n\r\n"), 400);
  EXPECT_EQ(raw(post + "Content-Length: 99999999999999999999999\r\n\r\n"), 400);
  for (const char* size : {"zz", "-5", "ffffffffffffffffff", "0x5", " 5", ""})
    EXPECT_EQ(raw(post + "Transfer-Encoding: chunked\r\n\r\n" + size + "\r\nhello\r\n0\r\n\r\n"), 400)
        << "chunk size " << size;
  EXPECT_EQ(raw("GET /\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n"), 400);
  EXPECT_EQ(raw("G\x01T / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
  EXPECT_EQ(raw("GET / HTTP/1.1\r\nHost localhost\r\n\r\n"), 400);
  EXPECT_EQ(raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS hello \r\n\r\n"), 400);
  EXPECT_EQ(get("/api/version").status, 200) << "and the server is still there";
}

TEST_F(Server_, ChunkedBodiesAreRead) {
  start();
  const std::string body = ask("echo", "in chunks").dump();
  Peer peer(port());
  peer.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char c : body) peer.send(std::string("1;ext=x\r\n") + c + "\r\n");
  peer.send("0\r\nTrailer: x\r\n\r\n");
  const auto r = peer.reply();
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(runtime_->last().messages.back().content, "in chunks");
}

TEST_F(Server_, Expect100Continue) {
  start();
  const std::string body = ask("echo").dump();
  Peer peer(port());
  peer.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\n\r\n");
  EXPECT_EQ(peer.reply().status, 100);
  peer.send(body);
  EXPECT_EQ(peer.reply().status, 200);
}

TEST_F(Server_, SlowHeadersAndIdleConnectionsAreDropped) {
  options_.header_timeout_seconds = 0.2;
  options_.idle_timeout_seconds = 0.4;
  start();
  auto t = Clock::now();
  Peer silent(port());
  EXPECT_TRUE(silent.closed(3));
  EXPECT_LT(since(t), 1.5);
  t = Clock::now();
  Peer drip(port());  // a byte now and then does not buy time
  std::thread bytes([&] {
    for (const char c : std::string("GET / HTTP/1.1\r\nHost: loca")) {
      drip.send(std::string(1, c));
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
  });
  EXPECT_TRUE(drip.closed(3));
  EXPECT_LT(since(t), 1.5);
  bytes.join();
  Peer body(port());
  body.send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{");
  EXPECT_TRUE(body.closed(3)) << "a body that never comes";
  Peer idle(port());
  idle.get("/");
  EXPECT_EQ(idle.reply().status, 200);
  EXPECT_TRUE(idle.closed(3)) << "nothing after a request";
  Peer working(port());  // a reply that takes longer than the deadlines is not idle
  working.post("/api/chat", ask("slow").dump());
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  EXPECT_FALSE(working.closed(0.05));
}

TEST_F(Server_, HangingUpCancelsWithin250Milliseconds) {
  start();
  for (const char* model : {"slow", "silent"}) {
    for (const bool stream : {true, false}) {
      runtime_ = std::make_unique<FakeRuntime>(store_);
      start();
      auto peer = std::make_unique<Peer>(port());
      json body = ask(model);
      body["stream"] = stream;
      peer->post("/api/chat", body.dump());
      std::this_thread::sleep_for(std::chrono::milliseconds(80));
      ASSERT_EQ(runtime_->active(), 1);
      const auto t = Clock::now();
      peer->close();
      ASSERT_TRUE(runtime_->quiet());
      const double took = std::chrono::duration<double>(runtime_->cancelled_at() - t).count();
      EXPECT_LT(took, 0.25) << model << (stream ? ", streamed" : ", whole");
      std::printf("%s%s: cancelled %.1f ms after the socket closed\n", model, stream ? ", streamed" : ", whole",
                  took * 1e3);
      server_.reset();
    }
  }
}

TEST_F(Server_, HangingUpIsSeenBehindAPipelinedRequest) {
  start();
  Peer peer(port());
  peer.post("/api/chat", json(ask("silent")).dump());
  peer.get("/api/version");
  std::this_thread::sleep_for(std::chrono::milliseconds(80));
  const auto t = Clock::now();
  peer.close();
  ASSERT_TRUE(runtime_->quiet());
  EXPECT_LT(std::chrono::duration<double>(runtime_->cancelled_at() - t).count(), 0.25);
}

TEST_F(Server_, AReaderThatStallsIsDropped) {
  options_.send_timeout_seconds = 0.3;
  start();
  Peer peer(port(), 4096);
  const auto t = Clock::now();
  peer.post("/api/chat", ask("flood").dump());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ASSERT_EQ(runtime_->active(), 1);
  EXPECT_TRUE(runtime_->quiet(10)) << "the work goes on for a peer that reads nothing";
  EXPECT_LT(since(t), 5);
}

TEST_F(Server_, StoppingEndsStreamsQuickly) {
  start();
  std::vector<std::unique_ptr<Peer>> peers;
  for (const char* model : {"slow", "silent", "slow", "flood"}) {
    peers.push_back(std::make_unique<Peer>(port()));
    peers.back()->post("/api/chat", ask(model).dump());
  }
  peers.push_back(std::make_unique<Peer>(port()));  // idle
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto t = Clock::now();
  server_->stop();
  EXPECT_LT(since(t), 1.0);
  EXPECT_TRUE(runtime_->quiet(1));
  for (auto& p : peers) EXPECT_TRUE(p->closed(1));
  server_->stop();  // twice is fine
}

TEST_F(Server_, ARuntimeThatIsLateMayOutliveTheServer) {
  start();
  {
    Peer peer(port());
    peer.post("/api/chat", ask("deaf").dump());
    ASSERT_TRUE(peer.saw("word"));
  }
  server_.reset();
  EXPECT_TRUE(runtime_->quiet(5));  // pushes into channels whose server is gone: sanitizers watch
}

TEST_F(Server_, ATakenPortNamesItselfAndTheMend) {
  start();
  ServerOptions same = options_;
  same.address.port = port();
  const auto second = Server::start(*runtime_, same);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::already_exists);
  EXPECT_NE(second.error().message.find(std::to_string(port())), std::string::npos) << second.error().message;
  EXPECT_NE(second.error().message.find("OLLAMA_HOST"), std::string::npos) << second.error().message;
}

TEST_F(Server_, AddressesThatOthersCanReachAreRefused) {
  for (const char* host : {"0.0.0.0", "192.0.2.1", "::"}) {
    options_.address.host = host;
    const auto server = Server::start(*runtime_, options_);
    ASSERT_FALSE(server.ok()) << host;
    EXPECT_EQ(server.error().code, ErrorCode::permission) << host;
    EXPECT_NE(server.error().message.find("loopback"), std::string::npos) << server.error().message;
  }
  options_.address.host = "no such host";
  EXPECT_FALSE(Server::start(*runtime_, options_).ok());
  for (const char* host : {"localhost", "127.0.0.1"}) {
    options_.address.host = host;
    EXPECT_TRUE(Server::start(*runtime_, options_).ok()) << host;
  }
}

// The Host of an address with colons has brackets: the server lets nobody else in.
TEST_F(Server_, ReachedByItsClientOnEveryLoopbackAddress) {
  for (const char* host : {"127.0.0.1", "localhost", "::1"}) {
    options_.address.host = host;
    auto server = Server::start(*runtime_, options_);
    if (!server.ok() && std::string(host) == "::1" && server.error().code == ErrorCode::io)
      GTEST_SKIP() << "no IPv6 here: " << server.error().message;
    ASSERT_TRUE(server.ok()) << server.error().message;
    runtime::Address address;
    address.host = host;
    address.port = (*server)->port();
    auto client = runtime::connect(address, 5);
    ASSERT_TRUE(client.ok()) << client.error().message;
    EXPECT_TRUE((*client)->running().ok());
  }
}

TEST_F(Server_, TwoHundredStreamsOnTwoThreads) {
  options_.threads = 2;
  start();
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 200; ++i) {
    peers.push_back(std::make_unique<Peer>(port()));
    peers.back()->post(
        "/api/chat", R"({"model": "counts", "messages": [{"role": "user", "content": "x"}], "options": {"seed": 50}})");
  }
  for (auto& peer : peers) {
    const auto r = peer->reply(false, 60);
    ASSERT_EQ(r.status, 200);
    const auto lines = r.lines();
    ASSERT_EQ(lines.size(), 51u);
    for (int i = 0; i < 50; ++i) ASSERT_EQ(lines[size_t(i)]["message"]["content"], std::to_string(i) + " ");
  }
}

TEST_F(Server_, ConnectionsBeyondTheLimitAreClosed) {
  options_.max_connections = 4;
  start();
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 4; ++i) {
    peers.push_back(std::make_unique<Peer>(port()));
    peers.back()->get("/");
    EXPECT_EQ(peers.back()->reply().status, 200);
  }
  Peer fifth(port());
  EXPECT_TRUE(fifth.closed(2));
  peers.pop_back();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(get("/").status, 200) << "a place that was given back can be taken";
}

}  // namespace
}  // namespace ponder::server::testing
