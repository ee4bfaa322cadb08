// What a template sees of a conversation: the same variables that transformers' apply_chat_template
// passes.
#pragma once

#include "chat/chat.h"
#include "chat/jinja/value.h"

namespace ponder::chat {

/// What a template needs to know about itself to be given the right input; found in its tree.
struct TemplateTraits {
  bool reads_enable_thinking = false;
  /// Some (Granite, older DeepSeek) call the same switch `thinking`.
  bool reads_thinking = false;
  /// Templates disagree about an assistant's turn that only calls tools: content "" or none;
  /// arguments an object or their JSON text. And some fail on `tools` = none where no tools are
  /// given, but not without the variable. Which one works is found by probing; the defaults are
  /// what transformers gives.
  bool none_content = false;
  bool arguments_as_text = false;
  bool absent_tools_undefined = false;
  bool reads_tools = false;
};

/// The list `messages`. Everything in it is the user's text. Errors name the message.
Result<jinja::Value> messages_value(const std::vector<Message>& messages, const TemplateTraits& traits);

}  // namespace ponder::chat
