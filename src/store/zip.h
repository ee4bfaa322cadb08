// Reading one member of a zip archive (a wheel) that is mapped in memory. Internal to this library.
// Source: PKWARE APPNOTE 6.3, stored and deflated members, without zip64, encryption or several
// disks.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/result.h"

namespace ponder::store {

/// Finds `member` and hands its unpacked bytes to `sink` in pieces; checks its size
/// (`expected_size`) and CRC-32. Nothing is written anywhere and no name of the archive is used as
/// a path.
Result<void> read_zip_member(std::span<const uint8_t> archive, std::string_view member, uint64_t expected_size,
                             const std::function<Result<void>(std::span<const uint8_t>)>& sink);

}  // namespace ponder::store
