#include "store/store.h"

#include <gtest/gtest.h>

#include "store/manifest.h"
#include "store/pull.h"
#include "store/sha256.h"
#include "store/test_files.h"

namespace ponder::store {
namespace {

namespace fs = std::filesystem;
using test::small_gguf;

class StoreTest : public testing::Test {
 protected:
  test::Scratch scratch_;
  std::string ollama_ = scratch_.path + "/ollama";
  Store store_{StoreOptions{scratch_.path + "/models", {ollama_}}};

  Name name(const std::string& text) {
    auto n = Name::parse(text);
    EXPECT_TRUE(n.ok()) << text;
    return *n;
  }
  std::string file(const std::string& content, const std::string& as = "m.gguf") {
    const std::string path = scratch_.path + "/" + as;
    test::write(path, content);
    return path;
  }
  Digest blob(const std::string& content) {
    auto writer = store_.new_blob();
    EXPECT_TRUE(writer.ok());
    EXPECT_TRUE(writer->write(content).ok());
    auto digest = writer->commit();
    EXPECT_TRUE(digest.ok());
    return *digest;
  }
  // A model whose weights are a blob, as pull leaves it: made of a built-in one of another Store on the same folder.
  Digest stored(const std::string& model, const std::string& gguf, const CreateOptions& options = {}) {
    Store maker(store_.options());
    BuiltinModel base;
    base.name = "base";
    base.bytes = {reinterpret_cast<const uint8_t*>(gguf.data()), gguf.size()};
    EXPECT_TRUE(maker.set_builtin(base).ok());
    const auto made = maker.create_from_model(name(model), name("base"), options);
    EXPECT_TRUE(made.ok()) << made.error().message;
    return sha256(gguf);
  }
  bool has(const Digest& digest) { return fs::exists(store_.blob_path(digest)); }
  // A model as an Ollama installation leaves it.
  void ollama_model(const std::string& path, const std::string& gguf, const std::string& system) {
    Manifest m;
    const auto add = [&](const char* type, const std::string& content) {
      Layer layer;
      layer.media_type = type;
      layer.size = content.size();
      layer.digest = sha256(content);
      test::write(ollama_ + "/blobs/" + layer.digest->file_name(), content);
      return layer;
    };
    m.layers = {add(media::kModel, gguf), add(media::kSystem, system)};
    m.config = add(media::kConfig,
                   R"({"model_format":"gguf","model_family":"llama","model_type":"7.6B","file_type":"Q4_K_M"})");
    test::write(ollama_ + "/manifests/" + path, m.to_json());
  }
};

TEST_F(StoreTest, EmptyStoreAnswersAndWritesNothing) {
  EXPECT_TRUE(store_.list()->empty());
  const auto missing = store_.resolve("nothing");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_NE(missing.error().message.find("model 'nothing:latest' not found"), std::string::npos)
      << missing.error().message;
  EXPECT_EQ(store_.remove(name("nothing")).error().code, ErrorCode::not_found);
  EXPECT_FALSE(fs::exists(store_.root()));
}

TEST_F(StoreTest, CreateByReferenceCopiesNothing) {
  const std::string path = file(small_gguf());
  const auto info =
      store_.create_from_file(name("mine"), path, {.system = "Be brief.", .params_json = R"({"temperature":0.6})"});
  ASSERT_TRUE(info.ok()) << info.error().message;
  EXPECT_EQ(info->details.family, "llama");
  EXPECT_EQ(info->details.quantization_level, "Q4_K_M");
  EXPECT_EQ(info->details.context_length, 2048u);
  const auto model = store_.resolve("mine");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->path, fs::canonical(path));
  EXPECT_TRUE(model->by_reference);
  EXPECT_EQ(model->system, "Be brief.");
  EXPECT_EQ(model->params_json, R"({"temperature":0.6})");
  EXPECT_EQ(model->digest, info->digest);
  for (const auto& entry : fs::directory_iterator(store_.root() + "/blobs")) EXPECT_LT(entry.file_size(), 400u);
  EXPECT_TRUE(fs::is_empty(store_.root() + "/tmp"));

  // Removing the name leaves the user's file.
  ASSERT_TRUE(store_.remove(name("mine")).ok());
  EXPECT_TRUE(fs::exists(path));
  EXPECT_TRUE(fs::is_empty(store_.root() + "/blobs"));
  EXPECT_TRUE(fs::is_empty(store_.root() + "/manifests"));
}

TEST_F(StoreTest, ReferencedFileGoneOrChangedIsSaid) {
  const std::string path = file(small_gguf(1));
  ASSERT_TRUE(store_.create_from_file(name("mine"), path).ok());
  test::write(path, small_gguf(2));  // the same size
  fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(5));
  auto changed = store_.resolve("mine");
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().code, ErrorCode::invalid_file);
  EXPECT_NE(changed.error().message.find("was changed"), std::string::npos) << changed.error().message;
  fs::remove(path);
  auto gone = store_.resolve("mine");
  ASSERT_FALSE(gone.ok());
  EXPECT_NE(gone.error().message.find("is gone"), std::string::npos) << gone.error().message;
  EXPECT_EQ(store_.list()->size(), 1u);  // still listed, and can be removed
  EXPECT_TRUE(store_.remove(name("mine")).ok());
}

