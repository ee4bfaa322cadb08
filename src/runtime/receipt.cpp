// Receipts to JSON and back. Reading trusts nothing: a receipt may come from anywhere, so ids, positions and parameters
// are checked here or in engine::Replay::check. Next to read: replay.cpp.
#include "runtime/receipt.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>

#include "base/os/file.h"
#include "base/os/system.h"
#include "base/utf8.h"
#include "base/version.h"
#include "runtime/wire.h"
#include "store/sha256.h"

namespace ponder::runtime {
namespace {

using engine::Action;
using nlohmann::json;
using Kind = Action::Kind;

constexpr int kReceiptVersion = 1;
constexpr size_t kMostTokens = size_t(1) << 26;

std::string digest_of(std::span<const int32_t> ids) {
  store::Sha256 sha;
  std::string bytes;
  for (const int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8) bytes += char(uint32_t(id) >> shift & 0xff);
  sha.update(bytes);
  return sha.finish().hex();
}

// JSON has no infinities; a bias this large says the same.
float finite(float f) {
  const float most = std::numeric_limits<float>::max();
  return std::isfinite(f) ? f : f < 0 ? -most : most;
}

json params_json(const sample::Params& p) {
  json j = {{"temperature", p.temperature},
            {"top_k", p.top_k},
            {"top_p", p.top_p},
            {"min_p", p.min_p},
            {"repeat_penalty", p.repeat_penalty},
            {"repeat_last_n", p.repeat_last_n},
            {"presence_penalty", p.presence_penalty},
            {"frequency_penalty", p.frequency_penalty},
            {"seed", p.seed}};
  for (const auto& [id, bias] : p.logit_bias) j["logit_bias"].push_back({id, finite(bias)});
  return j;
}

json action_json(const Action& a) {
  json j = {{"at", a.position}};
  switch (a.kind) {
    case Kind::drawn:
      j["drawn"] = a.tokens;
      break;
    case Kind::forced:
      j["forced"] = a.tokens;
      break;
    case Kind::rewind:
      j["rewind_to"] = a.rewind_to;
      break;
    case Kind::params:
      j["params"] = params_json(a.params.value_or(sample::Params()));
      break;
    case Kind::stream:
      j["stream"] = a.stream;
      break;
    case Kind::finish:
      j["finish"] = a.text;
      break;
    case Kind::mask:
      if (a.mask_digest == 0) {
        j["mask"] = nullptr;
      } else {
        j["mask"] = {{"digest", a.mask_digest}, {"allowed", a.mask}};
      }
      break;
  }
  if (a.kind != Kind::finish && !a.text.empty()) j["by"] = a.text;
  return j;
}

// Reads one object; every error begins with the object's name.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  static Result<Fields> in(const json& parent, const char* name, const std::string& where = "receipt") {
    const auto it = parent.find(name);
    if (it == parent.end() || !it->is_object())
      return Error{ErrorCode::invalid_file, where + ": \"" + name + "\" must be an object"};
    return Fields(*it, where + "." + name);
  }

  Error bad(const char* name, const std::string& what) const {
    return {ErrorCode::invalid_file, where_ + ": \"" + name + "\" " + what};
  }
  bool has(const char* name) const { return object_.contains(name); }
  const json& at(const char* name) const { return object_.at(name); }

  Result<std::string> text(const char* name) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_string()) return bad(name, "must be a string");
    return it->get<std::string>();
  }
  template <class T>
  Result<T> integer(const char* name, int64_t low, uint64_t high) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_number_integer()) return bad(name, "must be a whole number");
    const bool fits = it->is_number_unsigned()
                          ? it->get<uint64_t>() <= high
                          : it->get<int64_t>() >= low && (it->get<int64_t>() < 0 || it->get<uint64_t>() <= high);
    if (!fits) return bad(name, "is " + it->dump() + ", which is out of range");
    return it->get<T>();
  }
  Result<float> number(const char* name) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_number()) return bad(name, "must be a number");
    return float(it->get<double>());
  }
  Result<std::vector<int32_t>> ids(const char* name) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_array()) return bad(name, "must be a list of token ids");
    if (it->size() > kMostTokens) return bad(name, "is too long");
    std::vector<int32_t> all;
    all.reserve(it->size());
    for (const json& id : *it) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > std::numeric_limits<int32_t>::max())
        return bad(name, "holds " + id.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40) +
                             ", which is not a token id");
      all.push_back(int32_t(id.get<int64_t>()));
    }
    return all;
  }

 private:
  const json& object_;
  std::string where_;
};

