// The corpus of the loop detector, made anew by every test from its number: texts that go in circles, and texts that
// repeat much and are right to. Numbers 0 to 99 were looked at while the detector was tuned, 100 to 199 never.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ponder::reason::corpus {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0x1234567) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  int in(int low, int high) { return low + int(next() % uint64_t(high - low + 1)); }
  template <class T>
  const T& of(const std::vector<T>& list) {
    return list[size_t(next() % list.size())];
  }

 private:
  uint64_t state_;
};

inline std::string number(int n) { return std::to_string(n); }
inline std::string two(int n) { return (n < 10 ? "0" : "") + number(n); }

inline const std::vector<std::string>& words() {
  static const std::vector<std::string> kWords = {
      "lantern", "window",   "garden",  "mountain", "river",   "teacher", "number", "letter",
      "answer",  "question", "bottle",  "orange",   "planet",  "castle",  "island", "forest",
      "bridge",  "winter",   "morning", "engine",   "pepper",  "puzzle",  "house",  "table",
      "yellow",  "purple",   "music",   "history",  "science", "balance", "valley", "harbor"};
  return kWords;
}

inline std::string phrase(Dice& d, int n) {
  std::string s;
  for (int i = 0; i < n; ++i) s += (i ? " " : "") + d.of(words());
  return s;
}

inline std::string sentence(Dice& d) {
  switch (d.in(0, 5)) {
    case 0:
      return "Wait, let me check the " + d.of(words()) + " again. ";
    case 1:
      return "So the " + d.of(words()) + " must be the " + d.of(words()) + ", but that is not possible. ";
    case 2:
      return "Hmm, I am not sure about the " + d.of(words()) + " of the " + d.of(words()) + ". ";
    case 3:
      return number(d.in(2, 99)) + " + " + number(d.in(2, 99)) + " = " + number(d.in(4, 198)) + ". ";
    case 4:
      return "Alternatively, perhaps we count " + phrase(d, 3) + " instead. ";
    default:
      return "The " + d.of(words()) + " says that the " + d.of(words()) + " tells the truth. ";
  }
}

struct Loop {
  std::string before;   ///< what stands in front of it
  std::string round;    ///< comes again and again
  std::string noise;    ///< a word of `round` is now and then this one; empty: never
  std::string spoiled;  ///< `round` with that word
};

/// 200 loops: words, phrases, sentences, paragraphs, Chinese, code, digits, lines of one character; a fifth with noise.
inline Loop loop(int number_of) {
  Dice d(uint64_t(number_of) + (number_of < 100 ? 1000 : 92000));
  Loop l;
  for (int i = d.in(0, 6); i > 0; --i) l.before += sentence(d);
  switch (number_of % 8) {
    case 0:
      l.round = d.of(words()) + " ";
      break;
    case 1:
      l.round = phrase(d, d.in(2, 8)) + ", ";
      break;
    case 2:
      for (int i = d.in(1, 3); i > 0; --i) l.round += sentence(d);
      break;
    case 3:
      for (int i = d.in(5, 24); i > 0; --i) l.round += sentence(d);
      l.round += "\n\n";
      break;
    case 4: {
      static const std::vector<std::string> kChinese = {"等等,让我再检查一遍。", "所以答案应该是这样的。",
                                                        "但是这不对,重新算一次。", "小明有三个苹果,小红有五个。",
                                                        "我们需要一步一步来。"};
      for (int i = d.in(1, 6); i > 0; --i) l.round += d.of(kChinese);
      break;
    }
    case 5:
      l.round = "    if (" + d.of(words()) + " == " + number(d.in(0, 9)) + ") {\n        " + d.of(words()) + "(" +
                d.of(words()) + ");\n    }\n";
      break;
    case 6:
      l.round = number(d.in(0, 9)) + (d.in(0, 1) ? number(d.in(0, 99)) : "") + (d.in(0, 1) ? ", " : "");
      break;
    default:
      l.round = d.of(std::vector<std::string>{"-", "=", "\n", "ha", "? ", "...", "| - ", "no, "});
      break;
  }
  if (number_of % 5 == 0 && (number_of % 8 == 2 || number_of % 8 == 3)) {
    const size_t space = l.round.find(' ', l.round.size() / 2);
    if (space != std::string::npos) {
      l.noise = d.of(words());
      const size_t end = l.round.find(' ', space + 1);
      l.spoiled = l.round.substr(0, space + 1) + l.noise + (end == std::string::npos ? "" : l.round.substr(end));
    }
  }
  return l;
}

