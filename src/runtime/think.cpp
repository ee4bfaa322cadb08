#include "runtime/think.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "runtime/json_errors.h"
#include "runtime/wire.h"

namespace ponder::runtime {
namespace {

using json = nlohmann::ordered_json;

constexpr ThinkLevel kLevels[] = {
    {"minimal", 256, 64}, {"low", 1024, 16}, {"medium", 4096, 4}, {"high", 16384, 2}, {"max", -1, 1}};
constexpr size_t kMaxClosing = 2000;  // bytes of a closing sentence
constexpr int kMaxExtend = 8;

Result<double> seconds_of(const std::string& name, const json& v) {
  if (v.is_number() && v.get<double>() > 0 && v.get<double>() <= 1e9) return v.get<double>();
  if (v.is_string()) {
    auto s = wire::parse_keep_alive(nlohmann::json(v.get<std::string>()));
    if (s.ok() && *s > 0 && *s <= 1e9) return *s;
  }
  return bad_value(name, "seconds (30) or a duration (\"1m30s\")", v);
}

// A word: off, on, or a level (with OpenAI's names for them). False if it is none.
bool set_word(ThinkOptions& t, std::string word) {
  word = ascii::lower(word);
  if (word == "off" || word == "none" || word == "false" || word == "disabled") {
    t.on = false;
    return true;
  }
  if (word == "on" || word == "true" || word == "enabled") {
    t.on = true;
    return true;
  }
  if (word == "auto" || word == "adaptive" || word.empty()) return true;
  if (word == "xhigh") word = "max";
  for (const ThinkLevel& level : kLevels)
    if (word == level.name) {
      t.on = true;
      t.level = word;
      return true;
    }
  return false;
}

void set_tokens(ThinkOptions& t, int n) {
  t.tokens = n;
  t.on = n != 0;
}

constexpr const char* kTakes =
    "true, false, \"minimal\", \"low\", \"medium\", \"high\", \"max\", a number of tokens, a time (\"30s\") or an "
    "object of {tokens, seconds, level, answer, close, closing, extend, loop, off}";

Result<void> set_text(ThinkOptions& t, const std::string& text, const std::string& name) {
  if (set_word(t, text)) return {};
  int n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec == std::errc() && end == text.data() + text.size() && n >= -1) {
    set_tokens(t, n);
    return {};
  }
  if (auto s = wire::parse_keep_alive(nlohmann::json(text)); s.ok() && *s > 0 && *s <= 1e9) {
    t.seconds = *s;
    t.on = true;
    return {};
  }
  return bad_value(name, kTakes, json(text));
}

template <class T>
Result<T> choice(const std::string& name, const json& v, std::initializer_list<std::pair<const char*, T>> all) {
  std::string list;
  for (const auto& [word, value] : all) {
    if (v.is_string() && v.get_ref<const std::string&>() == word) return value;
    list += (list.empty() ? "\"" : ", \"") + std::string(word) + "\"";
  }
  return bad_value(name, list, v);
}

Result<void> set_member(ThinkOptions& t, const std::string& key, const json& v, const std::string& name) {
  using Close = ThinkOptions::Close;
  using Loop = ThinkOptions::Loop;
  if (key == "on" || key == "enabled") {
    if (!v.is_boolean()) return bad_value(name, "true or false", v);
    t.on = v.get<bool>();
  } else if (key == "level" || key == "effort") {
    if (!v.is_string() || !set_word(t, v.get<std::string>())) return bad_value(name, "a level", v);
  } else if (key == "tokens") {
    PONDER_TRY(const int n, whole_number(name, v, -1, std::numeric_limits<int>::max()));
    set_tokens(t, n);
  } else if (key == "seconds") {
    PONDER_TRY(t.seconds, seconds_of(name, v));
    if (!t.on) t.on = true;
  } else if (key == "answer") {
    PONDER_TRY(t.answer, whole_number(name, v, 0, std::numeric_limits<int>::max()));
  } else if (key == "close") {
    PONDER_TRY(t.close, choice<Close>(name, v, {{"graceful", Close::graceful}, {"hard", Close::hard}}));
  } else if (key == "closing") {
    if (!v.is_string() || v.get_ref<const std::string&>().size() > kMaxClosing)
      return bad_value(name, "a sentence of at most 2000 bytes", v);
    t.closing = v.get<std::string>();
  } else if (key == "extend") {
    PONDER_TRY(t.extend, whole_number(name, v, 0, kMaxExtend));
  } else if (key == "loop") {
    if (v.is_boolean()) {
      t.loop = v.get<bool>() ? Loop::ladder : Loop::off;
    } else {
      PONDER_TRY(t.loop, choice<Loop>(name, v,
                                      {{"ladder", Loop::ladder},
                                       {"conclude", Loop::conclude},
                                       {"close", Loop::conclude},
                                       {"stop", Loop::stop},
                                       {"off", Loop::off}}));
    }
  } else if (key == "off") {
    PONDER_TRY(t.off_form, choice<std::string>(name, v, {{"empty", "empty"}, {"sentence", "sentence"}}));
  } else {
    return Error{ErrorCode::invalid_argument,
                 "\"" + name +
                     "\" is not known; known: on, level, tokens, seconds, answer, close, closing, extend, "
                     "loop, off"};
  }
  return {};
}

const json* field(const json& body, const char* name) {
  const auto it = body.find(name);
  return it == body.end() || it->is_null() ? nullptr : &*it;
}

// OpenAI's effort, OpenRouter's reasoning object.
Result<ThinkOptions> effort_of(const json& body) {
  ThinkOptions t;
  if (const auto* v = field(body, "reasoning")) {
    if (!v->is_object()) return bad_value("reasoning", "an object", *v);
    if (const auto* enabled = field(*v, "enabled"))
      PONDER_CHECK_OK(set_member(t, "enabled", *enabled, "reasoning.enabled"));
    if (const auto* effort = field(*v, "effort")) PONDER_CHECK_OK(set_member(t, "effort", *effort, "reasoning.effort"));
    if (const auto* n = field(*v, "max_tokens")) PONDER_CHECK_OK(set_member(t, "tokens", *n, "reasoning.max_tokens"));
  }
  if (const auto* v = field(body, "reasoning_effort")) PONDER_CHECK_OK(set_member(t, "effort", *v, "reasoning_effort"));
  if (const auto* v = field(body, "thinking"); v != nullptr && v->is_object()) {
    if (const auto* type = field(*v, "type")) PONDER_CHECK_OK(set_member(t, "effort", *type, "thinking.type"));
    if (const auto* n = field(*v, "budget_tokens"))
      PONDER_CHECK_OK(set_member(t, "tokens", *n, "thinking.budget_tokens"));
  }
  return t;
}

}  // namespace

