// A recursive-descent evaluator over 64-bit rationals. Every operation is checked: what overflows has no value, and the
// caller compares the text instead.
#include "reason/expression.h"

#include <array>
#include <cctype>
#include <numeric>
#include <utility>

#include "base/utf8.h"

namespace ponder::reason {
namespace {

constexpr int kMaxDepth = 64;

using Value = std::optional<Rational>;

Value make(__int128 n, __int128 d) {
  if (d == 0) return {};
  if (d < 0) n = -n, d = -d;
  __int128 a = n < 0 ? -n : n, b = d;
  while (b != 0) a = std::exchange(b, a % b);
  n /= a, d /= a;
  constexpr __int128 kMost = INT64_MAX;
  if (n > kMost || n < -kMost || d > kMost) return {};
  return Rational{int64_t(n), int64_t(d)};
}

Value add(const Rational& a, const Rational& b) {  // |products| < 2^126, so the sum fits
  return make(__int128(a.numerator) * b.denominator + __int128(b.numerator) * a.denominator,
              __int128(a.denominator) * b.denominator);
}
Value multiply(const Rational& a, const Rational& b) {
  return make(__int128(a.numerator) * b.numerator, __int128(a.denominator) * b.denominator);
}
Value divide(const Rational& a, const Rational& b) {
  return make(__int128(a.numerator) * b.denominator, __int128(a.denominator) * b.numerator);
}

Value power(Rational base, const Rational& exponent) {
  if (exponent.denominator != 1 || exponent.numerator < -1000 || exponent.numerator > 1000) return {};
  int64_t n = exponent.numerator;
  if (n < 0) {
    if (base.numerator == 0) return {};
    base = *divide({1, 1}, base);
    n = -n;
  }
  Value result = Rational{1, 1};
  for (; n > 0 && result; --n) result = multiply(*result, base);
  return result;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}
  Value whole() {
    Value v = sum();
    skip();
    return v && at_ == text_.size() ? v : Value();
  }

 private:
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool digit_at(size_t i) const { return i < text_.size() && std::isdigit(uint8_t(text_[i])); }

