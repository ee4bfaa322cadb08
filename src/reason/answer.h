// The answer in a reply, in a form that can be compared: what a vote counts. "The answer is \boxed{\frac12}.", "0.5" and
// "**1/2**" are one answer; a poem has none. Two steps: find the words that are the answer (answer.cpp), and bring them
// into canonical form (canonical.cpp). Rules are tried from the most explicit to the least, and the first that fits
// counts, so that a boxed answer is never outvoted by a number further down.
// The cases that define it are tests/cases/answer/*.case.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ponder::reason {

/// What kind of answer to look for.
enum class AnswerKind {
  automatic,  ///< JSON, boxed, announced, yes/no, choice, bold, last number, a short line: in this order
  boxed,      ///< only \boxed{...}
  number,     ///< boxed or announced, else the last number of the reply
  choice,     ///< a letter: boxed, announced, leading, or the last one that stands alone
  yes_no,
  json,  ///< the reply, or its last fenced block, as a JSON value; field order and spaces do not matter
  text,  ///< the whole reply, case and spaces aside
};
const char* to_string(AnswerKind kind);
std::optional<AnswerKind> parse_answer_kind(std::string_view name);  ///< "auto", "boxed", "number", ...

struct Answer {
  std::string shown;  ///< as the reply wrote it, without wrappers
  std::string key;    ///< equal for equal answers
  std::string unit;   ///< of a number: "cm", "%", "$"; empty when none was written. See same_answer().
};

/// Equal answers: the same key, and not two different units. Not transitive ("5", "5 cm", "5 kg"): the tally sees to that.
bool same_answer(const Answer& a, const Answer& b);

/// `content` is the reply without its thought. `whole` is false when the reply was cut (length, context): then only an
/// explicit answer counts, because what stands last may be half a number.
std::optional<Answer> find_answer(std::string_view content, AnswerKind kind = AnswerKind::automatic, bool whole = true);

/// The canonical form of words that are known to be an answer. Empty words have none.
std::optional<Answer> canonical_answer(std::string_view words);

}  // namespace ponder::reason
