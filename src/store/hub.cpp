// Hugging Face, and single files by address. The hub speaks the registry protocol for GGUF
// repositories; where that does not answer with a manifest (a tag that it does not know as a
// quantisation, a mirror that has only files), the repository's file listing is used instead.
// HF_ENDPOINT names another hub, HF_TOKEN is sent to that host alone.
#include "base/os/system.h"
#include "store/puller.h"

namespace ponder::store {
namespace {

std::string encode_path(std::string_view path) {
  std::string out;
  while (true) {
    const size_t slash = path.find('/');
    out += percent_encode(path.substr(0, slash));
    if (slash == std::string_view::npos) return out;
    out += '/';
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

Result<ModelInfo> Puller::from_hub() {
  std::string base = os::env("HF_ENDPOINT").value_or("https://huggingface.co");
  while (base.ends_with('/')) base.pop_back();
  std::string authorization;
  if (const auto token = os::env("HF_TOKEN");
      token && (base.starts_with("https://") || is_loopback_host(base.substr(base.find("://") + 3))))
    authorization = "Bearer " + *token;

  HttpRequest request;
  request.url = repository_url(base) + "/manifests/" + name_.tag;
  request.headers = common_headers();
  request.headers.push_back(std::string("Accept: ") + media::kManifest);
  request.authorization = authorization;
  request.body_limit = kMaxManifest;
  PONDER_TRY(const HttpResponse manifest, fetcher_->get(request));
  if (manifest.status == 200 && Manifest::parse(manifest.body, Manifest::Trust::foreign).ok()) {
    authorization_ = authorization;
    return pull_manifest(base, manifest.body);
  }

  const std::string repository = name_.ns + "/" + name_.model;
  request.url = base + "/api/models/" + repository + "/tree/main?recursive=true";
  request.headers = common_headers();
  PONDER_TRY(const HttpResponse tree, fetcher_->get(request));
  if (tree.status == 401 || tree.status == 403 || tree.status == 404)
    return Error{tree.status == 404 ? ErrorCode::not_found : ErrorCode::permission,
                 "Hugging Face has no public repository " + repository + "; for a private or gated one set HF_TOKEN"};
  if (tree.status != 200) return Fetcher::status_error(tree, "the file listing of " + repository);
  PONDER_TRY(const HubFile file, choose_from_tree(tree.body, name_.tag));
  return from_url(base + "/" + repository + "/resolve/main/" + encode_path(file.path), authorization, file.digest,
                  file.size > 0 ? std::optional<uint64_t>(file.size) : std::nullopt);
}

Result<ModelInfo> Puller::from_url(const std::string& url, const std::string& authorization,
                                   std::optional<Digest> digest, std::optional<uint64_t> size) {
  const std::string path = url.substr(0, url.find_first_of("?#"));
  if (is_split_file(path))
    return Error{ErrorCode::unsupported,
                 "this is one part of a model in several files; get all parts by hand and use the "
                 "first part's path"};
  if (size) PONDER_CHECK_OK(check_space(store_.root(), *size));
  const std::string file = path.substr(path.rfind('/') + 1);
  progress_.begin(digest ? &*digest : nullptr, digest ? digest->short_id() : file, size.value_or(0));
  if (digest && size) {
    PONDER_TRY(const bool here, have(*digest, *size));
    if (here) {
      progress_.end();
      return finish_single(*digest, *size, url, "");
    }
  }
  Download what;
  what.what = file;
  what.digest = digest;
  what.size = size;
  what.max_size = size.value_or(kMaxModel);
  what.request.url = url;
  what.request.headers = common_headers();
  what.request.authorization = authorization;
  bool announced = size.has_value();
  what.progress = [&](uint64_t completed, uint64_t total) {
    if (!announced && total > 0) {
      progress_.begin(nullptr, file, total);
      announced = true;
    }
    progress_.at(completed);
  };
  PONDER_TRY(BlobWriter blob, fetcher_->download(store_, what));
  progress_.end();
  PONDER_TRY(const Digest found, blob.digest());
  const uint64_t bytes = blob.size();
  pending_.emplace(found, std::move(blob));
  return finish_single(found, bytes, url, "");
}

}  // namespace ponder::store
