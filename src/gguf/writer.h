// Writes GGUF version 3 files: metadata and tensor table first, then tensor data streamed in table order, so that a
// file larger than memory can be written. Used by tools/synth, tests and conversions.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"

namespace ponder::gguf {

class Writer {
 public:
  Writer& add_u32(std::string_view key, uint32_t v);
  Writer& add_i32(std::string_view key, int32_t v);
  Writer& add_u64(std::string_view key, uint64_t v);
  Writer& add_f32(std::string_view key, float v);
  Writer& add_bool(std::string_view key, bool v);
  Writer& add_string(std::string_view key, std::string_view v);
  Writer& add_strings(std::string_view key, std::span<const std::string> v);
  Writer& add_i32s(std::string_view key, std::span<const int32_t> v);
  Writer& add_f32s(std::string_view key, std::span<const float> v);
  /// Copies one entry of another file as it is.
  Writer& add(const KeyValue& kv);

  /// Declares a tensor; `bytes` is the exact size of its data. Data follows in the same order.
  Writer& add_tensor(std::string_view name, std::span<const uint64_t> shape, uint32_t type, uint64_t bytes);

  /// Writes header and table. After it, write_data for each tensor in order (any number of pieces), then finish.
  Result<void> begin(const std::string& path);
  Result<void> write_data(std::span<const uint8_t> piece);
  Result<void> finish();

  /// Header and table as bytes (what begin() writes), for tests.
  std::string header() const;

 private:
  struct Tensor {
    std::string name;
    std::vector<uint64_t> shape;
    uint32_t type;
    uint64_t bytes, offset;
  };
  void key(std::string_view key, ValueType type);
  Result<void> put(const void* data, size_t size);

  std::string metadata_;
  uint64_t n_metadata_ = 0;
  std::vector<Tensor> tensors_;
  uint64_t data_size_ = 0;
  std::shared_ptr<std::FILE> file_;
  std::string path_;
  size_t current_ = 0;    // tensor being written
  uint64_t written_ = 0;  // bytes of it so far
};

}  // namespace ponder::gguf
