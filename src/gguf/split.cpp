// From one or several parts to one File. A split model is name-00001-of-0000N.gguf ...; every part
// carries split.no, split.count and split.tensors.count (llama.cpp's gguf-split), and all three are
// checked, so that a part that is missing, swapped or from another model is named instead of being
// read as weights.
#include <algorithm>
#include <iterator>
#include <numeric>
#include <optional>

#include "gguf/parser.h"

namespace ponder::gguf {
namespace {

Error bad(std::string message) { return Error{ErrorCode::invalid_file, std::move(message)}; }

/// "-00001-of-00005.gguf" at the end of a path.
struct SplitName {
  std::string prefix;
  uint64_t number = 0, count = 0;  // number counts from 1

  std::string part(uint64_t n) const { return prefix + "-" + five(n) + "-of-" + five(count) + ".gguf"; }

  static std::string five(uint64_t n) {
    std::string s = std::to_string(n);
    return std::string(s.size() < 5 ? 5 - s.size() : 0, '0') + s;
  }
};

std::optional<SplitName> split_name(const std::string& path) {
  constexpr std::string_view kPattern = "-ddddd-of-ddddd.gguf";
  if (path.size() <= kPattern.size()) return std::nullopt;
  const std::string_view tail = std::string_view(path).substr(path.size() - kPattern.size());
  for (size_t i = 0; i < tail.size(); ++i) {
    const bool digit = tail[i] >= '0' && tail[i] <= '9';
    // 'd' also stands in no other place of the pattern, so it can mark the digits.
    if (kPattern[i] == 'd' ? !digit : tail[i] != kPattern[i]) return std::nullopt;
  }
  const auto value = [&](size_t at) {
    uint64_t v = 0;
    for (size_t i = at; i < at + 5; ++i) v = v * 10 + uint64_t(tail[i] - '0');
    return v;
  };
  return SplitName{path.substr(0, path.size() - kPattern.size()), value(1), value(10)};
}

/// split.no, split.count or split.tensors.count of a part; nullopt when absent.
Result<std::optional<uint64_t>> split_field(const Part& part, const char* key) {
  const KeyValue* kv = part.find(key);
  if (kv == nullptr) return std::optional<uint64_t>();
  if (const auto* u = std::get_if<uint64_t>(&kv->value)) return std::optional<uint64_t>(*u);
  if (const auto* i = std::get_if<int64_t>(&kv->value); i != nullptr && *i >= 0) {
    return std::optional<uint64_t>(uint64_t(*i));
  }
  return bad(std::string("key '") + key + "': must be a whole number >= 0 (it is a " + to_string(kv->type) + ")");
}

Result<void> check_split_field(const Part& part, const char* key, uint64_t expected) {
  PONDER_TRY(const std::optional<uint64_t> v, split_field(part, key));
  if (!v) return bad(std::string("key '") + key + "': missing, so this is no part of a split model");
  if (*v != expected) {
    return bad(std::string("key '") + key + "': is " + std::to_string(*v) + " where " + std::to_string(expected) +
               " is expected; this part is out of place");
  }
  return {};
}

}  // namespace

Result<void> Parser::index(File& file) {
  const auto sorted = [](size_t n, auto name, std::vector<uint32_t>& order) -> const std::string* {
    order.resize(n);
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(a) < name(b); });
    for (size_t i = 1; i < n; ++i) {
      if (name(order[i]) == name(order[i - 1])) return &name(order[i]);
    }
    return nullptr;
  };
  if (const auto* twice = sorted(
          file.metadata_.size(), [&](uint32_t i) -> const std::string& { return file.metadata_[i].key; },
          file.key_order_)) {
    return bad("key " + quoted(*twice) + ": duplicate key, it stands in the file twice");
  }
  if (const auto* twice = sorted(
          file.tensors_.size(), [&](uint32_t i) -> const std::string& { return file.tensors_[i].name; },
          file.tensor_order_)) {
    return bad("tensor " + quoted(*twice) + ": duplicate tensor, it stands in the file twice");
  }
  return {};
}

