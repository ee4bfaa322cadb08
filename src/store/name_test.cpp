#include "store/name.h"

#include <gtest/gtest.h>

#include "store/sha256.h"

namespace ponder::store {
namespace {

std::string error_of(const std::string& text) {
  const auto name = Name::parse(text);
  return name.ok() ? "accepted as " + name->full() : name.error().message;
}

TEST(Name, FillsInDefaults) {
  const std::pair<const char*, const char*> cases[] = {
      {"deepseek-r1", "registry.ollama.ai/library/deepseek-r1:latest"},
      {"deepseek-r1:7b", "registry.ollama.ai/library/deepseek-r1:7b"},
      {"me/model", "registry.ollama.ai/me/model:latest"},
      {"localhost:5000/me/model", "localhost:5000/me/model:latest"},
      {"localhost:5000/me/model:q4", "localhost:5000/me/model:q4"},
      {"https://example.com/me/model:q4", "example.com/me/model:q4"},
      {"hf.co/user/Some-Repo-GGUF:Q8_0", "hf.co/user/Some-Repo-GGUF:Q8_0"},
      {"library/smollm2", "registry.ollama.ai/library/smollm2:latest"},
      {"smollm2:135m", "registry.ollama.ai/library/smollm2:135m"},
      {"smollm2", "pypi.org/demo/smollm2:latest"},
      {"SmolLM2:latest", "pypi.org/demo/smollm2:latest"},
      {"qwen-0.5b", "pypi.org/demo/qwen-0.5b:latest"},
  };
  for (const auto& [text, full] : cases) {
    const auto name = Name::parse(text);
    ASSERT_TRUE(name.ok()) << text << ": " << name.error().message;
    EXPECT_EQ(name->full(), full);
  }
}

TEST(Name, KnowsItsSource) {
  EXPECT_EQ(Name::parse("qwen-0.5b")->source, Name::Source::demo);
  EXPECT_EQ(Name::parse("huggingface.co/u/r")->source, Name::Source::hugging_face);
  EXPECT_EQ(Name::parse("u/r")->source, Name::Source::registry);
  EXPECT_EQ(Name::parse("http://127.0.0.1:5000/u/r")->scheme, "http");
  EXPECT_EQ(Name::parse("u/r")->scheme, "");
  const auto url = Name::parse("https://example.com/a/b/My%20Model.Q4.gguf?download=true#x");
  ASSERT_TRUE(url.ok()) << url.error().message;
  EXPECT_EQ(url->source, Name::Source::url);
  EXPECT_EQ(url->url, "https://example.com/a/b/My%20Model.Q4.gguf?download=true");
  EXPECT_EQ(url->host, "example.com");
  EXPECT_EQ(url->model, "My-20Model.Q4");
}

TEST(Name, DisplayParsesBackToTheSameKey) {
  for (const char* text :
       {"deepseek-r1", "me/model:x", "localhost:5000/me/model", "hf.co/u/r:Q8_0", "smollm2", "qwen-0.5b",
        "library/smollm2", "library/qwen-0.5b:latest", "smollm2:135m", "https://example.com/a/b/c.gguf", "_a/_b:_c"}) {
    const auto name = Name::parse(text);
    ASSERT_TRUE(name.ok()) << text;
    const auto again = Name::parse(name->display());
    ASSERT_TRUE(again.ok()) << name->display();
    EXPECT_TRUE(again->same_key(*name)) << text << " -> " << name->display() << " -> " << again->full();
  }
  EXPECT_EQ(Name::parse("me/model")->display(), "me/model:latest");
  EXPECT_EQ(Name::parse("qwen-0.5b")->display(), "qwen-0.5b:latest");
  EXPECT_EQ(Name::parse("library/qwen-0.5b")->display(), "library/qwen-0.5b:latest");
}

TEST(Name, RefusesWhatCouldLeaveTheStoreOrConfuse) {
  const std::string bad[] = {
      "",
      "..",
      "../x",
      "../../etc/passwd",
      "a/../b",
      "a/..",
      "./x",
      "/x",
      "x/",
      "a//b",
      "a/b/c/d",
      "host/ns/m/odel:tag",
      ":tag",
      "x:",
      "x:..",
      "x:a/../b",
      "-x",
      ".x",
      "x y",
      "x\ty",
      std::string("x\0y", 3),
      "x\n",
      "x\\y",
      "x%2e%2e",
      "m\xc3\xb6"
      "del",
      "x@sha256",
      "x?y",
      "x*",
      "x~",
      "x$HOME",
      "na.me/model",  // a namespace has no dot
      "con",
      "NUL",
      "nul.txt",
      "com1",
      "x:lpt9",
      "model.",
      "x:tag.",
      "host:/ns/model",
      "ftp://host/ns/model",
      "file:///etc/passwd.gguf",
      "https://user:secret@host/x.gguf",
      "https://host/a b.gguf",
      "https://host/a\"b.gguf",
      "https:///x.gguf",
      "https://../x.gguf",
      std::string(81, 'a'),
      "x:" + std::string(81, 'a'),
      std::string(81, 'a') + "/x",
      std::string(351, 'a') + "/n/x",
      "https://host/" + std::string(3000, 'a') + ".gguf",
      std::string(100000, '/'),
  };
  for (const std::string& text : bad) {
    const auto name = Name::parse(text);
    EXPECT_FALSE(name.ok()) << "accepted: " << text.substr(0, 60) << " as " << (name.ok() ? name->full() : "");
    if (!name.ok()) {
      EXPECT_EQ(name.error().code, ErrorCode::invalid_argument);
      EXPECT_LT(name.error().message.size(), 300u);
    }
  }
}

TEST(Name, ErrorsSayWhatIsAllowed) {
  EXPECT_NE(error_of("x y").find("may contain only letters, digits, '_', '-' and '.'"), std::string::npos)
      << error_of("x y");
  EXPECT_NE(error_of("na.me/model").find("namespace 'na.me'"), std::string::npos);
  EXPECT_NE(error_of(std::string(81, 'a')).find("longer than 80"), std::string::npos);
  EXPECT_NE(error_of("-x").find("must start with"), std::string::npos);
  EXPECT_NE(error_of("ftp://h/n/m").find("https://"), std::string::npos);
}

TEST(Digest, ParsesExactlySixtyFourDigits) {
  const std::string hex(64, 'a');
  EXPECT_TRUE(Digest::parse("sha256:" + hex).ok());
  EXPECT_EQ(Digest::parse("sha256-" + std::string(64, 'A'))->to_string(), "sha256:" + hex);
  EXPECT_EQ(Digest::parse("sha256:" + hex)->file_name(), "sha256-" + hex);
  for (const std::string& bad : {std::string(), hex, "sha256:" + hex + "a", "sha256:" + hex.substr(1), "sha512:" + hex,
                                 "sha256:../" + hex.substr(3), "sha256:" + hex.substr(1) + "g", "sha256/" + hex})
    EXPECT_FALSE(Digest::parse(bad).ok()) << bad;
}

std::string hex_of(Sha256::Engine engine, std::string_view text) {
  Sha256 hash(engine);
  hash.update(text);
  return hash.finish().hex();
}

TEST(Sha256, KnownAnswers) {
  // FIPS 180-4 examples.
  const std::pair<std::string, const char*> cases[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& [text, hex] : cases) {
    EXPECT_EQ(hex_of(Sha256::Engine::portable, text), hex);
    EXPECT_EQ(hex_of(Sha256::Engine::best, text), hex);
  }
}

TEST(Sha256, LibraryAndPortableAgreeForAllSplits) {
  if (!Sha256::library_available()) GTEST_LOG_(WARNING) << "libcrypto is not here: portable code compared with itself";
  std::string text;
  for (int i = 0; i < 400; ++i) {
    text += char(i * 37 + (i >> 3));
    const std::string whole = hex_of(Sha256::Engine::best, text);
    ASSERT_EQ(hex_of(Sha256::Engine::portable, text), whole) << "length " << i + 1;
    Sha256 pieces(Sha256::Engine::portable);
    for (size_t at = 0, step = size_t(i % 70) + 1; at < text.size(); at += step)
      pieces.update(std::string_view(text).substr(at, step));
    ASSERT_EQ(pieces.finish().hex(), whole);
  }
}

}  // namespace
}  // namespace ponder::store
