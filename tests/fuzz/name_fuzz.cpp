// Names and digests from strangers: whatever parses must be one relative path of four plain parts, and must print as a name
// that parses to the same key.
//
// Seeds: names as people type them, and the tricks of path traversal.

// links: store

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "store/name.h"

using namespace ponder::store;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto digest = Digest::parse(text); digest.ok())
    if (Digest::parse(digest->to_string())->hex() != digest->hex()) std::abort();
  const auto name = Name::parse(text);
  if (!name.ok()) {
    if (name.error().message.size() > 400) std::abort();
    return 0;
  }
  const std::string path = name->path();
  int slashes = 0;
  char before = '/';
  for (char c : path) {
    if (c == '/' && before == '/') std::abort();  // an empty part
    if (c == '.' && before == '/') std::abort();  // ".", "..", hidden files
    if (c <= 32 || c >= 127 || c == '\\' || c == '%') std::abort();
    slashes += c == '/';
    before = c;
  }
  if (slashes != 3) std::abort();
  const auto again = Name::parse(name->display());
  if (!again.ok() || !again->same_key(*name)) std::abort();
  const auto parts = Name::from_parts(name->host, name->ns, name->model, name->tag);
  if (!parts.ok() || !parts->same_key(*name)) std::abort();
  return 0;
}