TEST_F(StoreTest, AllPartsOfASplitFileAreRemembered) {
  std::vector<std::string> parts;
  uint64_t total = 0;
  for (uint32_t no : {0, 1, 2}) {
    parts.push_back(scratch_.path + "/s-0000" + std::to_string(no + 1) + "-of-00003.gguf");
    total += test::write_part(parts.back(), no, 3);
  }
  const auto info = store_.create_from_file(name("split"), parts[0]);
  ASSERT_TRUE(info.ok()) << info.error().message;
  EXPECT_GT(info->size, total);
  EXPECT_LT(info->size, total + 400) << "all parts and the configuration";
  const auto model = store_.resolve("split");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->path, fs::canonical(parts[0]));
  ASSERT_TRUE(store_.copy(name("split"), name("other")).ok());
  EXPECT_EQ(store_.resolve("other")->size, info->size);
  EXPECT_EQ(store_.create_from_model(name("third"), name("split"), {.system = "Be brief."})->size, info->size + 9);

  fs::last_write_time(parts[1], fs::last_write_time(parts[1]) + std::chrono::seconds(5));
  const auto changed = store_.resolve("split");
  ASSERT_FALSE(changed.ok());
  EXPECT_NE(changed.error().message.find("-00002-of-00003.gguf was changed"), std::string::npos)
      << changed.error().message;
  fs::remove(parts[2]);
  test::write_part(parts[1], 1, 3);
  EXPECT_FALSE(store_.create_from_file(name("split"), parts[0]).ok()) << "a part is missing";
}

TEST_F(StoreTest, CreateRefusesWhatIsNotAModel) {
  EXPECT_EQ(store_.create_from_file(name("x"), scratch_.path + "/none.gguf").error().code, ErrorCode::not_found);
  EXPECT_FALSE(store_.create_from_file(name("x"), scratch_.path).ok());
  EXPECT_FALSE(store_.create_from_file(name("x"), file("not a model")).ok());
  EXPECT_FALSE(store_.create_from_file(name("x"), file(small_gguf().substr(0, 200))).ok());
  EXPECT_FALSE(store_.create_from_file(name("x"), file(small_gguf()), {.params_json = "[]"}).ok());
  EXPECT_TRUE(store_.list()->empty());
}

TEST_F(StoreTest, RemoveKeepsSharedBlobs) {
  const Digest digest = stored("one", small_gguf(), {.system = "1"});
  ASSERT_TRUE(store_.copy(name("one"), name("two")).ok());
  ASSERT_TRUE(store_.create_from_model(name("three"), name("one"), {.system = "3"}).ok());
  EXPECT_EQ(store_.resolve("one")->digest, store_.resolve("two")->digest);
  EXPECT_EQ(store_.resolve("three")->system, "3");
  ASSERT_TRUE(store_.remove(name("one")).ok());
  EXPECT_TRUE(has(digest));
  EXPECT_EQ(store_.resolve("two")->system, "1");
  ASSERT_TRUE(store_.remove(name("two")).ok());
  EXPECT_TRUE(has(digest));
  EXPECT_FALSE(has(sha256(std::string_view("1"))));
  EXPECT_TRUE(store_.resolve("three").ok());
  ASSERT_TRUE(store_.remove(name("three")).ok());
  EXPECT_FALSE(has(digest));
  EXPECT_TRUE(fs::is_empty(store_.root() + "/blobs"));
}

TEST_F(StoreTest, DamagedManifestStillProtectsItsBlobs) {
  const Digest digest = stored("one", small_gguf());
  ASSERT_TRUE(store_.copy(name("one"), name("two")).ok());
  const std::string path = store_.root() + "/manifests/" + name("two").path();
  test::write(path, test::read(path).substr(1));  // not JSON any more
  EXPECT_EQ(store_.list()->size(), 1u);
  EXPECT_EQ(store_.resolve("two").error().code, ErrorCode::invalid_file);
  ASSERT_TRUE(store_.remove(name("one")).ok());
  EXPECT_TRUE(has(digest));
  ASSERT_TRUE(store_.remove(name("two")).ok());
  EXPECT_FALSE(has(digest));
}

TEST_F(StoreTest, ReplacingDropsWhatOnlyTheOldOneUsed) {
  const Digest first = stored("m", small_gguf(1));
  EXPECT_TRUE(has(first));
  const Digest second = stored("M", small_gguf(2));  // the same key: letter case is ignored
  EXPECT_FALSE(has(first));
  EXPECT_TRUE(has(second));
  EXPECT_EQ(store_.list()->size(), 1u);
  EXPECT_EQ(store_.resolve("m")->path, store_.blob_path(second));
}

