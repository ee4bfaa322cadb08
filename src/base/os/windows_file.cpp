// Windows side of os/file.h. Files are opened so that others may read, rename and delete them meanwhile, as on POSIX.
#if defined(_WIN32)
#include "base/os/windows_text.h"
// after windows.h
#include <io.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/os/file.h"
#include "base/os/system.h"

namespace ponder::os {
namespace {

constexpr DWORD kShareAll = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
constexpr uint64_t kPage = 4096;

HANDLE open_file(const std::string& path, DWORD access, DWORD disposition) {
  return ::CreateFileW(wide(path).c_str(), access, kShareAll, nullptr, disposition, FILE_ATTRIBUTE_NORMAL, nullptr);
}

Result<void> flush(const std::string& path) {
  const Handle file(open_file(path, GENERIC_WRITE, OPEN_EXISTING));
  if (!file || !::FlushFileBuffers(file.get())) return system_error("cannot flush", path);
  return {};
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const DWORD attributes = ::GetFileAttributesW(wide(path).c_str());
  if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
    return Error{ErrorCode::invalid_argument, path + " is not a regular file"};
  const Handle handle(open_file(path, GENERIC_READ, OPEN_EXISTING));
  if (!handle) return system_error("cannot open", path);
  if (::GetFileType(handle.get()) != FILE_TYPE_DISK)
    return Error{ErrorCode::invalid_argument, path + " is not a regular file"};
  LARGE_INTEGER size;
  if (!::GetFileSizeEx(handle.get(), &size)) return system_error("cannot read the size of", path);
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = path;
  if (size.QuadPart > 0) {
    const Handle mapping(::CreateFileMappingW(handle.get(), nullptr, PAGE_READONLY, 0, 0, nullptr));
    if (!mapping) return system_error("cannot map", path);
    const void* p = ::MapViewOfFile(mapping.get(), FILE_MAP_READ, 0, 0, 0);  // the view keeps the mapping alive
    if (p == nullptr) return system_error("cannot map", path);
    file->data_ = static_cast<const uint8_t*>(p);
    file->size_ = uint64_t(size.QuadPart);
  }
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::UnmapViewOfFile(data_);
}

void MappedFile::will_need(uint64_t offset, uint64_t size) const {
  if (offset >= size_) return;
  WIN32_MEMORY_RANGE_ENTRY range{const_cast<uint8_t*>(data_) + offset, SIZE_T(std::min(size, size_ - offset))};
  ::PrefetchVirtualMemory(::GetCurrentProcess(), 1, &range, 0);
}

// Unlocking pages that are not locked takes them out of the working set; they stay in the system's cache.
void MappedFile::drop(uint64_t offset, uint64_t size) const {
  const uint64_t begin = (offset + kPage - 1) & ~(kPage - 1), end = std::min(offset + size, size_) & ~(kPage - 1);
  if (begin < end) ::VirtualUnlock(const_cast<uint8_t*>(data_) + begin, SIZE_T(end - begin));
}

Result<std::string> read_file(const std::string& path, uint64_t limit) {
  const Handle file(open_file(path, GENERIC_READ, OPEN_EXISTING));
  if (!file) return system_error("cannot open", path);
  std::string content;
  char buffer[65536];
  for (;;) {
    DWORD n = 0;
    if (!::ReadFile(file.get(), buffer, sizeof buffer, &n, nullptr)) return system_error("cannot read", path);
    if (n == 0) return content;
    if (content.size() + n > limit)
      return Error{ErrorCode::out_of_range, path + " is larger than " + std::to_string(limit) + " bytes"};
    content.append(buffer, n);
  }
}

// NTFS journals the renaming, and MOVEFILE_WRITE_THROUGH waits for it: the fsync of the folder on POSIX.
Result<void> commit_file(const std::string& temporary, const std::string& path) {
  PONDER_CHECK_OK(flush(temporary));
  if (!::MoveFileExW(wide(temporary).c_str(), wide(path).c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
    return system_error("cannot put in place", path);
  return {};
}

Result<void> write_file_atomically(const std::string& path, std::string_view content) {
  const std::string temporary = path + "." + std::to_string(random_u64());
  const auto fail = [&](Error error) {
    ::DeleteFileW(wide(temporary).c_str());
    return error;
  };
  {
    const Handle file(open_file(temporary, GENERIC_WRITE, CREATE_NEW));
    if (!file) return system_error("cannot create a file beside", path);
    while (!content.empty()) {
      DWORD n = 0;
      const auto piece = DWORD(std::min<size_t>(content.size(), 1u << 30));
      if (!::WriteFile(file.get(), content.data(), piece, &n, nullptr) || n == 0)
        return fail(system_error("cannot write", temporary));
      content.remove_prefix(n);
    }
  }
  auto done = commit_file(temporary, path);
  if (!done.ok()) return fail(std::move(done).error());
  return done;
}

Result<uint64_t> free_space(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path p = std::filesystem::absolute(std::filesystem::path(wide(path)), ignored);
  while (!std::filesystem::exists(p, ignored) && p.has_relative_path()) p = p.parent_path();
  ULARGE_INTEGER available;
  if (!::GetDiskFreeSpaceExW(p.c_str(), &available, nullptr, nullptr))
    return system_error("cannot read the free space of", narrow(p.native()));
  return uint64_t(available.QuadPart);
}

// One byte far past any content is locked, so that others can still read the file.
Result<FileLock> FileLock::acquire(const std::string& path, bool wait) {
  Handle file(open_file(path, GENERIC_READ | GENERIC_WRITE, OPEN_ALWAYS));
  if (!file) return system_error("cannot open", path);
  OVERLAPPED at = {};
  at.OffsetHigh = 0x40000000;
  const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | (wait ? 0 : LOCKFILE_FAIL_IMMEDIATELY);
  if (!::LockFileEx(file.get(), flags, 0, 1, 0, &at)) {
    const DWORD code = ::GetLastError();
    if (code == ERROR_LOCK_VIOLATION || code == ERROR_IO_PENDING)
      return Error{ErrorCode::already_exists, path + " is locked by another process"};
    return system_error("cannot lock", path, code);
  }
  // As a descriptor of the C library, which owns the handle from here on, so that the header needs no Windows types.
  const int fd = ::_open_osfhandle(reinterpret_cast<intptr_t>(file.get()), 0);
  if (fd < 0) return system_error("cannot lock", path, ERROR_TOO_MANY_OPEN_FILES);
  (void)file.release();
  return FileLock(fd);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
FileLock::~FileLock() {
  if (fd_ >= 0) ::_close(fd_);  // which unlocks
}

}  // namespace ponder::os
#endif
