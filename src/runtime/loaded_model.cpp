// Opening and loading. How much context a model gets is decided here, from the plan's own memory report and what the
// machine has free, before anything is allocated.
#include "runtime/loaded_model.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/os/memory.h"
#include "base/os/system.h"
#include "reason/language.h"
#include "runtime/backends.h"
#include "runtime/defaults.h"
#include "runtime/direct.h"
#include "runtime/history.h"
#include "runtime/receipt.h"
#include "runtime/think.h"

namespace ponder::runtime {
namespace {

constexpr int kUsualContext = 32768;   // when num_ctx is not given
constexpr int kSplitContext = 8192;    // of a model that is split over devices, when num_ctx is not given
constexpr int kSmallestContext = 512;  // below it a model is refused, not squeezed in
std::string file_stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

Result<std::shared_ptr<const gguf::File>> open_file(const store::Model& stored) {
  if (stored.path.empty()) return gguf::File::parse(stored.bytes, nullptr, stored.name.display());
  return gguf::File::open(stored.path);
}

// How many tokens of KV a plan shall have room for: all that its devices can give beyond weights and work space, as far as
// sequences could ever use it; at least `wanted`, or an Error with numbers.
Result<int64_t> kv_tokens_for(const backend::Plan& plan, const OpenModel& open, int wanted, bool asked,
                              int max_sequences) {
  const auto& report = plan.memory_report();
  const int model_limit = plan.spec().context_length;
  uint64_t spare = 0;  // beyond what the report counts
  if (const auto known = plan.spare_memory()) {
    if (*known == 0) return asked ? wanted : std::max(wanted, std::min(kSplitContext, model_limit));
    spare = *known / 10 * 9;  // working memory grows a little with the context
  } else {
    PONDER_CHECK_OK(check_fits(open.stored.name.model, report, wanted));
    const uint64_t taken = report.total() + kHeadroom, available = os::memory_info().available;
    spare = available > taken ? available - taken : 0;
  }
  const uint64_t more = report.kv_per_token == 0 ? uint64_t(1) << 30 : spare / report.kv_per_token;
  const int64_t most = int64_t(model_limit) * max_sequences;
  return std::max<int64_t>(wanted, std::min<int64_t>(wanted + int64_t(std::min<uint64_t>(more, 1u << 30)), most));
}

}  // namespace

bool is_path(const std::string& model) {
  if (model.starts_with('/') || model.starts_with("./") || model.starts_with("../")) return true;
  const bool gguf = model.ends_with(".gguf") || model.ends_with(".GGUF");
  if (!gguf && model.find('/') == std::string::npos) return false;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(model, ignored)) return true;
  // Names may end so too: an address, or one file of a hub's repository (hf.co/USER/REPO:FILE.gguf).
  using Source = store::Name::Source;
  const auto name = store::Name::parse(model);
  return gguf && !(name.ok() && (name->source == Source::url || name->source == Source::hugging_face));
}