int ThinkLevel::tokens(uint64_t context_length) const {
  if (most < 0) return -1;
  if (context_length == 0) return most;
  return int(std::clamp<uint64_t>(context_length / uint64_t(fraction), 1, uint64_t(most)));
}

std::span<const ThinkLevel> think_levels() { return kLevels; }

void ThinkOptions::merge(const ThinkOptions& over) {
  if (over.on) on = over.on;
  const bool budget = over.tokens || over.seconds;
  if (!over.level.empty() || budget) {
    level = over.level;
    tokens = over.tokens;
    seconds = over.seconds;
  }
  if (over.answer) answer = over.answer;
  if (over.close) close = over.close;
  if (over.closing) closing = over.closing;
  if (over.extend > 0) extend = over.extend;
  if (over.loop) loop = over.loop;
  if (!over.off_form.empty()) off_form = over.off_form;
}

Result<ThinkOptions> parse_think(const json& value, const std::string& name) {
  ThinkOptions t;
  if (value.is_null()) return t;
  if (value.is_boolean()) {
    t.on = value.get<bool>();
  } else if (value.is_number()) {
    PONDER_CHECK_OK(set_member(t, "tokens", value, name));
  } else if (value.is_string()) {
    PONDER_CHECK_OK(set_text(t, value.get<std::string>(), name));
  } else if (value.is_object()) {
    for (const auto& [key, v] : value.items())
      if (!v.is_null()) PONDER_CHECK_OK(set_member(t, key, v, name + "." + key));
    // A budget asks for a thought; what is said in so many words wins, wherever it stands.
    for (const char* key : {"enabled", "on"})
      if (const auto* v = field(value, key)) PONDER_CHECK_OK(set_member(t, key, *v, name + "." + key));
  } else {
    return bad_value(name, kTakes, value);
  }
  return t;
}

Result<ThinkOptions> parse_think_text(const std::string& text) {
  if (text.starts_with('{')) {
    const auto object = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded()) return Error{ErrorCode::invalid_argument, "think: " + text + " is not JSON"};
    return parse_think(object, "think");
  }
  return parse_think(json(text), "think");
}

Result<ThinkOptions> think_of_body(const json& body) {
  ThinkOptions t;
  if (const auto* kwargs = field(body, "chat_template_kwargs"); kwargs != nullptr && kwargs->is_object())
    if (const auto* v = field(*kwargs, "enable_thinking")) PONDER_CHECK_OK(set_member(t, "on", *v, "enable_thinking"));
  PONDER_TRY(const auto effort, effort_of(body));
  t.merge(effort);
  for (const char* name : {"reasoning_budget_tokens", "thinking_budget_tokens"}) {
    if (const auto* v = field(body, name)) {
      ThinkOptions budget;
      PONDER_CHECK_OK(set_member(budget, "tokens", *v, name));
      if (budget.tokens != 0) budget.on.reset();  // a limit is no wish
      t.merge(budget);
    }
  }
  if (const auto* v = field(body, "reasoning_budget_message"))
    PONDER_CHECK_OK(set_member(t, "closing", *v, "reasoning_budget_message"));
  if (const auto* options = field(body, "options"); options != nullptr && options->is_object())
    if (const auto* v = field(*options, "think")) {
      PONDER_TRY(const auto inner, parse_think(*v, "options.think"));
      t.merge(inner);
    }
  if (const auto* v = field(body, "think")) {
    PONDER_TRY(const auto own, parse_think(*v, "think"));
    t.merge(own);
  }
  return t;
}

nlohmann::json to_json(const ThinkOptions& t) {
  nlohmann::json j = nlohmann::json::object();
  if (!t.level.empty()) j["level"] = t.level;
  if (t.tokens) j["tokens"] = *t.tokens;
  if (t.seconds) j["seconds"] = *t.seconds;
  if (t.answer) j["answer"] = *t.answer;
  if (t.close) j["close"] = *t.close == ThinkOptions::Close::hard ? "hard" : "graceful";
  if (t.closing) j["closing"] = *t.closing;
  if (t.extend > 0) j["extend"] = t.extend;
  if (t.loop) {
    constexpr const char* kNames[] = {"ladder", "conclude", "stop", "off"};
    j["loop"] = kNames[int(*t.loop)];
  }
  if (!t.off_form.empty()) j["off"] = t.off_form;
  if (t.on && j.empty()) return *t.on;
  if (t.on) j["on"] = *t.on;
  return j;
}

bool asks_to_think(const ThinkOptions& t) { return t.on == true && !t.is_off(); }

}  // namespace ponder::runtime
