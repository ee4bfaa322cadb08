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
  if (thinks && is_deepseek_r1(file)) {
    o.temperature = 0.6f;
    o.top_p = 0.95f;
    o.top_k = 0;
    notes.push_back("sampling defaults as DeepSeek publishes them: temperature 0.6, top_p 0.95");
    if (contains(name, "Distill"))
      notes.push_back("a distill: a smaller model trained on DeepSeek-R1's thoughts, not the 671B model itself");
  } else if (thinks && contains(name, "Qwen3")) {
    o.temperature = 0.6f;
    o.top_p = 0.95f;
    o.top_k = 20;
    notes.push_back("sampling defaults as Qwen publishes them for thinking: temperature 0.6, top_p 0.95, top_k 20");
  }
  if (auto v = file.get_f64("general.sampling.temp")) o.temperature = float(*v);
  if (auto v = file.get_f64("general.sampling.top_p")) o.top_p = float(*v);
  if (auto v = file.get_f64("general.sampling.min_p")) o.min_p = float(*v);
  if (auto v = file.get_u64("general.sampling.top_k"); v && *v < 1'000'000) o.top_k = int(*v);

  if (!params_json.empty()) {
    const auto params = nlohmann::json::parse(params_json, nullptr, /*allow_exceptions=*/false);
    if (params.is_discarded())
      return Error{ErrorCode::invalid_file, "the model's params layer is not JSON; pull the model again"};
    auto stored = options_from_json(params, nullptr);
    if (!stored.ok()) return stored.error().with_context("the model's params layer");
    o.merge(*stored);
  }
  return o;
}

}  // namespace ponder::runtime
