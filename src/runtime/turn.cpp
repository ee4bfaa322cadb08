// From a request to what the engine is given: render, encode, limits, sampling. What is decided here holds for every
// chain of the request; make_chain() adds what each chain has for itself. Read next: runtime.cpp, which submits it.
#include "runtime/turn.h"

#include <algorithm>

#include "base/os/system.h"
#include "runtime/think.h"

namespace ponder::runtime {
namespace {

Result<int> context_for(const LoadedModel& model, const Options& options, std::vector<std::string>& warnings) {
  const int wanted = options.num_ctx.value_or(0);
  if (wanted <= 0) return model.default_context();
  const int trained = int(std::min<uint64_t>(model.open().stored.details.context_length, 1u << 30));
  if (trained > 0 && wanted > trained) {
    warnings.push_back("num_ctx " + std::to_string(wanted) + " is more than the model was made for; using " +
                       std::to_string(trained));
    return std::min(trained, model.context_limit());
  }
  if (wanted > model.context_limit())
    return Error{ErrorCode::out_of_memory, "num_ctx " + std::to_string(wanted) +
                                               " does not fit: with this model loaded there is memory for " +
                                               std::to_string(model.context_limit()) + " tokens"};
  return wanted;
}

sample::Params sampling_of(const Options& o) {
  sample::Params p;
  p.temperature = o.temperature.value_or(p.temperature);
  p.top_k = o.top_k.value_or(p.top_k);
  p.top_p = o.top_p.value_or(p.top_p);
  p.min_p = o.min_p.value_or(p.min_p);
  p.repeat_penalty = o.repeat_penalty.value_or(p.repeat_penalty);
  p.repeat_last_n = o.repeat_last_n.value_or(p.repeat_last_n);
  p.presence_penalty = o.presence_penalty.value_or(p.presence_penalty);
  p.frequency_penalty = o.frequency_penalty.value_or(p.frequency_penalty);
  p.logit_bias = o.logit_bias;
  const int64_t seed = o.seed.value_or(-1);
  p.seed = seed >= 0 ? uint64_t(seed) : os::random_u64() >> 1;  // printable as a signed number
  return p;
}

Result<std::vector<tokenizer::TokenId>> encode_prompt(const OpenModel& open, const ChatRequest& request,
                                                      const std::vector<tokenizer::Segment>& segments) {
  tokenizer::EncodeOptions encode;
  encode.add_bos = request.context.empty();
  std::vector<tokenizer::TokenId> prompt = open.tokenizer->encode(segments, encode);
  if (!request.context.empty()) {  // a continued conversation begins only once
    if (!prompt.empty() && prompt.front() == open.tokenizer->bos()) prompt.erase(prompt.begin());
    for (const int32_t id : request.context)
      if (id < 0 || id >= open.tokenizer->vocab_size())
        return Error{ErrorCode::invalid_argument,
                     "context holds " + std::to_string(id) + ", which is no token of this model"};
    prompt.insert(prompt.begin(), request.context.begin(), request.context.end());
  }
  if (prompt.empty()) return Error{ErrorCode::invalid_argument, "the prompt is empty"};
  return prompt;
}

// What the request says about thinking, for this model and this much room.
reason::ThoughtSetup thought_of(const OpenModel& open, const ChatRequest& request, const Turn& turn) {
  const ThinkOptions& think = request.think;
  reason::ThoughtSetup s;
  s.tokenizer = open.tokenizer;
  s.tags = turn.reply.tags;
  s.starts_inside = turn.reply.starts_inside;
  s.off = open.thinking && think.is_off() && !request.raw_prompt;
  s.tokens = think.tokens.value_or(-1);
  for (const ThinkLevel& level : think_levels())
    if (think.level == level.name && !think.tokens) s.tokens = level.tokens(open.stored.details.context_length);
  s.seconds = think.seconds.value_or(-1);
  s.hard = think.close == ThinkOptions::Close::hard;
  s.closing = think.closing;
  s.extend = think.extend;
  using Loop = ThinkOptions::Loop;
  // A raw prompt is a completion: what it repeats is its own affair unless the request says otherwise.
  switch (think.loop.value_or(request.raw_prompt ? Loop::off : Loop::ladder)) {
    case Loop::ladder:
      s.loop = reason::LoopPolicy::ladder;
      break;
    case Loop::conclude:
      s.loop = reason::LoopPolicy::conclude;
      break;
    case Loop::stop:
      s.loop = reason::LoopPolicy::stop;
      break;
    case Loop::off:
      s.loop = reason::LoopPolicy::off;
      break;
  }
  s.room = turn.sequence.context_length - int(turn.sequence.prompt.size());
  if (turn.sequence.max_new_tokens >= 0) s.room = std::min(s.room, turn.sequence.max_new_tokens);
  s.answer = think.answer.value_or(-1);
  s.params = turn.sequence.sampling;
  return s;
}

}  // namespace

Result<Turn> make_turn(const LoadedModel& model, const ChatRequest& request, ChatResult& result) {
  const OpenModel& open = model.open();
  PONDER_TRY(const auto segments, open.render(request));
  Turn turn;
  PONDER_TRY(turn.sequence.prompt, encode_prompt(open, request, segments));
  const int prompt_tokens = int(turn.sequence.prompt.size());

  Options options = open.defaults;
  options.merge(request.options);
  result.bytes_per_token = model.engine().plan().info().bytes_per_token;
  result.backend = model.engine().plan().info().backend;
  PONDER_TRY(const int context, context_for(model, options, result.warnings));
  if (prompt_tokens >= context)
    return Error{ErrorCode::out_of_range,
                 "the prompt has " + std::to_string(prompt_tokens) + " tokens and the context holds " +
                     std::to_string(context) + ", answer included; shorten the conversation or raise num_ctx" +
                     " (this model and machine: up to " + std::to_string(model.context_limit()) + ")"};
  result.context_length = context;
  result.prompt_tokens = prompt_tokens;

  turn.reply.tokenizer = open.tokenizer;
  const Continuation continues = open.continuation_of(request);
  if (continues != Continuation::content) turn.reply.tags = open.thinking;  // an answer that goes on opens no thought
  turn.reply.starts_inside =
      continues == Continuation::thought ||
      (turn.reply.tags && continues == Continuation::none && chat::ends_inside_thought(segments, *open.thinking));
  turn.reply.continues = continues != Continuation::none;
  turn.reply.stops = options.stop.value_or(std::vector<std::string>());
  turn.reply.logprobs = request.logprobs;

  turn.sequence.sampling = sampling_of(options);
  result.seed = turn.sequence.sampling.seed;
  turn.sequence.max_new_tokens = options.num_predict.value_or(-1) < 0 ? -1 : *options.num_predict;
  turn.sequence.context_length = context;
  const auto ends = open.tokenizer->end_of_generation();
  turn.sequence.end_tokens.assign(ends.begin(), ends.end());
  turn.sequence.top_logprobs = request.logprobs ? request.top_logprobs : -1;
  turn.sequence.client = request.client;
  turn.sequence.drafter = model.drafter(request.client, options.draft);
  turn.thought = thought_of(open, request, turn);
  return turn;
}

void Chain::describe(ChatResult& result) const {
  result.thinking_tokens = reply->thinking_tokens();
  result.answer_tokens = reply->answer_tokens();
  result.thinking_done_reason = thought->done_reason();
}

Chain make_chain(const Turn& turn, std::function<void(ChatDelta)> deliver, uint32_t stream) {
  Reply::Setup setup = turn.reply;
  setup.deliver = std::move(deliver);
  Chain chain;
  chain.reply = std::make_shared<Reply>(std::move(setup));  // shared with the engine
  chain.controllers.push_back(chain.reply);
  reason::ThoughtSetup thought = turn.thought;
  thought.stream = stream;
  if (turn.ticket) thought.steering = turn.ticket->add();
  chain.thought = std::make_shared<reason::Thought>(std::move(thought));  // shared with the engine
  chain.controllers.push_back(chain.thought);
  return chain;
}

}  // namespace ponder::runtime
