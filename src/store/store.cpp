// What the store answers: resolve, list, show. Changes are in change.cpp, blobs in blob.cpp, the
// folders in folders.cpp.
#include "store/store.h"

#include <algorithm>

#include "base/log.h"
#include "gguf/gguf.h"
#include "store/folders.h"
#include "store/sha256.h"

namespace ponder::store {
namespace {

// Other keys under which a name's model may lie: the library model that a demo's name hides, the
// two hosts of one hub.
std::vector<Name> spellings(const Name& name) {
  std::vector<Name> all = {name};
  if (name.source == Name::Source::demo)
    if (auto n = Name::from_parts(kDefaultHost, kDefaultNamespace, name.model, name.tag); n.ok()) all.push_back(*n);
  if (name.source == Name::Source::hugging_face)
    for (const char* host : {"hf.co", "huggingface.co"})
      if (auto n = Name::from_parts(host, name.ns, name.model, name.tag); n.ok()) all.push_back(*n);
  return all;
}

Error damaged(const Name& name, const std::string& why) {
  return Error{ErrorCode::invalid_file,
               "model '" + name.display() + "': " + why + "; \"ponder pull " + name.display() + "\" repairs it"};
}

// The file behind a layer, when it is there and as large as it should be.
Result<std::string> layer_file(const Found& found, const Layer& layer) {
  if (layer.reference) {
    const std::string& path = layer.reference->path;
    const auto size = regular_file_size(path);
    const std::string again = "; create the model again: ponder create " + found.name.display() + " --from FILE.gguf";
    if (!size)
      return Error{ErrorCode::invalid_file,
                   "model '" + found.name.display() + "': its file " + path + " is gone" + again};
    if (*size != layer.size || modified_ns(path) != layer.reference->mtime_ns)
      return Error{ErrorCode::invalid_file, "model '" + found.name.display() + "': its file " + path +
                                                " was changed since it was added" + again};
    return path;
  }
  const std::string path = blob_path_in(found.root, *layer.digest);
  const auto size = regular_file_size(path);
  if (!size) return damaged(found.name, "the blob " + layer.digest->short_id() + " is missing");
  if (*size != layer.size)
    return damaged(found.name, "the blob " + layer.digest->short_id() + " has " + std::to_string(*size) +
                                   " bytes instead of " + std::to_string(layer.size));
  return path;
}

Manifest::Trust trust_of(const Found& found) {
  return found.origin == Origin::own ? Manifest::Trust::own : Manifest::Trust::foreign;
}

}  // namespace

Store::Store(StoreOptions options) : state_(std::make_unique<State>()) {
  while (options.root.size() > 1 && options.root.back() == '/') options.root.pop_back();
  state_->options = std::move(options);
}
Store::Store(Store&&) noexcept = default;
Store::~Store() = default;

const std::string& Store::root() const { return state_->options.root; }
const StoreOptions& Store::options() const { return state_->options; }

Result<void> Store::set_builtin(BuiltinModel builtin) {
  auto entry = std::make_unique<State::Builtin>();
  PONDER_TRY(entry->name, Name::parse(builtin.name));
  entry->digest = builtin.digest;
  entry->model = std::move(builtin);
  const std::lock_guard guard(state_->mutex);
  std::erase_if(state_->builtins, [&](const auto& b) { return b->name.same_key(entry->name); });
  state_->builtins.push_back(std::move(entry));
  return {};
}

const Store::State::Builtin* Store::State::find_builtin(const Name& name) const {
  const std::lock_guard guard(mutex);
  for (const auto& b : builtins)
    if (b->name.same_key(name)) return b.get();
  return nullptr;
}

Result<Model> Store::State::builtin_model(const Builtin& b) const {
  Model m;
  m.name = b.name;
  m.origin = Origin::builtin;
  m.bytes = b.model.bytes;
  m.size = b.model.bytes.size();
  m.system = b.model.system;
  m.params_json = b.model.params_json;
  if (!b.model.license.empty()) m.licenses.push_back(b.model.license);
  m.source = "built in";
  const std::lock_guard guard(mutex);
  if (!b.described) {
    PONDER_TRY(const auto file, gguf::File::parse(b.model.bytes, nullptr, b.model.name, {.metadata_only = true}));
    b.details = describe(*file);
    if (b.digest.empty()) b.digest = sha256(b.model.bytes).hex();
    b.described = true;
  }
  m.details = b.details;
  m.digest = b.digest;
  return m;
}

Result<Found> Store::State::find(const Name& name) const {
  for (const Name& spelling : spellings(name)) {
    if (auto own = find_manifest(root(), spelling)) return *std::move(own);
    for (const std::string& other : options.read_only)
      if (auto found = find_manifest(other, spelling)) {
        found->origin = Origin::ollama;
        return *std::move(found);
      }
  }
  return Error{ErrorCode::not_found, "model '" + name.display() + "' not found, try pulling it first: ponder pull " +
                                         (name.source == Name::Source::url ? name.url : name.display())};
}

ModelInfo Store::State::info(const Found& found, const Manifest& manifest, std::string_view text) const {
  ModelInfo info;
  info.name = found.name;
  info.origin = found.origin;
  info.digest = sha256(text).hex();
  info.size = manifest.total_size();
  info.modified = modified_ns(found.path) / 1'000'000'000;
  if (manifest.config && manifest.config->digest) {
    // Details are for people; a missing configuration is no reason to hide the model.
    const auto config = os::read_file(blob_path_in(found.root, *manifest.config->digest), kMaxSmallLayer);
    if (config.ok())
      if (auto details = parse_config(*config); details.ok()) info.details = *std::move(details);
  }
  return info;
}

Result<Model> Store::State::load(const Found& found) const {
  auto text = os::read_file(found.path, kMaxManifest);
  if (!text.ok()) return std::move(text).error();
  auto manifest = Manifest::parse(*text, trust_of(found));
  if (!manifest.ok()) return damaged(found.name, manifest.error().message);
  Model m;
  static_cast<ModelInfo&>(m) = info(found, *manifest, *text);
  for (const Layer& layer : manifest->layers) {
    const std::string& type = layer.media_type;
    if (type == media::kModel || type == media::kAdapter || type == media::kProjector) {
      PONDER_TRY(std::string path, layer_file(found, layer));
      if (type == media::kAdapter) {
        m.adapters.push_back(std::move(path));
      } else if (type == media::kProjector) {
        m.projectors.push_back(std::move(path));
      } else if (m.path.empty()) {
        m.path = std::move(path);
        m.by_reference = layer.reference.has_value();
      } else if (m.by_reference && layer.reference && is_split_file(m.path) && is_split_file(path)) {
        continue;  // layer_file has seen that this part is as it was; opening the first opens all
      } else {
        return Error{ErrorCode::unsupported,
                     "model '" + found.name.display() + "' is made of several weight files, which Ponder cannot load"};
      }
    } else if (is_small_layer(type)) {
      PONDER_TRY(const std::string path, layer_file(found, layer));
      PONDER_TRY(std::string content, os::read_file(path, kMaxSmallLayer));
      if (auto good = check_small_layer(type, content); !good.ok()) return damaged(found.name, good.error().message);
      if (type == media::kTemplate || type == media::kPrompt)
        m.template_text = std::move(content);
      else if (type == media::kSystem)
        m.system = std::move(content);
      else if (type == media::kParams)
        m.params_json = std::move(content);
      else if (type == media::kMessages)
        m.messages_json = std::move(content);
      else
        m.licenses.push_back(std::move(content));
    }
  }
  if (m.path.empty()) return Error{ErrorCode::unsupported, "model '" + found.name.display() + "' has no GGUF weights"};
  if (!manifest->source.empty())
    m.source = manifest->source;
  else if (m.by_reference)
    m.source = m.path;
  else if (found.origin == Origin::ollama)
    m.source = "Ollama's store, " + found.root;
  else
    m.source = found.name.full();
  return m;
}

Result<Model> Store::resolve(std::string_view name) const {
  PONDER_TRY(const Name parsed, Name::parse(name));
  return resolve(parsed);
}

Result<Model> Store::resolve(const Name& name) const {
  if (const auto* builtin = state_->find_builtin(name)) return state_->builtin_model(*builtin);
  PONDER_TRY(const Found found, state_->find(name));
  return state_->load(found);
}

Result<std::vector<ModelInfo>> Store::list() const {
  std::vector<Found> all = find_all(root());
  for (const std::string& other : state_->options.read_only)
    for (Found& f : find_all(other)) {
      f.origin = Origin::ollama;
      const bool known = std::any_of(all.begin(), all.end(), [&](const Found& g) { return g.name.same_key(f.name); });
      if (!known) all.push_back(std::move(f));
    }
  std::vector<ModelInfo> models;
  for (const Found& found : all) {
    if (state_->find_builtin(found.name) != nullptr) continue;
    const auto text = os::read_file(found.path, kMaxManifest);
    const auto manifest = text.ok() ? Manifest::parse(*text, trust_of(found)) : Result<Manifest>(text.error());
    if (!manifest.ok()) {
      log(LogLevel::warning, found.path + ": " + manifest.error().message);
      continue;
    }
    models.push_back(state_->info(found, *manifest, *text));
  }
  std::sort(models.begin(), models.end(), [](const ModelInfo& a, const ModelInfo& b) {
    return a.modified != b.modified ? a.modified > b.modified : a.name.path() < b.name.path();
  });
  std::vector<const State::Builtin*> builtins;
  {
    const std::lock_guard guard(state_->mutex);
    for (const auto& b : state_->builtins) builtins.push_back(b.get());
  }
  for (const State::Builtin* b : builtins) {
    auto model = state_->builtin_model(*b);
    if (model.ok())
      models.push_back(std::move(*model));
    else
      log(LogLevel::warning, model.error().message);
  }
  return models;
}

std::string Store::blob_path(const Digest& digest) const { return blob_path_in(root(), digest); }

}  // namespace ponder::store
