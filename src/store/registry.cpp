// Registries: Ollama's, and any that speaks the OCI distribution protocol. The manifest of an
// Ollama model is kept as it is (its digest is the model's id); of other artifacts we pick the GGUF
// layer and write a manifest of our own.
#include <algorithm>

#include "base/ascii.h"
#include "base/checked.h"
#include "store/puller.h"
#include "store/sha256.h"

namespace ponder::store {
namespace {

using ascii::lower;

std::string accepted_types() {
  return std::string("Accept: ") + media::kManifest + ", " + media::kOciManifest + ", " + media::kOciIndex + ", " +
         media::kManifestList;
}

Result<void> check_manifest_digest(const std::string& text, const std::string& digest) {
  const auto expected = Digest::parse(digest);
  if (expected.ok() && sha256(text) != *expected)
    return Error{ErrorCode::network, "the manifest arrived altered: its digest is not the one that the registry names"};
  return {};
}

}  // namespace

// A token for anonymous reading. Nothing secret is sent, so the token server may be any host; the
// token itself goes to the registry's origin only.
Result<bool> Puller::authorize(const HttpResponse& refused, HttpRequest& request) {
  const std::string header = refused.header("www-authenticate");
  if (header.empty()) return false;
  PONDER_TRY(Challenge challenge, parse_challenge(header));
  if (challenge.scopes.empty()) challenge.scopes = {"repository:" + name_.ns + "/" + name_.model + ":pull"};
  HttpRequest ask;
  ask.url = challenge.realm;
  char separator = challenge.realm.find('?') == std::string::npos ? '?' : '&';
  const auto add = [&](const char* key, const std::string& value) {
    ask.url += separator + std::string(key) + "=" + percent_encode(value);
    separator = '&';
  };
  if (!challenge.service.empty()) add("service", challenge.service);
  for (const std::string& scope : challenge.scopes) add("scope", scope);
  ask.headers = common_headers();
  ask.body_limit = kMaxManifest;
  ask.trusted_host = name_.host.substr(0, name_.host.find(':'));
  PONDER_TRY(const HttpResponse reply, fetcher_->get(ask));
  if (reply.status != 200)
    return Error{ErrorCode::permission, name_.display() +
                                            " is private or does not exist: the registry's token server "
                                            "refused (HTTP " +
                                            std::to_string(reply.status) + ")"};
  PONDER_TRY(const std::string token, parse_token(reply.body));
  authorization_ = "Bearer " + token;
  request.authorization = authorization_;
  return true;
}

Result<HttpResponse> Puller::get_with_token(HttpRequest request) {
  request.authorization = authorization_;
  PONDER_TRY(HttpResponse response, fetcher_->get(request));
  if (response.status != 401) return response;
  PONDER_TRY(const bool again, authorize(response, request));
  if (!again) return response;
  return fetcher_->get(request);
}

Result<ModelInfo> Puller::from_registry(const std::string& base, const std::string& authorization) {
  authorization_ = authorization;
  HttpRequest request;
  request.url = repository_url(base) + "/manifests/" + name_.tag;
  request.headers = common_headers();
  request.headers.push_back(accepted_types());
  request.body_limit = kMaxManifest;
  PONDER_TRY(HttpResponse response, get_with_token(request));
  if (response.status == 404)
    return Error{ErrorCode::not_found, "pull model manifest: file does not exist: " + name_.host + " has no model " +
                                           name_.ns + "/" + name_.model + ":" + name_.tag};
  if (response.status != 200) return Fetcher::status_error(response, "the manifest of " + name_.display());
  PONDER_CHECK_OK(check_manifest_digest(response.body, response.header("docker-content-digest")));
  if (is_index(response.body)) {
    PONDER_TRY(const Layer chosen, choose_from_index(response.body));
    request.url = repository_url(base) + "/manifests/" + chosen.digest->to_string();
    PONDER_TRY(response, get_with_token(request));
    if (response.status != 200) return Fetcher::status_error(response, "the manifest of " + name_.display());
    PONDER_CHECK_OK(check_manifest_digest(response.body, chosen.digest->to_string()));
  }
  return pull_manifest(base, response.body);
}

Result<ModelInfo> Puller::pull_manifest(const std::string& base, const std::string& text) {
  PONDER_TRY(const Manifest manifest, Manifest::parse(text, Manifest::Trust::foreign));
  const auto is = [](const char* type) { return [type](const Layer& l) { return l.media_type == type; }; };
  const auto n_models = std::count_if(manifest.layers.begin(), manifest.layers.end(), is(media::kModel));
  if (n_models > 1)
    return Error{ErrorCode::unsupported,
                 name_.display() + " is made of several weight files, which Ponder cannot load"};
  std::vector<Layer> wanted;
  if (n_models == 1) {
    wanted = manifest.layers;
    if (manifest.config) wanted.push_back(*manifest.config);
  } else {
    PONDER_TRY(Layer model, choose_model_layer(base, manifest));
    wanted.push_back(std::move(model));
  }
  uint64_t to_fetch = 0;
  for (const Layer& layer : wanted) {
    const bool small = is_small_layer(layer.media_type) || layer.media_type == media::kConfig;
    if (small && layer.size > kMaxSmallLayer)
      return Error{ErrorCode::invalid_file, "manifest: a layer of text or settings is larger than 4 MiB"};
    if (regular_file_size(store_.blob_path(*layer.digest)) != layer.size) to_fetch += layer.size;
  }
  PONDER_CHECK_OK(check_space(store_.root(), to_fetch));
  for (const Layer& layer : wanted)
    PONDER_CHECK_OK(fetch_layer(layer, repository_url(base) + "/blobs/" + layer.digest->to_string()));
  if (n_models == 0)
    return finish_single(*wanted[0].digest, wanted[0].size, base + "/" + name_.ns + "/" + name_.model + ":" + name_.tag,
                         "");

  progress_.status("verifying sha256 digest");
  for (const Layer& layer : manifest.layers) PONDER_CHECK_OK(check_content(layer));
  if (manifest.config) {
    PONDER_TRY(const std::string config, os::read_file(file_of(*manifest.config->digest), kMaxSmallLayer));
    if (auto good = parse_config(config); !good.ok()) return std::move(good).error();
  }
  return finish(manifest, text);
}

// The layer that holds the weights in an artifact that is not Ollama's: by media type, by file
// name, else the largest one that begins as a GGUF does.
Result<Layer> Puller::choose_model_layer(const std::string& base, const Manifest& manifest) {
  std::vector<Layer> named;
  for (const Layer& layer : manifest.layers) {
    if (layer.media_type.starts_with("application/vnd.ollama.image.tensor"))
      return Error{ErrorCode::unsupported, name_.display() + " is stored as safetensors; Ponder runs GGUF models"};
    const std::string title = lower(layer.title);
    const bool projector = title.find("mmproj") != std::string::npos;
    if (!projector && (lower(layer.media_type).find("gguf") != std::string::npos || title.ends_with(".gguf")))
      named.push_back(layer);
  }
  if (named.size() > 1 || (named.size() == 1 && is_split_file(named[0].title)))
    return Error{ErrorCode::unsupported, name_.display() + " holds " + std::to_string(named.size()) +
                                             " GGUF files or a part of one; one whole file is needed"};
  if (named.size() == 1) return named[0];
  std::vector<Layer> by_size = manifest.layers;
  std::sort(by_size.begin(), by_size.end(),
            [](const Layer& a, const Layer& b) { return a.size != b.size ? a.size > b.size : a.digest < b.digest; });
  for (size_t i = 0; i < by_size.size() && i < 4 && by_size[i].size >= 24; ++i) {
    PONDER_TRY(const bool gguf, starts_like_gguf(repository_url(base) + "/blobs/" + by_size[i].digest->to_string()));
    if (gguf) return by_size[i];
  }
  return Error{ErrorCode::unsupported, name_.display() + " is in the registry, but none of its layers is a GGUF model"};
}

Result<bool> Puller::starts_like_gguf(const std::string& url) {
  HttpRequest request;
  request.url = url;
  request.headers = common_headers();
  request.authorization = authorization_;
  request.body_limit = kMaxModel;
  PONDER_TRY(const std::string start, fetcher_->peek(request, 4));
  return std::string_view(start).starts_with("GGUF");
}

}  // namespace ponder::store
