#include "runtime/show.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "runtime/think.h"

namespace ponder::runtime {
namespace {

using nlohmann::json;

json to_json(const gguf::Value& value, bool verbose) {
  return std::visit(
      [&](const auto& v) -> json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          return utf8::sanitize(v);
        } else if constexpr (std::is_same_v<T, gguf::ArrayView>) {
          if (!verbose && v.size() > 16) return nullptr;  // as Ollama: long arrays only with verbose
          json list = json::array();
          for (uint64_t i = 0; i < v.size(); ++i) {
            if (auto s = v.string_at(i)) {
              list.push_back(utf8::sanitize(*s));
            } else if (auto n = v.int_at(i)) {
              list.push_back(*n);
            } else if (auto d = v.number_at(i)) {
              list.push_back(*d);
            }
          }
          return list;
        } else {
          return v;
        }
      },
      value);
}

std::string parameters_text(const Options& options) {
  std::string text;
  const json all = to_json(options);
  const auto line = [&](const std::string& name, const json& value) {
    text += name + std::string(name.size() < 31 ? 31 - name.size() : 1, ' ') + value.dump() + "\n";
  };
  for (const auto& [name, value] : all.items()) {
    if (value.is_array()) {
      for (const auto& v : value) line(name, v);
    } else {
      line(name, value);
    }
  }
  return text;
}

std::string modelfile_text(const ShowResult& show) {
  std::string text = "# Modelfile written by \"ponder show\"\nFROM " +
                     (show.path.empty() ? show.info.name.display() : show.path) + "\n";
  if (!show.system.empty()) text += "SYSTEM \"\"\"" + show.system + "\"\"\"\n";
  size_t at = 0;
  while (at < show.parameters.size()) {
    const size_t end = show.parameters.find('\n', at);
    const std::string line = show.parameters.substr(at, end - at);
    const size_t space = line.find(' ');
    text += "PARAMETER " + line.substr(0, space) + " " + line.substr(line.find_first_not_of(' ', space)) + "\n";
    at = end + 1;
  }
  if (!show.license.empty()) text += "LICENSE \"\"\"" + show.license + "\"\"\"\n";
  return text;
}

}  // namespace

Result<ShowResult> describe_model(const OpenModel& model, bool verbose) {
  ShowResult show;
  show.info = model.stored;
  show.path = model.stored.path;
  show.parameters = parameters_text(model.defaults);
  show.template_text = model.chat_template ? model.chat_template->source() : "";
  show.template_source = model.template_source;
  show.system = model.stored.system;
  for (const auto& license : model.stored.licenses) show.license += (show.license.empty() ? "" : "\n\n") + license;
  if (show.license.empty())
    if (auto l = model.file->get_string("general.license")) show.license = utf8::sanitize(*l);
  show.capabilities = {"completion"};
  if (model.chat_template && model.chat_template->supports_tools()) show.capabilities.push_back("tools");
  if (model.thinking) {
    show.capabilities.push_back("thinking");
    show.thinking_levels.emplace_back("off", 0);
    for (const ThinkLevel& level : think_levels())
      show.thinking_levels.emplace_back(level.name, level.tokens(model.stored.details.context_length));
  }
  show.notes = model.notes;

  json info = json::object();
  for (const auto& kv : model.file->metadata()) info[utf8::sanitize(kv.key)] = to_json(kv.value, verbose);
  uint64_t n = 0;
  json tensors = json::array();
  for (const auto& t : model.file->tensors()) {
    n += t.n_elements();
    if (verbose)
      tensors.push_back({{"name", utf8::sanitize(t.name)}, {"type", quant::type_name(t.type)}, {"shape", t.shape}});
  }
  info["general.parameter_count"] = n;
  show.model_info_json = info.dump();
  if (verbose) show.tensors_json = tensors.dump();
  show.modelfile = modelfile_text(show);
  return show;
}

}  // namespace ponder::runtime
