// Replies of the two dialects, field by field: streams, whole replies, errors before and after the first byte.
#include "runtime/receipt.h"
#include "server/test_support.h"

namespace ponder::server::testing {
namespace {

using Dialects = ServerTest;

json with(json body, const json& more) {
  body.update(more);
  return body;
}

std::vector<json> events(const Reply& r) {
  std::vector<json> all;
  for (size_t at = 0, end; (end = r.body.find("\n\n", at)) != std::string::npos; at = end + 2) {
    const std::string event = r.body.substr(at, end - at);
    EXPECT_TRUE(event.starts_with("data: ")) << event;
    all.push_back(event == "data: [DONE]" ? json("[DONE]") : json::parse(event.substr(6), nullptr, false));
  }
  return all;
}

TEST_F(Dialects, ChatStreamsOneObjectALine) {
  start();
  const auto r = post("/api/chat", ask("echo", "hello"));
  EXPECT_EQ(r.status, 200);
  EXPECT_TRUE(r.chunked);
  EXPECT_EQ(r.headers.at("content-type"), "application/x-ndjson");
  const auto lines = r.lines();
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(r.chunks.size(), 5u) << "each piece is sent as it comes";
  std::string thinking, content;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(lines[i]["model"], "echo");
    EXPECT_EQ(lines[i]["done"], false);
    EXPECT_EQ(lines[i]["message"]["role"], "assistant");
    EXPECT_TRUE(lines[i]["created_at"].get<std::string>().ends_with("Z"));
    EXPECT_FALSE(lines[i].contains("total_duration"));
    thinking += lines[i]["message"].value("thinking", "");
    content += lines[i]["message"]["content"].get<std::string>();
  }
  EXPECT_EQ(thinking, "Let me see.");
  EXPECT_EQ(content, "hello");
  EXPECT_FALSE(lines[2]["message"].contains("thinking"));
  const json& last = lines[4];
  const json expected = {{"done", true},
                         {"done_reason", "stop"},
                         {"total_duration", 500000000},
                         {"load_duration", 125000000},
                         {"prompt_eval_count", 7},
                         {"prompt_eval_duration", 62500000},
                         {"eval_count", 9},
                         {"eval_duration", 250000000},
                         {"thinking_tokens", 3},
                         {"answer_tokens", 4},
                         {"cached_tokens", 2},
                         {"drafted_tokens", 6},
                         {"accepted_tokens", 4},
                         {"first_token_duration", 250000000},
                         {"context_length", 4096},
                         {"seed", 42}};
  for (const auto& [key, value] : expected.items()) EXPECT_EQ(last[key], value) << key;
  EXPECT_EQ(last["message"], json::parse(R"({"role": "assistant", "content": ""})"));
  EXPECT_FALSE(last.contains("warnings"));
}

TEST_F(Dialects, ChatWhole) {
  start();
  const auto r = post("/api/chat", with(ask("echo", "hello"), {{"stream", false}}));
  EXPECT_EQ(r.status, 200);
  EXPECT_FALSE(r.chunked);
  EXPECT_EQ(r.headers.at("content-type"), "application/json; charset=utf-8");
  const json o = r.object();
  EXPECT_EQ(o["message"], json::parse(R"({"role": "assistant", "content": "hello", "thinking": "Let me see."})"));
  EXPECT_EQ(o["done"], true);
  EXPECT_EQ(o["eval_count"], 9);
}

TEST_F(Dialects, ThinkingOffLeavesNoTrace) {
  start();
  const auto r = post("/api/chat", with(ask("echo", "hello"), {{"think", false}}));
  EXPECT_TRUE(runtime_->last().think.is_off());
  EXPECT_EQ(r.body.find("\"thinking\""), std::string::npos);
  EXPECT_EQ(r.lines().back()["thinking_tokens"], 0);
}

TEST_F(Dialects, GenerateStreamsAndCarriesContext) {
  start();
  const auto r =
      post("/api/generate", {{"model", "echo"}, {"prompt", "hello"}, {"system", "be brief"}, {"context", {5, 6}}});
  const auto lines = r.lines();
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0]["thinking"], "Let me ");
  EXPECT_EQ(lines[0]["response"], "");
  EXPECT_EQ(lines[2]["response"], "he");
  EXPECT_FALSE(lines[2].contains("message"));
  EXPECT_EQ(lines[4]["response"], "");
  EXPECT_EQ(lines[4]["context"], json({1, 2, 3}));
  EXPECT_EQ(runtime_->last().context, (std::vector<int32_t>{5, 6}));
  ASSERT_EQ(runtime_->last().messages.size(), 2u);
  EXPECT_EQ(runtime_->last().messages[0].role, "system");
  const json whole =
      post("/api/generate", {{"model", "echo"}, {"prompt", "raw text"}, {"raw", true}, {"stream", false}}).object();
  EXPECT_EQ(whole["response"], "raw text");
  EXPECT_EQ(runtime_->last().raw_prompt, "raw text");
}