constexpr int64_t kInt = std::numeric_limits<int>::max();

Result<sample::Params> params_from(const json& parent, const std::string& where) {
  PONDER_TRY(const auto f, Fields::in(parent, "params", where));
  sample::Params p;
  PONDER_TRY(p.temperature, f.number("temperature"));
  PONDER_TRY(p.top_k, f.integer<int>("top_k", -kInt, kInt));
  PONDER_TRY(p.top_p, f.number("top_p"));
  PONDER_TRY(p.min_p, f.number("min_p"));
  PONDER_TRY(p.repeat_penalty, f.number("repeat_penalty"));
  PONDER_TRY(p.repeat_last_n, f.integer<int>("repeat_last_n", -kInt, kInt));
  PONDER_TRY(p.presence_penalty, f.number("presence_penalty"));
  PONDER_TRY(p.frequency_penalty, f.number("frequency_penalty"));
  PONDER_TRY(p.seed, f.integer<uint64_t>("seed", 0, std::numeric_limits<uint64_t>::max()));
  if (f.has("logit_bias")) {
    const json& list = f.at("logit_bias");
    if (!list.is_array()) return f.bad("logit_bias", "must be a list of [id, bias]");
    for (const json& pair : list) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() || !pair[1].is_number() ||
          pair[0].get<int64_t>() < 0 || pair[0].get<int64_t>() > kInt)
        return f.bad("logit_bias", "must be a list of [id, bias]");
      p.logit_bias.emplace_back(int32_t(pair[0].get<int64_t>()), float(pair[1].get<double>()));
    }
  }
  if (auto valid = sample::validate(p); !valid.ok()) return valid.error().with_context(where);
  return p;
}

Result<Action> action_from(const json& j, size_t index) {
  const std::string where = "receipt.actions[" + std::to_string(index) + "]";
  if (!j.is_object()) return Error{ErrorCode::invalid_file, where + " must be an object"};
  const Fields f(j, where);
  Action a;
  PONDER_TRY(a.position, f.integer<int32_t>("at", 0, kInt));
  if (f.has("by")) {
    PONDER_TRY(a.text, f.text("by"));
  }
  if (f.has("drawn") || f.has("forced")) {
    a.kind = f.has("drawn") ? Kind::drawn : Kind::forced;
    PONDER_TRY(a.tokens, f.ids(f.has("drawn") ? "drawn" : "forced"));
  } else if (f.has("rewind_to")) {
    a.kind = Kind::rewind;
    PONDER_TRY(a.rewind_to, f.integer<int32_t>("rewind_to", 0, kInt));
  } else if (f.has("params")) {
    a.kind = Kind::params;
    PONDER_TRY(a.params, params_from(j, where));
  } else if (f.has("stream")) {
    a.kind = Kind::stream;
    PONDER_TRY(a.stream, f.integer<uint32_t>("stream", 0, std::numeric_limits<uint32_t>::max()));
  } else if (f.has("finish")) {
    a.kind = Kind::finish;
    PONDER_TRY(a.text, f.text("finish"));
  } else if (f.has("mask")) {
    a.kind = Kind::mask;
    if (!f.at("mask").is_null()) {
      PONDER_TRY(const auto mask, Fields::in(j, "mask", where));
      PONDER_TRY(a.mask_digest, mask.integer<uint64_t>("digest", 1, std::numeric_limits<uint64_t>::max()));
      PONDER_TRY(a.mask, mask.ids("allowed"));
    }
  } else {
    return Error{ErrorCode::invalid_file, where + " is of a kind that this version does not know"};
  }
  return a;
}

}  // namespace

