// The archive's directory stands at its end; each member has a header of its own before its data.
// Offsets and sizes come from the directory and are checked against the file before anything is
// read.
#include "store/zip.h"

#include <zlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/checked.h"

namespace ponder::store {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50, kEntrySignature = 0x02014b50, kLocalSignature = 0x04034b50;
constexpr uint64_t kEndSize = 22, kEntrySize = 46, kLocalSize = 30;

uint32_t u16(std::span<const uint8_t> b, uint64_t at) { return uint32_t(b[at]) | uint32_t(b[at + 1]) << 8; }
uint32_t u32(std::span<const uint8_t> b, uint64_t at) { return u16(b, at) | u16(b, at + 2) << 16; }

Error bad(const std::string& why) { return Error{ErrorCode::invalid_file, "the archive is damaged: " + why}; }

struct Entry {
  uint32_t flags, method, crc, packed, size, offset;
};

Result<Entry> find_entry(std::span<const uint8_t> zip, std::string_view member) {
  if (zip.size() < kEndSize) return bad("it is too short");
  // The end record is followed by a comment of at most 65,535 bytes.
  uint64_t end = zip.size() - kEndSize;
  const uint64_t lowest = end > 65535 ? end - 65535 : 0;
  while (u32(zip, end) != kEndSignature) {
    if (end == lowest) return bad("its directory is missing");
    --end;
  }
  const uint32_t count = u16(zip, end + 10);
  uint64_t at = u32(zip, end + 16);
  for (uint32_t i = 0; i < count; ++i) {
    if (!fits(at, kEntrySize, zip.size()) || u32(zip, at) != kEntrySignature) return bad("its directory is cut short");
    const uint64_t name = u16(zip, at + 28), extra = u16(zip, at + 30), comment = u16(zip, at + 32);
    if (!fits(at + kEntrySize, name, zip.size())) return bad("its directory is cut short");
    const std::string_view found(reinterpret_cast<const char*>(zip.data()) + at + kEntrySize, name);
    if (found == member)
      return Entry{u16(zip, at + 8),  u16(zip, at + 10), u32(zip, at + 16),
                   u32(zip, at + 20), u32(zip, at + 24), u32(zip, at + 42)};
    at += kEntrySize + name + extra + comment;
  }
  return Error{ErrorCode::not_found, "the archive has no member " + std::string(member)};
}

struct Inflater {
  z_stream stream{};
  bool ready = inflateInit2(&stream, -MAX_WBITS) == Z_OK;
  ~Inflater() {
    if (ready) inflateEnd(&stream);
  }
};

}  // namespace

Result<void> read_zip_member(std::span<const uint8_t> zip, std::string_view member, uint64_t expected_size,
                             const std::function<Result<void>(std::span<const uint8_t>)>& sink) {
  PONDER_TRY(const Entry e, find_entry(zip, member));
  if ((e.flags & 1) != 0) return bad("a member is encrypted");
  if (e.size == UINT32_MAX || e.packed == UINT32_MAX || e.offset == UINT32_MAX) return bad("it is of the zip64 kind");
  if (e.size != expected_size)
    return bad("a member has " + std::to_string(e.size) + " bytes instead of " + std::to_string(expected_size));
  if (!fits(e.offset, kLocalSize, zip.size()) || u32(zip, e.offset) != kLocalSignature)
    return bad("a member's header is missing");
  const uint64_t start = e.offset + kLocalSize + u16(zip, e.offset + 26) + u16(zip, e.offset + 28);
  if (!fits(start, e.packed, zip.size())) return bad("a member's data is cut short");
  std::span<const uint8_t> data = zip.subspan(start, e.packed);

  uint64_t written = 0;
  uLong crc = crc32(0, nullptr, 0);
  const auto give = [&](std::span<const uint8_t> piece) -> Result<void> {
    written += piece.size();
    if (written > expected_size) return bad("a member is longer than its directory says");
    crc = crc32(crc, piece.data(), uInt(piece.size()));
    return sink(piece);
  };
  constexpr size_t kPiece = size_t(1) << 18;
  if (e.method == 0) {
    for (; !data.empty(); data = data.subspan(std::min(kPiece, data.size())))
      PONDER_CHECK_OK(give(data.first(std::min(kPiece, data.size()))));
  } else if (e.method == 8) {
    Inflater inflater;
    if (!inflater.ready) return Error{ErrorCode::out_of_memory, "zlib could not be initialised"};
    std::vector<uint8_t> out(kPiece);
    z_stream& z = inflater.stream;
    z.next_in = const_cast<Bytef*>(data.data());
    z.avail_in = uInt(data.size());
    for (int status = Z_OK; status != Z_STREAM_END;) {
      z.next_out = out.data();
      z.avail_out = uInt(out.size());
      status = inflate(&z, Z_NO_FLUSH);
      if (status != Z_OK && status != Z_STREAM_END) return bad("a member cannot be unpacked");
      PONDER_CHECK_OK(give(std::span(out.data(), out.size() - z.avail_out)));
    }
  } else {
    return bad("a member is packed in an unknown way");
  }
  if (written != expected_size || crc != e.crc) return bad("a member's checksum is wrong");
  return {};
}

}  // namespace ponder::store