TEST_F(Dialects, EmptyRequestsLoadAndUnload) {
  start();
  for (const char* route : {"/api/chat", "/api/generate"}) {
    json o = post(route, {{"model", "echo"}, {"stream", false}}).object();
    EXPECT_EQ(o["done_reason"], "load") << route;
    EXPECT_FALSE(o.contains("eval_count")) << route;
    o = post(route, {{"model", "echo"}, {"stream", false}, {"keep_alive", "0s"}}).object();
    EXPECT_EQ(o["done_reason"], "unload") << route;
  }
}

TEST_F(Dialects, UnknownOptionsAreWarnedAbout) {
  start();
  const json o =
      post("/api/chat", with(ask("echo"), {{"stream", false}, {"options", {{"temprature", 1}, {"mirostat", 2}}}}))
          .object();
  ASSERT_EQ(o["warnings"].size(), 2u);
  EXPECT_NE(o["warnings"][0].get<std::string>().find("mirostat"), std::string::npos);
  EXPECT_NE(o["warnings"][1].get<std::string>().find("temprature"), std::string::npos);
}

TEST_F(Dialects, CompletionsWarnToo) {
  start();
  const json odd = {{"options", {{"temprature", 1}, {"mirostat", 2}}}};
  json o = post("/v1/chat/completions", with(ask("echo"), odd)).object();
  ASSERT_EQ(o["warnings"].size(), 2u) << o.dump();
  EXPECT_NE(o["warnings"][0].get<std::string>().find("mirostat"), std::string::npos);
  EXPECT_NE(o["warnings"][1].get<std::string>().find("temprature"), std::string::npos);
  const auto all = events(post("/v1/chat/completions", with(with(ask("echo"), odd), {{"stream", true}})));
  ASSERT_EQ(all.size(), 6u);
  EXPECT_FALSE(all[0].contains("warnings"));
  EXPECT_EQ(all[4]["warnings"], o["warnings"]) << "on the last chunk";
  o = post("/v1/chat/completions", ask("warned")).object();
  EXPECT_EQ(o["warnings"], json({"the runtime's own"})) << "what is said of a reply is shown on every route";
  EXPECT_FALSE(post("/v1/chat/completions", ask("echo")).object().contains("warnings"));
}

TEST_F(Dialects, ErrorsBeforeTheFirstByteHaveAStatus) {
  start();
  const std::pair<const char*, int> cases[] = {{"missing", 404}, {"full", 400}, {"odd", 499}};
  for (const auto& [model, status] : cases) {
    for (const bool stream : {true, false}) {
      auto r = post("/api/chat", with(ask(model), {{"stream", stream}}));
      EXPECT_EQ(r.status, status) << r.head;
      EXPECT_EQ(r.headers.at("content-type"), "application/json; charset=utf-8");
      EXPECT_TRUE(r.object()["error"].is_string()) << r.body;
      r = post("/v1/chat/completions", with(ask(model), {{"stream", stream}}));
      EXPECT_EQ(r.status, status) << r.head;
      EXPECT_TRUE(r.object()["error"]["message"].is_string()) << r.body;
      EXPECT_EQ(r.object()["error"]["type"], status == 404 ? "not_found_error" : "invalid_request_error");
      EXPECT_TRUE(r.object()["error"]["param"].is_null());
    }
  }
  EXPECT_EQ(post("/api/chat", ask("missing")).object()["error"], "model 'missing' not found");
}

