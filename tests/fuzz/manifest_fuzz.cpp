// Everything that a peer of a pull sends besides weights. The first byte chooses the reader: manifests and indexes, the
// configuration, small layers, a registry's challenge, token replies, a hub's listing, package index pages, zip archives.
// What a manifest gives must survive being written and read again.
//
// Seeds: one good and one bad of each kind.

// links: store

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "store/demo.h"
#include "store/http.h"
#include "store/manifest.h"
#include "store/zip.h"

using namespace ponder;
using namespace ponder::store;

namespace {

void manifest(std::string_view text) {
  (void)is_index(text);
  if (const auto chosen = choose_from_index(text); chosen.ok() && !chosen->digest) std::abort();
  for (const auto trust : {Manifest::Trust::foreign, Manifest::Trust::own}) {
    const auto m = Manifest::parse(text, trust);
    if (!m.ok()) continue;
    if (m->layers.empty() || m->layers.size() > kMaxLayers || m->total_size() > kMaxModel) std::abort();
    for (const Layer& layer : m->layers) {
      if (layer.digest.has_value() == layer.reference.has_value()) std::abort();
      if (layer.reference && (trust == Manifest::Trust::foreign || layer.reference->path[0] != '/')) std::abort();
    }
    const auto again = Manifest::parse(m->to_json(), trust);
    if (!again.ok() || again->total_size() != m->total_size()) std::abort();
  }
}

void archive(std::string_view text) {
  const std::span bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  for (const uint64_t size : {uint64_t(6), uint64_t(4390)}) {
    uint64_t got = 0;
    const auto count = [&](std::span<const uint8_t> piece) -> Result<void> {
      got += piece.size();
      if (got > size) std::abort();
      return {};
    };
    for (const char* member : {"stored.txt", "d/deflated.txt"}) {
      got = 0;
      if (read_zip_member(bytes, member, size, count).ok() && got != size) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'm':
      manifest(text);
      break;
    case 'c':
      if (const auto details = parse_config(text); details.ok())
        if (!parse_config(config_json(*details)).ok()) std::abort();
      break;
    case 'l':
      for (const char* type : {media::kParams, media::kMessages, media::kTemplate}) (void)check_small_layer(type, text);
      break;
    case 'w':
      (void)parse_challenge(text);
      (void)parse_token(text);
      (void)address_kind(text);
      (void)is_loopback_host(text);
      break;
    case 'h':
      for (const char* tag : {"latest", "Q8_0"})
        if (const auto file = choose_from_tree(text, tag); file.ok() && file->path.find("..") != std::string::npos)
          std::abort();
      break;
    case 'i':
      (void)find_in_index(text, true, "a-1.whl");
      (void)find_in_index(text, false, "a-1.whl");
      (void)index_url_of_pip_conf(text);
      break;
    case 'z':
      archive(text);
      break;
    default:
      break;
  }
  return 0;
}
