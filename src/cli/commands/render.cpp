// ponder render MODEL|FILE.gguf|TEMPLATE.jinja --messages FILE.json: the exact prompt text of a conversation.
#include <cstdio>
#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/os/file.h"
#include "base/utf8.h"
#include "chat/chat.h"
#include "cli/context.h"
#include "runtime/wire.h"

namespace ponder::cli {
namespace {

struct RenderFlags {
  std::string model, messages, tools, date;
  std::vector<std::string> variables;
};

Result<nlohmann::ordered_json> read_json(const std::string& path) {
  PONDER_TRY(const auto text, os::read_file(path));
  auto parsed = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return Error{ErrorCode::invalid_file, path + " is not JSON"};
  return parsed;
}

Result<void> render(Context& context, const RenderFlags& flags) {
  chat::RenderInput input;
  std::shared_ptr<const chat::Template> chat_template;  // of the model, or compiled here
  const bool bare = flags.model.ends_with(".jinja") || flags.model.ends_with(".j2");
  if (bare) {
    PONDER_TRY(const auto source, os::read_file(flags.model));
    auto compiled = chat::Template::compile(source);
    if (!compiled.ok()) return compiled.error().with_context(flags.model);
    chat_template = *compiled;
  } else {
    PONDER_TRY(const auto model, context.open(flags.model));
    if (!model->chat_template)
      return Error{ErrorCode::unsupported,
                   model->why_no_template.empty() ? "the model has no chat template" : model->why_no_template};
    chat_template = model->chat_template;
    const auto text_of = [&](std::optional<tokenizer::TokenId> id) {
      return id ? std::string(model->tokenizer->piece(*id, true)) : std::string();
    };
    input.bos_token = text_of(model->tokenizer->bos());
    input.eos_token = text_of(model->tokenizer->eos());
  }
  PONDER_TRY(const auto messages, read_json(flags.messages));
  PONDER_TRY(input.messages,
             chat::messages_from_json(messages.is_object() && messages.contains("messages") ? messages["messages"]
                                                                                            : messages));
  if (!flags.tools.empty()) {
    PONDER_TRY(const auto tools, read_json(flags.tools));
    if (!tools.is_array()) return Error{ErrorCode::invalid_file, flags.tools + " is not a JSON array of tools"};
    PONDER_TRY(input.tools_json,
               os::read_file(flags.tools));  // as it stands: templates print keys in the writer's order
  }
  for (const auto& v : flags.variables) {
    const size_t equals = v.find('=');
    if (equals == std::string::npos)
      return Error{ErrorCode::invalid_argument, "--var takes NAME=VALUE, not \"" + v + "\""};
    const std::string name = v.substr(0, equals), value = v.substr(equals + 1);
    const auto parsed = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
    if (name == "add_generation_prompt" && parsed.is_boolean()) {
      input.add_generation_prompt = parsed.get<bool>();
    } else if (name == "enable_thinking" && parsed.is_boolean()) {
      input.enable_thinking = parsed.get<bool>();
    } else if (name == "bos_token") {
      input.bos_token = value;
    } else if (name == "eos_token") {
      input.eos_token = value;
    } else {
      // Anything that is not JSON is a string, so that --var name=Ann needs no quotes.
      input.variables.emplace_back(name, parsed.is_discarded() ? nlohmann::json(utf8::sanitize(value)).dump() : value);
    }
  }
  if (!flags.date.empty()) {
    input.date = runtime::wire::parse_timestamp(flags.date + "T00:00:00");
    if (flags.date.size() != 10 || *input.date == 0)
      return Error{ErrorCode::invalid_argument, "--date takes YYYY-MM-DD, not \"" + flags.date + "\""};
  }
  PONDER_TRY(const auto segments, chat_template->render(input));
  const std::string text = chat::to_text(segments);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

}  // namespace

void add_render(CLI::App& app, Context& context) {
  auto flags = std::make_shared<RenderFlags>();  // shared with the callback
  auto* command = app.add_subcommand("render", "the exact prompt text of a conversation");
  command->add_option("model", flags->model, "a model's name, a GGUF file, or a .jinja template")->required();
  command->add_option("--messages", flags->messages, "JSON file: an array of {role, content, ...}")->required();
  command->add_option("--tools", flags->tools, "JSON file: an array of tools");
  command->add_option("--var", flags->variables, "NAME=VALUE, a template variable (VALUE: JSON, else a string)")
      ->allow_extra_args(false);
  command->add_option("--date", flags->date, "today for the template, YYYY-MM-DD");
  command->callback([&context, flags] {
    if (auto done = render(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
