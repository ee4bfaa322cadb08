// What the controllers write into a thought, in the language that the thought is in. The language is guessed from the
// script of the text, and for Latin script from its commonest words; English when nothing speaks for another.
#pragma once

#include <string>
#include <string_view>

namespace ponder::reason {

enum class Language { english, chinese, japanese, korean, russian, german, french, spanish, portuguese, italian };

Language language_of(std::string_view text);

/// The sentences of a language.
struct Phrases {
  const char* closing;    ///< the thought must end now
  const char* repeating;  ///< it went in circles, and ends
  const char* wait;       ///< it shall go on although the model would end it (Muennighoff et al. 2025, "s1")
  const char* note;       ///< before what a person adds
  const char* skipped;    ///< stands for a thought that was not had (Ma et al. 2025, "NoThinking")
};
const Phrases& phrases(Language language);

/// True if a sentence or a line ends with the last character of `text` (closing quotes and brackets aside). A point after
/// a digit may be a decimal point, so it does not count.
bool ends_sentence(std::string_view text);

/// The bytes at the end of `text` that begin a character and do not complete it (0 to 3).
size_t incomplete_tail(std::string_view text);

}  // namespace ponder::reason
