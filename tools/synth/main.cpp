// The command line of synth. Everything it does is in synth.h.
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "synth/synth.h"

namespace {

using namespace ponder;

constexpr const char* kUsage =
    R"(synth OUT.gguf [flags]              a model file with random weights
synth --convert IN.gguf OUT.gguf --type TYPE   a real file in another weight format

  --preset NAME       r1-distill-qwen-1.5b, r1-distill-qwen-7b, r1-distill-llama-8b, r1-0528-qwen3-8b
  --arch NAME         qwen2, llama or qwen3
  --layers N --hidden N --ffn N --heads N --kv-heads N --head-dim N --vocab N --context N
  --rope-base X --epsilon X --llama3-factor X --yarn-factor X --yarn-original N
  --tied | --untied   head shared with the embedding, or its own
  --qkv-bias | --no-qkv-bias
  --type TYPE         F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K Q4_K_M Q5_K_M (default Q4_K_M)
  --vocab-from FILE   vocabulary and chat template of another GGUF file (its beginning is enough)
  --pre NAME          pre-tokenizer named in the built-in vocabulary
  --name TEXT  --seed N

Flags after --preset or --arch change what these set.
)";

int fail(const std::string& message) {
  std::fprintf(stderr, "synth: %s\n", message.c_str());
  return 1;
}

bool parse(const std::string& text, uint64_t* out) {
  char* end = nullptr;
  errno = 0;
  *out = std::strtoull(text.c_str(), &end, 10);
  return errno == 0 && end != text.c_str() && *end == '\0' && text[0] != '-';
}

bool parse(const std::string& text, double* out) {
  char* end = nullptr;
  *out = std::strtod(text.c_str(), &end);
  return end != text.c_str() && *end == '\0' && std::isfinite(*out);
}

}  // namespace

int main(int argc, char** argv) {
  synth::Options o;
  bool converting = false;
  std::vector<std::string> paths;
  const std::map<std::string, uint64_t*> numbers = {
      {"--layers", &o.shape.layers}, {"--hidden", &o.shape.hidden},     {"--ffn", &o.shape.ffn},
      {"--heads", &o.shape.heads},   {"--kv-heads", &o.shape.kv_heads}, {"--head-dim", &o.shape.head_dim},
      {"--vocab", &o.shape.vocab},   {"--context", &o.shape.context},   {"--seed", &o.seed},
  };
  const std::map<std::string, double*> reals = {
      {"--rope-base", &o.shape.rope_base},         {"--epsilon", &o.shape.epsilon},
      {"--llama3-factor", &o.shape.llama3_factor}, {"--yarn-factor", &o.shape.yarn_factor},
      {"--yarn-original", &o.shape.yarn_original},
  };
  const std::map<std::string, std::string*> texts = {
      {"--type", &o.type}, {"--vocab-from", &o.vocab_from}, {"--pre", &o.pre}, {"--name", &o.shape.name}};

  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--help" || flag == "-h") {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (flag.rfind("--", 0) != 0) {
      paths.push_back(flag);
    } else if (flag == "--convert") {
      converting = true;
    } else if (flag == "--tied" || flag == "--untied") {
      o.shape.tied = flag == "--tied";
    } else if (flag == "--qkv-bias" || flag == "--no-qkv-bias") {
      o.shape.qkv_bias = flag == "--qkv-bias";
    } else if (i + 1 == argc) {
      return fail(flag + ": unknown flag, or its value is missing (see --help)");
    } else if (const std::string value = argv[++i]; flag == "--preset") {
      const auto shape = synth::preset(value);
      if (!shape) return fail("--preset: '" + value + "' is unknown (see --help)");
      o.shape = *shape;
    } else if (flag == "--arch") {
      if (auto set = synth::set_architecture(o.shape, value); !set.ok()) return fail(set.error().message);
    } else if (const auto n = numbers.find(flag); n != numbers.end()) {
      if (!parse(value, n->second)) return fail(flag + ": '" + value + "' is not a whole number >= 0");
    } else if (const auto r = reals.find(flag); r != reals.end()) {
      if (!parse(value, r->second)) return fail(flag + ": '" + value + "' is not a number");
    } else if (const auto t = texts.find(flag); t != texts.end()) {
      *t->second = value;
    } else {
      return fail(flag + ": unknown flag (see --help)");
    }
  }
  if (paths.size() != (converting ? 2u : 1u)) {
    return fail(converting ? "--convert needs IN.gguf and OUT.gguf" : "one output file is needed (see --help)");
  }
  const auto done = converting ? synth::convert(paths[0], paths[1], o.type) : synth::write_model(o, paths[0]);
  if (!done.ok()) return fail(done.error().message);
  return 0;
}
