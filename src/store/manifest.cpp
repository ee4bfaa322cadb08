// Reading and writing manifests. Nothing here trusts a field before its type and range are known;
// sizes are added with checks; the error names the field. What else peers send as JSON (token
// replies, repository listings) is in peers.cpp.
#include "store/manifest.h"

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/utf8.h"

namespace ponder::store {
namespace {

using Json = nlohmann::json;

constexpr char kReferencePath[] = "ponder.reference.path";
constexpr char kReferenceTime[] = "ponder.reference.mtime_ns";
constexpr char kTitle[] = "org.opencontainers.image.title";
constexpr char kSource[] = "org.opencontainers.image.source";

Error bad(const std::string& field, const std::string& why) {
  return Error{ErrorCode::invalid_file, "manifest: " + field + " " + why};
}

// The string under `key`, empty if it is missing or something else.
std::string text_of(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

Result<uint64_t> number_of(const Json& object, const char* key, const std::string& field) {
  const auto it = object.find(key);
  if (it == object.end()) return bad(field, "is missing");
  if (!it->is_number_integer() || (!it->is_number_unsigned() && it->get<int64_t>() < 0))
    return bad(field, "must be a whole number of bytes");
  return it->get<uint64_t>();
}

Result<Layer> parse_layer(const Json& json, const std::string& field, Manifest::Trust trust) {
  if (!json.is_object()) return bad(field, "must be an object");
  Layer layer;
  layer.media_type = text_of(json, "mediaType");
  if (layer.media_type.empty()) return bad(field + ".mediaType", "is missing");
  if (layer.media_type.size() > 255) return bad(field + ".mediaType", "is too long");
  PONDER_TRY(layer.size, number_of(json, "size", field + ".size"));
  if (layer.size > kMaxModel) return bad(field + ".size", "is larger than any model");
  const auto annotations = json.find("annotations");
  const bool annotated = annotations != json.end() && annotations->is_object();
  if (annotated) layer.title = text_of(*annotations, kTitle);

  if (json.contains("digest")) {
    if (!json["digest"].is_string()) return bad(field + ".digest", "must be text");
    auto digest = Digest::parse(json["digest"].get_ref<const std::string&>());
    if (!digest.ok()) return bad(field + ".digest", "is not sha256: and 64 hexadecimal digits");
    layer.digest = *digest;
    return layer;
  }
  if (trust == Manifest::Trust::foreign || !annotated) return bad(field + ".digest", "is missing");
  Reference reference;
  reference.path = text_of(*annotations, kReferencePath);
  if (reference.path.empty() || reference.path[0] != '/' || reference.path.find('\0') != std::string::npos)
    return bad(field, "has neither a digest nor the absolute path of a file");
  const std::string time = text_of(*annotations, kReferenceTime);
  const bool negative = !time.empty() && time[0] == '-';
  uint64_t ns = 0;
  for (char c : std::string_view(time).substr(negative ? 1 : 0)) {
    if (c < '0' || c > '9' || ns > uint64_t(INT64_MAX) / 10 - 1)
      return bad(field + "." + kReferenceTime, "is not a number of nanoseconds");
    ns = ns * 10 + uint64_t(c - '0');
  }
  if (time.empty()) return bad(field + "." + kReferenceTime, "is missing");
  reference.mtime_ns = negative ? -int64_t(ns) : int64_t(ns);
  layer.reference = std::move(reference);
  return layer;
}

Json layer_json(const Layer& layer) {
  Json json = {{"mediaType", layer.media_type}, {"size", layer.size}};
  if (layer.digest) json["digest"] = layer.digest->to_string();
  if (layer.reference)
    json["annotations"] = {{kReferencePath, layer.reference->path},
                           {kReferenceTime, std::to_string(layer.reference->mtime_ns)}};
  if (!layer.title.empty()) json["annotations"][kTitle] = layer.title;
  return json;
}

Result<Json> parse_object(std::string_view text) {
  if (text.size() > kMaxManifest) return Error{ErrorCode::invalid_file, "manifest: larger than 4 MiB"};
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return Error{ErrorCode::invalid_file, "manifest: not JSON"};
  if (!json.is_object()) return Error{ErrorCode::invalid_file, "manifest: not a JSON object"};
  return json;
}

std::string this_architecture() {
#if defined(__aarch64__)
  return "arm64";
#else
  return "amd64";
#endif
}

}  // namespace

Result<Manifest> Manifest::parse(std::string_view text, Trust trust) {
  PONDER_TRY(const Json json, parse_object(text));
  if (!json.contains("schemaVersion")) return bad("schemaVersion", "is missing");
  if (!json["schemaVersion"].is_number_integer() || json["schemaVersion"] != 2)
    return bad("schemaVersion", "must be 2");
  const std::string media_type = text_of(json, "mediaType");
  if (!media_type.empty() && media_type != media::kManifest && media_type != media::kOciManifest)
    return bad("mediaType", "is not that of a manifest");

  Manifest m;
  if (json.contains("config") && !json["config"].is_null()) {
    PONDER_TRY(m.config, parse_layer(json["config"], "config", Trust::foreign));
  }
  if (!json.contains("layers") || !json["layers"].is_array()) return bad("layers", "is missing");
  const Json& layers = json["layers"];
  if (layers.empty()) return bad("layers", "is empty: there is no model in it");
  if (layers.size() > kMaxLayers) return bad("layers", "has more than 64 entries");
  uint64_t total = m.config ? m.config->size : 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string field = "layers[" + std::to_string(i) + "]";
    PONDER_TRY(Layer layer, parse_layer(layers[i], field, trust));
    const auto sum = checked_add(total, layer.size);
    if (!sum || *sum > kMaxModel) return bad("layers", "are larger together than any model");
    total = *sum;
    for (const Layer& other : m.layers)
      if (layer.digest && other.digest == layer.digest && other.size != layer.size)
        return bad(field, "gives one digest two sizes");
    m.layers.push_back(std::move(layer));
  }
  const auto annotations = json.find("annotations");
  if (annotations != json.end() && annotations->is_object()) m.source = text_of(*annotations, kSource);
  return m;
}

std::string Manifest::to_json() const {
  Json json = {{"schemaVersion", 2}, {"mediaType", media::kManifest}, {"layers", Json::array()}};
  if (config) json["config"] = layer_json(*config);
  for (const Layer& layer : layers) json["layers"].push_back(layer_json(layer));
  if (!source.empty()) json["annotations"] = {{kSource, source}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

uint64_t Manifest::total_size() const {
  uint64_t total = config ? config->size : 0;
  for (const Layer& layer : layers) total += layer.size;
  return total;
}

const Layer* Manifest::find(std::string_view media_type) const {
  for (const Layer& layer : layers)
    if (layer.media_type == media_type) return &layer;
  return nullptr;
}

bool is_index(std::string_view text) {
  const Json json = text.size() > kMaxManifest ? Json() : Json::parse(text, nullptr, false);
  if (!json.is_object()) return false;
  const std::string type = text_of(json, "mediaType");
  return type == media::kOciIndex || type == media::kManifestList ||
         (json.contains("manifests") && !json.contains("layers"));
}

Result<Layer> choose_from_index(std::string_view text) {
  PONDER_TRY(const Json json, parse_object(text));
  if (!json.contains("manifests") || !json["manifests"].is_array() || json["manifests"].empty())
    return bad("manifests", "is missing or empty");
  if (json["manifests"].size() > 1000) return bad("manifests", "has more than 1000 entries");
  std::optional<Layer> best;
  int best_rank = 99;
  for (size_t i = 0; i < json["manifests"].size(); ++i) {
    const Json& entry = json["manifests"][i];
    PONDER_TRY(Layer layer, parse_layer(entry, "manifests[" + std::to_string(i) + "]", Manifest::Trust::foreign));
    int rank = 0;
    const auto platform = entry.find("platform");
    if (platform != entry.end() && platform->is_object()) {
      const bool linux_os = text_of(*platform, "os") == "linux";
      rank = linux_os && text_of(*platform, "architecture") == this_architecture() ? 1 : 2;
    }
    if (rank < best_rank) best_rank = rank, best = std::move(layer);
  }
  if (best->size > kMaxManifest) return bad("manifests", "names a manifest larger than 4 MiB");
  return *best;
}

Result<Details> parse_config(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return Error{ErrorCode::invalid_file, "the configuration is not a JSON object"};
  Details d;
  if (const std::string format = text_of(json, "model_format"); !format.empty()) d.format = format;
  d.family = text_of(json, "model_family");
  d.parameter_size = text_of(json, "model_type");
  d.quantization_level = text_of(json, "file_type");
  if (const auto f = json.find("model_families"); f != json.end() && f->is_array())
    for (const Json& family : *f)
      if (family.is_string() && d.families.size() < 16) d.families.push_back(family.get<std::string>());
  const auto number = [&](const char* key) {
    const auto it = json.find(key);
    return it != json.end() && it->is_number_unsigned() ? it->get<uint64_t>() : uint64_t(0);
  };
  d.context_length = number("context_length");
  d.embedding_length = number("embedding_length");
  return d;
}

std::string config_json(const Details& d) {
  Json json = {{"model_format", d.format},
               {"model_family", d.family},
               {"model_families", d.families},
               {"model_type", d.parameter_size},
               {"file_type", d.quantization_level},
               {"architecture", this_architecture()},
               {"os", "linux"},
               {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}}};
  if (d.context_length != 0) json["context_length"] = d.context_length;
  if (d.embedding_length != 0) json["embedding_length"] = d.embedding_length;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool is_small_layer(std::string_view type) {
  return type == media::kTemplate || type == media::kPrompt || type == media::kSystem || type == media::kParams ||
         type == media::kMessages || type == media::kLicense;
}

Result<void> check_small_layer(std::string_view type, std::string_view content) {
  const std::string what(type.substr(type.rfind('.') + 1));
  if (content.size() > kMaxSmallLayer)
    return Error{ErrorCode::invalid_file, "the model's " + what + " is larger than 4 MiB"};
  if (!utf8::is_valid(content)) return Error{ErrorCode::invalid_file, "the model's " + what + " is not UTF-8 text"};
  if (type == media::kParams) {
    const Json json = Json::parse(content, nullptr, false);
    if (!json.is_object()) return Error{ErrorCode::invalid_file, "the model's parameters are not a JSON object"};
  }
  if (type == media::kMessages) {
    const Json json = Json::parse(content, nullptr, false);
    bool good = json.is_array();
    if (good)
      for (const Json& m : json)
        good = good && m.is_object() && m.contains("role") && m["role"].is_string() && m.contains("content") &&
               m["content"].is_string();
    if (!good) return Error{ErrorCode::invalid_file, "the model's messages are not a JSON array of role and content"};
  }
  return {};
}

std::vector<Digest> digests_in(std::string_view text) {
  std::vector<Digest> found;
  for (size_t at = 0; (at = text.find("sha256", at)) != std::string_view::npos; ++at)
    if (auto digest = Digest::parse(text.substr(at, 71)); digest.ok()) found.push_back(*digest);
  return found;
}

}  // namespace ponder::store
