// Range checks around gguf::File's typed access. The limits are generous (hundreds of times today's
// models) and keep every later product of two sizes inside 64 bits and every count inside an int.
// Next: spec.cpp, which asks for them.
#include "model/keys.h"

#include <cstdio>

namespace ponder::model {

Result<int> Keys::integer(std::string_view key, int low, int high) const {
  PONDER_TRY(const uint64_t v, file_.require_u64(full(key), uint64_t(low), uint64_t(high)));
  return int(v);
}

Result<int> Keys::integer_or(std::string_view key, int low, int high, int fallback) const {
  if (!has(key)) return fallback;
  return integer(key, low, high);
}

Result<double> Keys::number(std::string_view key, double low, double high) const {
  PONDER_TRY(const double v, file_.require_f64(full(key)));
  if (!(v >= low && v <= high)) {
    char text[96];
    std::snprintf(text, sizeof text, "%g is not between %g and %g", v, low, high);
    return wrong(key, text);
  }
  return v;
}

Result<double> Keys::number_or(std::string_view key, double low, double high, double fallback) const {
  if (!has(key)) return fallback;
  return number(key, low, high);
}

Result<std::string_view> Keys::text_or(std::string_view key, std::string_view fallback) const {
  if (!has(key)) return fallback;
  return file_.require_string(full(key));
}

Error Keys::wrong(std::string_view key, const std::string& what) const {
  return Error{ErrorCode::invalid_file, file_.path() + ": key '" + full(key) + "': " + what};
}

Error Keys::unsupported(std::string_view key, const std::string& what) const {
  return Error{ErrorCode::unsupported, file_.path() + ": key '" + full(key) + "': " + what};
}

}  // namespace ponder::model
