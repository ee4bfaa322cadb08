// Hyper-parameters by short name: "block_count" reads "<architecture>.block_count". Every value has
// a range; a key that is there but wrong is an error that names it, never silently the default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gguf/gguf.h"

namespace ponder::model {

class Keys {
 public:
  Keys(const gguf::File& file, std::string_view architecture) : file_(file), prefix_(std::string(architecture) + ".") {}

  const gguf::File& file() const { return file_; }
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  bool has(std::string_view key) const { return file_.find(full(key)) != nullptr; }

  /// A whole number between low and high.
  Result<int> integer(std::string_view key, int low, int high) const;
  Result<int> integer_or(std::string_view key, int low, int high, int fallback) const;
  /// A finite number between low and high.
  Result<double> number(std::string_view key, double low, double high) const;
  Result<double> number_or(std::string_view key, double low, double high, double fallback) const;
  Result<std::string_view> text_or(std::string_view key, std::string_view fallback) const;

  /// An error (invalid_file) about a key that is well-formed but does not fit the others.
  Error wrong(std::string_view key, const std::string& what) const;
  /// An error (unsupported) about a key whose value this build cannot honour.
  Error unsupported(std::string_view key, const std::string& what) const;

 private:
  const gguf::File& file_;
  std::string prefix_;
};

}  // namespace ponder::model
