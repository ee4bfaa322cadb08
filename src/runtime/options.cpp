// Options by name. One table drives JSON, command-line text and printing, so that an option is one line here.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "runtime/types.h"

namespace ponder::runtime {
namespace {

using nlohmann::json;

struct FloatOption {
  const char* name;
  std::optional<float> Options::* field;
  double low, high;
};
struct IntOption {
  const char* name;
  std::optional<int> Options::* field;
  int64_t low, high;
};

constexpr int64_t kIntMax = std::numeric_limits<int>::max();

constexpr FloatOption kFloats[] = {
    {"temperature", &Options::temperature, 0, 100},
    {"top_p", &Options::top_p, 0, 1},
    {"min_p", &Options::min_p, 0, 1},
    {"repeat_penalty", &Options::repeat_penalty, 1e-3, 1e3},
    {"presence_penalty", &Options::presence_penalty, -1e3, 1e3},
    {"frequency_penalty", &Options::frequency_penalty, -1e3, 1e3},
};
constexpr IntOption kInts[] = {
    {"top_k", &Options::top_k, -1, kIntMax},
    {"repeat_last_n", &Options::repeat_last_n, -1, kIntMax},
    {"num_predict", &Options::num_predict, -2, kIntMax},
    {"num_ctx", &Options::num_ctx, 0, kIntMax},
    {"num_thread", &Options::num_thread, 0, 1024},
};
// Options of Ollama without an effect here. Clients send some of them by default; what would change the output (all that
// have a reason) is told, unless it has the value that changes nothing.
struct Inert {
  const char* name;
  const char* neutral;  // JSON
  const char* reason;
};
constexpr Inert kInert[] = {
    {"mirostat", "0", "this sampler is not built; temperature, top_p and min_p are"},
    {"typical_p", "1", "this filter is not built; top_p and min_p are"},
    {"tfs_z", "1", "this filter is not built; top_p and min_p are"},
    {"penalize_newline", "true", "a line break is penalized like any other token"},
    {"f16_kv", "true", "the format of the KV cache is chosen when the server starts (--kv)"},
    {"num_gpu", "-1", "layers on the card are chosen when the server starts (--gpu-layers, --backend cpu)"},
    {"mirostat_tau", nullptr, nullptr},
    {"mirostat_eta", nullptr, nullptr},
    {"num_keep", nullptr, nullptr},
    {"num_batch", nullptr, nullptr},
    {"main_gpu", nullptr, nullptr},
    {"use_mmap", nullptr, nullptr},
    {"use_mlock", nullptr, nullptr},
    {"low_vram", nullptr, nullptr},
    {"logits_all", nullptr, nullptr},
    {"vocab_only", nullptr, nullptr},
    {"numa", nullptr, nullptr},
};
// Fields of ours that may stand among the options but are none: read by the server (server/fields.h, extra_field).
constexpr const char* kFields[] = {
    "think", "request_id", "vote", "receipt", "keep_thoughts", "continue", "continue_final_message",
};

bool is_field(const std::string& name) {
  return std::find(std::begin(kFields), std::end(kFields), name) != std::end(kFields);
}

Error out_of_range(std::string_view name, const std::string& value, double low, double high) {
  const auto show = [](double v) {
    return std::abs(v) >= 1e9 ? (v < 0 ? std::string("-inf") : std::string("inf")) : json(v).dump();
  };
  return {ErrorCode::invalid_argument, "option \"" + std::string(name) + "\" is " + value + "; it must be between " +
                                           show(low) + " and " + show(high)};
}

Error wrong_type(std::string_view name, const json& value, const char* expected) {
  return {ErrorCode::invalid_argument,
          "option \"" + std::string(name) + "\" must be " + expected + ", not " + std::string(value.type_name())};
}

Result<int64_t> integer_of(std::string_view name, const json& v, int64_t low, int64_t high) {
  if (!v.is_number()) return wrong_type(name, v, "a whole number");
  if (v.is_number_float()) {  // some clients send every number as a float
    const double d = v.get<double>();
    if (!(d == std::floor(d)))
      return Error{ErrorCode::invalid_argument,
                   "option \"" + std::string(name) + "\" must be a whole number, not " + v.dump()};
    if (!(d >= double(low) && d < double(high))) return out_of_range(name, v.dump(), double(low), double(high));
    return int64_t(d);
  }
  const bool too_big = v.is_number_unsigned() && v.get<uint64_t>() > uint64_t(high);
  if (too_big || v.get<int64_t>() < low || v.get<int64_t>() > high)
    return out_of_range(name, v.dump(), double(low), double(high));
  return v.get<int64_t>();
}

// Numbers, words, and true and false for clients that know no words.
Result<int> draft_of(const json& v) {
  if (v.is_boolean()) return v.get<bool>() ? kDraftAuto : 0;
  if (v.is_string()) return parse_draft(v.get_ref<const std::string&>());
  if (!v.is_number()) return wrong_type("draft", v, "\"auto\", \"off\" or a number of tokens");
  PONDER_TRY(const int64_t n, integer_of("draft", v, 0, kDraftMost));
  return int(n);
}

Result<std::vector<std::string>> stops_of(const json& v) {
  std::vector<std::string> stops;
  const json list = v.is_array() ? v : v.is_null() ? json::array() : json::array({v});
  for (const auto& s : list) {
    if (!s.is_string()) return wrong_type("stop", s, "a string or a list of strings");
    if (!s.get_ref<const std::string&>().empty()) stops.push_back(s.get<std::string>());
  }
  if (stops.size() > 64) return out_of_range("stop (entries)", std::to_string(stops.size()), 0, 64);
  return stops;
}

Result<std::vector<std::pair<int32_t, float>>> biases_of(const json& v) {
  if (!v.is_object()) return wrong_type("logit_bias", v, "an object of token ids and numbers");
  std::vector<std::pair<int32_t, float>> biases;
  for (const auto& [key, bias] : v.items()) {
    int32_t id = -1;
    const auto [end, ec] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (ec != std::errc() || end != key.data() + key.size() || id < 0 || !bias.is_number())
      return Error{ErrorCode::invalid_argument,
                   "option \"logit_bias\" maps token ids to numbers; entry \"" + key + "\" does not"};
    const double value = bias.get<double>();
    if (!(std::abs(value) <= double(std::numeric_limits<float>::max())))
      return Error{ErrorCode::invalid_argument, "option \"logit_bias\" gives token " + key + " the bias " +
                                                    bias.dump() +
                                                    ", which is too large; -100 forbids a token, 100 leaves no other"};
    biases.emplace_back(id, float(value));
  }
  return biases;
}

// False when no option has the name. `no_effect` gets what is to be told when nothing came of it.
Result<bool> set_from_json(Options& o, const std::string& name, const json& v, std::string* no_effect) {
  for (const auto& f : kFloats) {
    if (name != f.name) continue;
    if (!v.is_number()) return wrong_type(name, v, "a number");
    const double d = v.get<double>();
    // JSON has no word for what a GGUF file may hold.
    const std::string shown = std::isfinite(d) ? v.dump() : std::isnan(d) ? "nan" : d < 0 ? "-inf" : "inf";
    if (!(d >= f.low && d <= f.high)) return out_of_range(name, shown, f.low, f.high);
    o.*f.field = float(d);
    return true;
  }
  for (const auto& f : kInts) {
    if (name != f.name) continue;
    PONDER_TRY(const int64_t n, integer_of(name, v, f.low, f.high));
    o.*f.field = int(n);
    return true;
  }
  if (name == "seed") {
    PONDER_TRY(o.seed, integer_of(name, v, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()));
    return true;
  }
  if (name == "draft") {
    PONDER_TRY(o.draft, draft_of(v));
    return true;
  }
  if (name == "draft_num_predict") {  // Ollama's, for its draft models: there may be more than we ever draft
    PONDER_TRY(const int64_t n, integer_of(name, v, -1, kIntMax));
    o.draft = int(std::min<int64_t>(n, kDraftMost));
    return true;
  }
  if (name == "stop") {
    PONDER_TRY(o.stop, stops_of(v));
    return true;
  }
  if (name == "logit_bias") {
    PONDER_TRY(o.logit_bias, biases_of(v));
    return true;
  }
  for (const auto& inert : kInert) {
    if (name != inert.name) continue;
    if (inert.reason != nullptr && v != json::parse(inert.neutral))
      *no_effect = "option \"" + name + "\" has no effect: " + inert.reason;
    return true;
  }
  return false;
}

template <class T>
void take(std::optional<T>& into, const std::optional<T>& from) {
  if (from) into = from;
}

}  // namespace

Result<int> parse_draft(std::string_view text, std::string_view what) {
  if (text == "auto") return kDraftAuto;
  if (text == "off") return 0;
  int n = -1;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec == std::errc() && end == text.data() + text.size() && n >= 0 && n <= kDraftMost) return n;
  return Error{ErrorCode::invalid_argument, std::string(what) + " must be auto, off or a number of tokens from 0 to " +
                                                std::to_string(kDraftMost) + ", not \"" +
                                                std::string(text.substr(0, 40)) + "\""};
}

