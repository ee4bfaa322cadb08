// GGUF files: a header, typed key-value metadata, a table of tensors, and their data. Read through a mapping, split
// files included; every size is checked before it is believed, and an error names the file and the field.
// Source: GGUF specification, versions 2 and 3 (little-endian), ggml-org/ggml docs/gguf.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/os/file.h"
#include "base/result.h"

namespace ponder::gguf {

/// Types of metadata values; the numbers are the file format's.
enum class ValueType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};
const char* to_string(ValueType type);

/// An array of metadata: numbers stay in the mapped file, strings are indexed once (offset and length), nothing is
/// copied. Valid as long as the File.
class ArrayView {
 public:
  ValueType element_type() const { return type_; }
  uint64_t size() const { return count_; }
  /// Elements converted; nullopt if the index or the type does not fit.
  std::optional<std::string_view> string_at(uint64_t i) const;
  std::optional<int64_t> int_at(uint64_t i) const;
  std::optional<double> number_at(uint64_t i) const;
  /// The elements as they stand in the file (little-endian, perhaps unaligned); empty for strings.
  std::span<const uint8_t> raw() const { return {data_, raw_bytes_}; }

 private:
  friend class Parser;
  ValueType type_ = ValueType::u8;
  uint64_t count_ = 0;
  const uint8_t* data_ = nullptr;  // first element (numbers)
  uint64_t raw_bytes_ = 0;
  std::vector<std::string_view> strings_;  // (strings)
};

/// A metadata value: integers are widened, strings view the file.
using Value = std::variant<uint64_t, int64_t, double, bool, std::string_view, ArrayView>;

struct KeyValue {
  std::string key;
  ValueType type;
  Value value;
};

/// One tensor of the table. `shape` as in the file: shape[0] is the contiguous dimension (columns, K), shape[1] rows.
struct TensorInfo {
  std::string name;
  std::vector<uint64_t> shape;    ///< 1 to 4 dimensions, each >= 1
  uint32_t type = 0;              ///< ggml type number; quant::find_format knows the supported ones
  std::span<const uint8_t> data;  ///< in the mapped file; empty when only a vocabulary was asked for

  uint64_t n_elements() const;
  uint64_t columns() const { return shape.empty() ? 0 : shape[0]; }
  uint64_t rows() const { return columns() == 0 ? 0 : n_elements() / columns(); }
};

struct OpenOptions {
  /// Accept a file whose tensor data is missing or cut short (a vocabulary, the head of a download): tensor data spans
  /// are then empty where the bytes are not there.
  bool metadata_only = false;
};

/// A model file, or all parts of a split one (name-00001-of-00005.gguf: open the first).
class File {
 public:
  static Result<std::shared_ptr<const File>> open(const std::string& path, OpenOptions options = {});
  /// Parses bytes in memory (tests, fuzzing, the built-in model). `keep_alive` owns the bytes.
  static Result<std::shared_ptr<const File>> parse(std::span<const uint8_t> bytes,
                                                   std::shared_ptr<const void> keep_alive, const std::string& name,
                                                   OpenOptions options = {});

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint64_t total_bytes() const { return total_bytes_; }  ///< of all parts

  const std::vector<KeyValue>& metadata() const { return metadata_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  const KeyValue* find(std::string_view key) const;
  const TensorInfo* find_tensor(std::string_view name) const;

  /// Typed access. The get_* forms give nullopt when absent *or* of another type; require_* give an Error naming the
  /// key, its type and what was expected. Integers of any width and sign are accepted where they fit; u32() also
  /// accepts an array whose elements are all equal (some writers store per-layer counts).
  std::optional<uint64_t> get_u64(std::string_view key) const;
  std::optional<double> get_f64(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string_view> get_string(std::string_view key) const;
  const ArrayView* get_array(std::string_view key) const;
  Result<uint64_t> require_u64(std::string_view key, uint64_t low, uint64_t high) const;
  Result<double> require_f64(std::string_view key) const;
  Result<std::string_view> require_string(std::string_view key) const;
  Result<const ArrayView*> require_array(std::string_view key, ValueType element_type) const;

  /// Advice to the system on a tensor's bytes (see os::MappedFile).
  void will_need(const TensorInfo& tensor) const;
  void drop(const TensorInfo& tensor) const;

 private:
  friend class Parser;
  File() = default;
  std::string path_;
  uint32_t version_ = 0;
  uint64_t total_bytes_ = 0;
  std::vector<std::shared_ptr<const os::MappedFile>> parts_;  // shared with nobody else; may be empty (parse())
  std::shared_ptr<const void> keep_alive_;
  std::vector<KeyValue> metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint32_t> key_order_, tensor_order_;  // indices sorted by name, for find
};

}  // namespace ponder::gguf
