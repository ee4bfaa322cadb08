// The folders of a store on disk: finding manifests, temporary files, locks. Internal to this
// library.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/os/file.h"
#include "base/result.h"
#include "store/manifest.h"
#include "store/name.h"
#include "store/store.h"

namespace ponder::store {

/// A manifest file that was found: its name as the folders spell it, and its path.
struct Found {
  Name name;
  std::string path;
  std::string root;
  Origin origin = Origin::own;
};

/// Where things lie below a root.
std::string manifest_path(const std::string& root, const Name& name);
std::string blob_path_in(const std::string& root, const Digest& digest);

/// The manifest of `name` below `root`, letter case ignored.
std::optional<Found> find_manifest(const std::string& root, const Name& name);
/// All manifests below `root`; anything whose name is not a valid name is passed over.
std::vector<Found> find_all(const std::string& root);

/// Size of a regular file (symbolic links are followed), nullopt for anything else.
std::optional<uint64_t> regular_file_size(const std::string& path);
/// Modification time in nanoseconds since 1970; 0 when it cannot be read.
int64_t modified_ns(const std::string& path);

struct Store::State {
  StoreOptions options;
  struct Builtin {
    BuiltinModel model;
    Name name;
    mutable bool described = false;
    mutable Details details;
    mutable std::string digest;
  };
  std::vector<std::unique_ptr<Builtin>> builtins;
  mutable std::mutex mutex;  // of builtins

  const std::string& root() const { return options.root; }

  /// Creates the folders; permission when the root is also a read-only one.
  Result<void> prepare();
  /// One writer at a time between processes (and threads).
  Result<os::FileLock> lock();

  const Builtin* find_builtin(const Name& name) const;
  Result<Model> builtin_model(const Builtin& builtin) const;
  Result<Found> find(const Name& name) const;
  Result<Model> load(const Found& found) const;
  ModelInfo info(const Found& found, const Manifest& manifest, std::string_view text) const;

  /// Under lock(): writes the manifest in place of an older one of the same key and deletes blobs
  /// that only that one used.
  Result<ModelInfo> write_manifest(const Name& name, const std::string& text);
  /// Under lock(): deletes those of `digests` that no manifest names.
  void drop_unused(const std::vector<Digest>& digests);
  /// Under lock(): every digest that a manifest of our own store names, damaged ones included;
  /// nothing when a manifest cannot be read, so that nobody deletes what it may need.
  std::optional<std::set<Digest>> used() const;
  /// Under lock(): leftovers of programs that were ended half-way: temporary files that nobody
  /// holds, and blobs that no manifest names and that are older than an hour.
  void sweep();
  /// Under lock(): a blob of given content, and the layer that names it.
  Result<Layer> put(const std::string& media_type, std::string_view content);
};

/// SHA-256 of a file, in pieces; `cancelled` (may be empty) is asked between them.
Result<Digest> hash_file(const std::string& path, const std::function<bool()>& cancelled);

/// A file name that no other process uses: "blob-1a2b3c..." below ROOT/tmp.
std::string temporary_name();

}  // namespace ponder::store
