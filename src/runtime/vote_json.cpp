#include "runtime/vote_json.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "runtime/json_errors.h"

namespace ponder::runtime {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using reason::AnswerKind;
using reason::VoteOptions;

Result<void> set_field(VoteOptions& o, const std::string& name, const std::string& field, const ordered_json& v) {
  const auto is = [&](const char* text) { return v.is_string() && v.get_ref<const std::string&>() == text; };
  if (field == "n") {
    PONDER_TRY(o.n, whole_number(name, v, 1, reason::kMostChains));
  } else if (field == "min") {
    PONDER_TRY(o.min, whole_number(name, v, 1, reason::kMostChains));
  } else if (field == "stop") {
    if (!is("settled") && !is("never")) return bad_value(name, "\"settled\" or \"never\"", v);
    o.settle = is("settled");
  } else if (field == "method") {
    if (is("deepconf") || is("best") || is("confidence"))
      return Error{ErrorCode::unsupported,
                   "\"" + name + "\" " + shown(v) + " is not built; known: \"majority\", \"short\""};
    if (!is("majority") && !is("short")) return bad_value(name, "\"majority\" or \"short\"", v);
    o.method = is("short") ? VoteOptions::Method::shortest : VoteOptions::Method::majority;
  } else if (field == "kind") {
    const auto kind = v.is_string() ? reason::parse_answer_kind(v.get_ref<const std::string&>()) : std::nullopt;
    if (!kind)
      return bad_value(name, "\"auto\", \"boxed\", \"number\", \"choice\", \"yes_no\", \"json\" or \"text\"", v);
    o.kind = *kind;
  } else if (field == "chains") {
    if (!v.is_boolean()) return bad_value(name, "true or false", v);
    o.chains = v.get<bool>();
  } else {
    return Error{ErrorCode::invalid_argument,
                 "\"" + name + "\" is not known; a vote has n, min, stop, method, kind, chains"};
  }
  return {};
}

template <class T>
T get(const json& object, const char* key, T fallback) {
  const auto it = object.find(key);
  if (it == object.end()) return fallback;
  if constexpr (std::is_same_v<T, std::string>) {
    return it->is_string() ? it->get<std::string>() : fallback;
  } else if constexpr (std::is_same_v<T, bool>) {
    return it->is_boolean() ? it->get<bool>() : fallback;
  } else {
    return it->is_number() ? it->get<T>() : fallback;
  }
}

json list_of(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_array() ? *it : json::array();
}

// Nothing where there is no answer: null is easier to test for than "".
json or_null(const std::string& text) { return text.empty() ? json() : json(utf8::sanitize(text)); }

}  // namespace

Result<std::optional<VoteOptions>> parse_vote(const ordered_json& value, const std::string& name) {
  VoteOptions o;
  if (value.is_null() || value == false) return std::optional<VoteOptions>();
  if (value.is_number()) {
    PONDER_TRY(o.n, whole_number(name, value, 1, reason::kMostChains));
    return std::optional(o);
  }
  if (!value.is_object()) return bad_value(name, "a number of chains, or an object with \"n\"", value);
  if (!value.contains("n"))
    return Error{ErrorCode::invalid_argument, "\"" + name + "\" needs \"n\", the number of chains"};
  for (const auto& [field, v] : value.items()) {
    if (v.is_null()) continue;
    PONDER_CHECK_OK(set_field(o, name + "." + field, field, v));
  }
  if (o.min > o.n) {
    if (value.contains("min"))
      return Error{ErrorCode::invalid_argument, "\"" + name + ".min\" is " + std::to_string(o.min) + ", more than \"" +
                                                    name + ".n\", which is " + std::to_string(o.n)};
    o.min = o.n;
  }
  return std::optional(o);
}

Result<std::optional<VoteOptions>> parse_vote_text(const std::string& text) {
  if (text.empty() || text == "off" || text == "0") return std::optional<VoteOptions>();
  const auto value = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded())
    return bad_value("vote", "a number of chains, or an object with \"n\" as JSON", ordered_json(text));
  return parse_vote(value, "vote");
}

