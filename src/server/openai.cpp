// OpenAI's chat completions and model list. A request's sampling values override the model's own only where the client
// sent them (Ollama forces 1.0 on this route; R1 wants 0.6). The thought stands in "reasoning" (Ollama's name) and in
// "reasoning_content" (DeepSeek's and llama.cpp's).
#include <ctime>

#include "runtime/vote_json.h"
#include "runtime/wire.h"
#include "server/http.h"
#include "server/requests.h"

namespace ponder::server {
namespace {

using nlohmann::json;
namespace wire = runtime::wire;

// "stop" and "length" are the words of this dialect; a full context is a length to its clients.
const char* finish_reason(const std::string& reason) {
  return reason == "length" || reason == "context" ? "length" : "stop";
}

json usage_of(const runtime::ChatResult& r) {
  return {{"prompt_tokens", r.prompt_tokens},
          {"completion_tokens", r.output_tokens},
          {"total_tokens", r.prompt_tokens + r.output_tokens},
          {"prompt_tokens_details", {{"cached_tokens", r.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", r.thinking_tokens}}}};
}

// llama.cpp's words for times, which its clients read.
json timings_of(const runtime::ChatResult& r) {
  const auto per_second = [](int n, double seconds) { return seconds > 0 ? n / seconds : 0; };
  const int prompt = r.prompt_tokens - r.cached_tokens;
  json t = {{"cache_n", r.cached_tokens},
            {"prompt_n", prompt},
            {"prompt_ms", r.prompt_seconds * 1e3},
            {"prompt_per_second", per_second(prompt, r.prompt_seconds)},
            {"predicted_n", r.output_tokens},
            {"predicted_ms", r.decode_seconds * 1e3},
            {"predicted_per_second", per_second(r.output_tokens - 1, r.decode_seconds)}};
  if (r.drafted_tokens > 0) {
    t["draft_n"] = r.drafted_tokens;
    t["draft_n_accepted"] = r.accepted_tokens;
  }
  return t;
}

// What this dialect has no word for: on the whole reply and on the last chunk with a choice.
void add_own(json& object, const runtime::ChatResult& r) {
  object["done_reason"] = r.done_reason;
  object["timings"] = timings_of(r);
  object["thinking_tokens"] = r.thinking_tokens;
  object["answer_tokens"] = r.answer_tokens;
  if (!r.thinking_done_reason.empty()) object["thinking_done_reason"] = r.thinking_done_reason;
  if (!r.warnings.empty()) object["warnings"] = r.warnings;
  if (!r.receipt_json.empty()) object["receipt"] = json::parse(r.receipt_json, nullptr, false);
  if (r.vote) object["vote"] = runtime::to_json(*r.vote, /*last=*/true);
}

void put_text(json& message, const runtime::ChatDelta& delta) {
  if (!delta.thinking.empty()) {
    message["reasoning"] = delta.thinking;
    message["reasoning_content"] = delta.thinking;
  }
  if (delta.thinking_retracted > 0) message["thinking_retracted"] = delta.thinking_retracted;
  if (delta.logprobs_retracted > 0) message["logprobs_retracted"] = delta.logprobs_retracted;
}

struct Completion {
  std::string id, model;
  int64_t created;

  json envelope(const char* object) const {
    return {
        {"id", id}, {"object", object}, {"created", created}, {"model", model}, {"system_fingerprint", "fp_ponder"}};
  }

  json chunk(const runtime::ChatDelta& delta, bool first) const {
    json d = json::object();
    if (first) d["role"] = "assistant";
    d["content"] = delta.content;
    put_text(d, delta);
    json choice = {{"index", 0}, {"delta", std::move(d)}, {"finish_reason", nullptr}};
    if (!delta.logprobs.empty()) choice["logprobs"] = {{"content", wire::logprobs(delta.logprobs)}};
    json j = envelope("chat.completion.chunk");
    j["choices"].push_back(std::move(choice));
    return j;
  }

  json last_chunk(const runtime::ChatResult& result) const {
    json j = envelope("chat.completion.chunk");
    j["choices"].push_back(
        {{"index", 0}, {"delta", json::object()}, {"finish_reason", finish_reason(result.done_reason)}});
    add_own(j, result);
    return j;
  }

  json usage_chunk(const runtime::ChatResult& result) const {
    json j = envelope("chat.completion.chunk");
    j["choices"] = json::array();
    j["usage"] = usage_of(result);
    return j;
  }

  json whole(const runtime::ChatDelta& all, const runtime::ChatResult& result) const {
    json message = {{"role", "assistant"}, {"content", all.content}};
    put_text(message, all);
    json choice = {{"index", 0}, {"message", std::move(message)}, {"finish_reason", finish_reason(result.done_reason)}};
    if (!all.logprobs.empty()) choice["logprobs"] = {{"content", wire::logprobs(all.logprobs)}};
    json j = envelope("chat.completion");
    j["choices"].push_back(std::move(choice));
    j["usage"] = usage_of(result);
    add_own(j, result);
    return j;
  }
};

std::string event(const json& object) {
  return "data: " + object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n\n";
}

Task<void> chat_completions(Exchange& exchange) {
  auto body = exchange.json_body();
  auto request = body.ok() ? read_chat_completion(*body) : Result<CompletionRequest>(body.error());
  if (!request.ok()) {
    co_await send_error(exchange, std::move(request).error());
    co_return;
  }
  const std::string id = name_request(exchange, request->chat, "chatcmpl-");
  const Completion completion{id, request->chat.model, int64_t(std::time(nullptr))};
  const bool stream = request->stream, include_usage = request->include_usage;
  const auto chat = RunningChat::start(exchange, std::move(request->chat));
  runtime::ChatDelta all;
  for (;;) {
    ChatEvent e = co_await chat->next();
    if (e.kind == ChatEvent::Kind::none) {
      exchange.close_after();
      break;
    }
    if (e.kind == ChatEvent::Kind::error) {
      chat->release();
      co_await send_error(exchange, std::move(e.error));
      break;
    }
    const bool done = e.kind == ChatEvent::Kind::done;
    if (!stream && !done) {
      all.append(std::move(e.delta));
      continue;
    }
    if (done) e.result.warnings.insert(e.result.warnings.begin(), request->warnings.begin(), request->warnings.end());
    if (!stream) {
      chat->release();
      json whole = completion.whole(all, e.result);
      co_await exchange.send_json(200, std::move(whole));
      break;
    }
    const bool first = !exchange.streaming();
    if (first && !co_await exchange.begin_stream("text/event-stream")) break;
    std::string text;
    if (!done) {
      json chunk = completion.chunk(e.delta, first);
      if (e.kind == ChatEvent::Kind::vote) chunk["vote"] = std::move(e.vote);
      text = event(chunk);
    } else {
      chat->release();
      if (first) text = event(completion.chunk({}, true));
      text += event(completion.last_chunk(e.result));
      if (include_usage) text += event(completion.usage_chunk(e.result));
      text += "data: [DONE]\n\n";
    }
    if (!co_await exchange.send_piece(std::move(text))) break;
    if (!done) continue;
    co_await exchange.end_stream();
    break;
  }
  chat->release();
}

// llama.cpp's route, with all of our actions.
Task<void> completion_control(Exchange& exchange) {
  auto body = exchange.json_body();
  auto request = body.ok() ? read_control(*body) : Result<ControlRequest>(body.error());
  co_await answer_control(exchange, std::move(request));
}

json model_object(const store::ModelInfo& m) {
  return {{"id", m.name.display()}, {"object", "model"}, {"created", m.modified}, {"owned_by", m.name.ns}};
}

Task<void> models(Exchange& exchange) {
  auto* store = &exchange.runtime().store();
  const std::function<Result<std::vector<store::ModelInfo>>()> work = [store] { return store->list(); };
  auto all = co_await run_blocking(exchange, work);
  if (!all.ok()) {
    co_await send_error(exchange, std::move(all).error());
    co_return;
  }
  json list = json::array();
  for (const auto& m : *all) list.push_back(model_object(m));
  json reply = {{"object", "list"}, {"data", std::move(list)}};
  co_await exchange.send_json(200, std::move(reply));
}

Task<void> one_model(Exchange& exchange) {
  auto* store = &exchange.runtime().store();
  const std::string name = exchange.rest;
  const std::function<Result<store::Model>()> work = [store, name] { return store->resolve(name); };
  auto model = co_await run_blocking(exchange, work);
  if (!model.ok()) {
    co_await send_error(exchange, std::move(model).error());
    co_return;
  }
  json reply = model_object(*model);
  co_await exchange.send_json(200, std::move(reply));
}

}  // namespace

std::vector<Route> openai_routes() {
  using http::verb;
  return {{verb::post, "/v1/chat/completions", chat_completions},
          {verb::post, "/v1/chat/completions/control", completion_control},
          {verb::get, "/v1/models", models},
          {verb::get, "/v1/models/*", one_model}};
}

json openai_error(const Error& error, unsigned status) {
  const char* type = status == 404 ? "not_found_error" : status < 500 ? "invalid_request_error" : "api_error";
  return {{"error", {{"message", error.message}, {"type", type}, {"param", nullptr}, {"code", to_string(error.code)}}}};
}

}  // namespace ponder::server
