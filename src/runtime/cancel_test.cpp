// Whoever hangs up is heard, whatever the runtime is busy with.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>

#include "runtime/client.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

// A reply that goes on until the context is full, for seconds: its end is forbidden, and loops are let be.
ChatRequest endless(int threads) {
  ChatRequest r = ask_tiny("Count.");
  r.think.loop = ThinkOptions::Loop::off;
  r.options.num_thread = threads;
  for (const auto id : tiny().tokenizer->end_of_generation()) r.options.logit_bias.emplace_back(id, -100.f);
  return r;
}

struct Watched {
  std::promise<void> began;
  std::promise<ChatResult> ended;
  std::shared_ptr<CancelFlag> flag = std::make_shared<CancelFlag>(false);
  std::atomic<bool> told{false};

  ChatSink sink() {
    ChatSink s;
    s.on_delta = [this](ChatDelta) {
      if (!told.exchange(true)) began.set_value();
    };
    s.on_done = [this](ChatResult r) { ended.set_value(std::move(r)); };
    s.on_error = [this](Error e) {
      ADD_FAILURE() << e.message;
      ended.set_value({});
    };
    return s;
  }
};

// The thread that loads models is held inside a load; the request that runs meanwhile ends all the same.
TEST(Cancel, IsHeardWhileAnotherModelLoads) {
  Watched running, loading;  // before the runtime, which tells them their ends
  TinyRuntime tiny_runtime;
  tiny_runtime->chat(endless(1), running.sink(), running.flag);
  ASSERT_EQ(running.began.get_future().wait_for(kPatience), std::future_status::ready);

  auto ended = running.ended.get_future();
  bool heard = false;
  ChatSink sink = loading.sink();
  sink.on_load = [&, first = true](double) mutable {
    if (!std::exchange(first, false)) return;
    *running.flag = true;
    heard = ended.wait_for(kPatience) == std::future_status::ready;
  };
  tiny_runtime->chat(endless(2), sink, loading.flag);  // other threads: a model of its own
  ASSERT_EQ(loading.began.get_future().wait_for(2 * kPatience), std::future_status::ready);
  EXPECT_TRUE(heard) << "the flag was not looked at during the load";
  if (heard) {
    EXPECT_EQ(ended.get().done_reason, "cancelled");
  }
  *loading.flag = true;
  auto last = loading.ended.get_future();
  ASSERT_EQ(last.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(last.get().done_reason, "cancelled");
}

}  // namespace
}  // namespace ponder::runtime
