// Which instruction sets this processor has, and which one is in use. The compiler's CPU detection
// asks the operating system as well (XCR0), so an AVX-512 level is offered only where its registers
// are saved.
#include "backend/cpu/isa/isa.h"

#include <vector>

#include "base/os/system.h"

namespace ponder::backend::cpu::isa {
namespace {

std::vector<Level> detect() {
  std::vector<Level> levels{Level::scalar};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return levels;
  levels.push_back(Level::avx2);
  const bool avx512_vnni = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vnni");
  if (__builtin_cpu_supports("avxvnni") || avx512_vnni) levels.push_back(Level::avx2_vnni);
  if (avx512_vnni) levels.push_back(Level::avx512);
#elif defined(__aarch64__)
  if (os::has_dot_product()) levels.push_back(Level::neon);
#endif
  return levels;
}

}  // namespace

const char* to_string(Level level) {
  switch (level) {
    case Level::scalar:
      return "scalar";
    case Level::avx2:
      return "avx2";
    case Level::avx2_vnni:
      return "avx2_vnni";
    case Level::avx512:
      return "avx512";
    case Level::neon:
      return "neon";
  }
  return "?";
}

std::optional<Level> parse_level(std::string_view name) {
  for (Level level : {Level::scalar, Level::avx2, Level::avx2_vnni, Level::avx512, Level::neon})
    if (name == to_string(level)) return level;
  return std::nullopt;
}

std::span<const Level> available() {
  static const std::vector<Level> levels = detect();
  return levels;
}

Level active() {
  static const Level level = [] {
    if (auto wanted = os::env("PONDER_ISA"))
      if (auto parsed = parse_level(*wanted))
        for (Level l : available())
          if (l == *parsed) return l;
    return available().back();
  }();
  return level;
}

}  // namespace ponder::backend::cpu::isa
