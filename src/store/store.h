// The store: which models are on this machine, and the files they are made of.
//
//   ROOT/manifests/HOST/NAMESPACE/MODEL/TAG   JSON, the layout that Ollama writes; a model's id is
//   its SHA-256 ROOT/blobs/sha256-HEX                     every layer, named by its content, shared
//   between models ROOT/tmp/                                 unfinished files ROOT/lock one writer
//   at a time, between processes
//
// ROOT is $PONDER_MODELS, else $PONDER_HOME/models, else ~/.ponder/models. The models of an Ollama
// installation
// ($OLLAMA_MODELS, else ~/.ollama/models) are listed and run where they lie; that folder is never
// written. A file becomes visible by rename after fsync, blobs before the manifest that names them:
// a crash at any moment leaves the old state or the new one.
//
// Thread-safe; several processes may use one store. No function downloads anything: that is pull.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/name.h"

namespace ponder::store {

/// What list and show print about a model ("details" of the HTTP API).
struct Details {
  std::string format = "gguf";
  std::string family;  ///< general.architecture: "qwen2"
  std::vector<std::string> families;
  std::string parameter_size;      ///< "7.6B", "494.03M"
  std::string quantization_level;  ///< "Q4_K_M"
  uint64_t context_length = 0;     ///< what the file was trained for; 0: not known
  uint64_t embedding_length = 0;   ///< 0: not known
};

enum class Origin {
  own,      ///< in our store
  ollama,   ///< in an Ollama store beside it: can be run and copied, not removed
  builtin,  ///< compiled into the program
};

/// One line of `list`.
struct ModelInfo {
  Name name;
  std::string digest;    ///< 64 hex digits, SHA-256 of the manifest; the first 12 are the printed ID
  uint64_t size = 0;     ///< bytes of all layers (of the referenced file too)
  int64_t modified = 0;  ///< seconds since 1970
  Origin origin = Origin::own;
  Details details;
};

/// A model ready to be loaded.
struct Model : ModelInfo {
  std::string path;                ///< the GGUF file; empty for a built-in model
  std::span<const uint8_t> bytes;  ///< the GGUF itself of a built-in model (lives as long as the program)
  bool by_reference = false;       ///< `path` is the user's own file, outside the store
  std::vector<std::string> adapters, projectors;  ///< files of further layers
  std::string template_text;                      ///< Go text/template of the manifest, or empty: use the file's own
  std::string system;                             ///< default system message, or empty
  std::string params_json;                        ///< JSON object of default options, or empty
  std::string messages_json;                      ///< JSON array of {role, content} from MESSAGE lines, or empty
  std::vector<std::string> licenses;
  std::string source;  ///< where it came from, for people: "https://...", "/home/me/x.gguf"
};

/// Layers besides the weights, for create. An unset field keeps what the base model has
/// (create_from_model), or is left out.
struct CreateOptions {
  std::optional<std::string> template_text = {}, system = {}, params_json = {}, messages_json = {};
  std::optional<std::vector<std::string>> licenses = {};
};

struct BuiltinModel {
  std::string name;                ///< "ponder-tiny"
  std::span<const uint8_t> bytes;  ///< must outlive the Store
  std::string system, params_json, license;
  std::string digest;  ///< 64 hex digits, SHA-256 of `bytes`; computed when first needed if empty
};

struct StoreOptions {
  std::string root;                    ///< of our store; created when first written
  std::vector<std::string> read_only;  ///< roots of Ollama stores
  /// The folders described above, from the environment.
  static StoreOptions from_environment();
};

/// A blob on its way into the store: hashed while written, visible only after commit. Destroying it
/// unfinished removes the temporary file.
class BlobWriter {
 public:
  BlobWriter(BlobWriter&&) noexcept;
  BlobWriter& operator=(BlobWriter&&) noexcept;
  ~BlobWriter();
  Result<void> write(std::span<const uint8_t> piece);
  Result<void> write(std::string_view piece);
  uint64_t size() const;            ///< bytes so far
  const std::string& path() const;  ///< of the temporary file
  /// Ends the hash and pushes what is buffered to the file; idempotent. Nothing may be written
  /// after it.
  Result<Digest> digest();
  /// Puts the blob in place under its digest. An `expected` digest that differs is an error
  /// (invalid_argument, the text says "digest mismatch"), and nothing is kept.
  Result<Digest> commit(const Digest* expected = nullptr);

 private:
  friend class Store;
  struct State;
  explicit BlobWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class Store {
 public:
  /// Does not touch the disk. `options.root` must be absolute.
  explicit Store(StoreOptions options);
  Store(Store&&) noexcept;
  ~Store();

  const std::string& root() const;
  const StoreOptions& options() const;

  /// Makes a model known that is compiled into the program: resolve, list and copy see it, pull
  /// answers at once.
  Result<void> set_builtin(BuiltinModel builtin);

  /// The model's files and settings. not_found when no store has the name; invalid_file (naming the
  /// mend) when the manifest is damaged, a blob is missing or has the wrong size, or a referenced
  /// file is gone or was changed.
  Result<Model> resolve(std::string_view name) const;
  Result<Model> resolve(const Name& name) const;

  /// All models, newest first. Damaged manifests are skipped and logged as warnings.
  Result<std::vector<ModelInfo>> list() const;

  /// Deletes the name, and the blobs that no other manifest uses. A referenced file of the user is
  /// never deleted.
  Result<void> remove(const Name& name);

  /// Gives a model a second name; its blobs are shared. A model of an Ollama store or a built-in
  /// one is copied by reference or as a blob. An existing `to` is replaced.
  Result<void> copy(const Name& from, const Name& to);

  /// `create NAME --from FILE.gguf`: remembers the file's path, size and time; nothing is copied.
  /// The file's header is parsed first. Replaces an existing model of that name.
  Result<ModelInfo> create_from_file(const Name& name, const std::string& path, const CreateOptions& options = {});
  /// The weights of another model (of any origin) with other settings.
  Result<ModelInfo> create_from_model(const Name& name, const Name& base, const CreateOptions& options = {});

  Result<BlobWriter> new_blob();
  std::string blob_path(const Digest& digest) const;  ///< where it is or would be

 private:
  friend class Puller;
  struct State;
  static Result<BlobWriter> new_blob_locked(State& state);
  Result<ModelInfo> create(const Name& name, Model base, const CreateOptions& options);
  std::unique_ptr<State> state_;
};

}  // namespace ponder::store
