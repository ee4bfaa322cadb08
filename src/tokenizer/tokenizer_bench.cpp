// How fast a vocabulary loads, and how fast text of several kinds is encoded, decoded and (hostile
// kinds) survived.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ponder::tokenizer {
namespace {

constexpr size_t kSize = 1 << 20;

std::string cache_file(const std::string& name) {
  const char* folder = std::getenv("PONDER_MODEL_CACHE");
  const char* home = std::getenv("HOME");
  return (folder != nullptr ? std::string(folder) : std::string(home != nullptr ? home : "") + "/.cache/ponder-tests") +
         "/" + name;
}

std::string repeated(std::string_view text) {
  std::string out;
  while (out.size() < kSize) out += text;
  return out;
}

/// Words from a made-up language of 20,000 words: more variety than a page repeated has.
std::string prose() {
  uint64_t state = 1;
  const auto random = [&](uint64_t n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % n;
  };
  constexpr const char* kSyllables[] = {"the",  "ing", "con", "ver", "ti", "al",  "re", "pre",
                                        "ment", "er",  "an",  "in",  "es", "pro", "a",  "qu"};
  std::string out;
  while (out.size() < kSize) {
    uint64_t word = random(20000) % (1 + random(20000));  // frequent and rare ones
    do {
      out += kSyllables[word % 16];
      word /= 16;
    } while (word != 0);
    out += random(12) == 0 ? ". " : random(40) == 0 ? "\n\n" : " ";
  }
  return out;
}

std::string text_of(int kind) {
  switch (kind) {
    case 0:
      return prose();
    case 1:
      return repeated("for (int i = 0; i < count; ++i) {\n    total += values[i] * 17; // sum\n}\n");
    case 2:
      return repeated("我们先思考这个问题，然后给出答案：人工智能的推理模型需要耐心。");
    case 3:
      return repeated("<|im_start|>user\nHi<|im_end|>\n");
    case 4:
      return repeated("e\u0301");
    case 5:
      return repeated(" ");
    case 6:
      return repeated("a");
    case 7:
      return repeated("\xff\xc3");
    default:
      return repeated("<");
  }
}
constexpr const char* kNames[] = {"prose",  "code",    "Chinese",      "tags",           "combining marks",
                                  "spaces", "letters", "broken UTF-8", "less-than signs"};

std::shared_ptr<const Tokenizer> load(benchmark::State& state, const char* name) {
  auto file = gguf::File::open(cache_file(name), {.metadata_only = true});
  if (!file) {
    state.SkipWithError((file.error().message + " (run `make test-models`)").c_str());
    return nullptr;
  }
  return *Tokenizer::load(**file);
}

void BM_Load(benchmark::State& state) {
  constexpr const char* kFiles[] = {"r1-7b-head.gguf", "smollm2.gguf", "llama.cpp-models/ggml-vocab-llama-bpe.gguf"};
  const std::string path = cache_file(kFiles[state.range(0)]);
  for (auto _ : state) {
    auto file = gguf::File::open(path, {.metadata_only = true});
    if (!file) return state.SkipWithError((file.error().message + " (run `make test-models`)").c_str());
    benchmark::DoNotOptimize(Tokenizer::load(**file));
  }
  state.SetLabel(kFiles[state.range(0)]);
}
BENCHMARK(BM_Load)->DenseRange(0, 2)->Unit(benchmark::kMillisecond);

void BM_Encode(benchmark::State& state) {
  const auto t = load(state, "r1-7b-head.gguf");
  if (!t) return;
  const std::vector<Segment> segments{{text_of(int(state.range(0))), true}};
  size_t n = 0;
  for (auto _ : state) {
    const auto ids = t->encode(segments);
    n = ids.size();
  }
  state.SetBytesProcessed(int64_t(state.iterations() * segments[0].text.size()));
  state.SetLabel(kNames[state.range(0)]);
  state.counters["tokens"] = double(n);
}
BENCHMARK(BM_Encode)->DenseRange(0, 8)->Unit(benchmark::kMillisecond);

void BM_EncodeShort(benchmark::State& state) {
  const auto t = load(state, "r1-7b-head.gguf");
  if (!t) return;
  const std::vector<Segment> segments{{"<｜User｜>", true}, {"What is 17 * 23?", false}, {"<｜Assistant｜>", true}};
  for (auto _ : state) benchmark::DoNotOptimize(t->encode(segments));
}
BENCHMARK(BM_EncodeShort);

void BM_Decode(benchmark::State& state) {
  const auto t = load(state, "r1-7b-head.gguf");
  if (!t) return;
  const auto ids = t->encode(prose(), false);
  for (auto _ : state) {
    StreamDecoder decoder(t);
    size_t size = 0;
    for (const TokenId id : ids) size += decoder.push(id).size();
    benchmark::DoNotOptimize(size);
  }
  state.SetItemsProcessed(int64_t(state.iterations() * ids.size()));
}
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ponder::tokenizer
