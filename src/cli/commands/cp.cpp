// ponder cp SOURCE TARGET: a second name for a model; the files are shared.
#include <fmt/format.h>

#include "cli/context.h"

namespace ponder::cli {
namespace {

struct CopyFlags {
  std::string source, target;
};

Result<void> copy(Context& context, const CopyFlags& flags) {
  PONDER_TRY(const auto source, store::Name::parse(flags.source));
  PONDER_TRY(const auto target, store::Name::parse(flags.target));
  PONDER_CHECK_OK(context.store().copy(source, target));
  fmt::print("copied '{}' to '{}'\n", flags.source, flags.target);
  return {};
}

}  // namespace

void add_cp(CLI::App& app, Context& context) {
  auto flags = std::make_shared<CopyFlags>();  // shared with the callback
  auto* command = app.add_subcommand("cp", "give a model a second name; its files are shared");
  command->add_option("source", flags->source, "a model's name")->required();
  command->add_option("target", flags->target, "the new name; a model that has it is replaced")->required();
  command->callback([&context, flags] {
    if (auto done = copy(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