  Value sum() {
    Value v = product();
    while (v) {
      const bool minus = !take('+');
      if (minus && !take('-')) break;
      Value w = product();
      if (!w) return {};
      if (minus) w->numerator = -w->numerator;
      v = add(*v, *w);
    }
    return v;
  }
  Value product() {
    Value v = sign();
    while (v) {
      const bool division = !take('*');
      if (division && !take('/')) break;
      const Value w = sign();
      if (!w) return {};
      v = division ? divide(*v, *w) : multiply(*v, *w);
    }
    return v;
  }
  Value sign() {  // -2^2 is -(2^2)
    bool negative = false;
    int signs = 0;
    for (;; ++signs) {
      if (signs > kMaxDepth) return {};
      if (take('-')) {
        negative = !negative;
      } else if (!take('+')) {
        break;
      }
    }
    Value v = raised();
    if (v && negative) v->numerator = -v->numerator;
    return v;
  }
  Value raised() {
    const Value base = atom();
    if (!base || !take('^')) return base;
    if (++depth_ > kMaxDepth) return {};
    const Value exponent = sign();
    --depth_;
    return exponent ? power(*base, *exponent) : Value();
  }
  Value atom() {
    if (take('(')) {
      if (++depth_ > kMaxDepth) return {};
      const Value v = sum();
      --depth_;
      return v && take(')') ? v : Value();
    }
    return number();
  }
  Value number() {
    skip();
    __int128 n = 0, d = 1;
    bool any = false, point = false;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '.' && !point) {
        point = true;
        continue;
      }
      if (!digit_at(at_)) break;
      any = true;
      n = n * 10 + (text_[at_] - '0');
      if (point) d *= 10;
      if (n > __int128(INT64_MAX) * 1000 || d > __int128(INT64_MAX) * 1000) return {};
    }
    if (!any) return {};
    Value v = make(n, d);
    if (v && at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      size_t i = at_ + 1;
      const bool negative = i < text_.size() && text_[i] == '-';
      if (i < text_.size() && (text_[i] == '-' || text_[i] == '+')) ++i;
      if (!digit_at(i)) return {};
      int64_t exponent = 0;
      for (; digit_at(i) && exponent < 1000; ++i) exponent = exponent * 10 + (text_[i] - '0');
      at_ = i;
      const Value scale = power({10, 1}, {negative ? -exponent : exponent, 1});
      v = scale ? multiply(*v, *scale) : Value();
    }
    return v;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

// ---- Numbers in words.

constexpr std::array kSmall = {"zero",     "one",     "two",     "three",     "four",     "five",    "six",
                               "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",  "thirteen",
                               "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
constexpr std::array kTens = {"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"};

std::optional<int64_t> from_english(std::string_view words) {
  int64_t total = 0, group = 0;
  bool any = false, can_be_small = true, can_be_tens = true;
  for (size_t at = 0; at < words.size();) {
    size_t end = at;
    while (end < words.size() && std::isalpha(uint8_t(words[end]))) ++end;
    if (end == at) {
      if (words[at] != ' ' && words[at] != '-') return {};
      ++at;
      continue;
    }
    std::string word;
    for (; at < end; ++at) word += char(std::tolower(uint8_t(words[at])));
    if (word == "and" && any) continue;
    int64_t small = -1, tens = -1;
    for (size_t i = 0; i < kSmall.size(); ++i)
      if (word == kSmall[i]) small = int64_t(i);
    for (size_t i = 0; i < kTens.size(); ++i)
      if (word == kTens[i]) tens = int64_t(i + 2) * 10;
    if (tens > 0 && can_be_tens) {
      group += tens;
      can_be_tens = false;
    } else if (small >= 0 && can_be_small && (can_be_tens || (small > 0 && small < 10))) {
      group += small;
      can_be_small = can_be_tens = false;
    } else if (word == "hundred" && any && group > 0 && group < 10) {
      group *= 100;
      can_be_small = can_be_tens = true;
    } else if ((word == "thousand" || word == "million") && any && group > 0) {
      const int64_t scale = word == "thousand" ? 1000 : 1'000'000;
      if (total % (scale * 1000) != 0) return {};
      total += group * scale;
      group = 0;
      can_be_small = can_be_tens = true;
    } else {
      return {};
    }
    any = true;
  }
  return any ? std::optional<int64_t>(total + group) : std::nullopt;
}

std::optional<int64_t> from_chinese(std::string_view words) {
  int64_t total = 0, section = 0, digit = -1;
  bool any = false;
  while (!words.empty()) {
    const auto decoded = utf8::decode(words);
    words.remove_prefix(decoded.length);
    constexpr std::u32string_view kDigits = U"零一二三四五六七八九";
    constexpr std::u32string_view kUnits = U"十百千";
    const size_t as_digit = decoded.code_point == U'〇'   ? 0
                            : decoded.code_point == U'两' ? 2
                                                          : kDigits.find(decoded.code_point);
    const size_t as_unit = kUnits.find(decoded.code_point);
    if (as_digit != kDigits.npos) {
      if (digit > 0) return {};  // two digits in a row are not a number of this kind
      digit = int64_t(as_digit);
    } else if (as_unit != kUnits.npos) {
      constexpr int64_t kScale[] = {10, 100, 1000};
      if (digit < 0 && as_unit == 0) digit = 1;  // 十五
      if (digit < 0) return {};
      section += digit * kScale[as_unit];
      digit = -1;
    } else if (decoded.code_point == U'万' && any) {
      total += (section + std::max<int64_t>(digit, 0)) * 10000;
      if (total > int64_t(1) << 50) return {};
      section = 0, digit = -1;
    } else {
      return {};
    }
    if (section > 1'000'000) return {};
    any = true;
  }
  return any ? std::optional<int64_t>(total + section + std::max<int64_t>(digit, 0)) : std::nullopt;
}

}  // namespace

std::string Rational::text() const {
  return std::to_string(numerator) + (denominator == 1 ? "" : "/" + std::to_string(denominator));
}

std::optional<Rational> evaluate(std::string_view expression) { return Parser(expression).whole(); }

std::optional<int64_t> number_from_words(std::string_view words) {
  if (words.empty() || words.size() > 200) return {};
  return uint8_t(words[0]) < 0x80 ? from_english(words) : from_chinese(words);
}

}  // namespace ponder::reason
