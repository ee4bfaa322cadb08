// Opening libcurl. Debian, Fedora, Arch and their like all ship libcurl.so.4; Debian's GnuTLS
// flavour has its own name.
#include "store/curl_api.h"

#include <cstring>
#include <mutex>

#include "base/os/system.h"

namespace ponder::store {
namespace {

template <class F>
bool bind(const os::SharedLibrary& library, F& function, const char* name) {
  void* p = library.symbol(name);
  std::memcpy(&function, &p, sizeof p);
  return p != nullptr;
}

Result<CurlApi> load() {
  const char* names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so"};
  auto opened = os::SharedLibrary::open(names, 3);
  if (!opened.ok())
    return Error{ErrorCode::not_found,
                 "downloading needs libcurl, which is not installed (Debian and Ubuntu: apt "
                 "install libcurl4; Fedora: "
                 "dnf install libcurl; Arch: pacman -S curl)"};
  // Never closed: libcurl and its TLS library must not be unloaded while the process lives.
  static const auto* const kept = new os::SharedLibrary(std::move(*opened));
  const os::SharedLibrary& lib = *kept;
  CurlApi a{};
  const bool complete =
      bind(lib, a.global_init, "curl_global_init") && bind(lib, a.easy_init, "curl_easy_init") &&
      bind(lib, a.easy_cleanup, "curl_easy_cleanup") && bind(lib, a.easy_reset, "curl_easy_reset") &&
      bind(lib, a.easy_setopt, "curl_easy_setopt") && bind(lib, a.easy_getinfo, "curl_easy_getinfo") &&
      bind(lib, a.easy_strerror, "curl_easy_strerror") && bind(lib, a.multi_init, "curl_multi_init") &&
      bind(lib, a.multi_cleanup, "curl_multi_cleanup") && bind(lib, a.multi_add_handle, "curl_multi_add_handle") &&
      bind(lib, a.multi_remove_handle, "curl_multi_remove_handle") &&
      bind(lib, a.multi_perform, "curl_multi_perform") &&
      (bind(lib, a.multi_wait, "curl_multi_poll") || bind(lib, a.multi_wait, "curl_multi_wait")) &&
      bind(lib, a.multi_info_read, "curl_multi_info_read") && bind(lib, a.slist_append, "curl_slist_append") &&
      bind(lib, a.slist_free_all, "curl_slist_free_all") && bind(lib, a.url, "curl_url") &&
      bind(lib, a.url_cleanup, "curl_url_cleanup") && bind(lib, a.url_set, "curl_url_set") &&
      bind(lib, a.url_get, "curl_url_get") && bind(lib, a.free, "curl_free");
  if (!complete) return Error{ErrorCode::unsupported, "the installed libcurl is older than 7.62; please update it"};
  if (a.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    return Error{ErrorCode::internal, "libcurl could not be initialised"};
  return a;
}

}  // namespace

Result<const CurlApi*> curl_api() {
  static const Result<CurlApi> api = load();  // thread-safe: initialised once
  if (!api.ok()) return api.error();
  return &*api;
}

}  // namespace ponder::store
