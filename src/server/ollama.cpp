// Ollama's routes. Field by field as its clients expect them; Ponder's additions to the final object are in
// runtime/wire.h. Source: Ollama's API documentation, and shared behaviour of its official clients.

#include "base/version.h"
#include "runtime/wire.h"
#include "server/fields.h"
#include "server/http.h"

namespace ponder::server {
namespace {

using nlohmann::json;
namespace wire = runtime::wire;

std::string line(const json& object) { return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"; }

// What chat and generate share.
Result<runtime::ChatRequest> common_request(const json& body, std::vector<std::string>* warnings) {
  runtime::ChatRequest r;
  PONDER_TRY(r.model, model_field(body));
  if (const auto* options = field(body, "options")) {
    PONDER_TRY(r.options, runtime::options_from_json(*options, warnings));
  }
  PONDER_TRY(r.think, think_field(body, "think"));
  if (const auto* keep = field(body, "keep_alive")) {
    PONDER_TRY(r.keep_alive, wire::parse_keep_alive(*keep));
  }
  PONDER_TRY(r.logprobs, bool_field(body, "logprobs", false));
  PONDER_TRY(r.top_logprobs, int_field(body, "top_logprobs", 0, 0, 20));
  if (const auto* format = field(body, "format"); format != nullptr && !(format->is_string() && format->get_ref<const std::string&>().empty()))
    return Error{ErrorCode::unsupported, "\"format\" (constrained output) is not supported by this version; leave it out"};
  if (const auto* tools = field(body, "tools"); tools != nullptr && !tools->empty())
    return Error{ErrorCode::unsupported, "\"tools\" are not supported by this version: tool calls in a reply are not recognised yet"};
  return r;
}

Error no_images() { return {ErrorCode::unsupported, "\"images\" are not supported: this program runs text models"}; }

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
    if (!delta.logprobs.empty()) j["logprobs"] = wire::logprobs(delta.logprobs);
    return j;
  }

