// What the routes that generate text ask for: JSON bodies to runtime::ChatRequest. Plain functions without a socket, so
// that they can be tested and fuzzed by themselves. An error names the field, and for what is not supported says so: a
// field is refused rather than ignored where ignoring it would change what the answer means.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "runtime/types.h"
#include "runtime/vote_receipt.h"

namespace ponder::server {

/// A request's body as a JSON object. Refused: empty, not JSON, not an object, nested deeper than 64, more than a million
/// values (each costs many times its text in memory).
Result<nlohmann::ordered_json> parse_body(std::string_view text);

struct OllamaRequest {
  runtime::ChatRequest chat;
  bool stream = true;
  std::vector<std::string> warnings;  ///< options that were ignored
};
Result<OllamaRequest> read_chat(const nlohmann::ordered_json& body);      ///< POST /api/chat
Result<OllamaRequest> read_generate(const nlohmann::ordered_json& body);  ///< POST /api/generate

struct CompletionRequest {
  runtime::ChatRequest chat;
  bool stream = false, include_usage = false;
  std::vector<std::string> warnings;  ///< options that were ignored
};
Result<CompletionRequest> read_chat_completion(const nlohmann::ordered_json& body);  ///< POST /v1/chat/completions

/// POST /api/control and llama.cpp's POST /v1/chat/completions/control: {"request_id" or "id", "action", "text", "tokens"}.
/// llama.cpp's action "reasoning_end" is "answer".
struct ControlRequest {
  std::string id;
  runtime::Control control;
};
Result<ControlRequest> read_control(const nlohmann::ordered_json& body);

/// POST /api/replay: {"receipt": {...}, "model", "force"}; a whole reply with its receipt will do.
struct ReplayRequest {
  std::string model;  ///< empty was: the receipt's
  runtime::Receipts receipts;
  bool force = false;
};
Result<ReplayRequest> read_replay(const nlohmann::ordered_json& body);

}  // namespace ponder::server
