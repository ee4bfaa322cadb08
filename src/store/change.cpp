// What changes the store: create, copy, remove. Everything that is seen by others happens under the
// store's lock: blobs first, then the manifest, then the blobs that nobody needs any more.
#include <algorithm>
#include <filesystem>

#include "gguf/gguf.h"
#include "store/folders.h"
#include "store/sha256.h"

namespace fs = std::filesystem;

namespace ponder::store {
namespace {

Error builtin_error(const Name& name, const std::string& what) {
  return Error{ErrorCode::permission, "model '" + name.display() + "' is built into Ponder and cannot be " + what};
}

// Folders that became empty, from the model's upwards; stops at the first that is not.
void remove_empty_folders(const std::string& manifest) {
  fs::path folder = fs::path(manifest).parent_path();
  for (int level = 0; level < 3; ++level, folder = folder.parent_path()) {
    std::error_code error;
    if (!fs::is_empty(folder, error) || error || !fs::remove(folder, error)) return;
  }
}

std::vector<Digest> digests_of(const std::string& path) {
  const auto text = os::read_file(path, kMaxManifest);
  return text.ok() ? digests_in(*text) : std::vector<Digest>();
}

}  // namespace

Result<Layer> Store::State::put(const std::string& media_type, std::string_view content) {
  PONDER_TRY(BlobWriter blob, new_blob_locked(*this));
  PONDER_CHECK_OK(blob.write(content));
  Layer layer;
  layer.media_type = media_type;
  layer.size = content.size();
  PONDER_TRY(layer.digest, blob.commit());
  return layer;
}

Result<ModelInfo> Store::State::write_manifest(const Name& name, const std::string& text) {
  const auto manifest = Manifest::parse(text, Manifest::Trust::own);
  if (!manifest.ok()) return manifest.error();
  Found target{name, manifest_path(root(), name), root(), Origin::own};
  std::vector<Digest> old;
  if (auto existing = find_manifest(root(), name)) {
    old = digests_of(existing->path);
    target = *std::move(existing);  // keeps the letter case it has
  }
  std::error_code error;
  fs::create_directories(fs::path(target.path).parent_path(), error);
  if (error) return Error{ErrorCode::io, "cannot create the folder of " + target.path + ": " + error.message()};
  // Through tmp/, so that a crash cannot leave a half manifest where list() looks.
  const std::string temporary = root() + "/tmp/" + temporary_name();
  PONDER_CHECK_OK(os::write_file_atomically(temporary, text));
  if (auto done = os::commit_file(temporary, target.path); !done.ok()) {
    fs::remove(temporary, error);
    remove_empty_folders(target.path);
    return std::move(done).error();
  }
  if (!old.empty()) drop_unused(old);
  return info(target, *manifest, text);
}

// `base` gives the weights (path, or bytes) and the settings that `options` does not replace.
Result<ModelInfo> Store::create(const Name& name, Model base, const CreateOptions& options) {
  if (state_->find_builtin(name) != nullptr) return builtin_error(name, "replaced; choose another name");
  if (options.template_text) base.template_text = *options.template_text;
  if (options.system) base.system = *options.system;
  if (options.params_json) base.params_json = *options.params_json;
  if (options.messages_json) base.messages_json = *options.messages_json;
  if (options.licenses) base.licenses = *options.licenses;
  std::vector<std::pair<const char*, std::string>> small = {{media::kTemplate, base.template_text},
                                                            {media::kSystem, base.system},
                                                            {media::kParams, base.params_json},
                                                            {media::kMessages, base.messages_json}};
  for (const std::string& license : base.licenses) small.emplace_back(media::kLicense, license);
  for (const auto& [type, content] : small)
    if (!content.empty()) {
      auto good = check_small_layer(type, content);
      if (!good.ok()) return Error{ErrorCode::invalid_argument, good.error().message};
    }

  PONDER_TRY(const os::FileLock lock, state_->lock());
  Manifest manifest;
  manifest.source = base.source;
  const auto add_file = [&](const char* type, const std::string& path) -> Result<void> {
    Layer layer;
    layer.media_type = type;
    const auto size = regular_file_size(path);
    if (!size) return Error{ErrorCode::not_found, path + " is not there any more"};
    layer.size = *size;
    const std::string file = fs::path(path).filename().string();
    const auto digest = Digest::parse(file);
    if (digest.ok() && path == blob_path(*digest))
      layer.digest = *digest;
    else
      layer.reference = Reference{path, modified_ns(path)};
    manifest.layers.push_back(std::move(layer));
    return {};
  };
  if (!base.path.empty()) {
    PONDER_CHECK_OK(add_file(media::kModel, base.path));
    // A split model's other parts too, so that its size is told and a change of any part is seen.
    for (const std::string& path : further_parts(base.path))
      if (regular_file_size(path)) PONDER_CHECK_OK(add_file(media::kModel, path));
  } else {
    const std::string_view bytes(reinterpret_cast<const char*>(base.bytes.data()), base.bytes.size());
    PONDER_TRY(Layer layer, state_->put(media::kModel, bytes));
    manifest.layers.push_back(std::move(layer));
  }
  for (const std::string& path : base.adapters) PONDER_CHECK_OK(add_file(media::kAdapter, path));
  for (const std::string& path : base.projectors) PONDER_CHECK_OK(add_file(media::kProjector, path));
  for (const auto& [type, content] : small)
    if (!content.empty()) {
      PONDER_TRY(Layer layer, state_->put(type, content));
      manifest.layers.push_back(std::move(layer));
    }
  if (manifest.layers.size() > kMaxLayers)
    return Error{ErrorCode::invalid_argument, "a model can have at most 64 layers"};
  PONDER_TRY(manifest.config, state_->put(media::kConfig, config_json(base.details)));
  return state_->write_manifest(name, manifest.to_json());
}

Result<ModelInfo> Store::create_from_file(const Name& name, const std::string& path, const CreateOptions& options) {
  std::error_code error;
  const fs::path absolute = fs::canonical(path, error);
  if (error)
    return Error{error == std::errc::no_such_file_or_directory ? ErrorCode::not_found : ErrorCode::io,
                 "cannot open " + path + ": " + error.message()};
  if (!regular_file_size(absolute.string())) return Error{ErrorCode::invalid_argument, path + " is not a regular file"};
  PONDER_TRY(const auto file, gguf::File::open(absolute.string()));
  Model base;
  base.path = absolute.string();
  base.source = base.path;
  base.details = describe(*file);
  return create(name, std::move(base), options);
}

Result<ModelInfo> Store::create_from_model(const Name& name, const Name& base, const CreateOptions& options) {
  PONDER_TRY(Model model, resolve(base));
  return create(name, std::move(model), options);
}

Result<void> Store::copy(const Name& from, const Name& to) {
  if (state_->find_builtin(to) != nullptr) return builtin_error(to, "replaced; choose another name");
  if (state_->find_builtin(from) == nullptr) {
    PONDER_TRY(const Found found, state_->find(from));
    if (found.origin == Origin::own) {
      PONDER_TRY(const os::FileLock lock, state_->lock());
      PONDER_TRY(const std::string text, os::read_file(found.path, kMaxManifest));
      if (found.name.same_key(to)) return {};
      PONDER_TRY([[maybe_unused]] const ModelInfo done, state_->write_manifest(to, text));
      return {};
    }
  }
  PONDER_TRY([[maybe_unused]] const ModelInfo done, create_from_model(to, from));
  return {};
}

Result<void> Store::remove(const Name& name) {
  if (state_->find_builtin(name) != nullptr) return builtin_error(name, "removed");
  PONDER_TRY(const Found first, state_->find(name));
  if (first.origin == Origin::ollama)
    return Error{ErrorCode::permission, "model '" + name.display() +
                                            "' is in Ollama's store, which Ponder only reads: ollama rm " +
                                            first.name.display()};
  PONDER_TRY(const os::FileLock lock, state_->lock());
  PONDER_TRY(const Found found, state_->find(name));
  if (found.origin != Origin::own) return Error{ErrorCode::not_found, "model '" + name.display() + "' not found"};
  const std::vector<Digest> digests = digests_of(found.path);
  std::error_code error;
  if (!fs::remove(found.path, error) || error)
    return Error{ErrorCode::io, "cannot delete " + found.path + ": " + error.message()};
  remove_empty_folders(found.path);
  state_->drop_unused(digests);
  return {};
}

}  // namespace ponder::store
