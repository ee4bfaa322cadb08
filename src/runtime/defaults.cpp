// Sources: deepseek-ai/DeepSeek-R1 README ("Usage Recommendations": temperature 0.6, top-p 0.95), Qwen/Qwen3-8B model
// card ("Best Practices": temperature 0.6, top-p 0.95, top-k 20, min-p 0 when thinking), Ollama's api.DefaultOptions.
#include "runtime/defaults.h"

#include <algorithm>
#include <cctype>

#include <nlohmann/json.hpp>

namespace ponder::runtime {
namespace {

bool contains(std::string_view text, std::string_view needle) {
  const auto same = [](char a, char b) { return std::tolower(uint8_t(a)) == std::tolower(uint8_t(b)); };
  return std::search(text.begin(), text.end(), needle.begin(), needle.end(), same) != text.end();
}

// Names a file may go by, together.
std::string described_name(const gguf::File& file) {
  std::string all;
  for (const char* key : {"general.name", "general.basename", "general.base_model.0.name", "general.finetune"})
    if (auto v = file.get_string(key)) all += std::string(*v) + "\n";
  return all;
}

// Keys that llama.cpp writes, and the options they are.
constexpr std::pair<const char*, const char*> kFileOptions[] = {{"general.sampling.temp", "temperature"},
                                                                {"general.sampling.top_p", "top_p"},
                                                                {"general.sampling.min_p", "min_p"},
                                                                {"general.sampling.top_k", "top_k"}};

// A file is a stranger's: what no request may send is not taken from it either.
void take_from_file(Options& o, const char* key, const char* option, double value, std::vector<std::string>& notes) {
  auto read = options_from_json({{option, value}}, nullptr);
  if (read.ok()) return o.merge(*read);
  notes.push_back(std::string(key) + " of the file was ignored: " + read.error().message);
}

bool has_all_of(const Options& o, const Options& wanted) {
  Options merged = o;
  merged.merge(wanted);
  return to_json(merged) == to_json(o);
}

}  // namespace

bool is_deepseek_r1(const gguf::File& file) {
  const std::string name = described_name(file);
  return contains(name, "DeepSeek-R1") || contains(name, "DeepSeek R1");
}

Result<Options> model_defaults(const gguf::File& file, bool thinks, const std::string& params_json,
                               std::vector<std::string>& notes) {
  Options o;
  o.temperature = 0.8f;
  o.top_k = 40;
  o.top_p = 0.9f;
  o.min_p = 0.f;
  o.repeat_penalty = 1.f;
  o.repeat_last_n = 64;
  o.presence_penalty = 0.f;
  o.frequency_penalty = 0.f;
  o.num_predict = -1;
  o.seed = -1;

  const std::string name = described_name(file);
  Options published;
  std::string source;  // of what is published, for the person
  if (thinks && is_deepseek_r1(file)) {
    published.temperature = 0.6f;
    published.top_p = 0.95f;
    published.top_k = 0;
    source = "sampling defaults as DeepSeek publishes them: temperature 0.6, top_p 0.95";
    if (contains(name, "Distill"))
      notes.push_back("a distill: a smaller model trained on DeepSeek-R1's thoughts, not the 671B model itself");
  } else if (thinks && contains(name, "Qwen3")) {
    published.temperature = 0.6f;
    published.top_p = 0.95f;
    published.top_k = 20;
    source = "sampling defaults as Qwen publishes them for thinking: temperature 0.6, top_p 0.95, top_k 20";
  }
  o.merge(published);
  for (const auto& [key, option] : kFileOptions)
    if (const auto v = file.get_f64(key)) take_from_file(o, key, option, *v, notes);

  if (!params_json.empty()) {
    const auto params = nlohmann::json::parse(params_json, nullptr, /*allow_exceptions=*/false);
    if (params.is_discarded())
      return Error{ErrorCode::invalid_file, "the model's params layer is not JSON; pull the model again"};
    auto stored = options_from_json(params, &notes);
    if (!stored.ok()) return stored.error().with_context("the model's params layer");
    o.merge(*stored);
  }
  if (!source.empty() && has_all_of(o, published)) notes.push_back(source);
  return o;
}

}  // namespace ponder::runtime
