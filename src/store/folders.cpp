// Walking the store's folders, creating and sweeping them. Every path is made of checked names and
// digests; what lies on the disk under other names is never touched.
#include "store/folders.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/log.h"
#include "base/os/system.h"
#include "store/sha256.h"

namespace fs = std::filesystem;

namespace ponder::store {
namespace {

constexpr int64_t kOrphanAgeNs = int64_t(3600) * 1'000'000'000;

std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool same_folder(const std::string& a, const std::string& b) {
  std::error_code error;
  const fs::path left = fs::weakly_canonical(a, error), right = fs::weakly_canonical(b, error);
  return left == right;
}

}  // namespace

std::string manifest_path(const std::string& root, const Name& name) { return root + "/manifests/" + name.path(); }

std::string blob_path_in(const std::string& root, const Digest& digest) {
  return root + "/blobs/" + digest.file_name();
}

std::optional<uint64_t> regular_file_size(const std::string& path) {
  std::error_code error;
  if (fs::status(path, error).type() != fs::file_type::regular || error) return std::nullopt;
  const auto size = fs::file_size(path, error);
  if (error) return std::nullopt;
  return uint64_t(size);
}

int64_t modified_ns(const std::string& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return 0;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::file_clock::to_sys(time).time_since_epoch())
      .count();
}

std::optional<Found> find_manifest(const std::string& root, const Name& name) {
  const std::string exact = manifest_path(root, name);
  if (regular_file_size(exact)) return Found{name, exact, root, Origin::own};
  for (Found& found : find_all(root))
    if (found.name.same_key(name)) return std::move(found);
  return std::nullopt;
}

std::vector<Found> find_all(const std::string& root) {
  std::vector<Found> all;
  const std::string top = root + "/manifests";
  for (const std::string& host : entries(top))
    for (const std::string& ns : entries(top + "/" + host))
      for (const std::string& model : entries(top + "/" + host + "/" + ns))
        for (const std::string& tag : entries(top + "/" + host + "/" + ns + "/" + model)) {
          auto name = Name::from_parts(host, ns, model, tag);
          if (!name.ok()) continue;
          const std::string path = top + "/" + name->path();
          if (regular_file_size(path)) all.push_back({std::move(*name), path, root, Origin::own});
        }
  return all;
}

Result<Digest> hash_file(const std::string& path, const std::function<bool()>& cancelled) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return Error{ErrorCode::io, "cannot open " + path};
  std::vector<uint8_t> buffer(size_t(1) << 20);
  Sha256 hash;
  for (;;) {
    if (cancelled && cancelled()) return Error{ErrorCode::cancelled, "cancelled"};
    const size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get());
    if (n == 0) break;
    hash.update(std::span(buffer.data(), n));
  }
  if (std::ferror(file.get()) != 0) return Error{ErrorCode::io, "cannot read " + path};
  return hash.finish();
}

std::string temporary_name() {
  char name[40];
  std::snprintf(name, sizeof name, "part-%016llx", static_cast<unsigned long long>(os::random_u64()));
  return name;
}

StoreOptions StoreOptions::from_environment() {
  StoreOptions options;
  const std::string home = os::home_directory();
  if (const auto models = os::env("PONDER_MODELS"))
    options.root = *models;
  else
    options.root = os::env("PONDER_HOME").value_or(home + "/.ponder") + "/models";
  std::error_code error;
  options.root = fs::absolute(options.root, error).lexically_normal().string();
  while (options.root.size() > 1 && options.root.back() == '/') options.root.pop_back();
  if (const auto ollama = os::env("OLLAMA_MODELS")) {
    options.read_only.push_back(*ollama);
  } else {
    options.read_only.push_back(home + "/.ollama/models");
    options.read_only.push_back("/usr/share/ollama/.ollama/models");  // Ollama as a system service
  }
  return options;
}

Result<void> Store::State::prepare() {
  for (const std::string& other : options.read_only)
    if (same_folder(other, root()))
      return Error{ErrorCode::permission,
                   root() + " is an Ollama store, which Ponder only reads: set PONDER_MODELS to another folder"};
  for (const char* folder : {"/manifests", "/blobs", "/tmp"}) {
    std::error_code error;
    fs::create_directories(root() + folder, error);
    if (error)
      return Error{error == std::errc::permission_denied ? ErrorCode::permission : ErrorCode::io,
                   "cannot create " + root() + folder + ": " + error.message()};
  }
  return {};
}

Result<os::FileLock> Store::State::lock() {
  PONDER_CHECK_OK(prepare());
  return os::FileLock::acquire(root() + "/lock", true);
}

std::optional<std::set<Digest>> Store::State::used() const {
  std::set<Digest> digests;
  for (const Found& found : find_all(root())) {
    const auto text = os::read_file(found.path, kMaxManifest);
    if (!text.ok()) {
      log(LogLevel::warning, text.error().message + "; no blob is deleted");
      return std::nullopt;
    }
    for (const Digest& d : digests_in(*text)) digests.insert(d);
  }
  return digests;
}

void Store::State::drop_unused(const std::vector<Digest>& digests) {
  const auto kept = used();
  if (!kept) return;
  std::error_code ignored;
  for (const Digest& d : digests)
    if (!kept->contains(d)) fs::remove(blob_path_in(root(), d), ignored);
}

void Store::State::sweep() {
  std::error_code ignored;
  for (const std::string& name : entries(root() + "/tmp")) {
    if (!name.starts_with("part-")) continue;
    const std::string path = root() + "/tmp/" + name;
    // A writer holds a lock on its file as long as it lives.
    if (os::FileLock::acquire(path, false).ok()) fs::remove(path, ignored);
  }
  std::vector<Digest> old;
  const int64_t now = now_ns();
  for (const std::string& name : entries(root() + "/blobs")) {
    const auto digest = Digest::parse(name);
    if (!digest.ok() || digest->file_name() != name) continue;
    if (now - modified_ns(root() + "/blobs/" + name) > kOrphanAgeNs) old.push_back(*digest);
  }
  if (!old.empty()) drop_unused(old);
}

}  // namespace ponder::store
