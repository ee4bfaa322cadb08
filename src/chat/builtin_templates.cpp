// Templates for files that carry none, in our own words: they write the formats that the model
// families were trained on, with what every family understands (system, user, assistant), and
// thoughts of earlier turns left out.
#include <algorithm>

#include "chat/chat.h"

namespace ponder::chat {
namespace {

constexpr std::string_view kChatMl = R"({%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%})";

constexpr std::string_view kLlama3 = R"({{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + (message.content | trim) + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%})";

// The system text stands in front, as the distilled models were trained; the prompt opens the
// thought.
constexpr std::string_view kDeepSeekR1 = R"({{- bos_token -}}
{%- for message in messages if message.role == 'system' -%}{{- message.content -}}{%- endfor -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{- '<｜User｜>' + message.content -}}
{%- elif message.role == 'assistant' -%}
{{- '<｜Assistant｜>' + message.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜><think>\n' -}}{%- endif -%})";

constexpr std::string_view kDeepSeek = R"({{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{- 'User: ' + message.content + '\n\n' -}}
{%- elif message.role == 'assistant' -%}{{- 'Assistant: ' + message.content + eos_token -}}
{%- elif message.role == 'system' -%}{{- message.content + '\n\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%})";

// Mistral has no system role: its text goes in front of the last question.
constexpr std::string_view kMistral = R"({{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages if message.role == 'system' -%}{%- set ns.system = ns.system + message.content + '\n\n' -%}{%- endfor -%}
{%- set turns = messages | rejectattr('role', 'equalto', 'system') | list -%}
{%- for message in turns -%}
{%- if message.role == 'assistant' -%}{{- ' ' + message.content + eos_token -}}
{%- else -%}
{{- '[INST] ' + (ns.system if loop.last or (loop.index == loop.length - 1 and turns[-1].role == 'assistant') else '') + message.content + ' [/INST]' -}}
{%- endif -%}
{%- endfor -%})";

}  // namespace

Result<BuiltinTemplate> builtin_template(std::string_view architecture, const tokenizer::Tokenizer& vocabulary) {
  const auto has = [&](std::string_view token) { return vocabulary.find(token).has_value(); };
  if (has("<｜User｜>") && has("<｜Assistant｜>")) {
    // The same marks serve DeepSeek's models with and without thoughts; <think> in the vocabulary
    // tells them apart.
    if (has("<think>")) return BuiltinTemplate{"deepseek-r1", kDeepSeekR1};
  }
  if (has("<|im_start|>") && has("<|im_end|>")) return BuiltinTemplate{"chatml", kChatMl};
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return BuiltinTemplate{"llama3", kLlama3};
  if (has("[INST]") && has("[/INST]")) return BuiltinTemplate{"mistral", kMistral};
  if (architecture.starts_with("deepseek") && has("<｜begin▁of▁sentence｜>"))
    return BuiltinTemplate{"deepseek", kDeepSeek};
  return Error{ErrorCode::unsupported, "the model (architecture \"" + std::string(architecture) +
                                           "\") carries no chat template, and its vocabulary is not one of those whose "
                                           "format is known "
                                           "(chatml, llama3, deepseek, mistral). Give it a template with TEMPLATE in a "
                                           "Modelfile, or use generate with raw"};
}

}  // namespace ponder::chat
