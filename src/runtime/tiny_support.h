// For the tests of the runtime: the built-in model without a store, alone or in a runtime of its own, and a message in
// one line.
#pragma once

#include <memory>
#include <string>

#include "runtime/client.h"
#include "runtime/history.h"

namespace ponder::runtime {

inline constexpr const char* kTinyFile = PONDER_SOURCE_DIR "/models/ponder-tiny-q4_k_m.gguf";

inline store::Store no_store() {
  store::StoreOptions nowhere;
  nowhere.root = "/nonexistent/ponder";
  return store::Store(nowhere);
}

inline const OpenModel& tiny() {
  static const std::shared_ptr<const OpenModel> model = open_model(no_store(), kTinyFile, true).value();
  return *model;
}

inline chat::Message say(const std::string& role, const std::string& content, const std::string& thinking = "") {
  chat::Message m;
  m.role = role;
  m.content = content;
  m.thinking = thinking;
  return m;
}

inline ChatRequest ask_tiny(const std::string& question) {
  ChatRequest r;
  r.model = kTinyFile;
  r.messages = {say("user", question)};
  r.options.seed = 1;
  return r;
}

/// A runtime on the processor that knows files only.
class TinyRuntime {
 public:
  explicit TinyRuntime(int threads = 2) {
    RuntimeOptions options;
    options.backend = "cpu";
    options.threads = threads;
    options.allow_paths = true;
    runtime_ = Runtime::create(store_, options).value();
  }
  Runtime& operator*() { return *runtime_; }
  Runtime* operator->() { return runtime_.get(); }

 private:
  store::Store store_ = no_store();
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace ponder::runtime
