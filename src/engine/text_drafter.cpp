// A draft is a chain: the likeliest token after the text, the likeliest after that, and so on, each with its odds. Of the
// lengths that know a continuation, the one with the best record is believed. Rewinds need no care: the phrases of what
// was dropped stay known, and do no harm. Next to read: sequence.cpp, which checks drafts; scheduler.cpp, which decides
// how many are worth computing.
#include "engine/text_drafter.h"

#include <algorithm>

namespace ponder::engine {
namespace {
// How often a continuation was right, by length of the run (Phrases::kLengths) and how often it was seen: in 54 answers of
// Qwen2.5-Coder-0.5B and 200 of ponder-tiny. From others' texts, and from one's own. Where a sequence begins from.
constexpr float kUsual[2][Phrases::kLengths.size()][Phrases::kMostOften + 1] = {{{.20f, .37f, .48f, .65f},
                                                                                 {.25f, .42f, .50f, .70f},
                                                                                 {.28f, .54f, .60f, .75f},
                                                                                 {.33f, .62f, .74f, .82f},
                                                                                 {.43f, .72f, .84f, .93f},
                                                                                 {.55f, .80f, .90f, .95f},
                                                                                 {.70f, .92f, .96f, .98f}},
                                                                                {{.25f, .42f, .58f, .83f},
                                                                                 {.42f, .55f, .70f, .90f},
                                                                                 {.55f, .73f, .87f, .95f},
                                                                                 {.60f, .80f, .92f, .96f},
                                                                                 {.73f, .88f, .95f, .97f},
                                                                                 {.83f, .91f, .96f, .97f},
                                                                                 {.91f, .95f, .97f, .98f}}};
constexpr float kUsualWeight = 8;   // counts like so many tokens of the sequence's own
constexpr float kMemory = 200;      // tokens of a kind after which older ones hardly count
constexpr float kHopeless = 0.05f;  // a chain whose last token is less likely to be reached ends
}  // namespace

TextDrafter::TextDrafter(std::shared_ptr<Phrases> phrases, int most) : phrases_(std::move(phrases)), most_(most) {
  for (size_t own = 0; own < 2; ++own)
    for (size_t i = 0; i < Phrases::kLengths.size(); ++i)
      for (size_t k = 0; k < kOften; ++k) odds_[own][i][k] = {kUsual[own][i][k] * kUsualWeight, kUsualWeight};
}

void TextDrafter::read(std::span<const TokenId> tokens) {
  // A prompt is read as a whole. It says what may be repeated, not how much a reply repeats.
  const bool prompt = reader_ == 0;
  if (prompt) reader_ = phrases_->new_reader();
  read_ = std::min(read_, tokens.size());  // after a rewind
  for (; read_ < tokens.size(); ++read_) {
    const size_t from = read_ > size_t(Phrases::kLongest) ? read_ - size_t(Phrases::kLongest) : 0;
    const auto before = phrases_->learn(tokens.subspan(from, read_ - from), tokens[read_], reader_);
    if (prompt) continue;
    for (size_t i = 0; i < before.size(); ++i) {
      if (before[i].token < 0) continue;
      Odds& o = odds_of(i, before[i]);
      o.right = o.right * (1 - 1 / kMemory) + float(before[i].token == tokens[read_]);
      o.of = o.of * (1 - 1 / kMemory) + 1;
    }
  }
}

int TextDrafter::propose(std::span<const TokenId> tokens, std::span<Draft> draft) {
  read(tokens);
  std::array<TokenId, size_t(Phrases::kLongest) + kMost> run;
  size_t size = std::min(tokens.size(), size_t(Phrases::kLongest));
  std::copy(tokens.end() - long(size), tokens.end(), run.begin());
  const size_t most = std::min({draft.size(), size_t(most_), size_t(kMost)});
  float reached = 1;
  for (size_t n = 0; n < most; ++n) {
    Draft best;
    const auto all = phrases_->look(std::span(run).first(size), reader_);
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].token < 0) continue;
      const Odds& o = odds_of(i, all[i]);
      if (o.right >= best.odds * o.of) best = {all[i].token, o.right / o.of};
    }
    reached *= best.odds;
    if (best.token < 0 || reached < kHopeless) return int(n);
    draft[n] = best;
    run[size++] = best.token;
  }
  return int(most);
}

}  // namespace ponder::engine