json to_json(const VoteOptions& o) {
  return {{"n", o.n},
          {"min", std::min(o.min, o.n)},
          {"stop", o.settle ? "settled" : "never"},
          {"method", reason::to_string(o.method)},
          {"kind", reason::to_string(o.kind)},
          {"chains", o.chains}};
}

json to_json(const reason::VoteReport& r, bool last) {
  json j = {{"n", r.n},
            {"answer", or_null(r.answer)},
            {"counts", json::array()},
            {"agreement", r.agreement},
            {"without_answer", r.without_answer},
            {"finished", r.finished},
            {"tokens", r.tokens},
            {"decided", r.decided}};
  for (const auto& c : r.counts)
    j["counts"].push_back({{"answer", utf8::sanitize(c.answer)}, {"count", c.chains.size()}, {"chains", c.chains}});
  if (last) {
    j["winner"] = r.winner < 0 ? json() : json(r.winner);
    j["settled"] = r.settled;
    j["cancelled"] = r.cancelled;
    j["tokens_saved"] = r.tokens_saved;
  }
  if (last && r.chains.empty()) return j;
  j["chains"] = json::array();
  for (const auto& c : r.chains) {
    json chain = {{"index", c.index},
                  {"state", reason::to_string(c.state)},
                  {"answer", or_null(c.answer ? c.answer->shown : "")},
                  {"tokens", c.tokens},
                  {"thinking_tokens", c.thinking_tokens},
                  {"answer_tokens", c.answer_tokens}};
    if (!c.done_reason.empty()) chain["done_reason"] = c.done_reason;
    if (last) chain["counted"] = c.counted;
    if (!c.thinking.empty()) chain["thinking"] = c.thinking;
    if (!c.content.empty()) chain["content"] = c.content;
    j["chains"].push_back(std::move(chain));
  }
  return j;
}

reason::VoteReport vote_report_from(const json& j) {
  reason::VoteReport r;
  if (!j.is_object()) return r;
  r.n = get(j, "n", 0);
  r.answer = get<std::string>(j, "answer", "");
  r.agreement = get(j, "agreement", 0.0);
  r.without_answer = get(j, "without_answer", 0);
  r.finished = get(j, "finished", 0);
  r.cancelled = get(j, "cancelled", 0);
  r.tokens = get<int64_t>(j, "tokens", 0);
  r.tokens_saved = get<int64_t>(j, "tokens_saved", 0);
  r.decided = get(j, "decided", false);
  r.settled = get(j, "settled", false);
  r.winner = get(j, "winner", -1);
  for (const auto& c : list_of(j, "counts")) {
    if (!c.is_object()) continue;
    reason::VoteReport::Count count{get<std::string>(c, "answer", ""), {}};
    for (const auto& chain : list_of(c, "chains"))
      if (chain.is_number_integer()) count.chains.push_back(chain.get<int>());
    r.counts.push_back(std::move(count));
  }
  for (const auto& c : list_of(j, "chains")) {
    if (!c.is_object()) continue;
    reason::ChainReport chain;
    chain.index = get(c, "index", 0);
    chain.tokens = get(c, "tokens", 0);
    chain.thinking_tokens = get(c, "thinking_tokens", 0);
    chain.answer_tokens = get(c, "answer_tokens", 0);
    chain.done_reason = get<std::string>(c, "done_reason", "");
    chain.counted = get(c, "counted", false);
    chain.thinking = get<std::string>(c, "thinking", "");
    chain.content = get<std::string>(c, "content", "");
    if (const auto answer = get<std::string>(c, "answer", ""); !answer.empty())
      chain.answer = reason::Answer{answer, answer, ""};
    const auto state = get<std::string>(c, "state", "");
    for (int s = 0; s <= int(reason::ChainReport::State::failed); ++s)
      if (state == reason::to_string(reason::ChainReport::State(s))) chain.state = reason::ChainReport::State(s);
    r.chains.push_back(std::move(chain));
  }
  return r;
}

}  // namespace ponder::runtime
