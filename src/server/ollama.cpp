// Ollama's routes. Field by field as its clients expect them; Ponder's additions to the final object are in
// runtime/wire.h. Source: Ollama's API documentation, and shared behaviour of its official clients.

#include "base/version.h"
#include "runtime/wire.h"
#include "server/fields.h"
#include "server/http.h"
#include "server/requests.h"

namespace ponder::server {
namespace {

using nlohmann::json;
namespace wire = runtime::wire;

std::string line(const json& object) { return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"; }

// The two routes differ in how a request reads and where a reply's text stands.
struct Dialect {
  bool chat;

  json object(const std::string& model, const runtime::ChatDelta& delta) const {
    json j = {{"model", model}, {"created_at", wire::timestamp_now()}, {"done", false}};
    if (chat) {
      j["message"] = {{"role", "assistant"}, {"content", delta.content}};
      if (!delta.thinking.empty()) j["message"]["thinking"] = delta.thinking;
    } else {
      j["response"] = delta.content;
      if (!delta.thinking.empty()) j["thinking"] = delta.thinking;
    }
    if (delta.thinking_retracted > 0) (chat ? j["message"] : j)["thinking_retracted"] = delta.thinking_retracted;
    if (!delta.logprobs.empty()) j["logprobs"] = wire::logprobs(delta.logprobs);
    if (delta.logprobs_retracted > 0) j["logprobs_retracted"] = delta.logprobs_retracted;
    return j;
  }

  json last(const std::string& model, const runtime::ChatDelta& all, const runtime::ChatResult& result) const {
    json j = object(model, all);
    wire::add_result(j, result);
    if (!chat && !result.context.empty()) j["context"] = result.context;
    return j;
  }
};

Task<void> run(Exchange& exchange, Dialect dialect, OllamaRequest request) {
  const std::string model = request.chat.model;
  const bool stream = request.stream;
  const std::string id = name_request(exchange, request.chat, "req-");
  const auto chat = RunningChat::start(exchange, std::move(request.chat));
  runtime::ChatDelta all;
  for (;;) {
    ChatEvent event = co_await chat->next();
    if (event.kind == ChatEvent::Kind::none) {  // the peer is gone
      exchange.close_after();
      break;
    }
    if (event.kind == ChatEvent::Kind::error) {
      chat->release();
      co_await send_error(exchange, std::move(event.error));
      break;
    }
    if (event.kind == ChatEvent::Kind::delta && !stream) {
      all.append(std::move(event.delta));
      continue;
    }
    if (event.kind == ChatEvent::Kind::done) {
      event.result.warnings.insert(event.result.warnings.begin(), request.warnings.begin(), request.warnings.end());
      json object = dialect.last(model, all, event.result);
      chat->release();
      if (!stream) {
        co_await exchange.send_json(200, std::move(object));
        break;
      }
      if (!exchange.streaming() && !co_await exchange.begin_stream("application/x-ndjson")) break;
      std::string text = line(object);
      if (co_await exchange.send_piece(std::move(text))) co_await exchange.end_stream();
      break;
    }
    if (event.kind == ChatEvent::Kind::vote && !stream) continue;
    // A delta of a stream, or progress of a vote. The stream begins with it, so that an error before the first byte has
    // its own status.
    const bool first = !exchange.streaming();
    if (first && !co_await exchange.begin_stream("application/x-ndjson")) break;
    json object = dialect.object(model, event.delta);
    if (first) object["request_id"] = id;
    if (event.kind == ChatEvent::Kind::vote) object["vote"] = std::move(event.vote);
    std::string text = line(object);
    if (!co_await exchange.send_piece(std::move(text))) break;
  }
  chat->release();
}

Task<void> answer(Exchange& exchange, Dialect dialect, Result<OllamaRequest> request) {
  if (!request.ok()) {
    co_await send_error(exchange, std::move(request).error());
    co_return;
  }
  co_await run(exchange, dialect, std::move(*request));
}

Task<void> api_chat(Exchange& exchange) {
  auto body = exchange.json_body();
  auto request = body.ok() ? read_chat(*body) : Result<OllamaRequest>(body.error());
  co_await answer(exchange, Dialect{true}, std::move(request));
}

Task<void> api_generate(Exchange& exchange) {
  auto body = exchange.json_body();
  auto request = body.ok() ? read_generate(*body) : Result<OllamaRequest>(body.error());
  co_await answer(exchange, Dialect{false}, std::move(request));
}

Task<void> api_tags(Exchange& exchange) {
  auto* store = &exchange.runtime().store();
  const std::function<Result<std::vector<store::ModelInfo>>()> work = [store] { return store->list(); };
  auto models = co_await run_blocking(exchange, work);
  if (!models.ok()) {
    co_await send_error(exchange, std::move(models).error());
    co_return;
  }
  json list = json::array();
  for (const auto& m : *models) list.push_back(wire::model_info(m));
  json reply = {{"models", std::move(list)}};
  co_await exchange.send_json(200, std::move(reply));
}

Task<void> api_ps(Exchange& exchange) {
  json list = json::array();
  for (const auto& m : exchange.runtime().running()) list.push_back(wire::running_model(m));
  json reply = {{"models", std::move(list)}};
  co_await exchange.send_json(200, std::move(reply));
}

Task<void> api_show(Exchange& exchange) {
  std::string model;
  bool verbose = false;
  const auto read = [&]() -> Result<void> {
    PONDER_TRY(const auto body, exchange.json_body());
    PONDER_TRY(model, model_field(body));
    PONDER_TRY(verbose, bool_field(body, "verbose", false));
    return {};
  };
  if (auto parsed = read(); !parsed.ok()) {
    co_await send_error(exchange, std::move(parsed).error());
    co_return;
  }
  auto* rt = &exchange.runtime();
  const std::function<Result<runtime::ShowResult>()> work = [rt, model, verbose] { return rt->show(model, verbose); };
  auto shown = co_await run_blocking(exchange, work);
  if (!shown.ok()) {
    co_await send_error(exchange, std::move(shown).error());
    co_return;
  }
  json reply = wire::show(*shown);
  co_await exchange.send_json(200, std::move(reply));
}

Task<void> api_control(Exchange& exchange) {
  auto body = exchange.json_body();
  auto request = body.ok() ? read_control(*body) : Result<ControlRequest>(body.error());
  co_await answer_control(exchange, std::move(request));
}

// A line of a pull, or its end.
struct PullEvent {
  json line;
  bool done = false;
  std::optional<Error> error;
};

Task<void> api_pull(Exchange& exchange) {
  std::string model;
  bool stream = true, insecure = false;
  const auto read = [&]() -> Result<store::Name> {
    PONDER_TRY(const auto body, exchange.json_body());
    PONDER_TRY(model, model_field(body));
    PONDER_TRY(stream, bool_field(body, "stream", true));
    PONDER_TRY(insecure, bool_field(body, "insecure", false));
    return store::Name::parse(model);
  };
  auto name = read();
  if (!name.ok()) {
    co_await send_error(exchange, std::move(name).error());
    co_return;
  }
  const auto executor = exchange.stream().get_executor();
  ChannelReader<PullEvent> events(executor);
  auto cancel = std::make_shared<runtime::CancelFlag>(false);  // shared with the pool's thread
  HangUp hang_up(exchange, [cancel, channel = events.shared()] {
    *cancel = true;  // what has arrived is kept for the next try
    channel->wake();
  });
  auto* shared = &exchange.shared();
  asio::post(exchange.shared().pulls, [channel = events.shared(), cancel, shared, name = *name, insecure] {
    store::PullOptions options;
    options.insecure = insecure;
    options.cancelled = [cancel, shared] { return cancel->load() || shared->stopping.load(); };
    options.progress = [&](const store::PullProgress& p) { channel->push({wire::pull_progress(p), false, {}}); };
    const auto pulled = guarded<store::ModelInfo>([&] { return store::pull(shared->runtime.store(), name, options); });
    PullEvent end;
    end.done = true;
    if (!pulled.ok()) end.error = pulled.error();
    channel->push(std::move(end));
  });
  json last = {{"status", "success"}};
  for (;;) {
    PullEvent event;
    if (!co_await events.next(event)) {
      if (!*cancel) continue;
      exchange.close_after();
      co_return;
    }
    if (event.error) {
      hang_up.release();
      co_await send_error(exchange, std::move(*event.error));
      co_return;
    }
    if (event.done) break;
    last = event.line;
    if (!stream) continue;
    bool there = exchange.streaming() || co_await exchange.begin_stream("application/x-ndjson");
    if (there) {
      std::string text = line(event.line);
      there = co_await exchange.send_piece(std::move(text));
    }
    if (!there) {
      *cancel = true;
      co_return;
    }
  }
  hang_up.release();
  if (!stream) {
    co_await exchange.send_json(200, std::move(last));
  } else if (exchange.streaming()) {
    co_await exchange.end_stream();
  }
}

// Does `work` on the store and replies with nothing but 200, or with its error.
Task<void> change_store(Exchange& exchange, std::function<Result<bool>()> work) {
  auto done = co_await run_blocking(exchange, std::move(work));
  if (!done.ok()) {
    co_await send_error(exchange, std::move(done).error());
    co_return;
  }
  co_await exchange.send(200, "", "");
}

Task<void> api_delete(Exchange& exchange) {
  std::string model;
  const auto read = [&]() -> Result<store::Name> {
    PONDER_TRY(const auto body, exchange.json_body());
    PONDER_TRY(model, model_field(body));
    return store::Name::parse(model);
  };
  auto name = read();
  auto* rt = &exchange.runtime();
  const std::function<Result<bool>()> work = [&]() -> Result<bool> {
    if (!name.ok()) return name.error();
    (void)rt->stop(model);
    PONDER_CHECK_OK(rt->store().remove(*name));
    return true;
  };
  co_await change_store(exchange, work);
}

Task<void> api_copy(Exchange& exchange) {
  std::string destination;
  const auto read = [&]() -> Result<std::pair<store::Name, store::Name>> {
    PONDER_TRY(const auto body, exchange.json_body());
    PONDER_TRY(std::string source, string_field(body, "source"));
    PONDER_TRY(destination, string_field(body, "destination"));
    for (const auto& [name, value] : {std::pair("source", &source), std::pair("destination", &destination)})
      if (value->empty()) return Error{ErrorCode::invalid_argument, std::string(name) + " is required"};
    PONDER_TRY(const auto from, store::Name::parse(source));
    PONDER_TRY(const auto to, store::Name::parse(destination));
    return std::pair(from, to);
  };
  auto names = read();
  auto* rt = &exchange.runtime();
  const std::function<Result<bool>()> work = [&]() -> Result<bool> {
    if (!names.ok()) return names.error();
    PONDER_CHECK_OK(rt->store().copy(names->first, names->second));
    (void)rt->stop(destination);  // the next request is for what has the name now
    return true;
  };
  co_await change_store(exchange, work);
}

Task<void> api_version(Exchange& exchange) {
  json reply = {{"version", kVersion}, {"server", "ponder"}};
  co_await exchange.send_json(200, std::move(reply));
}

Task<void> root(Exchange& exchange) { co_await exchange.send(200, "text/plain; charset=utf-8", "Ponder is running"); }

}  // namespace

std::vector<Route> ollama_routes() {
  using http::verb;
  return {{verb::get, "/", root},
          {verb::post, "/api/chat", api_chat},
          {verb::post, "/api/generate", api_generate},
          {verb::get, "/api/tags", api_tags},
          {verb::get, "/api/ps", api_ps},
          {verb::post, "/api/show", api_show},
          {verb::post, "/api/control", api_control},
          {verb::post, "/api/pull", api_pull},
          {verb::post, "/api/copy", api_copy},
          {verb::delete_, "/api/delete", api_delete},
          {verb::get, "/api/version", api_version}};
}

json ollama_error(const Error& error) { return {{"error", error.message}}; }

}  // namespace ponder::server
