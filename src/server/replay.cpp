// POST /api/replay: draws a receipt's tokens again and says whether they are equal (docs/receipts.md).
#include "runtime/replay.h"

#include "server/http.h"
#include "server/requests.h"

namespace ponder::server {
namespace {

using Outcome = std::optional<Result<runtime::ReplayReport>>;

Task<void> api_replay(Exchange& exchange) {
  auto body = exchange.json_body();
  auto request = body.ok() ? read_replay(*body) : Result<ReplayRequest>(body.error());
  if (!request.ok()) {
    co_await send_error(exchange, std::move(request).error());
    co_return;
  }
  const auto executor = exchange.stream().get_executor();
  ChannelReader<Outcome> done(executor);
  const auto cancel = std::make_shared<runtime::CancelFlag>(false);  // shared with the pool's thread
  HangUp hang_up(exchange, [cancel, channel = done.shared()] {
    *cancel = true;
    channel->wake();
  });
  auto* runtime = &exchange.runtime();
  // It waits for the engine, minutes for a long text: not a thread of the pool for quick work.
  asio::post(exchange.shared().pulls, [channel = done.shared(), cancel, runtime, request = std::move(*request)] {
    channel->push(guarded<runtime::ReplayReport>(
        [&] { return runtime->replay(request.model, request.receipts, request.force, cancel); }));
  });
  Outcome outcome;
  while (!outcome) {
    if (exchange.shared().stopping) *cancel = true;
    if (co_await done.next(outcome)) break;
    if (*cancel) {  // nobody is there to hear it
      exchange.close_after();
      co_return;
    }
  }
  hang_up.release();
  if (!outcome->ok()) {
    co_await send_error(exchange, std::move(*outcome).error());
    co_return;
  }
  nlohmann::json reply = to_json(**outcome);
  co_await exchange.send_json(200, std::move(reply));
}

}  // namespace

std::vector<Route> replay_routes() { return {{http::verb::post, "/api/replay", api_replay}}; }

}  // namespace ponder::server
