// Manifests and configurations as JSON: what a registry sends and what the store keeps. A manifest
// is text from a stranger: every field is checked, and only a manifest of our own store may point
// to a file by its path. Source: Docker Image Manifest V2 Schema 2, OCI Image Manifest 1.1, and the
// media types of Ollama.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "store/name.h"
#include "store/store.h"

namespace ponder::store {

inline constexpr uint64_t kMaxManifest = uint64_t(4) << 20;  ///< bytes of a manifest or any other JSON of a peer
inline constexpr uint64_t kMaxSmallLayer = uint64_t(4)
                                           << 20;  ///< bytes of a template, system text, parameters, licence
inline constexpr size_t kMaxLayers = 64;
inline constexpr uint64_t kMaxModel = uint64_t(16) << 40;  ///< bytes of all layers together

namespace media {
inline constexpr char kManifest[] = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr char kManifestList[] = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
inline constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
inline constexpr char kConfig[] = "application/vnd.docker.container.image.v1+json";
inline constexpr char kModel[] = "application/vnd.ollama.image.model";
inline constexpr char kAdapter[] = "application/vnd.ollama.image.adapter";
inline constexpr char kProjector[] = "application/vnd.ollama.image.projector";
inline constexpr char kTemplate[] = "application/vnd.ollama.image.template";
inline constexpr char kPrompt[] = "application/vnd.ollama.image.prompt";  // the template's older name
inline constexpr char kSystem[] = "application/vnd.ollama.image.system";
inline constexpr char kParams[] = "application/vnd.ollama.image.params";
inline constexpr char kMessages[] = "application/vnd.ollama.image.messages";
inline constexpr char kLicense[] = "application/vnd.ollama.image.license";
}  // namespace media

/// A file of the user's that stands in for a blob, and how to notice that it changed.
struct Reference {
  std::string path;  ///< absolute
  int64_t mtime_ns = 0;
};

struct Layer {
  std::string media_type;
  std::optional<Digest> digest;  ///< not set exactly when `reference` is
  std::optional<Reference> reference;
  uint64_t size = 0;
  std::string title;  ///< org.opencontainers.image.title, often a file name
};

struct Manifest {
  std::optional<Layer> config;
  std::vector<Layer> layers;
  std::string source;  ///< annotation org.opencontainers.image.source: where it was pulled from

  enum class Trust { own, foreign };
  /// `foreign`: from a peer or another program's store: layers by reference are refused.
  static Result<Manifest> parse(std::string_view json, Trust trust);
  std::string to_json() const;

  uint64_t total_size() const;  ///< of layers and configuration
  const Layer* find(std::string_view media_type) const;
};

/// The kind of JSON a registry answered a manifest request with.
bool is_index(std::string_view json);
/// The entry of a multi-platform index to follow: one without a platform, else linux on this
/// processor, else the first.
Result<Layer> choose_from_index(std::string_view json);

/// "7.6B", "494.03M", as Ollama prints numbers of parameters.
std::string human_number(uint64_t n);
/// The name of a value of general.file_type ("Q4_K_M"), or empty.
std::string file_type_name(uint64_t file_type);
/// Details from a model file's own metadata.
Details describe(const gguf::File& file);

/// The configuration blob. Unknown or missing fields are left empty; only text that is not a JSON
/// object is an error.
Result<Details> parse_config(std::string_view json);
std::string config_json(const Details& details);

/// Checks the content of a small layer (a JSON object for parameters, an array of role and content
/// for messages, UTF-8 everywhere).
Result<void> check_small_layer(std::string_view media_type, std::string_view content);
/// True for layers whose content is text that resolve reads.
bool is_small_layer(std::string_view media_type);

/// All digests that occur in a text, whatever else it says: so that a damaged manifest still
/// protects its blobs.
std::vector<Digest> digests_in(std::string_view text);

/// The parts of a `WWW-Authenticate: Bearer realm="...",service="...",scope="..."` header.
struct Challenge {
  std::string realm, service;
  std::vector<std::string> scopes;
};
Result<Challenge> parse_challenge(std::string_view header);
/// "token" or "access_token" of a token server's reply.
Result<std::string> parse_token(std::string_view json);

/// "x-00001-of-00004.gguf": one part of several.
bool is_split_file(std::string_view path);
/// The names of parts 2 to n when `path` is named like the first of n; else nothing.
std::vector<std::string> further_parts(const std::string& path);

/// A file of a Hugging Face repository.
struct HubFile {
  std::string path;
  uint64_t size = 0;
  std::optional<Digest> digest;  ///< known for files in large file storage
};
/// Picks the GGUF file that `tag` means from the listing of /api/models/USER/REPO/tree/main: a
/// quantisation ("Q8_0"), a file name, or "latest" (Q4_K_M if there is one).
Result<HubFile> choose_from_tree(std::string_view json, std::string_view tag);

}  // namespace ponder::store
