// One GGUF file: header, metadata, tensor table, and the check that every tensor lies inside the
// file. The bytes are a stranger's. Each length is compared with what is left of the file before it
// is used, nothing is allocated from a count alone (the smallest possible encoding of `count` items
// must fit into the remaining bytes), and all arithmetic on sizes goes through base/checked.h. Read
// next: split.cpp (several parts), gguf.cpp (access).
#include "gguf/parser.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "base/checked.h"
#include "base/utf8.h"
#include "gguf/tensor_types.h"

namespace ponder::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place: little-endian");

namespace {

Error bad(std::string message) { return Error{ErrorCode::invalid_file, std::move(message)}; }

std::string str(uint64_t n) { return std::to_string(n); }

template <class T>
T load(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// Bytes of one element, 0 for strings and arrays (which have no fixed size).
uint64_t element_bytes(ValueType type) {
  switch (type) {
    case ValueType::u8:
    case ValueType::i8:
    case ValueType::boolean:
      return 1;
    case ValueType::u16:
    case ValueType::i16:
      return 2;
    case ValueType::u32:
    case ValueType::i32:
    case ValueType::f32:
      return 4;
    case ValueType::u64:
    case ValueType::i64:
    case ValueType::f64:
      return 8;
    case ValueType::string:
    case ValueType::array:
      return 0;
  }
  return 0;
}

bool known(uint32_t type) { return type <= uint32_t(ValueType::f64); }

}  // namespace

std::string quoted(std::string_view text) {
  const bool cut = text.size() > 80;
  std::string clean = utf8::sanitize(text.substr(0, 80));
  for (char& c : clean) {
    if (uint8_t(c) < 0x20 || c == 0x7f) c = '?';
  }
  return "'" + clean + (cut ? "...'" : "'");
}

const KeyValue* Part::find(std::string_view key) const {
  const auto it = std::find_if(metadata.begin(), metadata.end(), [&](const KeyValue& kv) { return kv.key == key; });
  return it == metadata.end() ? nullptr : &*it;
}

template <class T>
Result<T> Parser::number(const std::string& what) {
  if (remaining() < sizeof(T)) {
    return bad(what + ": the file ends here (byte " + str(at_) + ", " + str(sizeof(T)) +
               " more needed); it is cut short or damaged");
  }
  const T v = load<T>(bytes_.data() + at_);
  at_ += sizeof(T);
  return v;
}

Result<std::string_view> Parser::text(const std::string& what, uint64_t limit) {
  PONDER_TRY(const uint64_t length, number<uint64_t>(what + " (length)"));
  if (length > limit) {
    return bad(what + ": length " + str(length) + " exceeds the limit of " + str(limit) + " bytes");
  }
  if (length > remaining()) {
    return bad(what + ": length " + str(length) + " reaches past the end of the file (" + str(remaining()) +
               " bytes are left)");
  }
  const std::string_view view(reinterpret_cast<const char*>(bytes_.data() + at_), length);
  at_ += length;
  return view;
}

Result<void> Parser::header(Part& part) {
  if (bytes_.size() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
    return bad("magic: not a GGUF file (it does not begin with 'GGUF')");
  }
  at_ = 4;
  PONDER_TRY(part.version, number<uint32_t>("version"));
  if (part.version != 0 && (part.version & 0xffffu) == 0) {
    return Error{ErrorCode::unsupported,
                 "version: this is a big-endian GGUF file, which is not supported; convert it to "
                 "little-endian (gguf-py: gguf_convert_endian.py)"};
  }
  if (part.version == 1) {
    return Error{ErrorCode::unsupported,
                 "version: GGUF version 1 is not supported; convert the model again with a current "
                 "llama.cpp (versions 2 and 3 are read)"};
  }
  if (part.version != 2 && part.version != 3) {
    return Error{ErrorCode::unsupported,
                 "version: GGUF version " + str(part.version) + " is unknown (versions 2 and 3 are read)"};
  }
  PONDER_TRY(n_tensors_, number<uint64_t>("tensor count"));
  PONDER_TRY(n_metadata_, number<uint64_t>("metadata count"));
  // The smallest tensor entry: empty name (8), dimension count (4), one dimension (8), type (4),
  // offset (8).
  if (n_tensors_ > kMaxTensors || n_tensors_ > remaining() / 32) {
    return bad("tensor count: " + str(n_tensors_) + " tensors cannot be in a file of " + str(bytes_.size()) +
               " bytes (limit " + str(kMaxTensors) + ")");
  }
  // The smallest metadata entry: key length (8), type (4), one byte.
  if (n_metadata_ > kMaxMetadata || n_metadata_ > remaining() / 13) {
    return bad("metadata count: " + str(n_metadata_) + " entries cannot be in a file of " + str(bytes_.size()) +
               " bytes (limit " + str(kMaxMetadata) + ")");
  }
  return {};
}

Result<Value> Parser::value(ValueType type, const std::string& what) {
  const auto unsigned_value = [](auto v) { return Value(std::in_place_type<uint64_t>, v); };
  const auto signed_value = [](auto v) { return Value(std::in_place_type<int64_t>, v); };
  const auto real_value = [](auto v) { return Value(std::in_place_type<double>, v); };
  switch (type) {
#define PONDER_SCALAR(kind, ctype, make)            \
  case ValueType::kind: {                           \
    PONDER_TRY(const ctype v, number<ctype>(what)); \
    return make(v);                                 \
  }
    PONDER_SCALAR(u8, uint8_t, unsigned_value)
    PONDER_SCALAR(u16, uint16_t, unsigned_value)
    PONDER_SCALAR(u32, uint32_t, unsigned_value)
    PONDER_SCALAR(u64, uint64_t, unsigned_value)
    PONDER_SCALAR(i8, int8_t, signed_value)
    PONDER_SCALAR(i16, int16_t, signed_value)
    PONDER_SCALAR(i32, int32_t, signed_value)
    PONDER_SCALAR(i64, int64_t, signed_value)
    PONDER_SCALAR(f32, float, real_value)
    PONDER_SCALAR(f64, double, real_value)
#undef PONDER_SCALAR
    case ValueType::boolean: {
      PONDER_TRY(const uint8_t v, number<uint8_t>(what));
      if (v > 1) return bad(what + ": a bool must be 0 or 1, not " + str(v));
      return Value(std::in_place_type<bool>, v == 1);
    }
    case ValueType::string: {
      PONDER_TRY(const std::string_view v, text(what, UINT64_MAX));
      return Value(v);
    }
    case ValueType::array: {
      PONDER_TRY(ArrayView v, array(what));
      return Value(std::move(v));
    }
  }
  return bad(what + ": unknown value type " + str(uint32_t(type)));
}

Result<ArrayView> Parser::array(const std::string& what) {
  PONDER_TRY(const uint32_t type, number<uint32_t>(what + " (array element type)"));
  if (!known(type)) return bad(what + ": unknown array element type " + str(type));
  ArrayView out;
  out.type_ = ValueType(type);
  if (out.type_ == ValueType::array) {
    return Error{ErrorCode::unsupported, what + ": arrays of arrays are not supported"};
  }
  PONDER_TRY(out.count_, number<uint64_t>(what + " (array length)"));
  const bool strings = out.type_ == ValueType::string;
  const uint64_t smallest = strings ? 8 : element_bytes(out.type_);
  if (out.count_ > remaining() / smallest) {
    return bad(what + ": array length " + str(out.count_) + " reaches past the end of the file (" + str(remaining()) +
               " bytes are left)");
  }
  if (out.count_ > kMaxArray) {
    return bad(what + ": array length " + str(out.count_) + " exceeds the limit of " + str(kMaxArray));
  }
  if (!strings) {
    out.data_ = bytes_.data() + at_;
    const uint64_t size = out.count_ * smallest;  // <= remaining()
    if (out.type_ == ValueType::boolean && std::any_of(out.data_, out.data_ + size, [](uint8_t v) { return v > 1; })) {
      return bad(what + ": a bool must be 0 or 1");
    }
    out.raw_bytes_ = size;
    at_ += size;
    return out;
  }
  out.strings_.reserve(out.count_);
  for (uint64_t i = 0; i < out.count_; ++i) {
    auto element = text("string", UINT64_MAX);  // the place is only named for the one that fails
    if (!element) return std::move(element).error().with_context(what + "[" + str(i) + "]");
    out.strings_.push_back(*element);
  }
  return out;
}

Result<KeyValue> Parser::key_value(uint64_t index) {
  const std::string nth = "metadata entry " + str(index);
  PONDER_TRY(const std::string_view key, text(nth + " (key)", kMaxKeyBytes));
  if (key.empty()) return bad(nth + ": the key is empty");
  if (!utf8::is_valid(key)) return bad(nth + ": the key " + quoted(key) + " is not valid UTF-8");
  if (key.find('\0') != key.npos) {
    return bad(nth + ": the key " + quoted(key) + " contains a zero byte");
  }
  const std::string what = "key " + quoted(key);
  PONDER_TRY(const uint32_t type, number<uint32_t>(what + " (value type)"));
  if (!known(type)) return bad(what + ": unknown value type " + str(type));
  PONDER_TRY(Value v, value(ValueType(type), what));
  return KeyValue{std::string(key), ValueType(type), std::move(v)};
}

Result<uint64_t> Parser::tensor_info(uint64_t index, TensorInfo& out) {
  const std::string nth = "tensor entry " + str(index);
  PONDER_TRY(const std::string_view name, text(nth + " (name)", kMaxTensorNameBytes));
  if (name.empty()) return bad(nth + ": the name is empty");
  if (!utf8::is_valid(name) || name.find('\0') != name.npos) {
    return bad(nth + ": the name " + quoted(name) + " is not valid UTF-8 text");
  }
  out.name = name;
  const std::string what = "tensor " + quoted(name);
  PONDER_TRY(const uint32_t n_dims, number<uint32_t>(what + " (dimension count)"));
  if (n_dims < 1 || n_dims > 4) {
    return bad(what + ": dimension count " + str(n_dims) + " is not between 1 and 4");
  }
  uint64_t n_elements = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    PONDER_TRY(const uint64_t size, number<uint64_t>(what + " (dimension " + str(i) + ")"));
    if (size == 0) return bad(what + ": dimension " + str(i) + " is 0");
    const auto product = checked_mul(n_elements, size);
    if (!product || *product > uint64_t(INT64_MAX)) {
      return bad(what + ": dimension " + str(i) + " = " + str(size) + " makes the number of elements overflow");
    }
    n_elements = *product;
    out.shape.push_back(size);
  }
  PONDER_TRY(out.type, number<uint32_t>(what + " (type)"));
  const TensorType* type = find_tensor_type(out.type);
  if (type == nullptr) {
    return Error{ErrorCode::unsupported,
                 what + ": unknown tensor type " + str(out.type) + "; this build does not know it"};
  }
  if (out.shape[0] % type->block_size != 0) {
    return bad(what + ": dimension 0 = " + str(out.shape[0]) + " is not a multiple of " + str(type->block_size) +
               ", the block size of " + type->name);
  }
  if (!checked_mul(n_elements / type->block_size, type->block_bytes)) {
    return bad(what + ": its size in bytes overflows");
  }
  PONDER_TRY(const uint64_t offset, number<uint64_t>(what + " (offset)"));
  return offset;
}

