// What usually comes next: for every run of a few tokens that was read, the token that followed it. Drafts are made of
// these. A table of fixed size in which what is read later overwrites what was read earlier; it keeps no text, and a
// wrong entry costs a wrong draft, nothing else.
// The idea is that of prediction by partial matching (Cleary and Witten 1984) with the counters of branch predictors.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace ponder::engine {

class Phrases {
 public:
  /// A run's last so many tokens are looked up, for each of these lengths.
  static constexpr std::array<int, 7> kLengths = {1, 2, 3, 4, 6, 8, 12};
  static constexpr int kLongest = kLengths.back();
  static constexpr int kMostOften = 3;

  /// 2^size entries of 8 bytes. Seven are written for a token.
  explicit Phrases(int size = 17) : entries_(size_t(1) << size), mask_((uint64_t(1) << size) - 1) {}

  /// What followed a run: by the reader who asks (own), or only by others before it.
  struct Seen {
    int32_t token = -1;  ///< -1: nothing is known
    uint8_t often = 0;   ///< how many times in a row it did so beyond the first, up to kMostOften
    bool own = false;
  };
  using All = std::array<Seen, kLengths.size()>;  ///< by length

  /// A number for a sequence that reads, never 0.
  uint16_t new_reader() { return ++readers_ == 0 ? ++readers_ : readers_; }
  /// What may follow the last tokens of `run` (more than kLongest are not looked at).
  All look(std::span<const int32_t> run, uint16_t reader) const;
  /// `token` follows `run`. Returns what look() would have said.
  All learn(std::span<const int32_t> run, int32_t token, uint16_t reader);

 private:
  struct Entry {
    uint16_t check = 0, reader = 0;
    uint32_t token_often = 0;  // token + 1 in the upper 30 bits; 0: free
  };
  struct Keys {
    std::array<uint64_t, kLengths.size()> hash;
    size_t n = 0;  // lengths that the run has
  };
  static Keys keys_of(std::span<const int32_t> run);
  Seen read(uint64_t hash, uint16_t reader) const;

  std::vector<Entry> entries_;
  uint64_t mask_;
  uint16_t readers_ = 0;
};

}  // namespace ponder::engine
