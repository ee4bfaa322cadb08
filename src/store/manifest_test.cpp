#include "store/manifest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "store/demo.h"
#include "store/http.h"
#include "store/test_files.h"
#include "store/zip.h"

namespace ponder::store {
namespace {

using Json = nlohmann::json;
const std::string kDigestText = "sha256:" + std::string(64, '1');

Json good_manifest() {
  return {{"schemaVersion", 2},
          {"mediaType", media::kManifest},
          {"config", {{"mediaType", media::kConfig}, {"digest", kDigestText}, {"size", 10}}},
          {"layers",
           {{{"mediaType", media::kModel}, {"digest", "sha256:" + std::string(64, '2')}, {"size", 1000}},
            {{"mediaType", media::kSystem}, {"digest", "sha256:" + std::string(64, '3')}, {"size", 5}}}}};
}

TEST(Manifest, ReadsWhatOllamaWrites) {
  const auto m = Manifest::parse(good_manifest().dump(), Manifest::Trust::foreign);
  ASSERT_TRUE(m.ok()) << m.error().message;
  EXPECT_EQ(m->layers.size(), 2u);
  EXPECT_EQ(m->total_size(), 1015u);
  EXPECT_NE(m->find(media::kModel), nullptr);
  const auto again = Manifest::parse(m->to_json(), Manifest::Trust::foreign);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->total_size(), 1015u);
}

TEST(Manifest, RefusesMalformedOnes) {
  std::vector<std::pair<std::string, std::string>> bad = {
      {"", ""},
      {"not json", "{"},
      {"array", "[]"},
      {"number", "7"},
      {"null", "null"},
      {"html", "<html></html>"},
      {"depth", std::string(100000, '[')},
      {"large", std::string(size_t(5) << 20, ' ')},
      {"invalid utf-8", "{\"schemaVersion\":2,\"mediaType\":\"\xff\"}"}};
  const auto change = [&](const std::string& what, const std::function<void(Json&)>& f) {
    Json j = good_manifest();
    f(j);
    bad.emplace_back(what, j.dump());
  };
  change("no version", [](Json& j) { j.erase("schemaVersion"); });
  change("version 1", [](Json& j) { j["schemaVersion"] = 1; });
  change("version text", [](Json& j) { j["schemaVersion"] = "2"; });
  change("index type", [](Json& j) { j["mediaType"] = media::kOciIndex; });
  change("no layers", [](Json& j) { j.erase("layers"); });
  change("layers object", [](Json& j) { j["layers"] = Json::object(); });
  change("empty layers", [](Json& j) { j["layers"] = Json::array(); });
  change("layer number", [](Json& j) { j["layers"][0] = 7; });
  change("layer null", [](Json& j) { j["layers"][0] = nullptr; });
  change("no media type", [](Json& j) { j["layers"][0].erase("mediaType"); });
  change("long media type", [](Json& j) { j["layers"][0]["mediaType"] = std::string(300, 'x'); });
  change("no digest", [](Json& j) { j["layers"][0].erase("digest"); });
  change("digest number", [](Json& j) { j["layers"][0]["digest"] = 5; });
  change("digest traversal", [](Json& j) { j["layers"][0]["digest"] = "sha256:../../../../etc/passwd"; });
  change("digest traversal of the right length",
         [](Json& j) { j["layers"][0]["digest"] = "sha256:../../" + std::string(58, 'a'); });
  change("short digest", [](Json& j) { j["layers"][0]["digest"] = "sha256:abc"; });
  change("other hash", [](Json& j) { j["layers"][0]["digest"] = "md5:" + std::string(64, 'a'); });
  change("no size", [](Json& j) { j["layers"][0].erase("size"); });
  change("negative size", [](Json& j) { j["layers"][0]["size"] = -1; });
  change("fraction", [](Json& j) { j["layers"][0]["size"] = 1.5; });
  change("size text", [](Json& j) { j["layers"][0]["size"] = "1000"; });
  change("huge size", [](Json& j) { j["layers"][0]["size"] = UINT64_MAX; });
  change("sum too large", [](Json& j) {
    j["layers"][0]["size"] = kMaxModel;
    j["layers"][1]["size"] = kMaxModel;
  });
  change("one digest, two sizes", [](Json& j) { j["layers"][1]["digest"] = j["layers"][0]["digest"]; });
  change("too many layers", [](Json& j) {
    for (int i = 0; i < 100; ++i) j["layers"].push_back(j["layers"][0]);
  });
  change("bad config", [](Json& j) { j["config"] = 3; });
  change("config without digest", [](Json& j) { j["config"].erase("digest"); });
  change("a reference from a stranger", [](Json& j) {
    j["layers"][0].erase("digest");
    j["layers"][0]["annotations"] = {{"ponder.reference.path", "/etc/passwd"}, {"ponder.reference.mtime_ns", "1"}};
  });
  EXPECT_GE(bad.size(), 25u);
  for (const auto& [what, text] : bad) {
    const auto m = Manifest::parse(text, Manifest::Trust::foreign);
    EXPECT_FALSE(m.ok()) << what;
    if (!m.ok()) {
      EXPECT_EQ(m.error().code, ErrorCode::invalid_file) << what;
    }
  }
}

TEST(Manifest, ReferencesOnlyInOurOwnAndOnlyWithoutDigest) {
  Json j = good_manifest();
  const Json annotations = {{"ponder.reference.path", "/home/me/x.gguf"}, {"ponder.reference.mtime_ns", "-12"}};
  j["layers"][0]["annotations"] = annotations;
  // With a digest the path is ignored, whoever wrote it: a stranger's manifest is kept as it came.
  const auto ignored = Manifest::parse(j.dump(), Manifest::Trust::own);
  ASSERT_TRUE(ignored.ok());
  EXPECT_FALSE(ignored->layers[0].reference.has_value());
  j["layers"][0].erase("digest");
  const auto own = Manifest::parse(j.dump(), Manifest::Trust::own);
  ASSERT_TRUE(own.ok()) << own.error().message;
  EXPECT_EQ(own->layers[0].reference->path, "/home/me/x.gguf");
  EXPECT_EQ(own->layers[0].reference->mtime_ns, -12);
  for (const char* path : {"", "relative.gguf"}) {
    j["layers"][0]["annotations"]["ponder.reference.path"] = path;
    EXPECT_FALSE(Manifest::parse(j.dump(), Manifest::Trust::own).ok());
  }
  j["layers"][0]["annotations"] = annotations;
  for (const char* time : {"", "x", "99999999999999999999999"}) {
    j["layers"][0]["annotations"]["ponder.reference.mtime_ns"] = time;
    EXPECT_FALSE(Manifest::parse(j.dump(), Manifest::Trust::own).ok()) << time;
  }
}

TEST(Manifest, ChoosesFromAnIndex) {
  const auto entry = [](char digit, const char* os, const char* cpu) {
    Json e = {{"mediaType", media::kOciManifest}, {"digest", "sha256:" + std::string(64, digit)}, {"size", 500}};
    if (os != nullptr) e["platform"] = {{"os", os}, {"architecture", cpu}};
    return e;
  };
  Json index = {
      {"schemaVersion", 2},
      {"manifests", {entry('1', "windows", "amd64"), entry('2', "linux", "amd64"), entry('3', "linux", "arm64")}}};
  EXPECT_TRUE(is_index(index.dump()));
  EXPECT_FALSE(is_index(good_manifest().dump()));
#if defined(__x86_64__)
  EXPECT_EQ(choose_from_index(index.dump())->digest->hex()[0], '2');
#endif
  index["manifests"].push_back(entry('4', nullptr, nullptr));
  EXPECT_EQ(choose_from_index(index.dump())->digest->hex()[0], '4');
  index["manifests"] = Json::array();
  EXPECT_FALSE(choose_from_index(index.dump()).ok());
}

TEST(Manifest, SmallLayersAreChecked) {
  EXPECT_TRUE(check_small_layer(media::kParams, R"({"temperature":0.6,"stop":["a"]})").ok());
  EXPECT_FALSE(check_small_layer(media::kParams, "[1]").ok());
  EXPECT_FALSE(check_small_layer(media::kParams, "{").ok());
  EXPECT_TRUE(check_small_layer(media::kMessages, R"([{"role":"user","content":"x"}])").ok());
  EXPECT_FALSE(check_small_layer(media::kMessages, R"([{"role":"user"}])").ok());
  EXPECT_FALSE(check_small_layer(media::kSystem, "\xff\xfe").ok());
  EXPECT_FALSE(check_small_layer(media::kLicense, std::string(kMaxSmallLayer + 1, 'x')).ok());
}

TEST(Describe, NumbersAsOllamaPrintsThem) {
  EXPECT_EQ(human_number(7'615'616'512), "7.6B");
  EXPECT_EQ(human_number(8'000'000'000), "8B");
  EXPECT_EQ(human_number(494'032'768), "494.03M");
  EXPECT_EQ(human_number(29'000'000), "29M");
  EXPECT_EQ(human_number(1500), "2K");
  EXPECT_EQ(human_number(42), "42");
  EXPECT_EQ(file_type_name(15), "Q4_K_M");
  EXPECT_EQ(file_type_name(7), "Q8_0");
  EXPECT_EQ(file_type_name(5), "");
  EXPECT_EQ(file_type_name(1u << 30), "");
}

TEST(Peers, Challenge) {
  const auto c = parse_challenge(
      R"(Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull")");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->realm, "https://auth.example.com/token");
  EXPECT_EQ(c->service, "registry");
  EXPECT_EQ(c->scopes, std::vector<std::string>{"repository:a/b:pull"});
  EXPECT_EQ(parse_challenge(R"(bearer realm=x, scope="a b")")->scopes.size(), 2u);
  for (const char* bad : {"", "Bearer", "Bearer ", "Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"x",
                          "Bearer realm=\"x\ny\"", "Bearer realm=\"\""})
    EXPECT_FALSE(parse_challenge(bad).ok()) << bad;
  EXPECT_EQ(*parse_token(R"({"token":"abc"})"), "abc");
  EXPECT_EQ(*parse_token(R"({"access_token":"abc"})"), "abc");
  for (const char* bad : {"", "{}", R"({"token":5})", R"({"token":""})", R"({"token":"a\r\nHost: x"})"})
    EXPECT_FALSE(parse_token(bad).ok()) << bad;
}

TEST(Peers, HubTree) {
  const std::string tree = R"([{"type":"file","path":"README.md","size":10},
    {"path":"mmproj-F16.gguf","size":5},
    {"path":"M-Q8_0.gguf","size":80,"lfs":{"oid":")" +
                           std::string(64, 'a') + R"("}},
    {"path":"M-Q4_K_M.gguf","size":40}, {"path":"M-Q4_K_S.gguf","size":39},
    {"path":"big/M-F16-00001-of-00002.gguf","size":99}, {"path":"../M-Q2_K.gguf"}])";
  EXPECT_EQ(choose_from_tree(tree, "q8_0")->path, "M-Q8_0.gguf");
  EXPECT_TRUE(choose_from_tree(tree, "q8_0")->digest.has_value());
  EXPECT_EQ(choose_from_tree(tree, "latest")->path, "M-Q4_K_M.gguf");
  EXPECT_EQ(choose_from_tree(tree, "M-Q4_K_S.gguf")->path, "M-Q4_K_S.gguf");
  EXPECT_FALSE(choose_from_tree(tree, "Q4_K").ok());  // not a whole word of any name
  EXPECT_FALSE(choose_from_tree(tree, "Q2_K").ok());  // leads out of the repository
  EXPECT_FALSE(choose_from_tree(tree, "F16").ok());   // split
  EXPECT_NE(choose_from_tree(tree, "Q5").error().message.find("M-Q8_0.gguf"), std::string::npos);
  EXPECT_FALSE(choose_from_tree("{}", "latest").ok());
  EXPECT_FALSE(choose_from_tree("[1,{\"path\":5}]", "latest").ok());
  EXPECT_TRUE(is_split_file("a/x-00001-of-00004.gguf"));
  EXPECT_FALSE(is_split_file("best-of-breed.gguf"));
  EXPECT_EQ(further_parts("a/x-00001-of-00003.gguf"),
            (std::vector<std::string>{"a/x-00002-of-00003.gguf", "a/x-00003-of-00003.gguf"}));
  EXPECT_TRUE(further_parts("a/x-00002-of-00003.gguf").empty());
  EXPECT_TRUE(further_parts("a/x-00001-of-00001.gguf").empty());
  EXPECT_TRUE(further_parts("best-of-breed.gguf").empty());
}

TEST(Index, BothKindsOfPages) {
  const std::string hash(64, 'b');
  const std::string json =
      R"({"files":[{"filename":"a-1.whl","url":"../../p/a-1.whl","hashes":{"sha256":")" + hash + R"("}}]})";
  EXPECT_EQ(find_in_index(json, true, "a-1.whl")->url, "../../p/a-1.whl");
  EXPECT_EQ(find_in_index(json, true, "a-1.whl")->sha256, hash);
  const std::string html =
      "<html><a href=\"x-1.whl\">x</a>\n<A data-x='1' HREF='../../p/a-1.whl?k=1&amp;l=2#sha256=" + hash +
      "'>a-1.whl</a>";
  EXPECT_EQ(find_in_index(html, false, "a-1.whl")->url, "../../p/a-1.whl?k=1&l=2");
  EXPECT_EQ(find_in_index(html, false, "a-1.whl")->sha256, hash);
  EXPECT_EQ(find_in_index(html, false, "x-1.whl")->sha256, "");
  EXPECT_FALSE(find_in_index(html, false, "b.whl").ok());
  EXPECT_FALSE(find_in_index("<a href=\"unclosed", false, "b.whl").ok());
  EXPECT_FALSE(find_in_index("{}", true, "b.whl").ok());
}

TEST(Index, PipConfiguration) {
  EXPECT_EQ(index_url_of_pip_conf("[global]\nindex-url = https://mirror/simple/\n"), "https://mirror/simple/");
  EXPECT_EQ(index_url_of_pip_conf("[global]\nindex_url: https://a\n[install]\nindex-url=https://b\n"), "https://b");
  EXPECT_EQ(index_url_of_pip_conf("[list]\nindex-url=https://b\n# index-url = x\n"), "");
}

TEST(Address, Kinds) {
  for (const char* a : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"})
    EXPECT_EQ(address_kind(a), AddressKind::loopback) << a;
  for (const char* a :
       {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"})
    EXPECT_EQ(address_kind(a), AddressKind::local) << a;
  for (const char* a : {"169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1%eth0", "ff02::1",
                        "::", "::ffff:169.254.169.254"})
    EXPECT_EQ(address_kind(a), AddressKind::forbidden) << a;
  for (const char* a : {"1.1.1.1", "172.32.0.1", "2606:4700::1111", "example.com", "1.2.3", "1.2.3.4.5",
                        "127.0.0.1.evil.com", "1::2::3", ""})
    EXPECT_EQ(address_kind(a), AddressKind::open) << a;
  EXPECT_TRUE(is_loopback_host("localhost:5000"));
  EXPECT_TRUE(is_loopback_host("[::1]:80"));
  EXPECT_TRUE(is_loopback_host("x.localhost"));
  EXPECT_FALSE(is_loopback_host("localhost.example.com"));
  EXPECT_FALSE(is_loopback_host("127.0.0.1.example.com:80"));
}

// Two members, one stored and one deflated, made by Python's zipfile and written out here.
std::string sample_zip() {
  const std::string path = std::string(PONDER_SOURCE_DIR) + "/tests/registry/sample.zip";
  return test::read(path);
}

Result<std::string> member(const std::string& zip, const char* name, uint64_t size) {
  std::string out;
  const std::span bytes(reinterpret_cast<const uint8_t*>(zip.data()), zip.size());
  auto done = read_zip_member(bytes, name, size, [&](std::span<const uint8_t> piece) -> Result<void> {
    out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    return {};
  });
  if (!done.ok()) return done.error();
  return out;
}

TEST(Zip, ReadsBothKindsAndRefusesDamage) {
  const std::string zip = sample_zip();
  ASSERT_FALSE(zip.empty()) << "tests/registry/sample.zip is missing";
  std::string expected;
  for (int i = 0; i < 500; ++i) expected += "line " + std::to_string(i) + "\n";
  ASSERT_TRUE(member(zip, "d/deflated.txt", expected.size()).ok())
      << member(zip, "d/deflated.txt", expected.size()).error().message;
  EXPECT_EQ(*member(zip, "d/deflated.txt", expected.size()), expected);
  EXPECT_EQ(*member(zip, "stored.txt", 6), "stored");
  EXPECT_FALSE(member(zip, "none", 6).ok());
  EXPECT_FALSE(member(zip, "stored.txt", 7).ok());
  // Every truncation, and every single altered byte, is an error or still gives the right content: never a crash.
  for (size_t n = 0; n < zip.size(); ++n) {
    auto cut = member(zip.substr(0, n), "d/deflated.txt", expected.size());
    EXPECT_TRUE(!cut.ok() || *cut == expected) << n;
    std::string altered = zip;
    altered[n] = char(altered[n] ^ 0xff);
    auto other = member(altered, "d/deflated.txt", expected.size());
    EXPECT_TRUE(!other.ok() || *other == expected) << n;
  }
}

}  // namespace
}  // namespace ponder::store