TEST_F(Dialects, ErrorsAfterTheFirstByteEndTheStream) {
  start();
  Peer peer(port());
  peer.post("/api/chat", ask("breaks").dump());
  auto r = peer.reply();
  EXPECT_EQ(r.status, 200);
  auto lines = r.lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1], json::parse(R"({"error": "the engine stopped: \"x\"\nsecond line"})"));
  peer.post("/v1/chat/completions", with(ask("breaks"), {{"stream", true}}).dump());  // the connection goes on
  r = peer.reply();
  EXPECT_EQ(r.status, 200);
  const auto e = events(r);
  ASSERT_EQ(e.size(), 2u);
  EXPECT_EQ(e[1]["error"]["type"], "api_error");
  EXPECT_EQ(post("/api/chat", with(ask("breaks"), {{"stream", false}})).status, 500) << "nothing was sent yet";
}

TEST_F(Dialects, CompletionsStreamEvents) {
  start();
  const auto r = post("/v1/chat/completions",
                      with(ask("echo", "hello"), {{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  EXPECT_EQ(r.headers.at("content-type"), "text/event-stream");
  const auto all = events(r);
  ASSERT_EQ(all.size(), 7u);  // four pieces, the end, usage, [DONE]
  std::string thinking, content;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(all[i]["object"], "chat.completion.chunk");
    EXPECT_EQ(all[i]["id"], all[0]["id"]);
    EXPECT_TRUE(all[i]["id"].get<std::string>().starts_with("chatcmpl-"));
    const json& choice = all[i]["choices"][0];
    EXPECT_EQ(choice["index"], 0);
    EXPECT_TRUE(choice["finish_reason"].is_null());
    EXPECT_EQ(choice["delta"].contains("role"), i == 0);
    thinking += choice["delta"].value("reasoning", "");
    EXPECT_EQ(choice["delta"].value("reasoning", ""), choice["delta"].value("reasoning_content", ""));
    content += choice["delta"]["content"].get<std::string>();
  }
  EXPECT_EQ(thinking, "Let me see.");
  EXPECT_EQ(content, "hello");
  EXPECT_EQ(all[4]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(all[4]["timings"]["predicted_n"], 9);
  EXPECT_EQ(all[4]["timings"]["prompt_n"], 5);
  EXPECT_EQ(all[4]["timings"]["draft_n"], 6);
  EXPECT_EQ(all[4]["timings"]["draft_n_accepted"], 4);
  EXPECT_EQ(all[5]["choices"], json::array());
  EXPECT_EQ(all[5]["usage"], json::parse(R"({"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16,
      "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 3}})"));
  EXPECT_EQ(all[6], "[DONE]");
  EXPECT_EQ(events(post("/v1/chat/completions", with(ask("echo"), {{"stream", true}}))).size(), 6u)
      << "usage only when asked for";
}

TEST_F(Dialects, CompletionWhole) {
  start();
  const json o =
      post("/v1/chat/completions",
           with(ask("echo", "hello"), {{"max_tokens", 5}, {"temperature", 0.5}, {"reasoning_effort", "none"}}))
          .object();
  EXPECT_EQ(o["object"], "chat.completion");
  EXPECT_EQ(o["choices"][0]["message"], json::parse(R"({"role": "assistant", "content": "hello"})"));
  EXPECT_EQ(o["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(o["usage"]["total_tokens"], 16);
  EXPECT_EQ(runtime_->last().options.num_predict, 5);
  EXPECT_EQ(runtime_->last().options.temperature, 0.5f);
  EXPECT_FALSE(runtime_->last().options.top_p.has_value()) << "what the client did not send is the model's own choice";
  EXPECT_TRUE(runtime_->last().think.is_off());
}

TEST_F(Dialects, LogprobsOfBrokenCharactersStayValidJson) {
  start();
  for (const char* route : {"/api/chat", "/v1/chat/completions"}) {
    const json o =
        post(route, with(ask("echo"), {{"stream", false}, {"logprobs", true}, {"top_logprobs", 2}})).object();
    const json list = o.contains("choices") ? o["choices"][0]["logprobs"]["content"] : o["logprobs"];
    ASSERT_EQ(list.size(), 1u) << o.dump();
    EXPECT_EQ(list[0]["bytes"], json({0xe2, 0x82}));
    EXPECT_EQ(list[0]["token"], "\xef\xbf\xbd");
    EXPECT_EQ(list[0]["logprob"], -0.5);
    EXPECT_EQ(list[0]["top_logprobs"].size(), 2u);
  }
  EXPECT_EQ(runtime_->last().top_logprobs, 2);
}

// What a stream takes back, a whole reply never had, and a client of ours takes off again.
TEST_F(Dialects, LogprobsAreThoseOfTheText) {
  start();
  const auto texts = [](const json& list) {
    std::string all;
    for (const auto& entry : list) all += entry["token"].get<std::string>() + "|";
    return all;
  };
  const json off = {{"stream", false}, {"logprobs", true}, {"think", false}};
  json o = post("/api/chat", with(ask("repents"), off)).object();
  EXPECT_EQ(o["message"]["thinking"], "Now. ");
  EXPECT_EQ(texts(o["logprobs"]), "N|ow. |");
  EXPECT_FALSE(o.contains("logprobs_retracted"));
  o = post("/v1/chat/completions", with(ask("repents"), off)).object();
  EXPECT_EQ(texts(o["choices"][0]["logprobs"]["content"]), "N|ow. |");
  const json on = {{"stream", true}, {"logprobs", true}, {"think", false}};
  EXPECT_EQ(post("/api/chat", with(ask("repents"), on)).lines()[1]["logprobs_retracted"], 1);
  EXPECT_EQ(
      events(post("/v1/chat/completions", with(ask("repents"), on)))[1]["choices"][0]["delta"]["logprobs_retracted"],
      1);
  runtime::Address address;
  address.port = port();
  const auto client = runtime::connect(address, 5).value();
  runtime::ChatRequest request;
  request.model = "repents";
  request.messages.emplace_back().role = "user";
  request.think.on = false;
  request.logprobs = true;
  runtime::ChatDelta all;
  runtime::ChatSink sink;
  sink.on_delta = [&](runtime::ChatDelta d) { all.append(std::move(d)); };
  ASSERT_TRUE(client->chat(request, sink, nullptr).ok());
  EXPECT_EQ(all.thinking, "Now. ");
  ASSERT_EQ(all.logprobs.size(), 2u);
  EXPECT_EQ(all.logprobs[1].token, "ow. ");
}

TEST_F(Dialects, ListsAndDetails) {
  const std::string file = std::string(PONDER_SOURCE_DIR) + "/tests/golden/tokenizer/ponder-tiny-vocabulary.gguf";
  const auto name = store::Name::parse("hf.co/someone/vocab:Q8_0");
  ASSERT_TRUE(name.ok());
  const auto made = store_.create_from_file(*name, file);
  ASSERT_TRUE(made.ok()) << made.error().message;
  start();
  json o = get("/api/tags").object();
  ASSERT_EQ(o["models"].size(), 1u);
  const json& m = o["models"][0];
  EXPECT_EQ(m["name"], m["model"]);
  EXPECT_EQ(m["digest"].get<std::string>().size(), 64u);
  EXPECT_TRUE(m["details"]["families"].is_array());
  const std::string id = m["name"];
  o = get("/v1/models").object();
  EXPECT_EQ(o["object"], "list");
  EXPECT_EQ(o["data"][0]["id"], id);
  EXPECT_EQ(o["data"][0]["object"], "model");
  EXPECT_EQ(get("/v1/models/" + id).object()["id"], id);
  EXPECT_EQ(get("/v1/models/hf.co%2Fsomeone%2Fvocab%3aQ8_0").object()["id"], id) << "as the clients escape it";
  EXPECT_EQ(get("/v1/models/other").status, 404);
  EXPECT_EQ(get("/v1/models/%zz%").status, 400);
  EXPECT_EQ(get("/api/ps").object()["models"][0]["name"], "echo:latest");
  const auto remove = [&](const std::string& body) {
    Peer peer(port());
    peer.send("DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
    return peer.reply();
  };
  Reply copied = post("/api/copy", {{"source", id}, {"destination", "mine"}});
  EXPECT_EQ(copied.status, 200);
  EXPECT_EQ(copied.body, "");
  EXPECT_EQ(get("/v1/models/mine").object()["id"], "mine:latest");
  EXPECT_EQ(get("/api/tags").object()["models"].size(), 2u);
  EXPECT_EQ(post("/api/copy", {{"source", "nothing"}, {"destination", "mine"}}).status, 404);
  EXPECT_EQ(post("/api/copy", {{"source", id}, {"destination", "bad name!"}}).status, 400);
  EXPECT_EQ(post("/api/copy", {{"source", id}}).object()["error"], "destination is required");
  EXPECT_EQ(post("/api/copy", {{"destination", "x"}}).object()["error"], "source is required");
  EXPECT_EQ(remove(json({{"model", "mine"}}).dump()).status, 200);
  EXPECT_EQ(remove(R"({"model": "nothing"})").status, 404);
  EXPECT_EQ(remove(R"({"model": "../../etc/passwd"})").status, 400);
  EXPECT_EQ(remove(json({{"model", id}}).dump()).status, 200);
  EXPECT_EQ(remove(json({{"model", id}}).dump()).status, 404);
  EXPECT_EQ(get("/api/tags").object()["models"].size(), 0u);
}

TEST_F(Dialects, AClientAsksWhetherAModelIsThere) {
  const std::string file = std::string(PONDER_SOURCE_DIR) + "/tests/golden/tokenizer/ponder-tiny-vocabulary.gguf";
  const std::string url = "https://example.org/a/b%20c.gguf?download=true";
  for (const std::string& name : {std::string("hf.co/someone/vocab:Q8_0"), url})
    ASSERT_TRUE(store_.create_from_file(store::Name::parse(name).value(), file).ok());
  start();
  runtime::Address address;
  address.port = port();
  const auto remote = runtime::connect(address);
  ASSERT_TRUE(remote.ok()) << remote.error().message;
  const auto local = runtime::make_local_client(*runtime_);
  for (runtime::Client* client : {remote->get(), local.get()}) {
    EXPECT_TRUE(client->exists("hf.co/someone/vocab:Q8_0").value());
    EXPECT_TRUE(client->exists(url).value());
    EXPECT_FALSE(client->exists("hf.co/someone/vocab:Q4_0").value());
    EXPECT_FALSE(client->exists("https://example.org/a/b%20c.gguf").value());
    EXPECT_EQ(client->exists("no name!").error().code, ErrorCode::invalid_argument);
  }
}

TEST_F(Dialects, ShowAndPullErrors) {
  start();
  json o = post("/api/show", {{"model", "echo"}}).object();
  EXPECT_EQ(o["capabilities"], json({"completion", "thinking"}));
  EXPECT_TRUE(o["model_info"].is_object());
  EXPECT_EQ(post("/api/show", {{"model", "missing"}}).status, 404);
  EXPECT_EQ(post("/api/show", {{"name", "echo"}}).status, 200) << "older clients say name";
  EXPECT_EQ(post("/api/show", json::object()).status, 400);
  EXPECT_EQ(post("/api/pull", {{"model", "bad name!"}}).status, 400);
  EXPECT_EQ(post("/api/pull", {{"model", "x"}, {"stream", "yes"}}).status, 400);
}

TEST_F(Dialects, ControlReachesTheRuntime) {
  start();
  auto r = post("/api/control", {{"request_id", "running"}, {"action", "note"}, {"text", "use it"}});
  EXPECT_EQ(r.status, 200) << r.body;
  EXPECT_EQ(r.object()["phase"], "thinking");
  r = post("/v1/chat/completions/control", {{"id", "running"}, {"action", "reasoning_end"}});
  EXPECT_EQ(r.status, 200) << r.body;
  EXPECT_EQ(r.object()["success"], true);
  r = post("/api/control", {{"request_id", "running"}, {"action", "more"}, {"tokens", 64}});
  const auto controls = runtime_->controls();
  ASSERT_EQ(controls.size(), 3u);
  EXPECT_EQ(controls[0].action, "note");
  EXPECT_EQ(controls[0].text, "use it");
  EXPECT_EQ(controls[1].action, "answer") << "llama.cpp's word";
  EXPECT_EQ(controls[2].tokens, 64);
  EXPECT_EQ(post("/api/control", {{"request_id", "gone"}, {"action", "answer"}}).status, 404);
  EXPECT_EQ(post("/api/control", {{"action", "answer"}}).status, 400);
  EXPECT_EQ(post("/api/control", {{"id", "running"}, {"action", "more"}, {"tokens", -1}}).status, 400);
  r = post("/v1/chat/completions/control", {{"id", "gone"}, {"action", "answer"}});
  EXPECT_EQ(r.object()["error"]["type"], "not_found_error");
}

TEST_F(Dialects, RequestsHaveIds) {
  start();
  auto r = post("/api/chat", ask("echo", "hello"));
  const std::string made = r.headers.at("x-request-id");
  EXPECT_TRUE(made.starts_with("req-"));
  EXPECT_EQ(r.lines()[0]["request_id"], made);
  EXPECT_FALSE(r.lines()[1].contains("request_id"));
  EXPECT_EQ(runtime_->last().id, made);
  r = post("/v1/chat/completions", with(ask("echo"), {{"request_id", "mine"}}));
  EXPECT_EQ(r.headers.at("x-request-id"), "mine");
  EXPECT_EQ(r.object()["id"], "mine");
  r = post("/api/chat", with(ask("echo"), {{"options", {{"request_id", "inside"}}}}));
  EXPECT_EQ(r.headers.at("x-request-id"), "inside") << "where a client with fixed fields can put it";
}

// A library's exception, on a thread that no connection waits for with its own hands.
TEST_F(Dialects, ExceptionsAreErrorsOfTheirRequest) {
  start();
  auto r = post("/api/show", {{"model", "throws"}});
  EXPECT_EQ(r.status, 500);
  EXPECT_NE(r.object()["error"].get<std::string>().find("a library's own words"), std::string::npos) << r.body;
  runtime::Receipt receipt;
  receipt.model = "throws";
  receipt.sequence.context_length = 1;
  runtime::seal(receipt);
  r = post("/api/replay", to_json(receipt));
  EXPECT_EQ(r.status, 500) << r.body;
  EXPECT_EQ(get("/api/version").status, 200) << "the server is still there";
}

// A registry that takes connections and never answers: only the flag can end the transfer.
TEST_F(Dialects, HangingUpEndsAPull) {
  start();
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a = {};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  socklen_t size = sizeof a;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&a), &size);
  const std::string model = "127.0.0.1:" + std::to_string(ntohs(a.sin_port)) + "/library/x:latest";
  for (const bool stream : {false, true}) {
    auto peer = std::make_unique<Peer>(port());
    peer->post("/api/pull", json({{"model", model}, {"insecure", true}, {"stream", stream}}).dump());
    pollfd ready = {listener, POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 5000), 1) << "the registry was never asked";
    const int transfer = ::accept(listener, nullptr, nullptr);
    const auto t = Clock::now();
    peer->close();
    char byte;
    pollfd ended = {transfer, POLLIN, 0};
    ssize_t n = 1;
    while (n > 0 && since(t) < 8 && ::poll(&ended, 1, 1000) >= 0)
      if (ended.revents != 0) n = ::recv(transfer, &byte, 1, 0);  // the question first, then the end
    EXPECT_EQ(n, 0) << (stream ? "streamed" : "whole");
    EXPECT_LT(since(t), 3) << (stream ? "streamed" : "whole");
    ::close(transfer);
  }
  ::close(listener);
}

}  // namespace
}  // namespace ponder::server::testing