Result<std::shared_ptr<const OpenModel>> open_model(const store::Store& store, const std::string& name,
                                                    bool allow_path) {
  auto open = std::make_shared<OpenModel>();
  if (allow_path && is_path(name)) {
    open->stored.path = std::filesystem::absolute(name).string();
    open->stored.by_reference = true;
    open->stored.name.model = file_stem(name);
    open->stored.source = open->stored.path;
  } else {
    PONDER_TRY(open->stored, store.resolve(name));
  }
  PONDER_TRY(open->file, open_file(open->stored));
  PONDER_TRY(open->tokenizer, tokenizer::Tokenizer::load(*open->file));

  const auto own = open->file->get_string("tokenizer.chat_template");
  if (own && !own->empty()) {
    PONDER_TRY(open->chat_template, chat::Template::compile(*own));
    open->template_source = "file";
  } else {
    // A model without a template can still complete raw prompts; render() tells the person.
    const auto architecture = open->file->get_string("general.architecture").value_or("");
    if (auto builtin = chat::builtin_template(architecture, *open->tokenizer); builtin.ok()) {
      PONDER_TRY(open->chat_template, chat::Template::compile(builtin->source));
      open->template_source = "built-in " + builtin->name;
      open->notes.push_back("the file has no chat template; using the built-in \"" + builtin->name + "\"");
    } else {
      open->template_source = "none";
      open->why_no_template = builtin.error().message;
      open->notes.push_back(open->why_no_template);
    }
  }
  if (open->chat_template) open->thinking = chat::find_thinking_tags(*open->chat_template, *open->tokenizer);
  open->opens_thought = open->thinking && is_deepseek_r1(*open->file);
  PONDER_TRY(open->defaults,
             model_defaults(*open->file, open->thinking.has_value(), open->stored.params_json, open->notes));

  if (!open->stored.projectors.empty())
    open->notes.push_back("the model has a part for images (a projector); images are not read, only text");

  auto& details = open->stored.details;
  if (details.family.empty()) {  // a file run in place has no manifest that tells
    details.family = std::string(open->file->get_string("general.architecture").value_or("unknown"));
    details.families = {details.family};
    details.quantization_level = model::quantization_name(*open->file);
    uint64_t n = 0;
    for (const auto& t : open->file->tensors()) n += t.n_elements();
    details.parameter_size = model::parameter_size(n);
    details.context_length = open->file->get_u64(details.family + ".context_length").value_or(0);
    details.embedding_length = open->file->get_u64(details.family + ".embedding_length").value_or(0);
    open->stored.size = open->file->total_bytes();
  }
  return std::shared_ptr<const OpenModel>(std::move(open));
}

Result<std::vector<chat::Message>> OpenModel::chat_of(const ChatRequest& request) const {
  std::vector<chat::Message> all = request.messages;
  if (stored.messages_json.empty() || !request.context.empty()) return all;
  auto own = chat::messages_from_json(nlohmann::ordered_json::parse(stored.messages_json, nullptr, false));
  if (!own.ok()) return own.error().with_context("the model's MESSAGE lines");
  const auto begin = std::find_if(all.begin(), all.end(), [](const auto& m) { return m.role != "system"; });
  all.insert(begin, std::make_move_iterator(own->begin()), std::make_move_iterator(own->end()));
  return all;
}

