// Access to what the parser found: typed metadata, tensors by name, advice on their bytes. Reading
// itself is in parser.cpp (one file) and split.cpp (parts).
#include "gguf/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gguf/parser.h"

namespace ponder::gguf {
namespace {

template <class T>
T load(const uint8_t* data, uint64_t i) {
  T v;
  std::memcpy(&v, data + i * sizeof(T), sizeof v);
  return v;
}

std::optional<uint64_t> as_u64(const Value& value) {
  if (const auto* u = std::get_if<uint64_t>(&value)) return *u;
  if (const auto* i = std::get_if<int64_t>(&value); i != nullptr && *i >= 0) return uint64_t(*i);
  if (const auto* a = std::get_if<ArrayView>(&value); a != nullptr && a->size() > 0) {
    // Per-layer counts that are all the same stand for one count.
    const auto first = a->int_at(0);
    if (!first || *first < 0) return std::nullopt;
    for (uint64_t i = 1; i < a->size(); ++i) {
      if (a->int_at(i) != first) return std::nullopt;
    }
    return uint64_t(*first);
  }
  return std::nullopt;
}

std::optional<double> as_f64(const Value& value) {
  if (const auto* d = std::get_if<double>(&value)) return *d;
  if (const auto* u = std::get_if<uint64_t>(&value)) return double(*u);
  if (const auto* i = std::get_if<int64_t>(&value)) return double(*i);
  return std::nullopt;
}

Error missing(const File& file, std::string_view key, std::string_view expected) {
  return Error{ErrorCode::invalid_file,
               file.path() + ": key " + quoted(key) + ": missing (" + std::string(expected) + " expected)"};
}

Error wrong_type(const File& file, const KeyValue& kv, std::string_view expected) {
  std::string has = to_string(kv.type);
  if (const auto* a = std::get_if<ArrayView>(&kv.value)) {
    has = std::string("array of ") + to_string(a->element_type());
  }
  return Error{ErrorCode::invalid_file, file.path() + ": key " + quoted(kv.key) + ": is of type " + has + ", but " +
                                            std::string(expected) + " is expected"};
}

}  // namespace

const char* to_string(ValueType type) {
  switch (type) {
    case ValueType::u8:
      return "u8";
    case ValueType::i8:
      return "i8";
    case ValueType::u16:
      return "u16";
    case ValueType::i16:
      return "i16";
    case ValueType::u32:
      return "u32";
    case ValueType::i32:
      return "i32";
    case ValueType::f32:
      return "f32";
    case ValueType::boolean:
      return "bool";
    case ValueType::string:
      return "string";
    case ValueType::array:
      return "array";
    case ValueType::u64:
      return "u64";
    case ValueType::i64:
      return "i64";
    case ValueType::f64:
      return "f64";
  }
  return "unknown type";
}

std::optional<std::string_view> ArrayView::string_at(uint64_t i) const {
  if (type_ != ValueType::string || i >= count_) return std::nullopt;
  return strings_[i];
}

std::optional<int64_t> ArrayView::int_at(uint64_t i) const {
  if (i >= count_) return std::nullopt;
  switch (type_) {
    case ValueType::u8:
    case ValueType::boolean:
      return load<uint8_t>(data_, i);
    case ValueType::i8:
      return load<int8_t>(data_, i);
    case ValueType::u16:
      return load<uint16_t>(data_, i);
    case ValueType::i16:
      return load<int16_t>(data_, i);
    case ValueType::u32:
      return load<uint32_t>(data_, i);
    case ValueType::i32:
      return load<int32_t>(data_, i);
    case ValueType::i64:
      return load<int64_t>(data_, i);
    case ValueType::u64: {
      const auto v = load<uint64_t>(data_, i);
      if (v > uint64_t(INT64_MAX)) return std::nullopt;
      return int64_t(v);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> ArrayView::number_at(uint64_t i) const {
  if (i >= count_) return std::nullopt;
  if (type_ == ValueType::f32) return load<float>(data_, i);
  if (type_ == ValueType::f64) return load<double>(data_, i);
  if (type_ == ValueType::u64) return double(load<uint64_t>(data_, i));
  const auto v = int_at(i);
  return v ? std::optional<double>(double(*v)) : std::nullopt;
}

uint64_t TensorInfo::n_elements() const {
  uint64_t n = shape.empty() ? 0 : 1;
  for (const uint64_t d : shape) n *= d;  // the parser has checked that this does not wrap
  return n;
}

Result<std::shared_ptr<const File>> File::open(const std::string& path, OpenOptions options) {
  return Parser::open(path, options);
}

Result<std::shared_ptr<const File>> File::parse(std::span<const uint8_t> bytes, std::shared_ptr<const void> keep_alive,
                                                const std::string& name, OpenOptions options) {
  return Parser::parse(bytes, std::move(keep_alive), name, options);
}

const KeyValue* File::find(std::string_view key) const {
  const auto it = std::lower_bound(key_order_.begin(), key_order_.end(), key,
                                   [&](uint32_t i, std::string_view k) { return metadata_[i].key < k; });
  return it != key_order_.end() && metadata_[*it].key == key ? &metadata_[*it] : nullptr;
}

const TensorInfo* File::find_tensor(std::string_view name) const {
  const auto it = std::lower_bound(tensor_order_.begin(), tensor_order_.end(), name,
                                   [&](uint32_t i, std::string_view n) { return tensors_[i].name < n; });
  return it != tensor_order_.end() && tensors_[*it].name == name ? &tensors_[*it] : nullptr;
}

std::optional<uint64_t> File::get_u64(std::string_view key) const {
  const KeyValue* kv = find(key);
  return kv == nullptr ? std::nullopt : as_u64(kv->value);
}

std::optional<double> File::get_f64(std::string_view key) const {
  const KeyValue* kv = find(key);
  return kv == nullptr ? std::nullopt : as_f64(kv->value);
}

std::optional<bool> File::get_bool(std::string_view key) const {
  const KeyValue* kv = find(key);
  const bool* b = kv == nullptr ? nullptr : std::get_if<bool>(&kv->value);
  return b == nullptr ? std::nullopt : std::optional<bool>(*b);
}

std::optional<std::string_view> File::get_string(std::string_view key) const {
  const KeyValue* kv = find(key);
  const auto* s = kv == nullptr ? nullptr : std::get_if<std::string_view>(&kv->value);
  return s == nullptr ? std::nullopt : std::optional<std::string_view>(*s);
}

const ArrayView* File::get_array(std::string_view key) const {
  const KeyValue* kv = find(key);
  return kv == nullptr ? nullptr : std::get_if<ArrayView>(&kv->value);
}

Result<uint64_t> File::require_u64(std::string_view key, uint64_t low, uint64_t high) const {
  const KeyValue* kv = find(key);
  if (kv == nullptr) return missing(*this, key, "a whole number");
  const auto v = as_u64(kv->value);
  if (!v) return wrong_type(*this, *kv, "one whole number >= 0");
  if (*v < low || *v > high) {
    return Error{ErrorCode::invalid_file, path_ + ": key " + quoted(key) + ": " + std::to_string(*v) +
                                              " is not between " + std::to_string(low) + " and " +
                                              std::to_string(high)};
  }
  return *v;
}

Result<double> File::require_f64(std::string_view key) const {
  const KeyValue* kv = find(key);
  if (kv == nullptr) return missing(*this, key, "a number");
  const auto v = as_f64(kv->value);
  if (!v) return wrong_type(*this, *kv, "a number");
  if (!std::isfinite(*v)) {
    return Error{ErrorCode::invalid_file, path_ + ": key " + quoted(key) + ": is not a finite number"};
  }
  return *v;
}

Result<std::string_view> File::require_string(std::string_view key) const {
  const KeyValue* kv = find(key);
  if (kv == nullptr) return missing(*this, key, "a string");
  const auto* s = std::get_if<std::string_view>(&kv->value);
  if (s == nullptr) return wrong_type(*this, *kv, "a string");
  return *s;
}

Result<const ArrayView*> File::require_array(std::string_view key, ValueType element_type) const {
  const std::string expected = std::string("an array of ") + to_string(element_type);
  const KeyValue* kv = find(key);
  if (kv == nullptr) return missing(*this, key, expected);
  const auto* a = std::get_if<ArrayView>(&kv->value);
  if (a == nullptr || a->element_type() != element_type) return wrong_type(*this, *kv, expected);
  return a;
}

namespace {

/// The mapping that holds `data`, and where in it.
const os::MappedFile* part_of(std::span<const std::shared_ptr<const os::MappedFile>> parts,
                              std::span<const uint8_t> data, uint64_t& offset) {
  if (data.empty()) return nullptr;
  const auto address = reinterpret_cast<uintptr_t>(data.data());
  for (const auto& part : parts) {
    const auto begin = reinterpret_cast<uintptr_t>(part->bytes().data());
    if (address < begin || address - begin >= part->bytes().size()) continue;
    offset = address - begin;
    return part.get();
  }
  return nullptr;
}

}  // namespace

void File::will_need(const TensorInfo& tensor) const {
  uint64_t offset = 0;
  if (const auto* part = part_of(parts_, tensor.data, offset)) part->will_need(offset, tensor.data.size());
}

void File::drop(const TensorInfo& tensor) const {
  uint64_t offset = 0;
  if (const auto* part = part_of(parts_, tensor.data, offset)) part->drop(offset, tensor.data.size());
}

}  // namespace ponder::gguf