/// 200 texts that repeat themselves for a reason.
inline std::string legitimate(int number_of) {
  Dice d(uint64_t(number_of) + (number_of < 100 ? 5000 : 96000));
  std::string t;
  switch (number_of % 10) {
    case 0: {  // a table
      t = "| name | colour | count | price |\n|---|---|---|---|\n";
      for (int i = 0; i < 60; ++i)
        t += "| " + d.of(words()) + " | " + d.of(words()) + " | " + number(d.in(1, 40)) + " | " + number(d.in(1, 99)) +
             " |\n";
      break;
    }
    case 1: {  // a log whose lines differ in their numbers only
      const std::string what = phrase(d, d.in(3, 9));
      int s = d.in(0, 3000);
      for (int i = 0; i < 70; ++i) {
        s += d.in(1, 5);
        t += "2026-11-24 12:" + two(s / 60 % 60) + ":" + two(s % 60) + " INFO worker-" + number(i % 4) + " " + what +
             " ok\n";
      }
      break;
    }
    case 2: {  // a poem with a refrain
      std::string refrain;
      for (int i = 0; i < 4; ++i) refrain += "Oh " + phrase(d, 4) + ",\n";
      for (int v = 0; v < 7; ++v) {
        for (int i = 0; i < 4; ++i) t += "And the " + phrase(d, 5) + ",\n";
        t += "\n" + refrain + "\n";
      }
      t += refrain + "\n" + refrain;
      break;
    }
    case 3: {  // code of one shape
      t = "switch (code) {\n";
      for (int i = 0; i < 45; ++i) t += "  case " + number(i) + ":\n    return \"" + d.of(words()) + "\";\n";
      t += "  default:\n    return nullptr;\n}\n";
      break;
    }
    case 4: {  // long arithmetic
      int sum = d.in(1, 50);
      const int step = d.in(2, 9);
      for (int i = 0; i < 90; ++i) {
        t += number(sum) + " + " + number(step) + " = " + number(sum + step) + ".\n";
        sum += step;
      }
      break;
    }
    case 5: {  // an empty grid and rules
      const int n = d.in(6, 12);
      for (int r = 0; r < n; ++r) {
        for (int c = 0; c < n; ++c) t += c ? " 0" : "0";
        t += "\n";
      }
      t += std::string(size_t(d.in(20, 100)), '-') + "\n";
      for (int r = 0; r < n; ++r) {
        for (int c = 0; c < n; ++c) t += std::string(c ? " " : "") + (r == c ? "1" : "0");
        t += "\n";
      }
      break;
    }
    case 6: {  // records
      t = "[\n";
      for (int i = 0; i < 40; ++i)
        t += "  {\"id\": " + number(1000 + i) + ", \"name\": \"" + d.of(words()) +
             "\", \"active\": true, \"tags\": []},\n";
      t += "]\n";
      break;
    }
    case 7: {  // letters counted one by one
      for (int w = 0; w < 12; ++w) {
        const std::string word = d.of(words());
        t += "Let me spell " + word + " and count the letter e.\n";
        int n = 0;
        for (size_t i = 0; i < word.size(); ++i) {
          n += word[i] == 'e';
          t += number(int(i) + 1) + ". " + word[i] + (word[i] == 'e' ? " yes, " + number(n) : "") + "\n";
        }
      }
      break;
    }
    case 8: {  // markup with rows that are all alike, then prose
      t = "<table>\n";
      for (int i = d.in(5, 12); i > 0; --i) t += "<tr><td></td><td></td></tr>\n";
      t += "</table>\n";
      for (int i = 0; i < 40; ++i) t += sentence(d);
      break;
    }
    default: {  // a schedule and a thought that checks every case in the same words
      static const std::vector<std::string> kPeople = {"Ali", "Mei", "Jon", "Eva", "Sam", "Ida", "Max", "Zoe"};
      for (int i = 0; i < 40; ++i)
        t += "Case " + number(i + 1) + ": suppose that " + d.of(kPeople) + " tells the truth and " + d.of(kPeople) +
             " lies. Then " + d.of(kPeople) + " says that " + d.of(kPeople) + " lies, which is " +
             (d.in(0, 1) ? "true" : "a contradiction") + ".\n";
      break;
    }
  }
  return t;
}

}  // namespace ponder::reason::corpus
