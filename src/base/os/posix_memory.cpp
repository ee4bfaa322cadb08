// POSIX/Linux side of os/memory.h.
#if !defined(_WIN32)
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "base/checked.h"
#include "base/os/memory.h"

namespace ponder::os {
namespace {
constexpr uint64_t kHuge = uint64_t(2) << 20;

// A file with one number (cgroup limits); 0 when absent or "max".
uint64_t number_in(const std::string& path) {
  std::ifstream in(path);
  uint64_t n = 0;
  return (in >> n) ? n : 0;
}

// Bytes of a cgroup that are only copies of files: memory.current counts them, but the kernel takes them back when memory
// is asked for. Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.stat).
uint64_t file_cache_in(const std::string& path) {
  std::ifstream in(path);
  std::string key;
  uint64_t bytes = 0, sum = 0;
  while (in >> key >> bytes)
    if (key == "inactive_file" || key == "active_file") sum += bytes;
  return sum;
}
}  // namespace

Result<Arena> Arena::allocate(uint64_t bytes, bool huge_pages) {
  Arena a;
  if (bytes == 0) return a;
  const auto size = checked_align(bytes, kHuge);
  const auto mapped = size ? checked_add(*size, kHuge) : size;
  void* p = mapped
                ? ::mmap(nullptr, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                : MAP_FAILED;
  if (p == MAP_FAILED)
    return Error{ErrorCode::out_of_memory, "cannot get " + std::to_string(bytes >> 20) +
                                               " MiB of memory: " + std::strerror(mapped ? errno : ENOMEM)};
  a.base_ = static_cast<uint8_t*>(p);
  a.mapped_ = *mapped;
  a.data_ = reinterpret_cast<uint8_t*>(align_up(reinterpret_cast<uintptr_t>(p), kHuge));
  a.size_ = *size;
  ::madvise(a.data_, a.size_, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return a;
}

Arena::Arena(Arena&& other) noexcept { *this = std::move(other); }
Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}
Arena::~Arena() {
  if (base_ != nullptr) ::munmap(base_, mapped_);
}

void Arena::discard(uint64_t offset, uint64_t bytes) const {
  const uint64_t begin = align_up(offset, 4096), end = std::min(offset + bytes, size_) & ~uint64_t(4095);
  if (begin < end) ::madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

MemoryInfo memory_info(const std::string& cgroup) {
  MemoryInfo info;
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  uint64_t kib = 0;
  while (in >> key >> kib) {
    std::getline(in, unit);
    if (key == "MemTotal:") info.total = kib << 10;
    if (key == "MemAvailable:") info.available = kib << 10;
  }
  if (info.total == 0) {
    info.total = uint64_t(::sysconf(_SC_PHYS_PAGES)) * uint64_t(::sysconf(_SC_PAGESIZE));
    info.available = info.total / 2;
  }
  const uint64_t limit = number_in(cgroup + "/memory.max");
  if (limit != 0 && limit < info.total) {
    const uint64_t counted = number_in(cgroup + "/memory.current");
    const uint64_t used = counted - std::min(counted, file_cache_in(cgroup + "/memory.stat"));
    info.total = limit;
    info.available = std::min(info.available, limit > used ? limit - used : 0);
  }
  return info;
}

ProcessMemory process_memory() {
  ProcessMemory m;
  std::ifstream in("/proc/self/statm");
  uint64_t pages = 0, resident = 0;
  if (in >> pages >> resident) m.resident = resident * uint64_t(::sysconf(_SC_PAGESIZE));
  // Not getrusage: its maximum is inherited from the program that started this one.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) m.peak = uint64_t(std::strtoull(line.c_str() + 6, nullptr, 10)) << 10;
  m.peak = std::max(m.peak, m.resident);
  return m;
}

}  // namespace ponder::os
#endif
