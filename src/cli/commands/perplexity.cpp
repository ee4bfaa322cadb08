// ponder perplexity MODEL: log-probabilities of given text or ids, window by window. The judge of every backend and
// format, so it adds nothing to the tokens it is given and reads whole logits.
#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/os/file.h"
#include "base/os/system.h"
#include "cli/context.h"
#include "cli/terminal.h"
#include "runtime/direct.h"

namespace ponder::cli {
namespace {

using nlohmann::json;

constexpr int kOutputRows = 32;  // logits of this many rows at once: 20 MB at a vocabulary of 152,064

struct PerplexityFlags {
  std::string model, text, ids;
  int window = 256, top = 0;
  bool json = false;
  ComputeFlags compute;
};

Result<std::vector<int32_t>> read_tokens(const PerplexityFlags& flags, const runtime::OpenModel& model) {
  if (flags.ids.empty()) {
    if (flags.text.empty()) return Error{ErrorCode::invalid_argument, "give a text file, or ids with --ids FILE.json"};
    PONDER_TRY(const auto text, os::read_file(flags.text));
    tokenizer::EncodeOptions options;
    options.parse_control = false;
    return model.tokenizer->encode(text, /*from_template=*/false, options);
  }
  PONDER_TRY(const auto text, os::read_file(flags.ids));
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_array()) return Error{ErrorCode::invalid_file, flags.ids + " is not a JSON array of token ids"};
  std::vector<int32_t> ids;
  for (size_t i = 0; i < parsed.size(); ++i) {
    if (!parsed[i].is_number_integer() || parsed[i].get<int64_t>() < 0 ||
        parsed[i].get<int64_t>() >= model.tokenizer->vocab_size())
      return Error{ErrorCode::invalid_file, fmt::format("{}: entry {} is {}, not a token id below {}", flags.ids, i,
                                                        parsed[i].dump(), model.tokenizer->vocab_size())};
    ids.push_back(parsed[i].get<int32_t>());
  }
  return ids;
}

// Feeds one window in pieces of kOutputRows and calls f(index in window, logits) for each row.
template <class F>
Result<void> run_window(backend::Plan& plan, std::span<const int32_t> ids, const F& f) {
  auto state = plan.new_state();
  for (size_t at = 0; at < ids.size(); at += kOutputRows) {
    const size_t n = std::min<size_t>(kOutputRows, ids.size() - at);
    PONDER_CHECK_OK(state->reserve(int(n)));
    backend::Batch batch;
    for (size_t i = 0; i < n; ++i) {
      backend::Row row;
      row.sequence = state.get();
      row.token = ids[at + i];
      row.position = int32_t(at + i);
      row.want_logits = true;
      batch.rows.push_back(row);
    }
    PONDER_CHECK_OK(plan.launch(batch, &os::interrupt_flag()));
    PONDER_TRY(const auto rows, plan.collect());
    for (size_t i = 0; i < n; ++i) f(at + i, rows[i].logits);
  }
  return {};
}

Result<void> perplexity(Context& context, PerplexityFlags& flags) {
  os::catch_interrupts();
  PONDER_TRY(const auto model, context.open(flags.model));
  PONDER_TRY(const auto ids, read_tokens(flags, *model));
  if (ids.size() < 2) return Error{ErrorCode::invalid_argument, "at least two tokens are needed"};
  ProgressBar loading("loading");
  PONDER_TRY(auto plan, runtime::load_plan(
                            *model, flags.compute.options, std::min<int64_t>(flags.window, int64_t(ids.size())),
                            kOutputRows, [&](double f) { loading.fraction(f); }, &os::interrupt_flag()));
  loading.clear();

  ProgressBar bar("perplexity");
  json positions = json::array();
  double sum = 0;
  int64_t counted = 0;
  for (size_t start = 0; start < ids.size(); start += size_t(flags.window)) {
    const auto window = std::span(ids).subspan(start, std::min(size_t(flags.window), ids.size() - start));
    json logprob = nullptr;  // of the row's own token: known from the row before it
    PONDER_CHECK_OK(run_window(*plan, window, [&](size_t i, std::span<const float> logits) {
      json entry = {{"token", window[i]}, {"logprob", logprob}};
      const double normalizer = sample::log_normalizer(logits);
      if (flags.json) {
        entry["top_logprobs"] = json::array();
        if (flags.top > 0)
          for (const auto& t : sample::top_logprobs(logits, flags.top))
            entry["top_logprobs"].push_back({t.token, double(logits[size_t(t.token)]) - normalizer});
        positions.push_back(std::move(entry));
      }
      if (i + 1 < window.size()) {
        const double next = double(logits[size_t(window[i + 1])]) - normalizer;
        logprob = next;
        sum += next;
        ++counted;
      }
    }));
    bar.fraction(double(start + window.size()) / double(ids.size()));
  }
  bar.clear();
  const double value = std::exp(-sum / double(counted));
  if (flags.json) {
    fmt::print("{}\n", json{{"perplexity", value}, {"positions", std::move(positions)}}.dump());
  } else {
    fmt::print("perplexity {:.4f} over {} tokens in windows of {} ({}, {}, KV {})\n", value, counted, flags.window,
               plan->info().backend, backend::to_string(plan->info().precision),
               backend::to_string(plan->info().kv_format));
  }
  return {};
}

}  // namespace

void add_perplexity(CLI::App& app, Context& context) {
  auto flags = std::make_shared<PerplexityFlags>();  // shared with the callback
  auto* command = app.add_subcommand("perplexity", "log-probabilities and perplexity of a text");
  command->add_option("model", flags->model, "a model's name, or a GGUF file")->required();
  command->add_option("text", flags->text, "a text file");
  command->add_option("--ids", flags->ids, "JSON file with token ids instead of a text");
  command
      ->add_option("--window", flags->window, "tokens per window; windows are disjoint and start empty (default: 256)")
      ->check(CLI::Range(2, 1 << 20));
  command->add_option("--top", flags->top, "most likely next tokens to list per position (with --json; default: 0)")
      ->check(CLI::Range(0, 1 << 20));
  command->add_flag("--json", flags->json, "one object with the log-probability of every position");
  flags->compute.add_to(*command);
  command->callback([&context, flags, command] {
    flags->compute.finish(*command);
    if (auto done = perplexity(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
