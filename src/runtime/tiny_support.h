// For the tests of the runtime: the built-in model without a store, and a message in one line.
#pragma once

#include <memory>
#include <string>

#include "runtime/history.h"

namespace ponder::runtime {

inline const OpenModel& tiny() {
  static const std::shared_ptr<const OpenModel> model = [] {
    store::StoreOptions nowhere;
    nowhere.root = "/nonexistent/ponder";
    const store::Store store(nowhere);
    return open_model(store, PONDER_SOURCE_DIR "/models/ponder-tiny-q4_k_m.gguf", true).value();
  }();
  return *model;
}

inline chat::Message say(const std::string& role, const std::string& content, const std::string& thinking = "") {
  chat::Message m;
  m.role = role;
  m.content = content;
  m.thinking = thinking;
  return m;
}

}  // namespace ponder::runtime
