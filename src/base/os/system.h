// The rest of the operating system: environment, cores, folders, terminals, shared libraries, signals.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace ponder::os {

/// An environment variable, unset and empty being the same.
std::optional<std::string> env(const char* name);

/// Cores this process may use (affinity and container quota respected), at least 1.
int usable_cores();

/// Physical cores among them where the system tells (SMT siblings counted once); the default number of threads.
int physical_cores();

/// The processor's name for people ("AMD EPYC 9454"), or "unknown processor".
std::string cpu_name();

/// Whether an ARM processor has the dot product instructions (sdot, udot). False elsewhere.
bool has_dot_product();

/// Pins the calling thread to the n-th usable core (modulo their number). Advice only.
void pin_thread(int n);

std::string home_directory();
std::string executable_path();

bool is_terminal(int fd);  ///< 0, 1, 2
struct TerminalSize {
  int columns = 80, rows = 24;
};
TerminalSize terminal_size();

/// Seconds since an arbitrary start, never going back.
double monotonic_seconds();
/// Processor time of this process, user + system, seconds.
double cpu_seconds();
/// Joules that the processor's packages have used since some start (a counter that may wrap after hours); nothing where
/// the system does not tell. `folder`: where Linux lists the counters (powercap, readable by root on most machines).
std::optional<double> processor_joules(const std::string& folder = "/sys/class/powercap");

/// Cryptographically strong random bytes as a 64-bit number.
uint64_t random_u64();

/// A shared library opened at run time (libcurl, OpenSSL, the CUDA driver: only what needs them loads them).
class SharedLibrary {
 public:
  static Result<SharedLibrary> open(const char* const* names, int n_names);
  SharedLibrary(SharedLibrary&& other) noexcept;
  SharedLibrary& operator=(SharedLibrary&& other) noexcept;
  ~SharedLibrary();
  /// The address of a symbol, or nullptr.
  void* symbol(const char* name) const;

 private:
  explicit SharedLibrary(void* handle) : handle_(handle) {}
  void* handle_ = nullptr;
};

/// Ctrl-C: from the first call on, SIGINT sets a flag instead of ending the process; a second SIGINT within two
/// seconds without interrupt_taken() in between ends it with status 130.
void catch_interrupts();
bool interrupted();
void interrupt_taken();  ///< clears the flag
/// For a server: SIGTERM too (what service managers and containers send) sets the flag, and a log whose reader is gone does
/// not end the process (SIGPIPE is ignored).
void catch_server_signals();
/// The flag itself, for calls that take a cancel flag. Lives as long as the program.
const std::atomic<bool>& interrupt_flag();

/// While it lives, writing to a connection that its peer has closed fails on this thread instead of ending the process
/// (SIGPIPE). Around libraries that write with plain write().
class BlockedSigpipe {
 public:
  BlockedSigpipe();
  ~BlockedSigpipe();
  BlockedSigpipe(const BlockedSigpipe&) = delete;
  BlockedSigpipe& operator=(const BlockedSigpipe&) = delete;

 private:
  bool ours_ = false;  // it was not blocked before
};

}  // namespace ponder::os
