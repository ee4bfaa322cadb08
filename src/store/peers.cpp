// The other small texts that peers send: the challenge of a registry that wants a token, the token
// server's reply, the file listing of a Hugging Face repository.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>

#include "store/manifest.h"

namespace ponder::store {
namespace {

using Json = nlohmann::json;

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = char(std::toupper(uint8_t(c)));
  return out;
}

bool is_word(char c) { return std::isalnum(uint8_t(c)) != 0 || c == '_'; }

// `word` stands in `text` as a whole: "Q4_K" is not in "x-Q4_K_M.gguf".
bool contains_word(std::string_view text, std::string_view word) {
  for (size_t at = 0; (at = text.find(word, at)) != std::string_view::npos; ++at) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_word(text[at - 1])) && (end == text.size() || !is_word(text[end]))) return true;
  }
  return false;
}

}  // namespace

Result<Challenge> parse_challenge(std::string_view header) {
  const Error none{ErrorCode::permission, "the registry wants a sign-in of a kind that Ponder does not have"};
  if (header.size() > 4096 || header.size() < 7 || upper(header.substr(0, 7)) != "BEARER ") return none;
  header.remove_prefix(7);
  Challenge c;
  while (!header.empty()) {
    const size_t equals = header.find('=');
    if (equals == std::string_view::npos) break;
    std::string_view key = header.substr(0, equals);
    while (!key.empty() && (key.front() == ' ' || key.front() == ',')) key.remove_prefix(1);
    header.remove_prefix(equals + 1);
    std::string value;
    if (!header.empty() && header.front() == '"') {
      const size_t close = header.find('"', 1);
      if (close == std::string_view::npos) return none;
      value = std::string(header.substr(1, close - 1));
      header.remove_prefix(close + 1);
    } else {
      const size_t comma = header.find(',');
      value = std::string(header.substr(0, comma));
      header.remove_prefix(comma == std::string_view::npos ? header.size() : comma);
    }
    for (char ch : value)
      if (ch <= 32 && ch != ' ') return none;
    const std::string name = upper(key);
    if (name == "REALM") c.realm = value;
    if (name == "SERVICE") c.service = value;
    // One scope parameter may hold several, separated by spaces.
    if (name == "SCOPE") {
      for (std::string_view rest = value; !rest.empty() && c.scopes.size() < 16;) {
        const size_t space = rest.find(' ');
        if (space != 0) c.scopes.emplace_back(rest.substr(0, space));
        rest.remove_prefix(space == std::string_view::npos ? rest.size() : space + 1);
      }
    }
  }
  if (c.realm.empty()) return none;
  return c;
}

Result<std::string> parse_token(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  std::string token;
  if (json.is_object())
    for (const char* key : {"access_token", "token"})
      if (json.contains(key) && json[key].is_string()) token = json[key].get<std::string>();
  const bool clean = std::all_of(token.begin(), token.end(), [](char c) { return c > 32 && c < 127; });
  if (token.empty() || token.size() > 16384 || !clean)
    return Error{ErrorCode::network, "the registry's token server answered without a usable token"};
  return token;
}

bool is_split_file(std::string_view path) {
  const std::string name = upper(path);
  const size_t of = name.rfind("-OF-");
  return of != std::string::npos && of >= 5 && of + 9 <= name.size() && std::isdigit(uint8_t(name[of - 1])) != 0 &&
         std::isdigit(uint8_t(name[of + 4])) != 0;
}

std::vector<std::string> further_parts(const std::string& path) {
  constexpr std::string_view kFirst = "-00001-of-", kEnd = ".gguf";
  std::vector<std::string> parts;
  if (!path.ends_with(kEnd) || path.size() < kFirst.size() + 5 + kEnd.size()) return parts;
  const size_t end = path.size() - kEnd.size(), start = end - 5 - kFirst.size();
  int count = 0;
  const auto read = std::from_chars(path.data() + end - 5, path.data() + end, count);
  if (path.compare(start, kFirst.size(), kFirst) != 0 || read.ptr != path.data() + end) return parts;
  for (int i = 2; i <= count; ++i) {
    const std::string number = std::to_string(i);
    parts.push_back(path.substr(0, start + 1) + std::string(5 - number.size(), '0') + number + path.substr(start + 6));
  }
  return parts;
}

Result<HubFile> choose_from_tree(std::string_view text, std::string_view tag) {
  const Json json = text.size() > kMaxManifest ? Json() : Json::parse(text, nullptr, false);
  if (!json.is_array()) return Error{ErrorCode::network, "the repository's file listing could not be read"};
  std::vector<HubFile> files;
  bool split = false;
  for (const Json& entry : json) {
    if (!entry.is_object() || !entry.contains("path") || !entry["path"].is_string()) continue;
    HubFile file;
    file.path = entry["path"].get<std::string>();
    const std::string name = upper(file.path);
    if (!name.ends_with(".GGUF") || name.find("MMPROJ") != std::string::npos) continue;
    bool plain = file.path.size() < 1000 && file.path.find("..") == std::string::npos;
    for (char c : file.path)
      plain = plain && c > 32 && c < 127 && std::string_view("?#%\\\"").find(c) == std::string_view::npos;
    if (!plain) continue;
    if (is_split_file(name)) {
      split = true;
      continue;
    }
    if (entry.contains("size") && entry["size"].is_number_unsigned()) file.size = entry["size"].get<uint64_t>();
    if (const auto lfs = entry.find("lfs");
        lfs != entry.end() && lfs->is_object() && lfs->contains("oid") && (*lfs)["oid"].is_string()) {
      std::string oid = (*lfs)["oid"].get<std::string>();
      if (!oid.starts_with("sha256:")) oid = "sha256:" + oid;
      if (auto digest = Digest::parse(oid); digest.ok()) file.digest = *digest;
    }
    if (file.size <= kMaxModel) files.push_back(std::move(file));
  }
  const std::string wanted = upper(tag);
  std::string known;
  for (const HubFile& f : files) {
    const std::string name = upper(f.path);
    if (name == wanted || name.ends_with("/" + wanted) || contains_word(name, wanted)) return f;
    if (known.size() < 400) known += (known.empty() ? "" : ", ") + f.path;
  }
  if (wanted == "LATEST")
    for (const char* preferred : {"Q4_K_M", "Q4_K_S", "Q4_0", "Q8_0", ""})
      for (const HubFile& f : files)
        if (*preferred == 0 || contains_word(upper(f.path), preferred)) return f;
  if (files.empty() && split)
    return Error{ErrorCode::unsupported,
                 "the repository has its GGUF files in several parts only; get them by hand and "
                 "use the first part's path"};
  if (files.empty()) return Error{ErrorCode::not_found, "the repository has no GGUF file"};
  return Error{ErrorCode::not_found, "the repository has no file for '" + std::string(tag) + "'; it has " + known};
}

}  // namespace ponder::store
