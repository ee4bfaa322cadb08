// Windows side of os/memory.h. An arena is reserved and committed at once: Windows counts committed memory against its
// limit, so a refusal comes here and not on a later touch; pages are backed on first touch as on POSIX. Large pages need a
// privilege that ordinary users do not have, so they are not asked for.
#if defined(_WIN32)
#include "base/os/windows_text.h"
// after windows.h
#include <psapi.h>

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "base/os/memory.h"

namespace ponder::os {
namespace {
constexpr uint64_t kHuge = uint64_t(2) << 20, kPage = 4096;
}

Result<Arena> Arena::allocate(uint64_t bytes, bool) {
  Arena a;
  if (bytes == 0) return a;
  const auto size = checked_align(bytes, kHuge);
  const auto mapped = size ? checked_add(*size, kHuge) : size;
  void* p = mapped ? ::VirtualAlloc(nullptr, SIZE_T(*mapped), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) : nullptr;
  if (p == nullptr)
    return Error{ErrorCode::out_of_memory, "cannot get " + std::to_string(bytes >> 20) + " MiB of memory: " +
                                               error_text(mapped ? ::GetLastError() : ERROR_NOT_ENOUGH_MEMORY)};
  a.base_ = static_cast<uint8_t*>(p);
  a.mapped_ = *mapped;
  a.data_ = reinterpret_cast<uint8_t*>(align_up(reinterpret_cast<uintptr_t>(p), kHuge));
  a.size_ = *size;
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
  if (base_ != nullptr) ::VirtualFree(base_, 0, MEM_RELEASE);
}

// Given back and taken again: the new pages read as zero.
void Arena::discard(uint64_t offset, uint64_t bytes) const {
  const uint64_t begin = align_up(offset, kPage), end = std::min(offset + bytes, size_) & ~(kPage - 1);
  if (begin >= end) return;
  ::VirtualFree(data_ + begin, SIZE_T(end - begin), MEM_DECOMMIT);
  ::VirtualAlloc(data_ + begin, SIZE_T(end - begin), MEM_COMMIT, PAGE_READWRITE);
}

MemoryInfo memory_info(const std::string&) {
  MemoryInfo info;
  MEMORYSTATUSEX status = {};
  status.dwLength = sizeof status;
  if (!::GlobalMemoryStatusEx(&status)) return info;
  info.total = status.ullTotalPhys;
  info.available = std::min(status.ullAvailPhys, status.ullAvailPageFile);  // memory, and the commit limit
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION job = {};                            // a container's limit
  if (::QueryInformationJobObject(nullptr, JobObjectExtendedLimitInformation, &job, sizeof job, nullptr)) {
    uint64_t limit = ~uint64_t(0);
    if (job.BasicLimitInformation.LimitFlags & JOB_OBJECT_LIMIT_JOB_MEMORY) limit = job.JobMemoryLimit;
    if (job.BasicLimitInformation.LimitFlags & JOB_OBJECT_LIMIT_PROCESS_MEMORY)
      limit = std::min<uint64_t>(limit, job.ProcessMemoryLimit);
    if (limit < info.total) {
      const uint64_t used = process_memory().resident;
      info.total = limit;
      info.available = std::min(info.available, limit > used ? limit - used : 0);
    }
  }
  return info;
}

ProcessMemory process_memory() {
  ProcessMemory m;
  PROCESS_MEMORY_COUNTERS counters = {};
  if (!::GetProcessMemoryInfo(::GetCurrentProcess(), &counters, sizeof counters)) return m;
  m.resident = counters.WorkingSetSize;
  m.peak = std::max<uint64_t>(counters.PeakWorkingSetSize, m.resident);
  return m;
}

}  // namespace ponder::os
#endif
