// Result<T>: a value or an Error. Every boundary that a user, a file or a peer can break returns one; our libraries
// throw nothing across their borders. The message is written for the person at the terminal: what was wrong, where
// (file, tensor, field), and what to do about it.
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <variant>

namespace ponder {

/// Broad classes that callers act on (HTTP status, exit code, retry). The message carries the detail.
enum class ErrorCode {
  invalid_argument,  ///< the request or a flag is wrong                        -> 400
  invalid_file,      ///< malformed GGUF, template, manifest, ...               -> 400
  unsupported,       ///< well-formed, but not something this build can do      -> 400
  not_found,         ///< no such model, file, route                            -> 404
  already_exists,    ///< name or address taken                                 -> 409
  permission,        ///< refused by policy or the operating system             -> 403
  out_of_memory,     ///< does not fit; the message gives the numbers           -> 507
  out_of_range,      ///< past a limit (context, size)                          -> 400
  cancelled,         ///< the caller asked to stop                              -> 499
  network,           ///< a peer could not be reached or answered wrongly       -> 502
  io,                ///< the operating system failed a read or write           -> 500
  internal,          ///< a bug of ours                                         -> 500
};

/// Short name of a code ("invalid_file"), for logs and JSON.
const char* to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;

  /// The same error with `prefix + ": "` in front of its message: adds the file or the tensor on the way up.
  [[nodiscard]] Error with_context(const std::string& prefix) const { return Error{code, prefix + ": " + message}; }
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit on purpose
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit on purpose

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    assert(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    assert(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    assert(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    assert(!ok());
    return std::get<1>(state_);
  }
  Error&& error() && {
    assert(!ok());
    return std::get<1>(std::move(state_));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}  // NOLINT: implicit on purpose

  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const& {
    assert(failed_);
    return error_;
  }
  Error&& error() && {
    assert(failed_);
    return std::move(error_);
  }

 private:
  Error error_;
  bool failed_ = false;
};

}  // namespace ponder

#define PONDER_CONCAT_(a, b) a##b
#define PONDER_CONCAT(a, b) PONDER_CONCAT_(a, b)

/// PONDER_TRY(auto x, f()): x = value of f(), or return its error from the enclosing function.
#define PONDER_TRY(declaration, ...)                                                                      \
  auto PONDER_CONCAT(result_, __LINE__) = (__VA_ARGS__);                                                  \
  if (!PONDER_CONCAT(result_, __LINE__).ok()) return std::move(PONDER_CONCAT(result_, __LINE__)).error(); \
  declaration = std::move(PONDER_CONCAT(result_, __LINE__)).value()

/// PONDER_CHECK_OK(f()): returns f()'s error from the enclosing function, or goes on.
#define PONDER_CHECK_OK(...)                                          \
  do {                                                                \
    auto ponder_result = (__VA_ARGS__);                               \
    if (!ponder_result.ok()) return std::move(ponder_result).error(); \
  } while (false)