Result<std::shared_ptr<const File>> Parser::parse(std::span<const uint8_t> bytes,
                                                  std::shared_ptr<const void> keep_alive, const std::string& name,
                                                  OpenOptions options) {
  auto part = parse_part(bytes, options);
  if (!part) return std::move(part).error().with_context(name);
  auto count = split_field(*part, "split.count");
  if (!count) return std::move(count).error().with_context(name);
  if (count->value_or(1) > 1 && !options.metadata_only) {
    return bad(name + ": key 'split.count': this is one of " + std::to_string(**count) +
               " parts, which can only be opened as files");
  }
  std::shared_ptr<File> file(new File());
  file->path_ = name;
  file->version_ = part->version;
  file->total_bytes_ = bytes.size();
  file->keep_alive_ = std::move(keep_alive);
  file->metadata_ = std::move(part->metadata);
  file->tensors_ = std::move(part->tensors);
  auto indexed = index(*file);
  if (!indexed) return std::move(indexed).error().with_context(name);
  return std::shared_ptr<const File>(std::move(file));
}

Result<std::shared_ptr<const File>> Parser::open(const std::string& path, OpenOptions options) {
  PONDER_TRY(std::shared_ptr<const os::MappedFile> mapped, os::MappedFile::open(path));
  auto first = parse_part(mapped->bytes(), options);
  if (!first) return std::move(first).error().with_context(path);
  auto count_field = split_field(*first, "split.count");
  if (!count_field) return std::move(count_field).error().with_context(path);
  const uint64_t count = count_field->value_or(1);

  std::shared_ptr<File> file(new File());
  file->path_ = path;
  file->version_ = first->version;
  file->total_bytes_ = mapped->bytes().size();
  file->parts_.push_back(std::move(mapped));
  file->tensors_ = std::move(first->tensors);

  if (count > 1) {
    const auto name = split_name(path);
    if (!name || name->count != count) {
      return bad(path + ": key 'split.count': this is one of " + std::to_string(count) +
                 " parts, whose names must end in -00001-of-" + SplitName::five(count) + ".gguf and so on");
    }
    if (name->number != 1) {
      return Error{ErrorCode::invalid_argument, path + ": this is part " + std::to_string(name->number) +
                                                    " of a split model; open " + name->part(1)};
    }
    auto is_first = check_split_field(*first, "split.no", 0);
    if (!is_first) return std::move(is_first).error().with_context(path);

    for (uint64_t i = 1; i < count; ++i) {
      const std::string part_path = name->part(i + 1);
      auto part_file = os::MappedFile::open(part_path);
      if (!part_file) {
        // A vocabulary needs the first part only.
        if (options.metadata_only && part_file.error().code == ErrorCode::not_found) continue;
        return std::move(part_file).error().with_context("part " + std::to_string(i + 1) + " of " +
                                                         std::to_string(count));
      }
      auto part = parse_part((*part_file)->bytes(), options);
      if (!part) return std::move(part).error().with_context(part_path);
      for (const auto& check :
           {check_split_field(*part, "split.no", i), check_split_field(*part, "split.count", count)}) {
        if (!check) return check.error().with_context(part_path);
      }
      file->total_bytes_ += (*part_file)->bytes().size();
      file->parts_.push_back(std::move(*part_file));
      std::move(part->tensors.begin(), part->tensors.end(), std::back_inserter(file->tensors_));
    }
    if (!options.metadata_only) {
      auto total = check_split_field(*first, "split.tensors.count", file->tensors_.size());
      if (!total) return std::move(total).error().with_context(path);
    }
  }
  file->metadata_ = std::move(first->metadata);
  auto indexed = index(*file);
  if (!indexed) return std::move(indexed).error().with_context(path);
  return std::shared_ptr<const File>(std::move(file));
}

}  // namespace ponder::gguf