std::vector<tokenizer::TokenId> output_of(const engine::Recording& recording, int prompt_size) {
  std::vector<tokenizer::TokenId> out;
  for (const Action& a : recording.actions) {
    out.insert(out.end(), a.tokens.begin(), a.tokens.end());
    if (a.kind == Kind::rewind) out.resize(std::min(out.size(), size_t(std::max(0, a.rewind_to - prompt_size))));
  }
  return out;
}

std::string model_digest(const OpenModel& model) {
  const auto& stored = model.stored;
  if (stored.path.empty()) return store::sha256(stored.bytes).hex();
  // A blob of a store is named by its digest, which was checked when it was written.
  const std::string name = std::filesystem::path(stored.path).filename().string();
  if (!stored.by_reference && name.starts_with("sha256-") && name.size() == 7 + 64) return name.substr(7);
  const uint64_t n = model.file->get_u64("split.count").value_or(1);
  std::string joined, path = stored.path;
  for (uint64_t i = 1; i <= std::max<uint64_t>(n, 1); ++i) {
    if (n > 1) {  // NAME-00001-of-00005.gguf
      char number[32];
      std::snprintf(number, sizeof number, "%05d-of-", int(i));
      if (const size_t at = path.rfind("-of-"); at != std::string::npos && at >= 5) path.replace(at - 5, 9, number);
    }
    auto part = os::MappedFile::open(path);
    if (!part.ok()) return {};
    joined += store::sha256((*part)->bytes()).hex();
  }
  return n > 1 ? store::sha256(joined).hex() : joined;
}

const std::string& build_digest() {
  static const std::string digest = [] {
    auto file = os::MappedFile::open(os::executable_path());
    return file.ok() ? store::sha256((*file)->bytes()).hex() : std::string();
  }();
  return digest;
}

Receipt make_receipt(const LoadedModel& model, const std::string& name, const engine::SequenceRequest& sequence,
                     const engine::Recording& recording, const std::string& done_reason) {
  const auto& info = model.engine().plan().info();
  Receipt r;
  r.model = name;
  r.model_digest = model.digest();
  r.version = kVersion;
  r.build_digest = build_digest();
  r.backend = info.backend;
  r.device = info.device;
  r.isa = info.isa;
  r.numerics_id = info.numerics_id;
  r.precision = backend::to_string(info.precision);
  r.kv_format = backend::to_string(info.kv_format);
  r.placement = !info.placement.empty()
                    ? info.placement
                    : "all " + std::to_string(model.engine().plan().spec().n_layers) + " layers on one device";
  r.made_at = wire::timestamp_now();
  r.sequence.prompt = sequence.prompt;
  r.sequence.sampling = sequence.sampling;
  r.sequence.stream = sequence.stream;
  r.sequence.max_new_tokens = sequence.max_new_tokens;
  r.sequence.context_length = sequence.context_length;
  r.sequence.end_tokens = sequence.end_tokens;
  r.recording = recording;
  r.done_reason = done_reason;
  seal(r);
  return r;
}

void seal(Receipt& r) {
  r.prompt_digest = digest_of(r.sequence.prompt);
  r.output_digest = digest_of(output_of(r.recording, int(r.sequence.prompt.size())));
}

json to_json(const Receipt& r) {
  json actions = json::array();
  for (const Action& a : r.recording.actions) actions.push_back(action_json(a));
  return {{"receipt", kReceiptVersion},
          {"made_at", r.made_at},
          {"model", {{"name", r.model}, {"sha256", r.model_digest}}},
          {"build", {{"version", r.version}, {"sha256", r.build_digest}}},
          {"computed_on",
           {{"backend", r.backend},
            {"device", r.device},
            {"isa", r.isa},
            {"numerics_id", r.numerics_id},
            {"precision", r.precision},
            {"kv_format", r.kv_format},
            {"placement", r.placement}}},
          {"request",
           {{"params", params_json(r.sequence.sampling)},
            {"stream", r.sequence.stream},
            {"max_new_tokens", r.sequence.max_new_tokens},
            {"context_length", r.sequence.context_length},
            {"end_tokens", r.sequence.end_tokens}}},
          {"prompt", {{"sha256", r.prompt_digest}, {"tokens", r.sequence.prompt}}},
          {"actions", std::move(actions)},
          {"output", {{"sha256", r.output_digest}, {"done_reason", r.done_reason}}}};
}

