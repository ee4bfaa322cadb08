// SHA-256 (FIPS 180-4), fed piece by piece. OpenSSL's libcrypto does the work where it can be
// loaded (it uses the processor's SHA instructions: about 7 times as fast); our own portable code
// does it elsewhere and is tested against it, so that checking a download never depends on a
// library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "store/name.h"

namespace ponder::store {

class Sha256 {
 public:
  enum class Engine {
    best,      ///< libcrypto if there is one
    portable,  ///< our own code
  };
  explicit Sha256(Engine engine = Engine::best);
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void update(std::span<const uint8_t> piece);
  void update(std::string_view piece);
  /// The digest of all pieces; call once.
  Digest finish();

  /// True when libcrypto was found.
  static bool library_available();

 private:
  struct Portable {
    uint32_t state[8];
    uint64_t length = 0;
    uint8_t block[64];
    size_t filled = 0;
  };
  void portable_update(const uint8_t* data, size_t size);
  Portable portable_;
  void* context_ = nullptr;  // EVP_MD_CTX when libcrypto works
};

/// Of a whole piece of memory.
Digest sha256(std::string_view bytes);
Digest sha256(std::span<const uint8_t> bytes);

}  // namespace ponder::store
