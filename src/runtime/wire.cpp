#include "runtime/wire.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "base/utf8.h"
#include "runtime/json_errors.h"
#include "runtime/think.h"
#include "runtime/vote_json.h"

namespace ponder::runtime::wire {
namespace {

using nlohmann::json;

int64_t ns(double seconds) { return int64_t(std::llround(seconds * 1e9)); }

template <class T>
T get(const json& object, const char* key, T fallback) {
  const auto it = object.find(key);
  if (it == object.end()) return fallback;
  if constexpr (std::is_same_v<T, std::string>) {
    return it->is_string() ? it->get<std::string>() : fallback;
  } else {
    return it->is_number() ? it->get<T>() : fallback;
  }
}

double seconds(const json& object, const char* key) { return double(get<int64_t>(object, key, 0)) * 1e-9; }

json bytes_of(const std::string& text) {
  json bytes = json::array();
  for (const char c : text) bytes.push_back(uint8_t(c));
  return bytes;
}

json one_logprob(const std::string& token, double logprob) {
  return {{"token", utf8::sanitize(token)}, {"logprob", logprob}, {"bytes", bytes_of(token)}};
}

std::string token_from(const json& entry) {
  const auto bytes = entry.find("bytes");
  if (bytes == entry.end() || !bytes->is_array()) return get<std::string>(entry, "token", "");
  std::string text;
  for (const auto& b : *bytes)
    if (b.is_number_integer()) text += char(b.get<int>());
  return text;
}

json object_from(const std::string& text) {
  json object = json::parse(text, nullptr, false);
  return object.is_object() ? object : json::object();
}

std::vector<std::string> strings_from(const json& object, const char* key) {
  std::vector<std::string> list;
  if (const auto it = object.find(key); it != object.end() && it->is_array())
    for (const auto& s : *it)
      if (s.is_string()) list.push_back(s.get<std::string>());
  return list;
}

}  // namespace

json message(const chat::Message& m) {
  json j = {{"role", m.role}, {"content", m.content}};
  if (!m.thinking.empty()) j["thinking"] = m.thinking;
  for (const auto& call : m.tool_calls) {
    json c = {{"function", {{"name", call.name}, {"arguments", object_from(call.arguments)}}}};
    if (!call.id.empty()) c["id"] = call.id;
    j["tool_calls"].push_back(std::move(c));
  }
  if (!m.tool_name.empty()) j["tool_name"] = m.tool_name;
  if (!m.tool_call_id.empty()) j["tool_call_id"] = m.tool_call_id;
  return j;
}

json chat_request(const ChatRequest& r) {
  json j = {{"model", r.model}, {"stream", true}, {"options", to_json(r.options)}};
  j["messages"] = json::array();
  for (const auto& m : r.messages) j["messages"].push_back(message(m));
  if (r.think != ThinkOptions()) j["think"] = to_json(r.think);
  if (!r.id.empty()) j["request_id"] = r.id;
  if (r.vote) j["vote"] = to_json(*r.vote);
  if (r.keep_alive) j["keep_alive"] = *r.keep_alive;
  if (!r.continue_last) j["continue"] = false;
  if (r.keep_thoughts) j["keep_thoughts"] = true;
  if (r.receipt) j["receipt"] = true;
  if (r.logprobs) {
    j["logprobs"] = true;
    j["top_logprobs"] = r.top_logprobs;
  }
  return j;
}

void add_result(json& j, const ChatResult& r) {
  j["done"] = true;
  j["done_reason"] = r.done_reason;
  if (!r.id.empty()) j["request_id"] = r.id;
  j["total_duration"] = ns(r.total_seconds);
  j["load_duration"] = ns(r.load_seconds);
  if (r.done_reason == "load" || r.done_reason == "unload") return;
  j["prompt_eval_count"] = r.prompt_tokens;
  j["prompt_eval_duration"] = ns(r.prompt_seconds);
  j["eval_count"] = r.output_tokens;
  j["eval_duration"] = ns(r.decode_seconds);
  j["thinking_tokens"] = r.thinking_tokens;
  j["answer_tokens"] = r.answer_tokens;
  if (!r.thinking_done_reason.empty()) j["thinking_done_reason"] = r.thinking_done_reason;
  j["cached_tokens"] = r.cached_tokens;
  j["drafted_tokens"] = r.drafted_tokens;
  j["accepted_tokens"] = r.accepted_tokens;
  j["first_token_duration"] = ns(r.first_token_seconds);
  j["context_length"] = r.context_length;
  j["seed"] = r.seed;
  j["memory_bytes"] = r.memory_bytes;
  j["bytes_per_token"] = r.bytes_per_token;
  if (!r.backend.empty()) j["backend"] = r.backend;
  if (r.vote) j["vote"] = to_json(*r.vote, /*last=*/true);
  if (!r.warnings.empty()) j["warnings"] = r.warnings;
  if (!r.receipt_json.empty()) j["receipt"] = object_from(r.receipt_json);
}

ChatResult result_from(const json& j) {
  ChatResult r;
  r.done_reason = get<std::string>(j, "done_reason", "stop");
  r.total_seconds = seconds(j, "total_duration");
  r.load_seconds = seconds(j, "load_duration");
  r.prompt_tokens = get(j, "prompt_eval_count", 0);
  r.prompt_seconds = seconds(j, "prompt_eval_duration");
  r.output_tokens = get(j, "eval_count", 0);
  r.decode_seconds = seconds(j, "eval_duration");
  r.thinking_tokens = get(j, "thinking_tokens", 0);
  r.answer_tokens = get(j, "answer_tokens", 0);
  r.thinking_done_reason = get<std::string>(j, "thinking_done_reason", "");
  r.id = get<std::string>(j, "request_id", "");
  r.cached_tokens = get(j, "cached_tokens", 0);
  r.drafted_tokens = get(j, "drafted_tokens", 0);
  r.accepted_tokens = get(j, "accepted_tokens", 0);
  r.first_token_seconds = seconds(j, "first_token_duration");
  r.context_length = get(j, "context_length", 0);
  r.seed = get<uint64_t>(j, "seed", 0);
  r.memory_bytes = get<uint64_t>(j, "memory_bytes", 0);
  r.bytes_per_token = get<uint64_t>(j, "bytes_per_token", 0);
  r.backend = get<std::string>(j, "backend", "");
  r.warnings = strings_from(j, "warnings");
  if (const auto it = j.find("receipt"); it != j.end() && it->is_object()) r.receipt_json = it->dump();
  if (const auto it = j.find("vote"); it != j.end() && it->is_object()) r.vote = vote_report_from(*it);
  return r;
}

json logprobs(const std::vector<TokenLogprob>& list) {
  json all = json::array();
  for (const auto& entry : list) {
    json e = one_logprob(entry.token, entry.logprob);
    e["top_logprobs"] = json::array();
    for (const auto& t : entry.top) e["top_logprobs"].push_back(one_logprob(t.token, t.logprob));
    all.push_back(std::move(e));
  }
  return all;
}

std::vector<TokenLogprob> logprobs_from(const json& list) {
  std::vector<TokenLogprob> all;
  if (!list.is_array()) return all;
  for (const auto& e : list) {
    TokenLogprob entry{token_from(e), get(e, "logprob", 0.0), {}};
    if (const auto it = e.find("top_logprobs"); it != e.end() && it->is_array())
      for (const auto& t : *it) entry.top.push_back({token_from(t), get(t, "logprob", 0.0)});
    all.push_back(std::move(entry));
  }
  return all;
}

json details(const store::Details& d) {
  return {{"parent_model", ""},
          {"format", d.format},
          {"family", d.family},
          {"families", d.families},
          {"parameter_size", d.parameter_size},
          {"quantization_level", d.quantization_level},
          {"context_length", d.context_length},
          {"embedding_length", d.embedding_length}};
}

store::Details details_from(const json& j) {
  store::Details d;
  if (!j.is_object()) return d;
  d.format = get<std::string>(j, "format", "gguf");
  d.family = get<std::string>(j, "family", "");
  d.families = strings_from(j, "families");
  d.parameter_size = get<std::string>(j, "parameter_size", "");
  d.quantization_level = get<std::string>(j, "quantization_level", "");
  d.context_length = get<uint64_t>(j, "context_length", 0);
  d.embedding_length = get<uint64_t>(j, "embedding_length", 0);
  return d;
}

json model_info(const store::ModelInfo& m) {
  const std::string name = m.name.display();
  return {{"name", name},   {"model", name},      {"modified_at", timestamp(m.modified * 1'000'000'000)},
          {"size", m.size}, {"digest", m.digest}, {"details", details(m.details)}};
}

Result<store::ModelInfo> model_info_from(const json& j) {
  store::ModelInfo m;
  PONDER_TRY(m.name, store::Name::parse(get<std::string>(j, "name", "")));
  m.digest = get<std::string>(j, "digest", "");
  m.size = get<uint64_t>(j, "size", 0);
  m.modified = parse_timestamp(get<std::string>(j, "modified_at", ""));
  if (const auto it = j.find("details"); it != j.end()) m.details = details_from(*it);
  return m;
}

json running_model(const RunningModel& m) {
  json j = {{"name", m.name},
            {"model", m.name},
            {"size", m.size},
            {"digest", m.digest},
            {"details", details(m.details)},
            // Ollama's "for ever" is a date far away, which its clients parse.
            {"expires_at", m.expires_at > 0 ? timestamp(m.expires_at * 1'000'000'000) : "2318-01-01T00:00:00Z"},
            {"size_vram", m.size_vram},
            {"context_length", m.context_length}};
  j["processor"] = m.processor;
  j["running"] = m.running;
  j["waiting"] = m.waiting;
  j["numerics_id"] = m.numerics_id;
  j["precision"] = m.precision;
  j["kv_format"] = m.kv_format;
  j["isa"] = m.isa;
  return j;
}

RunningModel running_model_from(const json& j) {
  RunningModel m;
  m.name = get<std::string>(j, "name", "");
  m.digest = get<std::string>(j, "digest", "");
  if (const auto it = j.find("details"); it != j.end()) m.details = details_from(*it);
  m.size = get<uint64_t>(j, "size", 0);
  m.size_vram = get<uint64_t>(j, "size_vram", 0);
  m.processor = get<std::string>(j, "processor", "");
  m.context_length = get(j, "context_length", 0);
  m.running = get(j, "running", 0);
  m.waiting = get(j, "waiting", 0);
  m.expires_at = parse_timestamp(get<std::string>(j, "expires_at", ""));
  if (m.expires_at > int64_t(std::time(nullptr)) + int64_t(100) * 365 * 86400) m.expires_at = 0;
  m.numerics_id = get<std::string>(j, "numerics_id", "");
  m.precision = get<std::string>(j, "precision", "");
  m.kv_format = get<std::string>(j, "kv_format", "");
  m.isa = get<std::string>(j, "isa", "");
  return m;
}

json show(const ShowResult& s) {
  json j = {{"modelfile", s.modelfile},
            {"parameters", s.parameters},
            {"template", s.template_text},
            {"details", details(s.info.details)},
            {"model_info", object_from(s.model_info_json)},
            {"capabilities", s.capabilities},
            {"modified_at", timestamp(s.info.modified * 1'000'000'000)}};
  if (!s.license.empty()) j["license"] = s.license;
  if (!s.system.empty()) j["system"] = s.system;
  if (!s.tensors_json.empty()) {
    json tensors = json::parse(s.tensors_json, nullptr, false);
    if (tensors.is_array()) j["tensors"] = std::move(tensors);
  }
  j["size"] = s.info.size;
  j["digest"] = s.info.digest;
  j["template_source"] = s.template_source;
  j["notes"] = s.notes;
  for (const auto& [level, tokens] : s.thinking_levels)
    j["thinking_levels"].push_back({{"level", level}, {"tokens", tokens}});
  return j;
}

Result<ShowResult> show_from(const json& j, const std::string& model) {
  ShowResult s;
  PONDER_TRY(s.info.name, store::Name::parse(model));
  s.modelfile = get<std::string>(j, "modelfile", "");
  s.parameters = get<std::string>(j, "parameters", "");
  s.template_text = get<std::string>(j, "template", "");
  s.system = get<std::string>(j, "system", "");
  s.license = get<std::string>(j, "license", "");
  s.template_source = get<std::string>(j, "template_source", "");
  s.capabilities = strings_from(j, "capabilities");
  s.notes = strings_from(j, "notes");
  if (const auto it = j.find("thinking_levels"); it != j.end() && it->is_array())
    for (const auto& l : *it)
      if (l.is_object()) s.thinking_levels.emplace_back(get<std::string>(l, "level", ""), get(l, "tokens", -1));
  if (const auto it = j.find("details"); it != j.end()) s.info.details = details_from(*it);
  s.info.size = get<uint64_t>(j, "size", 0);
  s.info.digest = get<std::string>(j, "digest", "");
  s.info.modified = parse_timestamp(get<std::string>(j, "modified_at", ""));
  if (const auto it = j.find("model_info"); it != j.end()) s.model_info_json = it->dump();
  if (const auto it = j.find("tensors"); it != j.end()) s.tensors_json = it->dump();
  return s;
}

json pull_progress(const store::PullProgress& p) {
  json j = {{"status", p.status}};
  if (!p.digest.empty()) {
    j["digest"] = p.digest;
    j["total"] = p.total;
    j["completed"] = p.completed;
  }
  return j;
}

std::string timestamp(int64_t t) {
  const int64_t s = t >= 0 ? t / 1'000'000'000 : (t - 999'999'999) / 1'000'000'000;
  const std::time_t whole = std::time_t(s);
  std::tm utc = {};
  ::gmtime_r(&whole, &utc);
  char text[64];
  const size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + n, sizeof text - n, ".%09dZ", int(t - s * 1'000'000'000));
  return text;
}

std::string timestamp_now() {
  using namespace std::chrono;
  return timestamp(duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count());
}

int64_t parse_timestamp(const std::string& text) {
  int y, mo, d, h, mi, s;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) != 6) return 0;
  if (y < 1970 || y > 9999 || mo < 1 || mo > 12 || d < 1 || d > 31 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 ||
      s > 60)
    return 0;
  using namespace std::chrono;
  const sys_days day = year_month_day{year(y), month(unsigned(mo)), std::chrono::day(unsigned(d))};
  return duration_cast<std::chrono::seconds>(day.time_since_epoch()).count() + h * 3600 + mi * 60 + s;
}

Result<double> parse_keep_alive(const json& value) {
  // Clocks count in 64 bits, and who asks for more than a century means for ever.
  constexpr double kMost = 100.0 * 365 * 86400;
  const auto bounded = [](double seconds) { return seconds > kMost ? -1 : seconds; };
  const Error bad{ErrorCode::invalid_argument,
                  "keep_alive is " + shown(value) +
                      "; it takes seconds (300, -1 for ever) or a duration such as \"5m\" or \"1h30m\""};
  if (value.is_number()) {
    const double seconds = value.get<double>();
    if (std::isnan(seconds)) return bad;
    return bounded(seconds);
  }
  if (!value.is_string()) return bad;
  const std::string& text = value.get_ref<const std::string&>();
  const char* at = text.c_str();
  double total = 0, sign = 1;
  if (*at == '-' || *at == '+') sign = *at++ == '-' ? -1 : 1;
  if (*at == 0) return bad;
  while (*at != 0) {
    if (!std::isdigit(uint8_t(*at)) && *at != '.') return bad;
    char* end = nullptr;
    const double n = std::strtod(at, &end);
    if (end == at) return bad;
    at = end;
    const std::string_view rest(at);
    if (rest.empty()) {
      total += n;  // plain seconds: "300"
    } else if (rest.starts_with("ms")) {
      total += n * 1e-3;
      at += 2;
    } else if (rest.starts_with("h") || rest.starts_with("m") || rest.starts_with("s")) {
      total += n * (*at == 'h' ? 3600 : *at == 'm' ? 60 : 1);
      ++at;
    } else {
      return bad;
    }
  }
  return bounded(sign * total);
}

}  // namespace ponder::runtime::wire
