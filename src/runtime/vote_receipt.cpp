// The texts are made from the recorded tokens by the same Reply that made them the first time, and counted by the same
// reason::Vote, whose outcome does not depend on the order in which chains are heard. Next to read: voting.cpp.
#include "runtime/vote_receipt.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "runtime/vote_json.h"

namespace ponder::runtime {
namespace {

using engine::Action;
using nlohmann::json;
constexpr const char* kOfChain[] = {"actions", "output"};

Error bad(const std::string& what) { return {ErrorCode::invalid_file, "receipt.vote: " + what}; }

template <class T>
Result<T> value(const json& object, const char* name, bool fits) {
  if (!fits) return bad("\"" + std::string(name) + "\" is missing or of another kind");
  return object.at(name).get<T>();
}
Result<bool> truth(const json& v, const char* name) {
  return value<bool>(v, name, v.contains(name) && v.at(name).is_boolean());
}

Result<VoteRecord> vote_from(const json& v) {
  if (!v.is_object() || !v.contains("options")) return bad("must be an object with \"options\"");
  VoteRecord r;
  PONDER_TRY(const auto options, parse_vote(nlohmann::ordered_json(v.at("options")), "receipt.vote.options"));
  if (!options) return bad("\"options\" must be an object");
  r.options = *options;
  PONDER_TRY(r.starts_inside, truth(v, "starts_inside"));
  PONDER_TRY(r.continues, truth(v, "continues"));
  PONDER_TRY(r.thinks, truth(v, "thinks"));
  PONDER_TRY(r.decided, truth(v, "decided"));
  PONDER_TRY(r.settled, truth(v, "settled"));
  PONDER_TRY(r.answer, value<std::string>(v, "answer", v.contains("answer") && v.at("answer").is_string()));
  PONDER_TRY(const int64_t winner,
             value<int64_t>(v, "winner", v.contains("winner") && v.at("winner").is_number_integer()));
  if (winner < -1 || winner >= r.options.n) return bad("\"winner\" is no chain of it");
  r.winner = int(winner);
  if (!v.contains("stop") || !v.at("stop").is_array()) return bad("\"stop\" must be a list");
  for (const json& s : v.at("stop")) {
    if (!s.is_string()) return bad("\"stop\" must be a list of texts");
    r.stops.push_back(s.get<std::string>());
  }
  return r;
}

// The answer part of a recorded reply.
std::string content_of(const Receipt& receipt, const VoteRecord& vote, const OpenModel& model) {
  Reply::Setup setup;
  setup.tokenizer = model.tokenizer;
  if (vote.thinks) setup.tags = model.thinking;
  setup.starts_inside = vote.starts_inside && setup.tags;
  setup.continues = vote.continues;
  setup.stops = vote.stops;
  Reply reply(std::move(setup));
  const auto& ends = receipt.sequence.end_tokens;
  for (const Action& a : receipt.recording.actions) {
    engine::TokenEvent event;
    event.position = a.position;
    event.forced = a.kind == Action::Kind::forced;
    for (const auto token : a.tokens) {
      event.token = token;
      event.end = std::find(ends.begin(), ends.end(), token) != ends.end();
      reply.on_token(event);
      ++event.position;
    }
  }
  reply.on_finish(receipt.done_reason);
  return reply.content();
}

}  // namespace

bool VoteRecord::same_outcome(const VoteRecord& other) const {
  return decided == other.decided && settled == other.settled && winner == other.winner && answer == other.answer;
}

void add_vote_receipt(const LoadedModel& model, const std::string& name, engine::SequenceRequest sequence,
                      const Reply::Setup& reply, const reason::VoteOptions& options, const VoteTape& tape,
                      ChatResult& result) {
  Receipts receipts;
  for (size_t i = 0; i < tape.chains.size(); ++i) {
    if (tape.done_reasons[i] == engine::finish::kError) {
      result.warnings.push_back("no receipt: chain " + std::to_string(i) + " of the vote failed");
      return;
    }
    sequence.stream = uint32_t(i);
    receipts.chains.push_back(make_receipt(model, name, sequence, *tape.chains[i], tape.done_reasons[i]));
  }
  VoteRecord& record = receipts.vote.emplace();
  record.options = options;
  record.starts_inside = reply.starts_inside;
  record.continues = reply.continues;
  record.thinks = reply.tags.has_value();
  record.stops = reply.stops;
  record.decided = result.vote->decided;
  record.settled = result.vote->settled;
  record.winner = result.vote->winner;
  record.answer = utf8::sanitize(result.vote->answer);
  result.receipt_json = to_json(receipts).dump(-1, ' ', false, json::error_handler_t::replace);
}

json to_json(const Receipts& receipts) {
  if (receipts.chains.empty()) return {};
  json j = to_json(receipts.chains[0]);
  if (!receipts.vote) return j;
  for (const char* key : kOfChain) j.erase(key);
  j["request"].erase("stream");
  j["chains"] = json::array();
  for (const Receipt& chain : receipts.chains) {
    json one = to_json(chain), kept = {{"stream", chain.sequence.stream}};
    for (const char* key : kOfChain) kept[key] = std::move(one[key]);
    j["chains"].push_back(std::move(kept));
  }
  const VoteRecord& v = *receipts.vote;
  j["vote"] = {{"options", to_json(v.options)},
               {"starts_inside", v.starts_inside},
               {"continues", v.continues},
               {"thinks", v.thinks},
               {"stop", v.stops},
               {"decided", v.decided},
               {"settled", v.settled},
               {"winner", v.winner},
               {"answer", v.answer}};
  return j;
}

Result<Receipts> receipts_from(const json& given) {
  const json* object = &given;
  if (object->is_object() && object->contains("receipt") && object->at("receipt").is_object())
    object = &object->at("receipt");
  Receipts all;
  if (!object->is_object() || !object->contains("chains")) {
    PONDER_TRY(Receipt one, receipt_from(*object));
    all.chains.push_back(std::move(one));
    return all;
  }
  if (!object->contains("vote")) return bad("is missing, but there are \"chains\"");
  PONDER_TRY(all.vote, vote_from(object->at("vote")));
  const json& chains = object->at("chains");
  if (!chains.is_array() || int(chains.size()) != all.vote->options.n)
    return bad("has " + std::to_string(all.vote->options.n) + " chains; \"chains\" must be a list of as many");
  json one = *object;
  one.erase("chains");
  one.erase("vote");
  if (!one.contains("request") || !one.at("request").is_object())
    return Error{ErrorCode::invalid_file, "receipt: \"request\" must be an object"};
  for (size_t i = 0; i < chains.size(); ++i) {
    const std::string where = "chain " + std::to_string(i);
    const json& chain = chains[i];
    if (!chain.is_object()) return bad(where + " must be an object");
    one["request"]["stream"] = chain.contains("stream") ? chain.at("stream") : json();
    for (const char* key : kOfChain) one[key] = chain.contains(key) ? chain.at(key) : json();
    auto receipt = receipt_from(one);
    if (!receipt.ok()) return receipt.error().with_context(where);
    all.chains.push_back(std::move(*receipt));
  }
  return all;
}

VoteRecord vote_again(const Receipts& receipts, const OpenModel& model) {
  VoteRecord again = *receipts.vote;
  reason::Vote vote(again.options);
  for (size_t i = 0; i < receipts.chains.size(); ++i) {
    const Receipt& chain = receipts.chains[i];
    size_t tokens = 0;
    for (const Action& a : chain.recording.actions) tokens += a.tokens.size();
    for (; tokens > 0; --tokens) vote.token(int(i));
    if (chain.done_reason == engine::finish::kCancelled) continue;
    const bool whole = chain.done_reason == engine::finish::kStop;
    vote.ended(int(i), reason::find_answer(content_of(chain, again, model), again.options.kind, whole));
  }
  again.decided = vote.decided();
  again.settled = vote.settled();
  again.winner = vote.winner();
  if (!again.decided && !vote.groups().empty()) again.winner = vote.groups()[0].chains[0];
  again.answer = vote.groups().empty() ? "" : utf8::sanitize(vote.groups()[0].answer.shown);
  return again;
}

}  // namespace ponder::runtime
