// What stands in a prompt beside the template's doing: thoughts that are kept, and a reply that the client began.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/chat.h"
#include "runtime/loaded_model.h"

namespace ponder::runtime {

/// Most templates drop the thoughts of earlier turns. To keep them, they are put where their answers begin after the
/// template is done: a mark that no text contains stands for each one meanwhile.
class KeptThoughts {
 public:
  /// Takes the thoughts out of the assistant's messages (if `keep`).
  KeptThoughts(std::vector<chat::Message>& messages, bool keep);
  std::vector<tokenizer::Segment> put_back(std::vector<tokenizer::Segment> prompt,
                                           const chat::ThinkingTags& tags) const;

 private:
  std::string mark_;  // of thought 0, 1, ...: mark_ + number + ";"
  std::vector<std::string> thoughts_;
};

/// The prompt with the beginning of a reply after it: the thought left open when there is no content yet.
std::vector<tokenizer::Segment> begin_reply(std::vector<tokenizer::Segment> prompt, const chat::Message& beginning,
                                            const std::optional<chat::ThinkingTags>& tags);

/// The tokens that a prompt of the next turn will begin with, whatever the user says then: the conversation with the
/// reply in it, as the template writes it. Empty when it cannot be known.
std::vector<tokenizer::TokenId> next_history(const OpenModel& model, ChatRequest request, const std::string& thinking,
                                             const std::string& content);

}  // namespace ponder::runtime
