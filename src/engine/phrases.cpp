// One table for all lengths: the length is part of the hash. The lower bits of a hash choose the entry, 16 of the upper
// ones are compared, so that about one look-up in 65,536 finds somebody else's token. Short runs are counted down before
// they change their token: with them, what is usual matters more than what came last. Read next: text_drafter.cpp.
#include "engine/phrases.h"

namespace ponder::engine {
namespace {
constexpr int kSteady = 2;  // runs up to so long

uint64_t mixed(uint64_t h) {
  h ^= h >> 31;
  h *= 0x9e3779b97f4a7c15u;
  return h ^ (h >> 29);
}
}  // namespace

Phrases::Keys Phrases::keys_of(std::span<const int32_t> run) {
  Keys keys;
  uint64_t h = 0x51ed270b;
  int length = 0;
  for (const int wanted : kLengths) {
    if (wanted > int(run.size())) break;
    for (; length < wanted; ++length)
      h = (h ^ uint64_t(uint32_t(run[run.size() - 1 - size_t(length)]))) * 0xd6e8feb86659fd93u;
    keys.hash[keys.n++] = mixed(h + uint64_t(wanted));
  }
  return keys;
}

Phrases::Seen Phrases::read(uint64_t hash, uint16_t reader) const {
  const Entry& e = entries_[hash & mask_];
  if (e.token_often == 0 || e.check != uint16_t(hash >> 48)) return {};
  return {int32_t(e.token_often >> 2) - 1, uint8_t(e.token_often & 3), e.reader == reader};
}

Phrases::All Phrases::look(std::span<const int32_t> run, uint16_t reader) const {
  const Keys keys = keys_of(run);
  All all;
  for (size_t i = 0; i < keys.n; ++i) all[i] = read(keys.hash[i], reader);
  return all;
}

Phrases::All Phrases::learn(std::span<const int32_t> run, int32_t token, uint16_t reader) {
  const Keys keys = keys_of(run);
  All all;
  for (size_t i = 0; i < keys.n; ++i) {
    const Seen seen = all[i] = read(keys.hash[i], reader);
    int32_t kept = token;
    int often = 0;
    if (seen.token == token) {
      often = seen.often < kMostOften ? seen.often + 1 : kMostOften;
    } else if (seen.token >= 0 && seen.often > 0 && kLengths[i] <= kSteady) {
      kept = seen.token;
      often = seen.often - 1;
    }
    entries_[keys.hash[i] & mask_] = {uint16_t(keys.hash[i] >> 48), reader, uint32_t(kept + 1) << 2 | uint32_t(often)};
  }
  return all;
}

}  // namespace ponder::engine
