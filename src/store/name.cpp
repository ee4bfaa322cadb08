// Parsing of names and digests. Everything is decided character by character against one small
// table of rules, because a name becomes a path: no normalising, no decoding, no trimming that
// could make two spellings of one name disagree.
#include "store/name.h"

#include "base/ascii.h"
#include "store/demo.h"
#include "store/sha256.h"

namespace ponder::store {
namespace {

struct Rule {
  const char* what;
  size_t max_length;
  std::string_view extra;  // characters allowed besides letters and digits
  const char* allowed;     // the same for people
};
constexpr Rule kHost{"host", 350, "_-.:", "letters, digits, '_', '-', '.' and ':'"};
constexpr Rule kNamespaceRule{"namespace", 80, "_-", "letters, digits, '_' and '-'"};
constexpr Rule kModel{"model", 80, "_-.", "letters, digits, '_', '-' and '.'"};
constexpr Rule kTag{"tag", 80, "_-.", "letters, digits, '_', '-' and '.'"};
constexpr size_t kMaxUrl = 2000;

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

using ascii::equal_ignoring_case;

// For messages: at most 40 characters, anything unprintable replaced.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text.substr(0, 40)) out += c >= 32 && c < 127 ? c : '?';
  return out + (text.size() > 40 ? "...'" : "'");
}

bool is_device_name(std::string_view part) {
  const std::string_view stem = part.substr(0, part.find('.'));
  for (std::string_view device : {"con", "prn", "aux", "nul"})
    if (equal_ignoring_case(stem, device)) return true;
  return stem.size() == 4 && stem[3] >= '1' && stem[3] <= '9' &&
         (equal_ignoring_case(stem.substr(0, 3), "com") || equal_ignoring_case(stem.substr(0, 3), "lpt"));
}

Result<void> check(std::string_view part, const Rule& rule) {
  const auto bad = [&](const std::string& why) {
    return Error{ErrorCode::invalid_argument,
                 "invalid model name: the " + std::string(rule.what) + " " + quoted(part) + " " + why};
  };
  if (part.empty())
    return Error{ErrorCode::invalid_argument, "invalid model name: the " + std::string(rule.what) + " is empty"};
  if (part.size() > rule.max_length) return bad("is longer than " + std::to_string(rule.max_length) + " characters");
  if (!is_alnum(part[0]) && part[0] != '_') return bad("must start with a letter, a digit or '_'");
  for (char c : part)
    if (!is_alnum(c) && rule.extra.find(c) == std::string_view::npos)
      return bad("may contain only " + std::string(rule.allowed));
  if (part.back() == '.' || part.back() == ':') return bad("must not end with '.' or ':'");
  if (is_device_name(part)) return bad("is reserved by some operating systems");
  return {};
}

Result<void> check_all(const Name& n) {
  PONDER_CHECK_OK(check(n.host, kHost));
  PONDER_CHECK_OK(check(n.ns, kNamespaceRule));
  PONDER_CHECK_OK(check(n.model, kModel));
  return check(n.tag, kTag);
}

bool is_hugging_face(std::string_view host) {
  return equal_ignoring_case(host, "hf.co") || equal_ignoring_case(host, "huggingface.co");
}

bool is_demo_key(const Name& n) {
  return equal_ignoring_case(n.host, kDemoHost) && equal_ignoring_case(n.ns, kDemoNamespace) &&
         equal_ignoring_case(n.tag, kDefaultTag) && find_demo(n.model) != nullptr;
}

void set_source(Name& n) {
  if (is_hugging_face(n.host))
    n.source = Name::Source::hugging_face;
  else if (is_demo_key(n))
    n.source = Name::Source::demo;
}

bool ends_with_gguf(std::string_view path) {
  return path.size() > 5 && equal_ignoring_case(path.substr(path.size() - 5), ".gguf");
}

// "host/path/FILE.gguf[?query]" after the scheme. The key is host / "url-" + 12 hex digits of the
// address's digest / the file's stem, with characters that names may not have replaced by '-'.
Result<Name> parse_url(std::string_view rest, std::string_view whole, const std::string& scheme) {
  if (whole.size() > kMaxUrl)
    return Error{ErrorCode::invalid_argument, "the address is longer than " + std::to_string(kMaxUrl) + " characters"};
  for (char c : whole)
    if (c <= 32 || c >= 127 || c == '"' || c == '<' || c == '>' || c == '\\')
      return Error{ErrorCode::invalid_argument,
                   "the address " + quoted(whole) + " has a character that must be written as %XX (spaces as %20)"};
  const std::string_view host = rest.substr(0, rest.find('/'));
  if (host.find('@') != std::string_view::npos)
    return Error{ErrorCode::invalid_argument, "the address must not contain a user name or password"};
  const std::string_view path = rest.substr(host.size(), rest.find_first_of("?#") - host.size());
  std::string_view file = path.substr(path.rfind('/') + 1);
  file = file.substr(0, file.size() - 5);
  Name n;
  n.source = Name::Source::url;
  n.scheme = scheme;
  n.url = std::string(whole.substr(0, whole.find('#')));
  n.host = std::string(host);
  n.ns = "url-" + sha256(n.url).short_id();
  for (char c : file.substr(0, kModel.max_length)) n.model += is_alnum(c) || c == '_' || c == '-' || c == '.' ? c : '-';
  while (!n.model.empty() && !is_alnum(n.model[0]) && n.model[0] != '_') n.model.erase(0, 1);
  while (!n.model.empty() && n.model.back() == '.') n.model.pop_back();
  if (n.model.empty() || is_device_name(n.model)) n.model = "model";
  n.tag = kDefaultTag;
  PONDER_CHECK_OK(check_all(n));
  return n;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<Digest> Digest::parse(std::string_view text) {
  std::array<uint8_t, 32> bytes{};
  bool good = text.size() == 7 + 64 && (text.starts_with("sha256:") || text.starts_with("sha256-"));
  for (size_t i = 0; good && i < 32; ++i) {
    const int high = hex_value(text[7 + 2 * i]), low = hex_value(text[8 + 2 * i]);
    good = high >= 0 && low >= 0;
    bytes[i] = uint8_t(high * 16 + low);
  }
  if (!good)
    return Error{ErrorCode::invalid_argument,
                 "invalid digest " + quoted(text) + ": sha256: and 64 hexadecimal digits are needed"};
  return Digest(bytes);
}

std::string Digest::hex() const {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (uint8_t b : bytes_) {
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
  return out;
}

Result<Name> Name::parse(std::string_view text) {
  const std::string_view whole = text;
  if (text.empty()) return Error{ErrorCode::invalid_argument, "model is required: the name is empty"};
  if (text.size() > kMaxUrl) return Error{ErrorCode::invalid_argument, "invalid model name: it is too long"};
  Name n;
  if (const size_t at = text.find("://"); at != std::string_view::npos) {
    const std::string_view scheme = text.substr(0, at);
    text.remove_prefix(at + 3);
    if (equal_ignoring_case(scheme, "https"))
      n.scheme = "https";
    else if (equal_ignoring_case(scheme, "http"))
      n.scheme = "http";
    else
      return Error{ErrorCode::invalid_argument,
                   "invalid model name: unknown scheme " + quoted(scheme) + "; https:// is allowed"};
    if (ends_with_gguf(text.substr(0, text.find_first_of("?#"))) && text.find('/') != std::string_view::npos)
      return parse_url(text, whole, n.scheme);
  }
  // The tag: behind the last ':' that has no '/' after it (a host's port has one).
  const size_t slash = text.rfind('/');
  const size_t colon = text.rfind(':');
  const bool has_tag = colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash);
  n.tag = std::string(has_tag ? text.substr(colon + 1) : kDefaultTag);
  if (has_tag) text = text.substr(0, colon);

  std::vector<std::string_view> parts;
  for (;;) {
    const size_t cut = text.find('/');
    parts.push_back(text.substr(0, cut));
    if (cut == std::string_view::npos) break;
    text.remove_prefix(cut + 1);
  }
  if (parts.size() > 3)
    return Error{ErrorCode::invalid_argument,
                 "invalid model name " + quoted(whole) +
                     ": at most host/namespace/model:tag is allowed (a file by its address must "
                     "start with https:// and end in .gguf)"};
  n.model = std::string(parts.back());
  n.ns = std::string(parts.size() >= 2 ? parts[parts.size() - 2] : kDefaultNamespace);
  n.host = std::string(parts.size() == 3 ? parts[0] : kDefaultHost);
  if (parts.size() == 1 && n.scheme.empty() && equal_ignoring_case(n.tag, kDefaultTag)) {
    if (const Demo* demo = find_demo(n.model)) {
      n.host = kDemoHost;
      n.ns = kDemoNamespace;
      n.model = demo->name;
      n.tag = kDefaultTag;
    }
  }
  PONDER_CHECK_OK(check_all(n));
  set_source(n);
  return n;
}

Result<Name> Name::from_parts(std::string_view host, std::string_view ns, std::string_view model,
                              std::string_view tag) {
  Name n;
  n.host = std::string(host);
  n.ns = std::string(ns);
  n.model = std::string(model);
  n.tag = std::string(tag);
  PONDER_CHECK_OK(check_all(n));
  set_source(n);
  return n;
}

std::string Name::full() const { return host + "/" + ns + "/" + model + ":" + tag; }

std::string Name::path() const { return host + "/" + ns + "/" + model + "/" + tag; }

std::string Name::display() const {
  const std::string last = model + ":" + tag;
  if (source == Source::demo) return last;
  if (!equal_ignoring_case(host, kDefaultHost)) return full();
  if (!equal_ignoring_case(ns, kDefaultNamespace)) return ns + "/" + last;
  // A model of the library that is called like a demo model keeps its namespace, or it would be
  // read as the demo.
  if (equal_ignoring_case(tag, kDefaultTag) && find_demo(model) != nullptr) return ns + "/" + last;
  return last;
}

bool Name::same_key(const Name& other) const {
  return equal_ignoring_case(host, other.host) && equal_ignoring_case(ns, other.ns) &&
         equal_ignoring_case(model, other.model) && equal_ignoring_case(tag, other.tag);
}

}  // namespace ponder::store
