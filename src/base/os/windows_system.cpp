// Windows side of os/system.h. Cores are those of this process's processor group (at most 64).
#if defined(_WIN32)
#include "base/os/windows_text.h"
// after windows.h
#include <bcrypt.h>
#include <io.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/os/system.h"

namespace ponder::os {
namespace {

std::vector<int> allowed_cores() {
  DWORD_PTR mine = 0, all = 0;
  ::GetProcessAffinityMask(::GetCurrentProcess(), &mine, &all);
  std::vector<int> cores;
  for (int c = 0; c < 64; ++c)
    if ((uint64_t(mine) >> c) & 1) cores.push_back(c);
  if (cores.empty()) cores.push_back(0);
  return cores;
}

std::atomic<bool> g_interrupted{false};
std::atomic<int64_t> g_last_interrupt{0};

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// On a thread of its own, which Windows makes for it.
BOOL WINAPI on_interrupt(DWORD event) {
  if (event != CTRL_C_EVENT) return FALSE;
  const int64_t now = now_ms(), last = g_last_interrupt.exchange(now);
  if (g_interrupted.exchange(true) && now - last < 2000) std::_Exit(130);
  return TRUE;
}

}  // namespace

std::optional<std::string> env(const char* name) {
  const std::wstring key = wide(name);
  const DWORD n = ::GetEnvironmentVariableW(key.c_str(), nullptr, 0);
  if (n <= 1) return std::nullopt;
  std::wstring value(n, L'\0');
  value.resize(::GetEnvironmentVariableW(key.c_str(), value.data(), n));
  return narrow(value);
}

int usable_cores() { return int(allowed_cores().size()); }

int physical_cores() {
  DWORD bytes = 0;
  ::GetLogicalProcessorInformation(nullptr, &bytes);
  std::vector<SYSTEM_LOGICAL_PROCESSOR_INFORMATION> table(bytes / sizeof(SYSTEM_LOGICAL_PROCESSOR_INFORMATION));
  DWORD_PTR mine = 0, all = 0;
  ::GetProcessAffinityMask(::GetCurrentProcess(), &mine, &all);
  int cores = 0;
  if (!table.empty() && ::GetLogicalProcessorInformation(table.data(), &bytes))
    for (const auto& entry : table)
      cores += entry.Relationship == RelationProcessorCore && (entry.ProcessorMask & mine) != 0;
  return cores > 0 ? cores : usable_cores();
}

std::string cpu_name() {
  wchar_t text[128];
  DWORD bytes = sizeof text;
  const LSTATUS status = ::RegGetValueW(HKEY_LOCAL_MACHINE, L"HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0",
                                        L"ProcessorNameString", RRF_RT_REG_SZ, nullptr, text, &bytes);
  if (status != ERROR_SUCCESS) return "unknown processor";
  std::string name = narrow(text);
  const size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
  return first == std::string::npos ? "unknown processor" : name.substr(first, last - first + 1);
}

void pin_thread(int n) {
  static const std::vector<int> cores = allowed_cores();
  ::SetThreadAffinityMask(::GetCurrentThread(), DWORD_PTR(1) << cores[size_t(n) % cores.size()]);
}

std::string home_directory() { return env("USERPROFILE").value_or("C:\\"); }

std::string executable_path() {
  std::wstring path(MAX_PATH, L'\0');
  for (;;) {
    const DWORD n = ::GetModuleFileNameW(nullptr, path.data(), DWORD(path.size()));
    if (n < path.size()) return narrow({path.data(), n});
    path.resize(path.size() * 2);
  }
}

bool is_terminal(int fd) { return ::_isatty(fd) != 0; }

TerminalSize terminal_size() {
  TerminalSize size;
  CONSOLE_SCREEN_BUFFER_INFO info;
  if (::GetConsoleScreenBufferInfo(::GetStdHandle(STD_ERROR_HANDLE), &info))
    size = {info.srWindow.Right - info.srWindow.Left + 1, info.srWindow.Bottom - info.srWindow.Top + 1};
  return size;
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  FILETIME created, ended, kernel, user;
  if (!::GetProcessTimes(::GetCurrentProcess(), &created, &ended, &kernel, &user)) return 0;
  const auto s = [](const FILETIME& t) { return 1e-7 * double((uint64_t(t.dwHighDateTime) << 32) | t.dwLowDateTime); };
  return s(kernel) + s(user);
}

std::optional<double> processor_joules(const std::string&) { return std::nullopt; }

uint64_t random_u64() {
  uint64_t v = 0;
  if (::BCryptGenRandom(nullptr, reinterpret_cast<PUCHAR>(&v), sizeof v, BCRYPT_USE_SYSTEM_PREFERRED_RNG) != 0)
    v = uint64_t(now_ms()) * 0x9e3779b97f4a7c15ull ^ ::GetCurrentProcessId();
  return v;
}

Result<SharedLibrary> SharedLibrary::open(const char* const* names, int n_names) {
  std::string tried;
  for (int i = 0; i < n_names; ++i) {
    if (HMODULE h = ::LoadLibraryW(wide(names[i]).c_str())) return SharedLibrary(reinterpret_cast<void*>(h));
    tried += (i ? ", " : "") + std::string(names[i]);
  }
  return Error{ErrorCode::not_found, "cannot load a shared library; tried " + tried};
}
SharedLibrary::SharedLibrary(SharedLibrary&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
SharedLibrary& SharedLibrary::operator=(SharedLibrary&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}
SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr) ::FreeLibrary(static_cast<HMODULE>(handle_));
}
void* SharedLibrary::symbol(const char* name) const {
  return reinterpret_cast<void*>(::GetProcAddress(static_cast<HMODULE>(handle_), name));
}

void catch_interrupts() { ::SetConsoleCtrlHandler(on_interrupt, TRUE); }
void catch_server_signals() { catch_interrupts(); }
BlockedSigpipe::BlockedSigpipe() = default;  // no such signal here
BlockedSigpipe::~BlockedSigpipe() = default;
bool interrupted() { return g_interrupted.load(); }
void interrupt_taken() { g_interrupted.store(false); }
const std::atomic<bool>& interrupt_flag() { return g_interrupted; }

}  // namespace ponder::os
#endif