  json last(const std::string& model, const runtime::ChatDelta& all, const runtime::ChatResult& result) const {
    json j = object(model, all);
    wire::add_result(j, result);
    if (!chat && !result.context.empty()) j["context"] = result.context;
    return j;
  }
};

void append(runtime::ChatDelta& all, runtime::ChatDelta&& delta) {
  all.thinking += delta.thinking;
  all.content += delta.content;
  all.logprobs.insert(all.logprobs.end(), std::make_move_iterator(delta.logprobs.begin()), std::make_move_iterator(delta.logprobs.end()));
}

Task<void> run(Exchange& exchange, Dialect dialect, runtime::ChatRequest request, bool stream, std::vector<std::string> warnings) {
  const std::string model = request.model;
  const auto chat = RunningChat::start(exchange, std::move(request));
  runtime::ChatDelta all;
  for (;;) {
    ChatEvent event = co_await chat->next();
    if (event.kind == ChatEvent::Kind::none) {   // the peer is gone
      exchange.close_after();
      break;
    }
    if (event.kind == ChatEvent::Kind::error) {
      chat->release();
      co_await send_error(exchange, std::move(event.error));
      break;
    }
    if (event.kind == ChatEvent::Kind::delta && !stream) {
      append(all, std::move(event.delta));
      continue;
    }
    if (event.kind == ChatEvent::Kind::done) {
      event.result.warnings.insert(event.result.warnings.begin(), warnings.begin(), warnings.end());
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
    // A delta of a stream. The stream begins with it, so that an error before the first byte has its own status.
    if (!exchange.streaming() && !co_await exchange.begin_stream("application/x-ndjson")) break;
    std::string text = line(dialect.object(model, event.delta));
    if (!co_await exchange.send_piece(std::move(text))) break;
  }
  chat->release();
}

Task<void> api_chat(Exchange& exchange) {
  std::vector<std::string> warnings;
  bool stream = true;
  const auto read = [&]() -> Result<runtime::ChatRequest> {
    PONDER_TRY(const json body, exchange.json_body());
    PONDER_TRY(auto r, common_request(body, &warnings));
    PONDER_TRY(stream, bool_field(body, "stream", true));
    if (const auto* messages = field(body, "messages")) {
      if (!messages->is_array()) return wrong_field("messages", "a list", *messages);
      for (const auto& m : *messages)
        if (m.is_object() && field(m, "images") != nullptr && !m["images"].empty()) return no_images();
      PONDER_TRY(r.messages, chat::messages_from_json(*messages));
    }
    return r;
  };
  auto request = read();
  if (!request.ok()) {
    co_await send_error(exchange, std::move(request).error());
    co_return;
  }
  co_await run(exchange, Dialect{true}, std::move(*request), stream, std::move(warnings));
}

Result<runtime::ChatRequest> generate_request(const json& body, std::vector<std::string>* warnings) {
  PONDER_TRY(auto r, common_request(body, warnings));
  PONDER_TRY(const auto prompt, string_field(body, "prompt"));
  PONDER_TRY(const auto system, string_field(body, "system"));
  PONDER_TRY(const auto suffix, string_field(body, "suffix"));
  PONDER_TRY(const auto override_template, string_field(body, "template"));
  PONDER_TRY(const bool raw, bool_field(body, "raw", false));
  if (!suffix.empty()) return Error{ErrorCode::invalid_argument, "\"" + r.model + "\" does not support insert"};
  if (!override_template.empty())
    return Error{ErrorCode::unsupported, "\"template\" is not supported: the model's own template is used; send \"raw\": true to write the prompt yourself"};
  if (const auto* images = field(body, "images"); images != nullptr && !images->empty()) return no_images();
  if (const auto* context = field(body, "context")) {
    if (!context->is_array()) return wrong_field("context", "a list of token ids", *context);
    for (const auto& id : *context) {
      if (!id.is_number_integer()) return wrong_field("context", "a list of token ids", id);
      r.context.push_back(id.get<int32_t>());
    }
  }
  if (raw) {
    if (!system.empty() || !r.context.empty()) return Error{ErrorCode::invalid_argument, "raw mode does not support template, system, or context"};
    r.raw_prompt = prompt;
    if (prompt.empty()) r.raw_prompt.reset();
    return r;
  }
  if (prompt.empty() && system.empty()) return r;   // load only
  const auto add = [&](const char* role, const std::string& content) {
    chat::Message m;
    m.role = role;
    m.content = content;
    r.messages.push_back(std::move(m));
  };
  if (!system.empty()) add("system", system);
  if (!prompt.empty()) add("user", prompt);
  return r;
}

Task<void> api_generate(Exchange& exchange) {
  std::vector<std::string> warnings;
  bool stream = true;
  const auto read = [&]() -> Result<runtime::ChatRequest> {
    PONDER_TRY(const json body, exchange.json_body());
    PONDER_TRY(stream, bool_field(body, "stream", true));
    return generate_request(body, &warnings);
  };
  auto request = read();
  if (!request.ok()) {
    co_await send_error(exchange, std::move(request).error());
    co_return;
  }
  co_await run(exchange, Dialect{false}, std::move(*request), stream, std::move(warnings));
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
    PONDER_TRY(const json body, exchange.json_body());
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
    PONDER_TRY(const json body, exchange.json_body());
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
  auto channel = std::make_shared<Channel<PullEvent>>(executor);          // shared with the pool's thread
  auto cancel = std::make_shared<runtime::CancelFlag>(false);             // likewise
  auto* shared = &exchange.shared();
  asio::post(exchange.shared().blocking, [channel, cancel, shared, name = *name, insecure] {
    store::PullOptions options;
    options.insecure = insecure;
    options.cancelled = [cancel, shared] { return cancel->load() || shared->stopping.load(); };
    options.progress = [&](const store::PullProgress& p) { channel->push({wire::pull_progress(p), false, {}}); };
    auto pulled = store::pull(shared->runtime.store(), name, options);
    PullEvent end;
    end.done = true;
    if (!pulled.ok()) end.error = pulled.error();
    channel->push(std::move(end));
  });
  json last = {{"status", "success"}};
  for (;;) {
    PullEvent event;
    if (!co_await channel->next(event)) continue;
    if (event.error) {
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
    if (!there) *cancel = true;   // goes on until the pull has seen it
    if (!there) co_return;
  }
  if (!stream) {
    co_await exchange.send_json(200, std::move(last));
  } else if (exchange.streaming()) {
    co_await exchange.end_stream();
  }
}

Task<void> api_delete(Exchange& exchange) {
  std::string model;
  const auto read = [&]() -> Result<store::Name> {
    PONDER_TRY(const json body, exchange.json_body());
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
  auto removed = co_await run_blocking(exchange, work);
  if (!removed.ok()) {
    co_await send_error(exchange, std::move(removed).error());
    co_return;
  }
  co_await exchange.send(200, "", "");
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
          {verb::post, "/api/pull", api_pull},
          {verb::delete_, "/api/delete", api_delete},
          {verb::get, "/api/version", api_version}};
}

json ollama_error(const Error& error) { return {{"error", error.message}}; }

}  // namespace ponder::server
