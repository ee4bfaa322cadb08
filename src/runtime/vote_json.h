// A vote's options and reports as JSON: one reader and one writer for every dialect, the command line and HttpClient.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "reason/vote.h"

namespace ponder::runtime {

/// A number of chains, or {n, min, stop: "settled" | "never", method: "majority" | "short", kind, chains}. Nothing for
/// null and false. Errors name the field, `name` first.
Result<std::optional<reason::VoteOptions>> parse_vote(const nlohmann::ordered_json& value, const std::string& name);
/// --vote and /set vote: a number, an object as JSON, or "off".
Result<std::optional<reason::VoteOptions>> parse_vote_text(const std::string& text);
nlohmann::json to_json(const reason::VoteOptions& options);

/// As in a reply and in a line of progress: {answer, counts, agreement, ...}. `last`: the whole, not progress.
nlohmann::json to_json(const reason::VoteReport& report, bool last);
reason::VoteReport vote_report_from(const nlohmann::json& object);

}  // namespace ponder::runtime
