// The commands about the store: pull, create, list, show, rm, ps, stop.
#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/os/system.h"
#include "cli/context.h"
#include "cli/terminal.h"
#include "runtime/wire.h"

namespace ponder::cli {
namespace {

using nlohmann::json;

// Columns padded to their widest cell, three blanks apart, as Ollama prints tables.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size(); ++c) {
      if (c == width.size()) width.push_back(0);
      width[c] = std::max(width[c], row[c].size());
    }
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c)
      line += c + 1 < row.size() ? fmt::format("{:<{}}   ", row[c], width[c]) : row[c];
    fmt::print("{}\n", line);
  }
}

Result<void> list(Context& context, const std::string& prefix, bool as_json) {
  PONDER_TRY(const auto models, context.store().list());
  json all = json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "ID", "SIZE", "MODIFIED"}};
  for (const auto& m : models) {
    const std::string name = m.name.display();
    if (!name.starts_with(prefix)) continue;
    all.push_back(runtime::wire::model_info(m));
    const std::string when = m.origin == store::Origin::builtin ? "built in" : human_ago(m.modified);
    rows.push_back({name, m.digest.substr(0, 12), human_bytes(m.size), when});
  }
  if (as_json) {
    print_json(all);
  } else {
    print_table(rows);
  }
  return {};
}

Result<void> pull(Context& context, const std::string& model, bool insecure) {
  os::catch_interrupts();
  PONDER_TRY(runtime::Client * client, context.local({}));  // the store is shared: no need to ask a server
  PullBar bar;
  return client->pull(model, insecure, [&](const store::PullProgress& p) { bar.update(p); }, &os::interrupt_flag());
}

Result<void> create(Context& context, const std::string& model, const std::string& from) {
  PONDER_TRY(const auto name, store::Name::parse(model));
  if (!runtime::is_path(from)) {
    PONDER_TRY(const auto base, store::Name::parse(from));
    PONDER_TRY(auto made, context.store().create_from_model(name, base));
    (void)made;
  } else {
    PONDER_TRY(auto made, context.store().create_from_file(name, from));
    (void)made;
  }
  fmt::print("created {} (refers to {}; nothing was copied)\n", name.display(), from);
  return {};
}

Result<void> remove(Context& context, const std::vector<std::string>& models) {
  for (const auto& model : models) {
    PONDER_TRY(runtime::Client * client, context.client(model, {}));
    PONDER_CHECK_OK(client->remove(model));
    fmt::print("deleted '{}'\n", model);
  }
  return {};
}

// The server's models; without a server nothing is in memory.
Result<void> running(Context& context, bool as_json) {
  PONDER_TRY(const auto address, context.address(""));
  std::vector<runtime::RunningModel> models;
  if (auto server = runtime::connect(address); server.ok()) {
    PONDER_TRY(models, (*server)->running());
  } else if (server.error().code != ErrorCode::not_found) {
    return std::move(server).error();
  }
  json all = json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"}};
  for (const auto& m : models) {
    all.push_back(runtime::wire::running_model(m));
    rows.push_back({m.name, m.digest.substr(0, 12), human_bytes(m.size), m.processor,
                    fmt::format("{}", m.context_length), human_until(m.expires_at)});
  }
  if (as_json) {
    print_json(all);
  } else {
    print_table(rows);
  }
  return {};
}

Result<void> stop(Context& context, const std::string& model) {
  PONDER_TRY(const auto address, context.address(""));
  PONDER_TRY(auto server, runtime::connect(address));
  return server->stop(model);
}

struct ShowFlags {
  std::string model;
  bool license = false, modelfile = false, parameters = false, chat_template = false, system = false, verbose = false,
       json = false;
};

void print_section(const char* title, const std::vector<std::pair<std::string, std::string>>& rows) {
  fmt::print("  {}\n", title);
  for (const auto& [name, value] : rows) fmt::print("    {:<20}{}\n", name, printable(value));
  fmt::print("\n");
}

