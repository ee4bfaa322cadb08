// Exact arithmetic on what stands in an answer: "1/2", "3 × (4 + 5)", "1,000", "2^10", "1.5e3". So that equal values are
// equal answers, without rounding.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ponder::reason {

/// Reduced; the denominator is positive.
struct Rational {
  int64_t numerator = 0, denominator = 1;
  bool operator==(const Rational&) const = default;
  std::string text() const;  ///< "7", "-1/2"
};

/// The value of an arithmetic expression in ASCII: digits with a decimal point, + - * / ^ ( ), e-notation. Nothing for
/// anything else, for a value that does not fit, and for a division by zero.
std::optional<Rational> evaluate(std::string_view expression);

/// A number written in words: "forty-two", "one hundred and five", "二十五", "一千零一". Nothing if any word is not one.
std::optional<int64_t> number_from_words(std::string_view words);

}  // namespace ponder::reason
