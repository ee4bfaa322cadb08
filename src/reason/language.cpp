#include "reason/language.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <utility>

namespace ponder::reason {
namespace {

// In the order of Language. The first closing sentence is one that the built-in model was trained with.
constexpr Phrases kPhrases[] = {
    {"I should stop thinking now and answer.", "I am repeating myself; let me conclude.", "Wait",
     "The user adds:", "Okay, I think I have finished thinking."},
    {"时间有限,我现在直接给出答案。", "我在重复自己,现在得出结论。", "等等", "用户补充:", "好的,我已经思考完了。"},
    {"時間が限られているので、ここで答えを出します。", "同じことを繰り返しているので、結論を出します。", "待って",
     "ユーザーの補足:", "はい、考え終わりました。"},
    {"시간이 제한되어 있으므로 지금 바로 답하겠습니다.", "같은 말을 반복하고 있으니 결론을 내리겠습니다.", "잠깐",
     "사용자의 추가 설명:", "네, 생각을 마쳤습니다."},
    {"Время ограничено, поэтому сейчас я дам ответ.", "Я повторяюсь; пора сделать вывод.", "Подожди",
     "Пользователь добавляет:", "Хорошо, я закончил размышлять."},
    {"Ich sollte jetzt aufhören nachzudenken und antworten.", "Ich wiederhole mich; ich komme zum Schluss.", "Moment",
     "Der Nutzer ergänzt:", "Gut, ich bin mit dem Nachdenken fertig."},
    {"Je dois arrêter de réfléchir et répondre maintenant.", "Je me répète ; il est temps de conclure.", "Attends",
     "L'utilisateur ajoute :", "Bien, j'ai fini de réfléchir."},
    {"Debo dejar de pensar y responder ahora.", "Me estoy repitiendo; voy a concluir.", "Espera",
     "El usuario añade:", "Bien, he terminado de pensar."},
    {"Devo parar de pensar e responder agora.", "Estou me repetindo; vou concluir.", "Espere",
     "O usuário acrescenta:", "Certo, terminei de pensar."},
    {"Devo smettere di pensare e rispondere ora.", "Mi sto ripetendo; concludo.", "Aspetta",
     "L'utente aggiunge:", "Bene, ho finito di pensare."},
};

// Words that are common in one of these languages and rare in the others.
struct Words {
  Language language;
  std::array<std::string_view, 12> words;
};
constexpr Words kWords[] = {
    {Language::english, {"the", "is", "and", "so", "of", "that", "to", "i", "we", "let", "this", "are"}},
    {Language::german, {"der", "die", "das", "und", "ist", "ich", "nicht", "ein", "eine", "wir", "also", "zu"}},
    {Language::french, {"le", "les", "est", "et", "je", "une", "des", "nous", "donc", "dans", "pour", "du"}},
    {Language::spanish, {"el", "los", "es", "y", "las", "una", "del", "entonces", "que", "por", "con", "hay"}},
    {Language::portuguese, {"o", "os", "é", "e", "uma", "do", "da", "não", "então", "em", "com", "são"}},
    {Language::italian, {"il", "gli", "è", "di", "che", "della", "quindi", "non", "sono", "un", "per", "allora"}},
};

constexpr int kEnough = 3;  // common words of a language that make a text one of it

size_t length_of(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

uint32_t code_point(std::string_view text, size_t at, size_t n) {
  const uint8_t lead = uint8_t(text[at]);
  uint32_t c = n == 1 ? lead : lead & (0x7Fu >> n);
  for (size_t i = 1; i < n && at + i < text.size(); ++i) c = (c << 6) | (uint8_t(text[at + i]) & 0x3Fu);
  return c;
}

}  // namespace

Language language_of(std::string_view text) {
  int han = 0, kana = 0, hangul = 0, cyrillic = 0, latin = 0;
  std::array<int, std::size(kWords)> hits = {};
  std::string word;
  const auto end_word = [&] {
    for (size_t i = 0; i < std::size(kWords); ++i)
      hits[i] += std::find(kWords[i].words.begin(), kWords[i].words.end(), word) != kWords[i].words.end();
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const size_t n = length_of(uint8_t(text[at]));
    const uint32_t c = code_point(text, at, n);
    const bool letter = c < 0x80 ? std::isalpha(int(c)) != 0 : c < 0x250;
    if (letter) {
      ++latin;
      if (c < 0x80) {
        word += char(std::tolower(int(c)));
      } else {
        word += text.substr(at, n);
      }
    } else {
      end_word();
    }
    han += c >= 0x4E00 && c <= 0x9FFF;
    kana += c >= 0x3040 && c <= 0x30FF;
    hangul += c >= 0xAC00 && c <= 0xD7A3;
    cyrillic += c >= 0x400 && c <= 0x4FF;
    at += n;
  }
  end_word();
  // A character of these scripts carries about as much as three letters; names and formulas are written in Latin anywhere.
  if (kana > 0 && 3 * (kana + han) > latin) return Language::japanese;
  if (3 * hangul > latin) return Language::korean;
  if (3 * han > latin) return Language::chinese;
  if (cyrillic > latin) return Language::russian;
  size_t best = 0;
  for (size_t i = 1; i < hits.size(); ++i)
    if (hits[i] > hits[best] && hits[i] >= kEnough) best = i;
  return kWords[best].language;
}

const Phrases& phrases(Language language) { return kPhrases[size_t(language)]; }

bool ends_sentence(std::string_view text) {
  constexpr std::string_view kWide[] = {"。", "！", "？", "…"};
  constexpr std::string_view kAfter[] = {"\"", "'", ")", "]", "*", "”", "’", "」", "）"};
  for (bool again = true; again;) {
    again = false;
    for (const auto& closing : kAfter)
      if (text.ends_with(closing) && text.size() > closing.size()) {
        text.remove_suffix(closing.size());
        again = true;
      }
  }
  if (text.empty()) return false;
  for (const auto& mark : kWide)
    if (text.ends_with(mark)) return true;
  const char last = text.back();
  if (last == '\n' || last == '!' || last == '?') return true;
  return last == '.' && (text.size() < 2 || !std::isdigit(uint8_t(text[text.size() - 2])));
}

size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const uint8_t c = uint8_t(text[text.size() - back]);
    if ((c & 0xC0) == 0x80) continue;
    return c >= 0xC2 && c < 0xF5 && length_of(c) > back ? back : 0;
  }
  return 0;
}

}  // namespace ponder::reason
