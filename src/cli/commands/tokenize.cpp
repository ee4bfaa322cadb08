// ponder tokenize MODEL|FILE [TEXT|-]: token ids as a JSON array.
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/context.h"
#include "cli/terminal.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ponder::cli {
namespace {

// A file needs no tensors here, so a vocabulary alone will do.
Result<std::shared_ptr<const gguf::File>> open_vocabulary(Context& context, const std::string& model) {
  gguf::OpenOptions options;
  options.metadata_only = true;
  if (runtime::is_path(model)) return gguf::File::open(model, options);
  PONDER_TRY(const auto stored, context.store().resolve(model));
  if (stored.path.empty()) return gguf::File::parse(stored.bytes, nullptr, model, options);
  return gguf::File::open(stored.path, options);
}

Result<void> tokenize(Context& context, const std::string& model, const std::string& text, bool no_special) {
  PONDER_TRY(const auto file, open_vocabulary(context, model));
  PONDER_TRY(const auto tokenizer, tokenizer::Tokenizer::load(*file));
  tokenizer::EncodeOptions options;
  options.parse_control = !no_special;
  options.add_bos = !no_special;
  const auto ids = tokenizer->encode(text == "-" ? read_stdin() : text, /*from_template=*/true, options);
  fmt::print("{}\n", nlohmann::json(ids).dump());
  return {};
}

}  // namespace

void add_tokenize(CLI::App& app, Context& context) {
  struct Flags {
    std::string model, text = "-";
    bool no_special = false;
  };
  auto flags = std::make_shared<Flags>();  // shared with the callback
  auto* command = app.add_subcommand("tokenize", "the token ids of a text, as JSON");
  command->add_option("model", flags->model, "a model's name, or a GGUF file (a vocabulary will do)")->required();
  command->add_option("text", flags->text, "the text; - reads standard input");
  command->add_flag("--no-special", flags->no_special, "parse no control tokens and add none");
  command->callback([&context, flags] {
    if (auto done = tokenize(context, flags->model, flags->text, flags->no_special); !done.ok())
      report(context, done.error());
  });
}

}  // namespace ponder::cli
