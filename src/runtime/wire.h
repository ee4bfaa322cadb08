// Requests and results as JSON in Ollama's words, with Ponder's extra fields beside them. The server writes with these
// and HttpClient reads with them, so the two cannot drift apart.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "runtime/types.h"

namespace ponder::runtime::wire {

/// Body of POST /api/chat (stream: true).
nlohmann::json chat_request(const ChatRequest& request);
nlohmann::json message(const chat::Message& message);

/// Adds the fields of Ollama's final object (durations in ns, counts) and ours: thinking_tokens, answer_tokens,
/// cached_tokens, drafted_tokens, accepted_tokens, first_token_duration, context_length, seed, memory_bytes, bytes_per_token, backend, warnings.
void add_result(nlohmann::json& object, const ChatResult& result);
ChatResult result_from(const nlohmann::json& object);

/// "logprobs": [{token, logprob, bytes, top_logprobs}]
nlohmann::json logprobs(const std::vector<TokenLogprob>& list);
std::vector<TokenLogprob> logprobs_from(const nlohmann::json& list);

/// "details" of tags, ps and show.
nlohmann::json details(const store::Details& details);
store::Details details_from(const nlohmann::json& object);

/// One entry of /api/tags and of /api/ps.
nlohmann::json model_info(const store::ModelInfo& info);
Result<store::ModelInfo> model_info_from(const nlohmann::json& object);
nlohmann::json running_model(const RunningModel& model);
RunningModel running_model_from(const nlohmann::json& object);

/// Reply of /api/show.
nlohmann::json show(const ShowResult& show);
Result<ShowResult> show_from(const nlohmann::json& object, const std::string& model);

/// One line of /api/pull.
nlohmann::json pull_progress(const store::PullProgress& progress);

/// RFC 3339 in UTC with nanoseconds ("2026-11-24T15:04:05.123456789Z"); `ns` since 1970.
std::string timestamp(int64_t ns);
std::string timestamp_now();
/// Seconds since 1970 of such a text; 0 when it is not one.
int64_t parse_timestamp(const std::string& text);

/// keep_alive as Ollama takes it: a number of seconds or "5m", "1h30m", "-1"; negative is for ever, and so is
/// more than 100 years (-1).
Result<double> parse_keep_alive(const nlohmann::json& value);

}  // namespace ponder::runtime::wire
