// The reading side of gguf::File: bytes to metadata and tensor table, then one or several parts to
// one File. Internal to src/gguf; everybody else includes gguf/gguf.h.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gguf/gguf.h"

namespace ponder::gguf {

/// What one physical file holds.
struct Part {
  uint32_t version = 0;
  std::vector<KeyValue> metadata;
  std::vector<TensorInfo> tensors;

  const KeyValue* find(std::string_view key) const;
};

/// Limits on what is believed before memory is spent on it. Real files stay far below: the largest
/// known vocabularies have some 300,000 entries and 600,000 merges, the largest models some 3,000
/// tensors.
constexpr uint64_t kMaxMetadata = uint64_t(1) << 16;
constexpr uint64_t kMaxTensors = uint64_t(1) << 17;
constexpr uint64_t kMaxArray = uint64_t(1) << 22;
constexpr uint64_t kMaxKeyBytes = 65535;      // GGUF specification
constexpr uint64_t kMaxTensorNameBytes = 64;  // GGUF specification
constexpr uint64_t kMaxAlignment = uint64_t(1) << 20;

/// Parses one file's bytes. Errors name the field; the caller adds the file's name.
class Parser {
 public:
  static Result<Part> parse_part(std::span<const uint8_t> bytes, OpenOptions options);

  static Result<std::shared_ptr<const File>> open(const std::string& path, OpenOptions options);
  static Result<std::shared_ptr<const File>> parse(std::span<const uint8_t> bytes,
                                                   std::shared_ptr<const void> keep_alive, const std::string& name,
                                                   OpenOptions options);

 private:
  Parser(std::span<const uint8_t> bytes, OpenOptions options) : bytes_(bytes), options_(options) {}

  uint64_t remaining() const { return bytes_.size() - at_; }
  template <class T>
  Result<T> number(const std::string& what);
  Result<std::string_view> text(const std::string& what, uint64_t limit);
  Result<void> header(Part& part);
  Result<KeyValue> key_value(uint64_t index);
  Result<Value> value(ValueType type, const std::string& what);
  Result<ArrayView> array(const std::string& what);
  Result<uint64_t> tensor_info(uint64_t index, TensorInfo& out);
  Result<uint64_t> alignment(const Part& part) const;
  Result<void> place_data(Part& part, const std::vector<uint64_t>& offsets);
  static Result<void> index(File& file);

  std::span<const uint8_t> bytes_;
  OpenOptions options_;
  uint64_t at_ = 0;
  uint64_t n_tensors_ = 0, n_metadata_ = 0;
};

/// `text` for use inside an error message: in quotes, valid UTF-8, no control characters, at most
/// about 80 bytes.
std::string quoted(std::string_view text);

}  // namespace ponder::gguf
