// Two hash tables of fixed size with open addressing, for what a tokenizer looks up millions of
// times: text -> id and pair of ids -> merge. Flat arrays, no allocation per entry: building them
// is most of the time of loading a vocabulary (a node-based map takes five times as long), and a
// lookup touches one or two cache lines.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

namespace ponder::tokenizer {

inline uint64_t mix(uint64_t x) {  // finaliser of splitmix64 (Steele, Lea, Flood 2014)
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

inline uint64_t hash_bytes(std::string_view text) {
  uint64_t h = 0x9e3779b97f4a7c15ull ^ text.size();
  const char* p = text.data();
  size_t n = text.size();
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    h = mix(h ^ word);
  }
  uint64_t word = 0;
  if (n != 0) std::memcpy(&word, p, n);
  return mix(h ^ word);
}

/// Text -> id; the texts live elsewhere (`text_of(id)` gives them back for comparison). The first
/// of equal texts wins.
class TextTable {
 public:
  void reserve(size_t n) { slots_.assign(std::bit_ceil(n * 2 + 2), Slot{0, -1}); }

  template <class TextOf>
  void insert(std::string_view text, int32_t id, const TextOf& text_of) {
    const uint64_t h = hash_bytes(text);
    for (size_t i = h & mask();; i = (i + 1) & mask()) {
      Slot& slot = slots_[i];
      if (slot.id < 0) {
        slot = Slot{uint32_t(h >> 32), id};
        return;
      }
      if (slot.tag == uint32_t(h >> 32) && text_of(slot.id) == text) return;
    }
  }

  /// -1 if absent.
  template <class TextOf>
  int32_t find(std::string_view text, const TextOf& text_of) const {
    if (slots_.empty()) return -1;
    const uint64_t h = hash_bytes(text);
    for (size_t i = h & mask();; i = (i + 1) & mask()) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.tag == uint32_t(h >> 32) && text_of(slot.id) == text) return slot.id;
    }
  }

 private:
  struct Slot {
    uint32_t tag;
    int32_t id;
  };
  size_t mask() const { return slots_.size() - 1; }
  std::vector<Slot> slots_;
};

/// (left id, right id) -> rank and id of the merged token. The first of equal pairs wins, as the
/// lower rank does.
class PairTable {
 public:
  struct Merge {
    uint64_t pair = kEmpty;
    uint32_t rank = UINT32_MAX;  ///< UINT32_MAX: there is no such merge
    int32_t id = -1;
  };

  void reserve(size_t n) { slots_.assign(std::bit_ceil(n * 2 + 2), Merge{}); }

  void insert(int32_t left, int32_t right, uint32_t rank, int32_t id) {
    const uint64_t pair = key(left, right);
    for (size_t i = mix(pair) & mask();; i = (i + 1) & mask()) {
      if (slots_[i].pair == kEmpty) {
        slots_[i] = Merge{pair, rank, id};
        return;
      }
      if (slots_[i].pair == pair) return;
    }
  }

  const Merge& find(int32_t left, int32_t right) const {
    const uint64_t pair = key(left, right);
    for (size_t i = mix(pair) & mask();; i = (i + 1) & mask()) {
      if (slots_[i].pair == pair || slots_[i].pair == kEmpty) return slots_[i];
    }
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;  // ids are not negative, so no pair has this value
  static uint64_t key(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
  size_t mask() const { return slots_.size() - 1; }
  std::vector<Merge> slots_{1};
};

}  // namespace ponder::tokenizer