Result<uint64_t> Parser::alignment(const Part& part) const {
  const KeyValue* kv = part.find("general.alignment");
  if (kv == nullptr) return uint64_t(32);
  if (kv->type != ValueType::u32) {
    return bad(std::string("key 'general.alignment': must be a u32, not a ") + to_string(kv->type));
  }
  const uint64_t a = std::get<uint64_t>(kv->value);
  if (!std::has_single_bit(a) || a < 8 || a > kMaxAlignment) {
    return bad("key 'general.alignment': " + str(a) + " is not a power of two between 8 and " + str(kMaxAlignment));
  }
  return a;
}

Result<void> Parser::place_data(Part& part, const std::vector<uint64_t>& offsets) {
  PONDER_TRY(const uint64_t align, alignment(part));
  const auto data_begin = checked_align(at_, align);
  if (!data_begin) return bad("tensor data: its position overflows");
  std::vector<uint64_t> sizes(part.tensors.size());
  for (size_t i = 0; i < part.tensors.size(); ++i) {
    TensorInfo& t = part.tensors[i];
    const std::string what = "tensor " + quoted(t.name);
    const TensorType* type = find_tensor_type(t.type);
    sizes[i] = t.n_elements() / type->block_size * type->block_bytes;
    if (offsets[i] % align != 0) {
      return bad(what + ": offset " + str(offsets[i]) + " is not a multiple of the alignment " + str(align));
    }
    const auto begin = checked_add(*data_begin, offsets[i]);
    const auto end = begin ? checked_add(*begin, sizes[i]) : std::nullopt;
    if (!end) return bad(what + ": offset " + str(offsets[i]) + " overflows");
    if (*end > bytes_.size()) {
      if (options_.metadata_only) continue;
      return bad(what + ": its data (offset " + str(offsets[i]) + ", " + str(sizes[i]) + " bytes) ends at byte " +
                 str(*end) + ", but the file has " + str(bytes_.size()) + "; the file is cut short, fetch it again");
    }
    t.data = bytes_.subspan(*begin, sizes[i]);
  }
  // Two tensors over the same bytes: nobody writes that, so one of the two entries is wrong.
  std::vector<uint32_t> order(part.tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return offsets[a] < offsets[b]; });
  for (size_t i = 1; i < order.size(); ++i) {
    const uint32_t a = order[i - 1], b = order[i];
    if (offsets[b] - offsets[a] < sizes[a]) {
      return bad("tensor " + quoted(part.tensors[b].name) + ": offset " + str(offsets[b]) +
                 " lies inside the data of tensor " + quoted(part.tensors[a].name));
    }
  }
  return {};
}

Result<Part> Parser::parse_part(std::span<const uint8_t> bytes, OpenOptions options) {
  Parser p(bytes, options);
  Part part;
  PONDER_CHECK_OK(p.header(part));
  part.metadata.reserve(std::min<uint64_t>(p.n_metadata_, 64));
  for (uint64_t i = 0; i < p.n_metadata_; ++i) {
    PONDER_TRY(KeyValue kv, p.key_value(i));
    part.metadata.push_back(std::move(kv));
  }
  std::vector<uint64_t> offsets;
  for (uint64_t i = 0; i < p.n_tensors_; ++i) {
    PONDER_TRY(const uint64_t offset, p.tensor_info(i, part.tensors.emplace_back()));
    offsets.push_back(offset);
  }
  PONDER_CHECK_OK(p.place_data(part, offsets));
  return part;
}

}  // namespace ponder::gguf
