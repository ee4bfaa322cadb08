// Which words are models of the store and which are paths, with files and names that look alike.
#include "runtime/loaded_model.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/os/file.h"
#include "base/os/system.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

namespace fs = std::filesystem;

class Paths : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  store::Store store() const {
    store::StoreOptions options;
    options.root = folder_ + "/store";
    return store::Store(options);
  }
  const std::string folder_ =
      (fs::temp_directory_path() / ("ponder-paths-" + std::to_string(os::random_u64()))).string();
};

TEST_F(Paths, AModelOfAHubMayBeNamedByItsFile) {
  constexpr const char* kName = "hf.co/user/Tiny-GGUF:Tiny.Q4_K_M.gguf";
  auto store = this->store();
  ASSERT_TRUE(store.create_from_file(store::Name::parse(kName).value(), kTinyFile).ok());
  const auto open = open_model(store, kName, /*allow_path=*/true);
  ASSERT_TRUE(open.ok()) << open.error().message;
  EXPECT_EQ((*open)->stored.name.display(), kName);
  const auto missing = open_model(store, "hf.co/user/Tiny-GGUF:Other.gguf", true);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_NE(missing.error().message.find("pull"), std::string::npos) << missing.error().message;
}

TEST_F(Paths, AreWhatEndsInGgufOrIsThere) {
  for (const char* name :
       {"qwen-0.5b", "user/repo", "hf.co/user/repo:Q4_K_M", "hf.co/user/repo:a.gguf", "huggingface.co/user/repo:a.GGUF",
        "https://example.org/a/b.gguf", "registry.example.org/a/b:tag", "user/b.bin"})
    EXPECT_FALSE(is_path(name)) << name;
  for (const char* path : {"model.gguf", "MODEL.GGUF", "folder/model.gguf", "./model", "../model", "/models/model",
                           "hf.co/user/repo/a.gguf", "~/a b.gguf"})
    EXPECT_TRUE(is_path(path)) << path;
  // The file itself decides where it is there: under a name that could be a hub's too.
  fs::create_directories(folder_ + "/hf.co/user");
  ASSERT_TRUE(os::write_file_atomically(folder_ + "/hf.co/user/repo:a.gguf", "x").ok());
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  EXPECT_TRUE(is_path("hf.co/user/repo:a.gguf"));
  EXPECT_FALSE(is_path("hf.co/user/repo:b.gguf"));
  EXPECT_FALSE(is_path("hf.co/user"));
  fs::current_path(before);
}

}  // namespace
}  // namespace ponder::runtime
