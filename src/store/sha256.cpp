// SHA-256 through libcrypto's EVP interface, opened at run time, or by the portable code below,
// written from FIPS 180-4. The library is never closed: contexts may outlive any owner we could
// give it. If any EVP call fails half-way the object has already lost data, so EVP is used only
// after a self-test of the whole chain of calls at first use.
#include "store/sha256.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "base/os/system.h"

namespace ponder::store {
namespace {

constexpr uint32_t kInitial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

constexpr uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

void compress(uint32_t state[8], const uint8_t* block) {
  uint32_t w[64];
  for (int i = 0; i < 16; ++i)
    w[i] = uint32_t(block[4 * i]) << 24 | uint32_t(block[4 * i + 1]) << 16 | uint32_t(block[4 * i + 2]) << 8 |
           block[4 * i + 3];
  for (int i = 16; i < 64; ++i) {
    const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (int i = 0; i < 64; ++i) {
    const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
    const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

struct Crypto {
  void* (*context_new)() = nullptr;
  void (*context_free)(void*) = nullptr;
  const void* (*md)() = nullptr;
  int (*init)(void*, const void*, void*) = nullptr;
  int (*update)(void*, const void*, size_t) = nullptr;
  int (*final)(void*, unsigned char*, unsigned int*) = nullptr;
  bool works = false;
};

// dlsym gives void*; the copy through memory is the conversion POSIX sanctions.
template <class F>
bool bind(const os::SharedLibrary& library, F& function, const char* name) {
  void* p = library.symbol(name);
  std::memcpy(&function, &p, sizeof p);
  return p != nullptr;
}

bool self_test(const Crypto& c) {
  void* context = c.context_new();
  if (context == nullptr) return false;
  unsigned char out[64];
  unsigned int size = 0;
  const bool done =
      c.init(context, c.md(), nullptr) == 1 && c.update(context, "abc", 3) == 1 && c.final(context, out, &size) == 1;
  c.context_free(context);
  Sha256 ours(Sha256::Engine::portable);
  ours.update(std::string_view("abc"));
  return done && size == 32 && std::memcmp(out, ours.finish().bytes().data(), 32) == 0;
}

Crypto load_crypto() {
  Crypto c;
  const char* names[] = {"libcrypto.so.3", "libcrypto.so.1.1"};
  auto opened = os::SharedLibrary::open(names, 2);
  if (!opened.ok()) return c;
  // Never closed: see the top of the file.
  static const auto* const kept = new os::SharedLibrary(std::move(*opened));
  const os::SharedLibrary& library = *kept;
  c.works = bind(library, c.context_new, "EVP_MD_CTX_new") && bind(library, c.context_free, "EVP_MD_CTX_free") &&
            bind(library, c.md, "EVP_sha256") && bind(library, c.init, "EVP_DigestInit_ex") &&
            bind(library, c.update, "EVP_DigestUpdate") && bind(library, c.final, "EVP_DigestFinal_ex") && self_test(c);
  return c;
}

const Crypto& crypto() {
  static const Crypto c = load_crypto();
  return c;
}

}  // namespace

bool Sha256::library_available() { return crypto().works; }

Sha256::Sha256(Engine engine) {
  std::memcpy(portable_.state, kInitial, sizeof kInitial);
  if (engine == Engine::portable || !crypto().works) return;
  context_ = crypto().context_new();
  if (context_ != nullptr && crypto().init(context_, crypto().md(), nullptr) != 1) {
    crypto().context_free(context_);
    context_ = nullptr;
  }
}

Sha256::Sha256(Sha256&& other) noexcept
    : portable_(other.portable_), context_(std::exchange(other.context_, nullptr)) {}

Sha256& Sha256::operator=(Sha256&& other) noexcept {
  std::swap(portable_, other.portable_);
  std::swap(context_, other.context_);
  return *this;
}

Sha256::~Sha256() {
  if (context_ != nullptr) crypto().context_free(context_);
}

void Sha256::portable_update(const uint8_t* data, size_t size) {
  portable_.length += size;
  while (size > 0) {
    if (portable_.filled == 0 && size >= 64) {
      compress(portable_.state, data);
      data += 64, size -= 64;
      continue;
    }
    const size_t n = std::min(size, 64 - portable_.filled);
    std::memcpy(portable_.block + portable_.filled, data, n);
    portable_.filled += n, data += n, size -= n;
    if (portable_.filled == 64) {
      compress(portable_.state, portable_.block);
      portable_.filled = 0;
    }
  }
}

void Sha256::update(std::span<const uint8_t> piece) {
  if (piece.empty()) return;
  if (context_ != nullptr)
    crypto().update(context_, piece.data(), piece.size());
  else
    portable_update(piece.data(), piece.size());
}

void Sha256::update(std::string_view piece) { update({reinterpret_cast<const uint8_t*>(piece.data()), piece.size()}); }

Digest Sha256::finish() {
  std::array<uint8_t, 32> out{};
  if (context_ != nullptr) {
    unsigned char buffer[64];
    unsigned int size = 0;
    crypto().final(context_, buffer, &size);
    std::memcpy(out.data(), buffer, 32);
    return Digest(out);
  }
  const uint64_t bits = portable_.length * 8;
  const uint8_t one = 0x80, zero = 0;
  portable_update(&one, 1);
  while (portable_.filled != 56) portable_update(&zero, 1);
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = uint8_t(bits >> (56 - 8 * i));
  portable_update(length, 8);
  for (int i = 0; i < 8; ++i)
    for (int k = 0; k < 4; ++k) out[4 * i + k] = uint8_t(portable_.state[i] >> (24 - 8 * k));
  return Digest(out);
}

Digest sha256(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

Digest sha256(std::string_view bytes) {
  return sha256(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

}  // namespace ponder::store
