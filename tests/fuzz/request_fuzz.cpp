// Any bytes as the body of a request, for each route that generates text, the one that steers and the one that replays;
// and as one line of a reply for the client over HTTP. The first byte chooses.

// links: server runtime chat base

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/wire.h"
#include "server/requests.h"

namespace {

using ponder::Error;
using ponder::server::parse_body;

// A message may quote names and short values, never the request.
void check(const Error& error, size_t size) {
  if (error.message.empty() || error.message.size() > 2000 + size) std::abort();
}

// What was read can be sent on, and reads as the same request.
void check_again(const ponder::runtime::ChatRequest& request) {
  const auto body = ponder::runtime::wire::chat_request(request);
  const auto text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const auto parsed = parse_body(text);
  if (!parsed.ok()) return;  // a number became infinite, or the values became too many
  const auto again = ponder::server::read_chat(*parsed);
  if (!again.ok()) std::abort();
  if (again->chat.model != request.model || again->chat.messages.size() != request.messages.size()) std::abort();
}

void as_reply(const nlohmann::json& object) {
  namespace wire = ponder::runtime::wire;
  auto result = wire::result_from(object);
  nlohmann::json out = nlohmann::json::object();
  wire::add_result(out, result);
  wire::running_model_from(object);
  (void)wire::model_info_from(object);
  (void)wire::show_from(object, "m");
  if (const auto it = object.find("logprobs"); it != object.end()) wire::logprobs(wire::logprobs_from(*it));
  if (const auto it = object.find("keep_alive"); it != object.end()) (void)wire::parse_keep_alive(*it);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto body = parse_body(text);
  if (!body.ok()) {
    check(body.error(), 0);
    return 0;
  }
  if (const auto control = ponder::server::read_control(*body); !control.ok()) check(control.error(), size);
  if (const auto replay = ponder::server::read_replay(*body); replay.ok()) {
    if (!ponder::runtime::receipts_from(to_json(replay->receipts)).ok()) std::abort();
  } else {
    check(replay.error(), size);
  }
  switch (data[0] % 4) {
    case 0: {
      const auto r = ponder::server::read_chat(*body);
      if (r.ok()) check_again(r->chat);
      if (!r.ok()) check(r.error(), size);
      break;
    }
    case 1: {
      const auto r = ponder::server::read_generate(*body);
      if (!r.ok()) check(r.error(), size);
      break;
    }
    case 2: {
      const auto r = ponder::server::read_chat_completion(*body);
      if (!r.ok()) check(r.error(), size);
      break;
    }
    default:
      as_reply(*body);
  }
  return 0;
}
