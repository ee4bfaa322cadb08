// POSIX side of os/file.h; the Windows side is windows_file.cpp. Nothing else in the tree calls these functions of the
// system.
#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/os/file.h"

namespace ponder::os {
namespace {

Error system_error(const std::string& what, const std::string& path) {
  const int e = errno;
  const ErrorCode code = e == ENOENT                   ? ErrorCode::not_found
                         : (e == EACCES || e == EPERM) ? ErrorCode::permission
                                                       : ErrorCode::io;
  return Error{code, what + " " + path + ": " + std::strerror(e)};
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Result<void> sync_path(const std::string& path, int flags) {
  const Descriptor d{::open(path.c_str(), flags | O_CLOEXEC)};
  if (d.fd < 0 || ::fsync(d.fd) != 0) return system_error("cannot flush", path);
  return {};
}

std::string folder_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const Descriptor d{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (d.fd < 0) return system_error("cannot open", path);
  struct stat st;
  if (::fstat(d.fd, &st) != 0) return system_error("cannot read the size of", path);
  if (!S_ISREG(st.st_mode)) return Error{ErrorCode::invalid_argument, path + " is not a regular file"};
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = path;
  file->size_ = uint64_t(st.st_size);
  if (file->size_ > 0) {
    void* p = ::mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, d.fd, 0);
    if (p == MAP_FAILED) {
      file->size_ = 0;
      return system_error("cannot map", path);
    }
    file->data_ = static_cast<const uint8_t*>(p);
  }
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::will_need(uint64_t offset, uint64_t size) const {
  const uint64_t begin = offset & ~uint64_t(4095);
  if (begin < size_)
    ::madvise(const_cast<uint8_t*>(data_) + begin, std::min(size + (offset - begin), size_ - begin), MADV_WILLNEED);
}

void MappedFile::drop(uint64_t offset, uint64_t size) const {
  const uint64_t begin = (offset + 4095) & ~uint64_t(4095), end = std::min(offset + size, size_) & ~uint64_t(4095);
  if (begin < end) ::madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

Result<std::string> read_file(const std::string& path, uint64_t limit) {
  const Descriptor d{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (d.fd < 0) return system_error("cannot open", path);
  std::string content;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(d.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot read", path);
    if (n == 0) return content;
    if (content.size() + uint64_t(n) > limit)
      return Error{ErrorCode::out_of_range, path + " is larger than " + std::to_string(limit) + " bytes"};
    content.append(buffer, size_t(n));
  }
}

Result<void> commit_file(const std::string& temporary, const std::string& path) {
  PONDER_CHECK_OK(sync_path(temporary, O_RDONLY));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error("cannot put in place", path);
  return sync_path(folder_of(path), O_RDONLY | O_DIRECTORY);
}

Result<void> write_file_atomically(const std::string& path, std::string_view content) {
  std::string temporary = path + ".XXXXXX";
  {
    const Descriptor d{::mkostemp(temporary.data(), O_CLOEXEC)};
    if (d.fd < 0) return system_error("cannot create a file beside", path);
    ::fchmod(d.fd, 0644);
    while (!content.empty()) {
      const ssize_t n = ::write(d.fd, content.data(), content.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        const Error e = system_error("cannot write", temporary);
        ::unlink(temporary.c_str());
        return e;
      }
      content.remove_prefix(size_t(n));
    }
  }
  auto done = commit_file(temporary, path);
  if (!done.ok()) ::unlink(temporary.c_str());
  return done;
}

Result<uint64_t> free_space(const std::string& path) {
  std::filesystem::path p = std::filesystem::absolute(path);
  std::error_code ignored;
  while (!std::filesystem::exists(p, ignored) && p.has_relative_path()) p = p.parent_path();
  struct statvfs st;
  if (::statvfs(p.c_str(), &st) != 0) return system_error("cannot read the free space of", p.string());
  return uint64_t(st.f_bavail) * st.f_frsize;
}

Result<FileLock> FileLock::acquire(const std::string& path, bool wait) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return system_error("cannot open", path);
  while (::flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) != 0) {
    if (errno == EINTR) continue;
    const Error e = errno == EWOULDBLOCK ? Error{ErrorCode::already_exists, path + " is locked by another process"}
                                         : system_error("cannot lock", path);
    ::close(fd);
    return e;
  }
  return FileLock(fd);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace ponder::os
#endif
