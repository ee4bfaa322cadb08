#pragma once

namespace ponder {
inline constexpr const char* kVersion = "0.1.0";
}
