// How often a model is loaded, and that it goes when it is told to.
#include "runtime/residents.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <thread>

#include "base/os/system.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

// A runtime whose store knows the built-in model's file as "tiny".
class ResidentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store::StoreOptions where;
    where.root = folder_;
    store_.emplace(where);
    ASSERT_TRUE(store_->create_from_file(store::Name::parse("tiny").value(), kTinyFile).ok());
    RuntimeOptions options;
    options.backend = "cpu";
    runtime_ = Runtime::create(*store_, options).value();
  }
  void TearDown() override {
    runtime_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Loads without a prompt, as clients do.
  void load(std::optional<int> threads) {
    ChatRequest request;
    request.model = "tiny";
    request.options.num_thread = threads;
    std::promise<std::string> ended;
    ChatSink sink;
    sink.on_done = [&](ChatResult r) { ended.set_value(r.done_reason); };
    sink.on_error = [&](Error e) { ended.set_value(e.message); };
    runtime_->chat(std::move(request), std::move(sink), nullptr);
    EXPECT_EQ(ended.get_future().get(), "load");
  }

  const std::string folder_ =
      (std::filesystem::temp_directory_path() / ("ponder-residents-" + std::to_string(os::random_u64()))).string();
  std::optional<store::Store> store_;
  std::unique_ptr<Runtime> runtime_;
};

TEST_F(ResidentsTest, TheUsualNumberOfThreadsIsNoOtherModel) {
  const int usual = os::physical_cores();
  load(std::nullopt);
  load(usual);
  load(0);
  EXPECT_EQ(runtime_->running().size(), 1u) << "the default was asked for by its number";
  load(usual + 1);
  EXPECT_EQ(runtime_->running().size(), 2u);
  load(usual + 1);
  EXPECT_EQ(runtime_->running().size(), 2u);
}

TEST_F(ResidentsTest, StopMeansEveryCopy) {
  const int usual = os::physical_cores();
  load(usual);
  load(usual + 1);
  ASSERT_EQ(runtime_->running().size(), 2u);
  ASSERT_TRUE(runtime_->stop("tiny").ok());
  for (int i = 0; i < 500 && !runtime_->running().empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(runtime_->running().empty());
  EXPECT_EQ(runtime_->stop("tiny").error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace ponder::runtime
