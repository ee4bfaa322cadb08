// The one reader of everything that says how much a model may think: Ollama's `think`, OpenAI's `reasoning_effort` and
// `reasoning`, llama.cpp's budgets, Anthropic's `thinking`, and `--think`. And the one table of levels.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "runtime/types.h"

namespace ponder::runtime {

/// A level by its name and what it stands for on a model with a context of so many tokens.
struct ThinkLevel {
  const char* name;
  int most;      ///< tokens, however long the context is; -1: no limit but the context
  int fraction;  ///< and at most the context divided by this
  int tokens(uint64_t context_length) const;
};
/// From the least to the most. "off" is not among them: it is no budget but another prompt.
std::span<const ThinkLevel> think_levels();

/// false, true, a level, a number of tokens, a text ("high", "4096", "30s", "off") or an object {on, level, tokens,
/// seconds, answer, close, closing, extend, loop, off}. Errors name the field, `name` first.
Result<ThinkOptions> parse_think(const nlohmann::ordered_json& value, const std::string& name);
/// What --think and /set think take: the same texts, and an object as JSON.
Result<ThinkOptions> parse_think_text(const std::string& text);

/// Everything of a request's body that is about thinking, joined: `think` (also inside `options`, where clients with fixed
/// fields can put it) wins over reasoning_budget_tokens, thinking_budget_tokens and reasoning_budget_message, those over
/// reasoning_effort, reasoning and thinking, those over chat_template_kwargs.
Result<ThinkOptions> think_of_body(const nlohmann::ordered_json& body);

nlohmann::json to_json(const ThinkOptions& think);

/// True if the request insists on a thought, which is an error on a model that has none.
bool asks_to_think(const ThinkOptions& think);

}  // namespace ponder::runtime