Result<Receipt> receipt_from(const json& given) {
  const json* object = &given;
  if (object->is_object() && object->contains("receipt") && object->at("receipt").is_object())
    object = &object->at("receipt");
  if (!object->is_object() || !object->contains("receipt"))
    return Error{ErrorCode::invalid_file, "this is no receipt: it has no \"receipt\" field"};
  const Fields top(*object, "receipt");
  PONDER_TRY(const int version, top.integer<int>("receipt", 0, kInt));
  if (version != kReceiptVersion)
    return Error{ErrorCode::unsupported, "this is a receipt of version " + std::to_string(version) +
                                             "; this program reads version " + std::to_string(kReceiptVersion)};
  Receipt r;
  if (top.has("made_at")) {
    PONDER_TRY(r.made_at, top.text("made_at"));
  }
  PONDER_TRY(const auto model, Fields::in(*object, "model"));
  PONDER_TRY(r.model, model.text("name"));
  PONDER_TRY(r.model_digest, model.text("sha256"));
  PONDER_TRY(const auto build, Fields::in(*object, "build"));
  PONDER_TRY(r.version, build.text("version"));
  PONDER_TRY(r.build_digest, build.text("sha256"));
  PONDER_TRY(const auto on, Fields::in(*object, "computed_on"));
  PONDER_TRY(r.backend, on.text("backend"));
  PONDER_TRY(r.device, on.text("device"));
  PONDER_TRY(r.isa, on.text("isa"));
  PONDER_TRY(r.numerics_id, on.text("numerics_id"));
  PONDER_TRY(r.precision, on.text("precision"));
  PONDER_TRY(r.kv_format, on.text("kv_format"));
  PONDER_TRY(r.placement, on.text("placement"));
  PONDER_TRY(const auto request, Fields::in(*object, "request"));
  PONDER_TRY(r.sequence.sampling, params_from(object->at("request"), "receipt.request"));
  PONDER_TRY(r.sequence.stream, request.integer<uint32_t>("stream", 0, std::numeric_limits<uint32_t>::max()));
  PONDER_TRY(r.sequence.max_new_tokens, request.integer<int>("max_new_tokens", -1, kInt));
  PONDER_TRY(r.sequence.context_length, request.integer<int>("context_length", 1, kMostTokens));
  PONDER_TRY(r.sequence.end_tokens, request.ids("end_tokens"));
  PONDER_TRY(const auto prompt, Fields::in(*object, "prompt"));
  PONDER_TRY(r.sequence.prompt, prompt.ids("tokens"));
  PONDER_TRY(r.prompt_digest, prompt.text("sha256"));
  PONDER_TRY(const auto output, Fields::in(*object, "output"));
  PONDER_TRY(r.output_digest, output.text("sha256"));
  PONDER_TRY(r.done_reason, output.text("done_reason"));
  if (!top.has("actions") || !top.at("actions").is_array()) return top.bad("actions", "must be a list");
  const json& actions = top.at("actions");
  for (size_t i = 0; i < actions.size(); ++i) {
    PONDER_TRY(Action a, action_from(actions[i], i));
    r.recording.actions.push_back(std::move(a));
  }
  if (digest_of(r.sequence.prompt) != r.prompt_digest) return prompt.bad("sha256", "is not the digest of its tokens");
  if (digest_of(output_of(r.recording, int(r.sequence.prompt.size()))) != r.output_digest)
    return output.bad("sha256", "is not the digest of the tokens in \"actions\": the receipt was changed");
  return r;
}

}  // namespace ponder::runtime
