// Who may come in. A server on loopback is reachable from every web page that the person opens; so the Host must be a
// loopback name (DNS rebinding), a browser's Origin must be local or listed, and a browser may post JSON only (a form
// cannot). Programs without an Origin, such as curl and the official clients, are not hindered.
#include <algorithm>
#include <cctype>

#include "base/ascii.h"
#include "server/http.h"

namespace ponder::server {
namespace {

using ascii::lower;

// "name:port", "[v6]:port" or without a port -> the name; anything else -> nothing.
std::string host_name(std::string_view authority) {
  const size_t bracket = authority.starts_with('[') ? authority.find(']') : 0;
  if (bracket == std::string_view::npos) return {};
  const size_t colon = authority.find(':', bracket);
  const std::string_view port = colon == std::string_view::npos ? "" : authority.substr(colon + 1);
  if (!std::all_of(port.begin(), port.end(), [](char c) { return std::isdigit(uint8_t(c)); })) return {};
  return lower(authority.substr(0, colon));
}

bool is_loopback_name(const std::string& host) {
  if (host == "localhost" || host.ends_with(".localhost") || host == "[::1]") return true;
  // 127.0.0.0/8, as four plain numbers.
  if (!host.starts_with("127.")) return false;
  return std::count(host.begin(), host.end(), '.') == 3 &&
         std::all_of(host.begin(), host.end(), [](char c) { return std::isdigit(uint8_t(c)) || c == '.'; });
}

// '*' stands for any run of characters.
bool matches(std::string_view pattern, std::string_view text) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  for (size_t skip = star; skip <= text.size(); ++skip)
    if (matches(pattern.substr(star + 1), text.substr(skip))) return true;
  return false;
}

bool origin_allowed(const std::string& origin, const std::vector<std::string>& more) {
  const size_t scheme = origin.find("://");
  if (scheme != std::string::npos) {
    const std::string kind = origin.substr(0, scheme);
    if (kind == "app" || kind == "file" || kind == "tauri" || kind.starts_with("vscode-")) return true;
    if ((kind == "http" || kind == "https") && is_loopback_name(host_name(std::string_view(origin).substr(scheme + 3))))
      return true;
  }
  return std::any_of(more.begin(), more.end(), [&](const std::string& p) { return matches(lower(p), origin); });
}

}  // namespace

const char* refuse(Exchange& exchange, const std::vector<std::string>& origins) {
  const auto& request = exchange.request();
  const auto header = [&](std::string_view name) { return std::string(request[name]); };
  if (request.count(http::field::host) != 1 || !is_loopback_name(host_name(header("Host"))))
    return "the Host header is not this machine's loopback address; use http://127.0.0.1 or http://localhost";

  const std::string origin = lower(header("Origin")), site = header("Sec-Fetch-Site");
  const bool browser = !origin.empty() || !site.empty();
  if (!origin.empty()) {
    if (!origin_allowed(origin, origins))
      return "this Origin may not use the server; add it to OLLAMA_ORIGINS if it should";
    exchange.headers.emplace_back("Access-Control-Allow-Origin", header("Origin"));
    exchange.headers.emplace_back("Vary", "Origin");
    if (request.method() == http::verb::options) {
      exchange.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, DELETE, HEAD, OPTIONS");
      const std::string wanted = header("Access-Control-Request-Headers");
      const bool plain = std::all_of(wanted.begin(), wanted.end(), [](char c) {
        return std::isalnum(uint8_t(c)) || c == '-' || c == ',' || c == ' ';
      });
      exchange.headers.emplace_back("Access-Control-Allow-Headers",
                                    plain && !wanted.empty() ? wanted : "Authorization, Content-Type");
      exchange.headers.emplace_back("Access-Control-Max-Age", "600");
    }
  } else if (site == "cross-site") {
    return "a page of another site may not use the server";
  }
  if (browser && request.method() == http::verb::post && !lower(header("Content-Type")).starts_with("application/json"))
    return "a browser must send Content-Type: application/json";
  return nullptr;
}

}  // namespace ponder::server