Result<std::vector<tokenizer::Segment>> OpenModel::render(const ChatRequest& request) const {
  if (request.raw_prompt) return std::vector<tokenizer::Segment>{{*request.raw_prompt, true}};
  if (!chat_template)
    return Error{ErrorCode::unsupported,
                 why_no_template.empty() ? "the model has no chat template; send a raw prompt" : why_no_template};
  if (asks_to_think(request.think) && !thinking)
    return Error{ErrorCode::invalid_argument, "\"" + request.model + "\" does not support thinking"};

  chat::RenderInput input;
  PONDER_TRY(input.messages, chat_of(request));
  const Continuation continues = continuation_of(request);
  if (continues == Continuation::thought && request.think.is_off())
    return Error{ErrorCode::invalid_argument, "the last message begins a thought, but \"think\" is false"};
  if (continues != Continuation::none) input.messages.pop_back();
  const KeptThoughts kept(input.messages, request.keep_thoughts && thinking);
  const bool has_system =
      std::any_of(request.messages.begin(), request.messages.end(), [](const auto& m) { return m.role == "system"; });
  if (!stored.system.empty() && !has_system) {
    chat::Message system;
    system.role = "system";
    system.content = stored.system;
    input.messages.insert(input.messages.begin(), std::move(system));
  }
  if (chat_template->reads_enable_thinking()) input.enable_thinking = !request.think.is_off();
  const auto text_of = [&](std::optional<tokenizer::TokenId> id) {
    return id ? std::string(tokenizer->piece(*id, true)) : std::string();
  };
  input.bos_token = text_of(tokenizer->bos());
  input.eos_token = text_of(tokenizer->eos());
  PONDER_TRY(auto segments, chat_template->render(input));
  // Some models take no switch: the empty thought is written for them, and the proof is in the token ids.
  if (request.think.is_off() && thinking) {
    // Which form: docs/thinking.md has the measurement.
    const bool sentence = request.think.off_form == "sentence" && !request.messages.empty();
    const std::string asked = sentence ? request.messages.back().content : std::string();
    segments = chat::close_thought(std::move(segments), *thinking,
                                   sentence ? reason::phrases(reason::language_of(asked)).skipped : "");
  }
  // DeepSeek asks to begin every reply of R1 with an open thought; some published templates leave that out.
  if (!request.think.is_off() && thinking && opens_thought && !chat::ends_inside_thought(segments, *thinking))
    segments.push_back({thinking->open_text + "\n", true});
  if (request.keep_thoughts && thinking) segments = kept.put_back(std::move(segments), *thinking);
  if (continues != Continuation::none) segments = begin_reply(std::move(segments), request.messages.back(), thinking);
  return segments;
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(std::shared_ptr<const OpenModel> open,
                                                       const RuntimeOptions& options, int min_context,
                                                       const std::function<void(double)>& progress,
                                                       const CancelFlag* cancel) {
  const double start = os::monotonic_seconds();
  PONDER_CHECK_OK(check_complete(*open));
  PONDER_TRY(auto backend, make_backend(options.backend));
  PONDER_TRY(auto model, model::Model::load(open->file));

  PONDER_TRY(auto plan_opts, plan_options(options));
  const int model_limit = model->spec.context_length;
  const int wanted = min_context > 0 ? std::min(min_context, model_limit) : std::min(kSmallestContext, model_limit);
  plan_opts.kv_tokens = wanted;
  PONDER_TRY(auto plan, backend->compile(model, plan_opts));
  PONDER_TRY(plan_opts.kv_tokens, kv_tokens_for(*plan, *open, wanted, min_context > 0, options.max_sequences));
  const int gpu_layers = plan->info().gpu_layers;
  const auto smaller = [&](int64_t tokens) { return std::max<int64_t>(wanted, tokens); };
  for (;; plan_opts.kv_tokens = smaller(plan_opts.kv_tokens / 2)) {
    PONDER_TRY(plan, backend->compile(model, plan_opts));
    // More context must not push layers off the card, unless it was asked for.
    if (plan->info().gpu_layers == gpu_layers || plan_opts.kv_tokens <= wanted || plan->spare_memory() == 0u) break;
  }
  // Said aloud: the person should know why it is slower than the card alone.
  if (!plan->info().placement.empty()) log(LogLevel::warning, "the model is split: " + plan->info().placement);
  PONDER_CHECK_OK(plan->load(progress, cancel));

  auto loaded = std::make_unique<LoadedModel>();
  loaded->open_ = std::move(open);
  loaded->context_limit_ = int(std::min<int64_t>(model_limit, plan_opts.kv_tokens));
  const int usual = options.default_context > 0 ? options.default_context : kUsualContext;
  loaded->default_context_ = std::min(usual, loaded->context_limit_);
  PONDER_TRY(loaded->draft_, parse_draft(options.draft));
  engine::EngineOptions engine_options;
  engine_options.context_length = loaded->context_limit_;
  engine_options.max_sequences = options.max_sequences;
  engine_options.max_batch_rows = plan_opts.max_batch_rows;
  engine_options.max_output_rows = plan_opts.max_output_rows;
  PONDER_TRY(loaded->engine_, engine::Engine::create(std::move(plan), engine_options));
  loaded->engine_->start();
  loaded->load_seconds_ = os::monotonic_seconds() - start;
  return loaded;
}

const std::string& LoadedModel::digest() const {
  std::call_once(digest_once_, [this] { digest_ = model_digest(*open_); });
  return digest_;
}

uint64_t LoadedModel::memory_bytes() const {
  const auto& report = engine_->plan().memory_report();
  return report.weights + report.mapped_weights + report.scratch + engine_->status().kv_bytes(report);
}

}  // namespace ponder::runtime
