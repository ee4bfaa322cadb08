// POSIX/Linux side of os/system.h.
#if !defined(_WIN32)
#include <dlfcn.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>
#include <vector>

#include "base/os/system.h"

namespace ponder::os {
namespace {

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    for (int c = 0; c < CPU_SETSIZE; ++c)
      if (CPU_ISSET(c, &set)) cores.push_back(c);
  if (cores.empty()) cores.push_back(0);
  return cores;
}

// Whole cores granted by a cgroup v2 quota ("max 100000" or "150000 100000"), or a large number.
int quota_cores() {
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (in >> quota >> period && period > 0) return std::max(1, int(std::ceil(quota / period)));
  return 1 << 20;
}

std::atomic<bool> g_interrupted{false};
std::atomic<int64_t> g_last_interrupt{0};

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void on_interrupt(int signal) {
  const int64_t now = now_ms(), last = g_last_interrupt.exchange(now);
  if (g_interrupted.exchange(true) && now - last < 2000) ::_exit(128 + signal);
}

void set_handler(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;  // no SA_RESTART: a blocking read returns
  ::sigaction(signal, &action, nullptr);
}

sigset_t only_sigpipe() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

std::optional<std::string> env(const char* name) {
  const char* v = std::getenv(name);
  if (v == nullptr || *v == 0) return std::nullopt;
  return std::string(v);
}

int usable_cores() { return std::min(int(allowed_cores().size()), quota_cores()); }

int physical_cores() {
  std::set<std::string> seen;
  for (int c : allowed_cores()) {
    std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(c) + "/topology/thread_siblings_list");
    std::string siblings;
    if (!(in >> siblings)) siblings = std::to_string(c);
    seen.insert(siblings);
  }
  return std::max(1, std::min(int(seen.size()), quota_cores()));
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos && colon + 2 < line.size())
      return line.substr(colon + 2);
  }
  return "unknown processor";
}

bool has_dot_product() {
#if defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP
  return (::getauxval(AT_HWCAP) & kAsimdDp) != 0;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
  return true;  // the compiler was told so (Apple)
#else
  return false;
#endif
}

void pin_thread(int n) {
  static const std::vector<int> cores = allowed_cores();  // before any thread is pinned
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cores[size_t(n) % cores.size()], &set);
  ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
}

std::string home_directory() {
  if (auto h = env("HOME")) return *h;
  const struct passwd* p = ::getpwuid(::getuid());
  return p != nullptr && p->pw_dir != nullptr ? p->pw_dir : "/";
}

std::string executable_path() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).string();
}

bool is_terminal(int fd) { return ::isatty(fd) == 1; }

TerminalSize terminal_size() {
  struct winsize w;
  TerminalSize size;
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) size = {w.ws_col, w.ws_row};
  return size;
}

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  struct rusage u;
  if (::getrusage(RUSAGE_SELF, &u) != 0) return 0;
  const auto s = [](const timeval& t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return s(u.ru_utime) + s(u.ru_stime);
}

// Source: Linux, Documentation/power/powercap: intel-rapl:N (AMD too) is package N, its energy_uj counts microjoules.
std::optional<double> processor_joules(const std::string& folder) {
  double sum = 0;
  int packages = 0;
  for (; packages < 64; ++packages) {
    std::ifstream in(folder + "/intel-rapl:" + std::to_string(packages) + "/energy_uj");
    double microjoules = 0;
    if (!(in >> microjoules)) break;
    sum += microjoules * 1e-6;
  }
  if (packages == 0) return std::nullopt;
  return sum;
}

uint64_t random_u64() {
  uint64_t v = 0;
  if (::getrandom(&v, sizeof v, 0) != sizeof v) v = uint64_t(now_ms()) * 0x9e3779b97f4a7c15ull ^ uint64_t(::getpid());
  return v;
}

Result<SharedLibrary> SharedLibrary::open(const char* const* names, int n_names) {
  std::string tried;
  for (int i = 0; i < n_names; ++i) {
    if (void* h = ::dlopen(names[i], RTLD_NOW | RTLD_LOCAL)) return SharedLibrary(h);
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
  if (handle_ != nullptr) ::dlclose(handle_);
}
void* SharedLibrary::symbol(const char* name) const { return ::dlsym(handle_, name); }

void catch_interrupts() { set_handler(SIGINT, on_interrupt); }
void catch_server_signals() {
  catch_interrupts();
  set_handler(SIGTERM, on_interrupt);
  set_handler(SIGPIPE, SIG_IGN);
}
bool interrupted() { return g_interrupted.load(); }
void interrupt_taken() { g_interrupted.store(false); }
const std::atomic<bool>& interrupt_flag() { return g_interrupted; }

BlockedSigpipe::BlockedSigpipe() {
  const sigset_t pipe = only_sigpipe();
  sigset_t before;
  if (::pthread_sigmask(SIG_BLOCK, &pipe, &before) == 0) ours_ = ::sigismember(&before, SIGPIPE) == 0;
}
BlockedSigpipe::~BlockedSigpipe() {
  if (!ours_) return;
  const sigset_t pipe = only_sigpipe();
  const struct timespec now = {};
  while (::sigtimedwait(&pipe, nullptr, &now) == SIGPIPE) {  // one that came meanwhile
  }
  ::pthread_sigmask(SIG_UNBLOCK, &pipe, nullptr);
}

}  // namespace ponder::os
#endif