TEST_F(StoreTest, MissingAndCutBlobsAreFound) {
  const Digest digest = stored("m", small_gguf(1));
  EXPECT_TRUE(store_.resolve("m").ok());
  test::write(store_.blob_path(digest), small_gguf(1).substr(0, 100));
  EXPECT_EQ(store_.resolve("m").error().code, ErrorCode::invalid_file);
  EXPECT_NE(store_.resolve("m").error().message.find("ponder pull"), std::string::npos);
  fs::remove(store_.blob_path(digest));
  EXPECT_NE(store_.resolve("m").error().message.find("is missing"), std::string::npos);
}

TEST_F(StoreTest, ReadsAnOllamaStoreAndNeverWritesIt) {
  ollama_model("registry.ollama.ai/library/deepseek-r1/7b", small_gguf(), "think");
  ollama_model("registry.ollama.ai/library/smollm2/latest", small_gguf(2), "small");
  test::write(ollama_ + "/manifests/registry.ollama.ai/library/bad/latest", "{");
  test::write(ollama_ + "/manifests/registry.ollama.ai/library/..x/latest", "{}");
  const std::string before = test::listing(ollama_);
  const auto all = store_.list();
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 2u);
  const auto model = store_.resolve("deepseek-r1:7b");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->origin, Origin::ollama);
  EXPECT_EQ(model->system, "think");
  EXPECT_EQ(model->details.parameter_size, "7.6B");
  EXPECT_TRUE(store_.resolve("DeepSeek-R1:7B").ok());
  EXPECT_EQ(store_.resolve("smollm2")->system, "small");  // the demo's name, but the library's model is what is here
  EXPECT_EQ(store_.remove(name("deepseek-r1:7b")).error().code, ErrorCode::permission);
  ASSERT_TRUE(store_.copy(name("deepseek-r1:7b"), name("mine")).ok());
  EXPECT_EQ(store_.resolve("mine")->path, model->path);
  EXPECT_TRUE(store_.resolve("mine")->by_reference);
  EXPECT_EQ(test::listing(ollama_), before);

  // Not even when somebody points our own store at it.
  Store both(StoreOptions{ollama_, {ollama_}});
  EXPECT_EQ(both.create_from_file(name("x"), file(small_gguf())).error().code, ErrorCode::permission);
  EXPECT_EQ(test::listing(ollama_), before);
}

TEST_F(StoreTest, AReferenceInAnOllamaStoreIsRefused) {
  const std::string secret = file(small_gguf());
  test::write(ollama_ + "/manifests/registry.ollama.ai/library/evil/latest",
              R"({"schemaVersion":2,"layers":[{"mediaType":"application/vnd.ollama.image.model","size":)" +
                  std::to_string(fs::file_size(secret)) + R"(,"annotations":{"ponder.reference.path":")" + secret +
                  R"(","ponder.reference.mtime_ns":"1"}}]})");
  EXPECT_EQ(store_.resolve("evil").error().code, ErrorCode::invalid_file);
}

TEST_F(StoreTest, BuiltinModels) {
  const std::string gguf = small_gguf();
  const std::span bytes(reinterpret_cast<const uint8_t*>(gguf.data()), gguf.size());
  ASSERT_TRUE(
      store_
          .set_builtin(
              {.name = "ponder-tiny", .bytes = bytes, .system = "s", .params_json = "", .license = "MIT", .digest = ""})
          .ok());
  const auto model = store_.resolve("ponder-tiny");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->bytes.data(), bytes.data());
  EXPECT_EQ(model->origin, Origin::builtin);
  EXPECT_EQ(model->details.family, "llama");
  EXPECT_EQ(model->digest, sha256(gguf).hex());
  EXPECT_EQ(store_.list()->back().name.display(), "ponder-tiny:latest");
  EXPECT_FALSE(store_.remove(name("ponder-tiny")).ok());
  EXPECT_FALSE(store_.create_from_file(name("ponder-tiny"), file(gguf)).ok());
  EXPECT_TRUE(pull(store_, name("ponder-tiny")).ok());
  ASSERT_TRUE(store_.create_from_model(name("mine"), name("ponder-tiny"), {.system = "other"}).ok());
  EXPECT_EQ(test::read(store_.resolve("mine")->path), gguf);
  EXPECT_EQ(store_.resolve("mine")->system, "other");
}

TEST_F(StoreTest, BlobWriterKeepsNothingUnfinishedOrWrong) {
  const Digest expected = sha256(std::string_view("hello"));
  {
    auto writer = store_.new_blob();
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->write(std::string_view("hello")).ok());
    EXPECT_FALSE(has(expected));
  }
  EXPECT_TRUE(fs::is_empty(store_.root() + "/tmp"));
  {
    auto writer = store_.new_blob();
    ASSERT_TRUE(writer->write(std::string_view("hullo")).ok());
    auto wrong = writer->commit(&expected);
    ASSERT_FALSE(wrong.ok());
    EXPECT_NE(wrong.error().message.find("digest mismatch"), std::string::npos);
  }
  EXPECT_TRUE(fs::is_empty(store_.root() + "/tmp"));
  EXPECT_TRUE(fs::is_empty(store_.root() + "/blobs"));
  EXPECT_EQ(blob("hello"), expected);
  EXPECT_EQ(test::read(store_.blob_path(expected)), "hello");
}

}  // namespace
}  // namespace ponder::store
