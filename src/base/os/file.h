// Files: mapping, whole reads, atomic replacement, locks, free space. The only place (with the rest of os/) that calls
// the operating system.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace ponder::os {

/// A file mapped read-only. The mapping lives as long as the object; a shared_ptr is used by everything that keeps a
/// view into it (model weights, vocabularies).
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Tells the system that a range will be read soon / is not needed any more (its page-cache copy may go, the
  /// content stays readable). Advice only.
  void will_need(uint64_t offset, uint64_t size) const;
  void drop(uint64_t offset, uint64_t size) const;

 private:
  MappedFile() = default;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  std::string path_;
};

/// The whole file; refuses more than `limit` bytes.
Result<std::string> read_file(const std::string& path, uint64_t limit = uint64_t(64) << 20);

/// Replaces `path` by `content` so that a crash at any moment leaves either the old or the new file whole:
/// temporary file in the same folder, fsync, rename, fsync of the folder.
Result<void> write_file_atomically(const std::string& path, std::string_view content);

/// Makes the content of an open, finished temporary file permanent under `path` (fsync, rename, fsync of the folder).
Result<void> commit_file(const std::string& temporary, const std::string& path);

/// Bytes a user without privileges may still write to the file system that holds `path` (or its nearest parent).
Result<uint64_t> free_space(const std::string& path);

/// An exclusive advisory lock on `path` (created if missing), held until destroyed. Empty optional-like: acquire()
/// returns an Error with code already_exists when another process holds it and `wait` is false.
class FileLock {
 public:
  static Result<FileLock> acquire(const std::string& path, bool wait);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace ponder::os