void Options::merge(const Options& over) {
  for (const auto& f : kFloats) take(this->*f.field, over.*f.field);
  for (const auto& f : kInts) take(this->*f.field, over.*f.field);
  take(draft, over.draft);
  take(seed, over.seed);
  take(stop, over.stop);
  if (!over.logit_bias.empty()) logit_bias = over.logit_bias;
}

Result<Options> options_from_json(const json& object, std::vector<std::string>* warnings) {
  Options o;
  if (object.is_null()) return o;
  if (!object.is_object()) return wrong_type("options", object, "an object");
  for (const auto& [name, value] : object.items()) {
    if (value.is_null() || is_field(name)) continue;
    std::string told;
    PONDER_TRY(const bool known, set_from_json(o, name, value, &told));
    if (!known) told = "option \"" + name + "\" is not known and was ignored";
    if (!told.empty() && warnings) warnings->push_back(std::move(told));
  }
  return o;
}

Result<void> set_option(Options& options, std::string_view name_in, std::string_view text) {
  std::string name(name_in);
  for (char& c : name)
    if (c == '-') c = '_';
  json value;
  if (name == "stop") {
    value = options.stop ? json(*options.stop) : json::array();
    value.push_back(std::string(text));
  } else if (name == "draft") {
    value = std::string(text);
  } else {
    value = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!value.is_number() && !value.is_object() && !value.is_boolean())
      return Error{ErrorCode::invalid_argument,
                   "option \"" + name + "\" needs a number, not \"" + std::string(text) + "\""};
  }
  std::string no_effect;
  PONDER_TRY(const bool known, set_from_json(options, name, value, &no_effect));
  if (!no_effect.empty()) return Error{ErrorCode::invalid_argument, std::move(no_effect)};
  if (known) return {};
  std::string list;
  for (const auto& n : option_names()) list += (list.empty() ? "" : ", ") + n;
  return Error{ErrorCode::invalid_argument, "unknown option \"" + name + "\"; known: " + list};
}

json to_json(const Options& o) {
  json j = json::object();
  // Shortest decimal that reads back as the same float, so that 0.6 is not printed as 0.6000000238.
  const auto shortest = [](float f) {
    char buffer[32];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, f).ptr;
    return json::parse(buffer, end);
  };
  for (const auto& f : kFloats)
    if (o.*f.field) j[f.name] = shortest(*(o.*f.field));
  for (const auto& f : kInts)
    if (o.*f.field) j[f.name] = *(o.*f.field);
  if (o.draft) j["draft"] = *o.draft == kDraftAuto ? json("auto") : *o.draft == 0 ? json("off") : json(*o.draft);
  if (o.seed) j["seed"] = *o.seed;
  if (o.stop) j["stop"] = *o.stop;
  for (const auto& [id, bias] : o.logit_bias) j["logit_bias"][std::to_string(id)] = bias;
  return j;
}

std::vector<std::string> option_names() {
  std::vector<std::string> names;
  for (const auto& f : kFloats) names.emplace_back(f.name);
  for (const auto& f : kInts) names.emplace_back(f.name);
  names.insert(names.end(), {"draft", "seed", "stop"});
  return names;
}

}  // namespace ponder::runtime