Result<void> show(Context& context, const ShowFlags& flags) {
  PONDER_TRY(runtime::Client * client, context.local({}));
  PONDER_TRY(const auto s, client->show(flags.model, flags.verbose));
  if (flags.json) {
    print_json(runtime::wire::show(s));
    return {};
  }
  const std::pair<bool, const std::string*> single[] = {{flags.license, &s.license},
                                                        {flags.modelfile, &s.modelfile},
                                                        {flags.parameters, &s.parameters},
                                                        {flags.chat_template, &s.template_text},
                                                        {flags.system, &s.system}};
  for (const auto& [wanted, text] : single)
    if (wanted) {
      fmt::print("{}{}", *text, text->ends_with('\n') ? "" : "\n");
      return {};
    }
  const auto& d = s.info.details;
  print_section("Model", {{"architecture", d.family},
                          {"parameters", d.parameter_size},
                          {"context length", fmt::format("{}", d.context_length)},
                          {"embedding length", fmt::format("{}", d.embedding_length)},
                          {"quantization", d.quantization_level},
                          {"size", human_bytes(s.info.size)},
                          {"template", s.template_source}});
  fmt::print("  Capabilities\n");
  for (const auto& c : s.capabilities) fmt::print("    {}\n", c);
  if (!s.thinking_levels.empty()) fmt::print("\n  Thinking levels (tokens of thought)\n");
  for (const auto& [level, tokens] : s.thinking_levels)
    fmt::print("    {:<10}{}\n", level, tokens < 0 ? "no limit but the context" : std::to_string(tokens));
  fmt::print("\n  Parameters\n");
  for (size_t at = 0; at < s.parameters.size();) {
    const size_t end = s.parameters.find('\n', at);
    fmt::print("    {}\n", s.parameters.substr(at, end - at));
    at = end + 1;
  }
  fmt::print("\n");
  if (!s.system.empty()) print_section("System", {{"", s.system}});
  if (!s.license.empty()) print_section("License", {{"", s.license.substr(0, s.license.find('\n'))}});
  if (!s.notes.empty()) {
    fmt::print("  Notes\n");
    for (const auto& n : s.notes) fmt::print("    {}\n", printable(n));
    fmt::print("\n");
  }
  if (flags.verbose) {
    std::vector<std::pair<std::string, std::string>> rows;
    const json info = json::parse(s.model_info_json, nullptr, false);
    for (const auto& [key, value] : info.items()) {
      std::string text = value.dump();
      if (text.size() > 100) text = text.substr(0, 97) + "...";
      rows.emplace_back(key + "  ", text);
    }
    print_section("Metadata", rows);
    rows.clear();
    for (const auto& t : json::parse(s.tensors_json, nullptr, false))
      rows.emplace_back(t["name"].get<std::string>() + "  ", t["type"].get<std::string>() + "  " + t["shape"].dump());
    print_section("Tensors", rows);
  }
  return {};
}

}  // namespace

void add_models(CLI::App& app, Context& context) {
  const auto guarded = [&context](auto f) {
    return [&context, f] {
      if (auto done = f(); !done.ok()) report(context, done.error());
    };
  };
  struct Flags {
    std::string model, from, prefix;
    std::vector<std::string> models;
    bool insecure = false, json = false;
    ShowFlags show;
  };
  auto f = std::make_shared<Flags>();  // shared by the callbacks below

  auto* c = app.add_subcommand("pull", "fetch a model: NAME, hf.co/USER/REPO[:QUANT] or the address of a GGUF file");
  c->add_option("model", f->model, "what to fetch, and its name from then on")->required();
  c->add_flag("--insecure", f->insecure, "allow http:// and unverified certificates");
  c->callback(guarded([&context, f] { return pull(context, f->model, f->insecure); }));

  c = app.add_subcommand("create", "name a GGUF file in the store, by reference");
  c->add_option("model", f->model, "the new name")->required();
  c->add_option("--from", f->from, "a GGUF file (or another model)")->required();
  c->callback(guarded([&context, f] { return create(context, f->model, f->from); }));

  c = app.add_subcommand("list", "the models on this machine")->alias("ls");
  c->add_option("prefix", f->prefix, "only names that begin so");
  c->add_flag("--json", f->json, "an array of objects, as /api/tags has them");
  c->callback(guarded([&context, f] { return list(context, f->prefix, f->json); }));

  c = app.add_subcommand("show", "what a model is");
  c->add_option("model", f->show.model, "a model's name, or a GGUF file")->required();
  c->add_flag("--license", f->show.license, "only the license");
  c->add_flag("--modelfile", f->show.modelfile, "only the Modelfile that would make it");
  c->add_flag("--parameters", f->show.parameters, "only the default options");
  c->add_flag("--template", f->show.chat_template, "only the chat template");
  c->add_flag("--system", f->show.system, "only the system message");
  c->add_flag("-v,--verbose", f->show.verbose, "metadata and tensors too");
  c->add_flag("--json", f->show.json, "one object, as /api/show has it");
  c->callback(guarded([&context, f] { return show(context, f->show); }));

  c = app.add_subcommand("rm", "delete models");
  c->add_option("models", f->models, "names")->required();
  c->callback(guarded([&context, f] { return remove(context, f->models); }));

  c = app.add_subcommand("ps", "the models a server has in memory");
  c->add_flag("--json", f->json, "an array of objects, as /api/ps has them");
  c->callback(guarded([&context, f] { return running(context, f->json); }));

  c = app.add_subcommand("stop", "take a model out of a server's memory");
  c->add_option("model", f->model, "a name, as ps shows it")->required();
  c->callback(guarded([&context, f] { return stop(context, f->model); }));
}

}  // namespace ponder::cli
