// Metadata is encoded as it is added, tensors get their offsets as they are declared, so begin()
// can write the whole head and the data can be streamed after it. The file appears under its name
// only when finish() succeeds.
#include "gguf/writer.h"

#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/os/file.h"

namespace ponder::gguf {
namespace {

constexpr uint64_t kAlignment = 32;  // the format's default, so no general.alignment is written

template <class T>
void append(std::string& out, const T& v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

void append_string(std::string& out, std::string_view s) {
  append(out, uint64_t(s.size()));
  out.append(s);
}

/// A widened integer or float back in its own width.
void append_number(std::string& out, ValueType type, uint64_t u, int64_t i, double d) {
  switch (type) {
    case ValueType::u8:
    case ValueType::boolean:
      return append(out, uint8_t(u));
    case ValueType::u16:
      return append(out, uint16_t(u));
    case ValueType::u32:
      return append(out, uint32_t(u));
    case ValueType::u64:
      return append(out, u);
    case ValueType::i8:
      return append(out, int8_t(i));
    case ValueType::i16:
      return append(out, int16_t(i));
    case ValueType::i32:
      return append(out, int32_t(i));
    case ValueType::i64:
      return append(out, i);
    case ValueType::f32:
      return append(out, float(d));
    case ValueType::f64:
      return append(out, d);
    case ValueType::string:
    case ValueType::array:
      return;
  }
}

Error misuse(const std::string& message) { return Error{ErrorCode::internal, "gguf writer: " + message}; }

}  // namespace

void Writer::key(std::string_view key, ValueType type) {
  append_string(metadata_, key);
  append(metadata_, uint32_t(type));
  ++n_metadata_;
}

Writer& Writer::add_u32(std::string_view k, uint32_t v) {
  key(k, ValueType::u32);
  append(metadata_, v);
  return *this;
}

Writer& Writer::add_i32(std::string_view k, int32_t v) {
  key(k, ValueType::i32);
  append(metadata_, v);
  return *this;
}

Writer& Writer::add_u64(std::string_view k, uint64_t v) {
  key(k, ValueType::u64);
  append(metadata_, v);
  return *this;
}

Writer& Writer::add_f32(std::string_view k, float v) {
  key(k, ValueType::f32);
  append(metadata_, v);
  return *this;
}

Writer& Writer::add_bool(std::string_view k, bool v) {
  key(k, ValueType::boolean);
  append(metadata_, uint8_t(v));
  return *this;
}

Writer& Writer::add_string(std::string_view k, std::string_view v) {
  key(k, ValueType::string);
  append_string(metadata_, v);
  return *this;
}

Writer& Writer::add_strings(std::string_view k, std::span<const std::string> v) {
  key(k, ValueType::array);
  append(metadata_, uint32_t(ValueType::string));
  append(metadata_, uint64_t(v.size()));
  for (const std::string& s : v) append_string(metadata_, s);
  return *this;
}

Writer& Writer::add_i32s(std::string_view k, std::span<const int32_t> v) {
  key(k, ValueType::array);
  append(metadata_, uint32_t(ValueType::i32));
  append(metadata_, uint64_t(v.size()));
  for (const int32_t n : v) append(metadata_, n);
  return *this;
}

Writer& Writer::add_f32s(std::string_view k, std::span<const float> v) {
  key(k, ValueType::array);
  append(metadata_, uint32_t(ValueType::f32));
  append(metadata_, uint64_t(v.size()));
  for (const float n : v) append(metadata_, n);
  return *this;
}

Writer& Writer::add(const KeyValue& kv) {
  // The data is laid out here with this writer's own alignment, whatever the other file had.
  if (kv.key == "general.alignment") return *this;
  key(kv.key, kv.type);
  if (const auto* u = std::get_if<uint64_t>(&kv.value)) append_number(metadata_, kv.type, *u, 0, 0);
  if (const auto* i = std::get_if<int64_t>(&kv.value)) append_number(metadata_, kv.type, 0, *i, 0);
  if (const auto* d = std::get_if<double>(&kv.value)) append_number(metadata_, kv.type, 0, 0, *d);
  if (const auto* b = std::get_if<bool>(&kv.value)) append_number(metadata_, kv.type, *b, 0, 0);
  if (const auto* s = std::get_if<std::string_view>(&kv.value)) append_string(metadata_, *s);
  if (const auto* a = std::get_if<ArrayView>(&kv.value)) {
    append(metadata_, uint32_t(a->element_type()));
    append(metadata_, a->size());
    if (a->element_type() == ValueType::string) {
      for (uint64_t i = 0; i < a->size(); ++i) append_string(metadata_, *a->string_at(i));
    } else {
      metadata_.append(reinterpret_cast<const char*>(a->raw().data()), a->raw().size());
    }
  }
  return *this;
}

Writer& Writer::add_tensor(std::string_view name, std::span<const uint64_t> shape, uint32_t type, uint64_t bytes) {
  tensors_.push_back({std::string(name), {shape.begin(), shape.end()}, type, bytes, data_size_});
  data_size_ += align_up(bytes, kAlignment);
  return *this;
}

std::string Writer::header() const {
  std::string out = "GGUF";
  append(out, uint32_t(3));
  append(out, uint64_t(tensors_.size()));
  append(out, n_metadata_);
  out += metadata_;
  for (const Tensor& t : tensors_) {
    append_string(out, t.name);
    append(out, uint32_t(t.shape.size()));
    for (const uint64_t d : t.shape) append(out, d);
    append(out, t.type);
    append(out, t.offset);
  }
  out.resize(align_up(out.size(), kAlignment));
  return out;
}

Result<void> Writer::begin(const std::string& path) {
  if (file_) return misuse("begin() was called twice");
  path_ = path;
  const std::string temporary = path + ".partial";
  std::FILE* f = std::fopen(temporary.c_str(), "wb");
  if (f == nullptr) {
    return Error{ErrorCode::io, "cannot create " + temporary + ": " + std::strerror(errno)};
  }
  // After a successful finish() the temporary name is gone and remove() finds nothing.
  file_ = std::shared_ptr<std::FILE>(f, [temporary](std::FILE* open) {
    std::fclose(open);
    std::remove(temporary.c_str());
  });
  current_ = 0;
  written_ = 0;
  const std::string head = header();
  return put(head.data(), head.size());
}

Result<void> Writer::put(const void* data, size_t size) {
  if (size > 0 && std::fwrite(data, 1, size, file_.get()) != size) {
    return Error{ErrorCode::io, "cannot write " + path_ + ": " + std::strerror(errno)};
  }
  return {};
}

Result<void> Writer::write_data(std::span<const uint8_t> piece) {
  if (!file_) return misuse("write_data() before begin()");
  if (current_ >= tensors_.size()) return misuse("more data than tensors were declared");
  const Tensor& t = tensors_[current_];
  if (piece.size() > t.bytes - written_) {
    return misuse("tensor '" + t.name + "' gets more than its " + std::to_string(t.bytes) + " bytes");
  }
  PONDER_CHECK_OK(put(piece.data(), piece.size()));
  written_ += piece.size();
  if (written_ < t.bytes) return {};
  const char zeros[kAlignment] = {};
  PONDER_CHECK_OK(put(zeros, align_up(t.bytes, kAlignment) - t.bytes));
  ++current_;
  written_ = 0;
  return {};
}

Result<void> Writer::finish() {
  if (!file_) return misuse("finish() before begin()");
  if (current_ != tensors_.size()) {
    return misuse("tensor '" + tensors_[current_].name + "' has only " + std::to_string(written_) + " of its " +
                  std::to_string(tensors_[current_].bytes) + " bytes");
  }
  if (std::fflush(file_.get()) != 0) {
    return Error{ErrorCode::io, "cannot write " + path_ + ": " + std::strerror(errno)};
  }
  PONDER_CHECK_OK(os::commit_file(path_ + ".partial", path_));
  file_.reset();
  return {};
}

}  // namespace ponder::gguf
