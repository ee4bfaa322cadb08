// Round trips through the writer, split files, typed access, and truncation at every byte. The
// table of malformed files is tests/cases/gguf-bad (run under a memory limit).
#include "gguf/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/os/file.h"
#include "base/os/system.h"
#include "gguf/tensor_types.h"
#include "gguf/writer.h"

namespace ponder::gguf {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<std::string> owned(std::string bytes) { return std::make_shared<std::string>(std::move(bytes)); }

Result<std::shared_ptr<const File>> parse(const std::shared_ptr<std::string>& bytes, OpenOptions o = {}) {
  return File::parse({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()}, bytes, "memory", o);
}

class Folder {
 public:
  Folder() {
    path_ = fs::temp_directory_path() / ("ponder-gguf-" + std::to_string(os::random_u64()));
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

const std::string kWords[] = {"one", "", "drei\xc3\xa9", std::string("a\0b", 3)};
const int32_t kInts[] = {-5, 0, 7};
const float kFloats[] = {1.5f, -0.25f};
const uint64_t kShapeF32[] = {3, 2};
const uint64_t kShapeQ8[] = {64, 2, 1, 2};

Writer example() {
  Writer w;
  w.add_string("general.architecture", "qwen2")
      .add_u32("a.u32", 4000000000u)
      .add_i32("a.i32", -3)
      .add_u64("a.u64", std::numeric_limits<uint64_t>::max())
      .add_f32("a.f32", 0.1f)
      .add_bool("a.bool", true)
      .add_strings("a.strings", kWords)
      .add_i32s("a.i32s", kInts)
      .add_f32s("a.f32s", kFloats);
  w.add_tensor("x.weight", kShapeF32, 0, 24);
  w.add_tensor("y.weight", kShapeQ8, 8, 64 * 4 / 32 * 34);
  return w;
}

/// The example as a whole file in memory; tensor data counts upwards.
std::string example_bytes() {
  std::string s = example().header();
  for (int i = 0; i < 32; ++i) s += char(i < 24 ? i : 0);
  for (int i = 0; i < 272; ++i) s += char(i);
  return s;
}

void expect_example(const File& f) {
  EXPECT_EQ(f.version(), 3u);
  EXPECT_EQ(f.metadata().size(), 9u);
  EXPECT_EQ(f.get_string("general.architecture"), "qwen2");
  EXPECT_EQ(f.get_u64("a.u32"), 4000000000u);
  EXPECT_EQ(f.get_u64("a.u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(f.get_u64("a.i32"));  // negative
  EXPECT_EQ(std::get<int64_t>(f.find("a.i32")->value), -3);
  EXPECT_EQ(f.get_f64("a.f32"), double(0.1f));
  EXPECT_EQ(f.get_bool("a.bool"), true);
  const auto* words = f.get_array("a.strings");
  ASSERT_NE(words, nullptr);
  ASSERT_EQ(words->size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(words->string_at(i), kWords[i]);
  EXPECT_FALSE(words->string_at(4));
  EXPECT_FALSE(words->int_at(0));
  const auto* ints = f.get_array("a.i32s");
  ASSERT_NE(ints, nullptr);
  EXPECT_EQ(ints->int_at(0), -5);
  EXPECT_EQ(ints->number_at(2), 7.0);
  EXPECT_FALSE(ints->int_at(3));
  const auto* floats = f.get_array("a.f32s");
  ASSERT_NE(floats, nullptr);
  EXPECT_EQ(floats->number_at(1), -0.25);
  EXPECT_FALSE(floats->int_at(1));

  ASSERT_EQ(f.tensors().size(), 2u);
  const auto* x = f.find_tensor("x.weight");
  const auto* y = f.find_tensor("y.weight");
  ASSERT_TRUE(x != nullptr && y != nullptr);
  EXPECT_EQ(f.find_tensor("z"), nullptr);
  EXPECT_EQ(x->shape, (std::vector<uint64_t>{3, 2}));
  EXPECT_EQ(y->rows(), 4u);
  EXPECT_EQ(y->columns(), 64u);
  ASSERT_EQ(x->data.size(), 24u);
  ASSERT_EQ(y->data.size(), 272u);
  EXPECT_EQ(x->data[23], 23);
  EXPECT_EQ(y->data[271], 271 - 256);
}

TEST(Gguf, RoundTripInMemory) {
  auto f = parse(owned(example_bytes()));
  ASSERT_TRUE(f.ok()) << f.error().message;
  expect_example(**f);
}

TEST(Gguf, RoundTripThroughFileInPieces) {
  const Folder dir;
  Writer w = example();
  ASSERT_TRUE(w.begin(dir / "m.gguf").ok());
  EXPECT_FALSE(fs::exists(dir / "m.gguf"));  // only a finished file gets its name
  std::vector<uint8_t> x(24), y(272);
  for (int i = 0; i < 24; ++i) x[i] = uint8_t(i);
  for (int i = 0; i < 272; ++i) y[i] = uint8_t(i);
  ASSERT_TRUE(w.write_data(std::span(x).first(10)).ok());
  EXPECT_FALSE(w.write_data(y).ok());  // more than the tensor holds
  ASSERT_TRUE(w.write_data(std::span(x).subspan(10)).ok());
  EXPECT_FALSE(w.finish().ok());  // y is missing
  ASSERT_TRUE(w.write_data(y).ok());
  EXPECT_FALSE(w.write_data(x).ok());  // no third tensor
  ASSERT_TRUE(w.finish().ok());
  EXPECT_FALSE(fs::exists(dir / "m.gguf.partial"));

  auto f = File::open(dir / "m.gguf");
  ASSERT_TRUE(f.ok()) << f.error().message;
  expect_example(**f);
  EXPECT_EQ((*f)->total_bytes(), fs::file_size(dir / "m.gguf"));
  (*f)->will_need((*f)->tensors()[0]);
  (*f)->drop((*f)->tensors()[1]);
  EXPECT_EQ((*f)->tensors()[1].data[5], 5);  // still readable after drop()
}

TEST(Gguf, AbandonedFileLeavesNothing) {
  const Folder dir;
  {
    Writer w = example();
    ASSERT_TRUE(w.begin(dir / "m.gguf").ok());
  }
  EXPECT_TRUE(fs::is_empty(fs::path(dir / "m.gguf").parent_path()));
}

TEST(Gguf, EntriesCopyExactly) {
  auto f = parse(owned(example_bytes()));
  ASSERT_TRUE(f.ok());
  Writer copy;
  for (const auto& kv : (*f)->metadata()) copy.add(kv);
  for (const auto& t : (*f)->tensors()) copy.add_tensor(t.name, t.shape, t.type, t.data.size());
  EXPECT_EQ(copy.header(), example().header());
}

TEST(Gguf, Version2IsRead) {
  std::string s = example_bytes();
  s[4] = 2;
  auto f = parse(owned(s));
  ASSERT_TRUE(f.ok()) << f.error().message;
  EXPECT_EQ((*f)->version(), 2u);
}

TEST(Gguf, TruncationAtEveryByteIsAnErrorWithAPlace) {
  const std::string whole = example_bytes();
  for (size_t n = 0; n < whole.size(); ++n) {
    auto f = parse(owned(whole.substr(0, n)));
    ASSERT_FALSE(f.ok()) << "cut at " << n;
    EXPECT_EQ(f.error().code, ErrorCode::invalid_file);
    EXPECT_EQ(f.error().message.find("memory: "), 0u) << f.error().message;
  }
}

TEST(Gguf, MetadataOnlyAcceptsMissingData) {
  const std::string whole = example_bytes();
  const size_t head = example().header().size();
  const OpenOptions vocabulary{.metadata_only = true};
  auto none = parse(owned(whole.substr(0, head)), vocabulary);
  ASSERT_TRUE(none.ok()) << none.error().message;
  EXPECT_TRUE((*none)->tensors()[0].data.empty());
  auto some = parse(owned(whole.substr(0, head + 40)), vocabulary);
  ASSERT_TRUE(some.ok());
  EXPECT_EQ((*some)->tensors()[0].data.size(), 24u);
  EXPECT_TRUE((*some)->tensors()[1].data.empty());
  EXPECT_FALSE(parse(owned(whole.substr(0, head - 40)), vocabulary).ok());  // the table itself is cut
}

// Every byte of the head set to a few values in turn: whatever happens, no crash and no big
// allocation (the sanitizer presets run this too).
TEST(Gguf, DamagedBytesNeverCrash) {
  const std::string whole = example_bytes();
  const size_t head = example().header().size();
  for (size_t i = 0; i < head; ++i) {
    for (const int v : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string s = whole;
      s[i] = char(v);
      auto f = parse(owned(s));
      if (f.ok()) {
        for (const auto& t : (*f)->tensors()) EXPECT_FALSE(t.data.empty());
      } else {
        EXPECT_FALSE(f.error().message.empty());
      }
    }
  }
}

TEST(Gguf, TypedAccessNamesTheKey) {
  const int32_t same[] = {8, 8, 8};
  const int32_t mixed[] = {8, 4, 8};
  Writer w;
  w.add_u32("n", 7).add_i32("negative", -1).add_string("s", "text").add_i32s("same", same);
  w.add_i32s("mixed", mixed).add_f32("inf", std::numeric_limits<float>::infinity());
  auto parsed = parse(owned(w.header()));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const File& f = **parsed;
  EXPECT_EQ(*f.require_u64("n", 1, 7), 7u);
  EXPECT_EQ(*f.require_u64("same", 0, 10), 8u);
  EXPECT_EQ(*f.require_f64("n"), 7.0);
  EXPECT_EQ(*f.require_string("s"), "text");
  EXPECT_EQ((*f.require_array("mixed", ValueType::i32))->size(), 3u);
  const auto expect = [](const auto& result, const std::string& part) {
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  expect(f.require_u64("n", 8, 9), "'n': 7 is not between 8 and 9");
  expect(f.require_u64("absent", 0, 1), "'absent': missing");
  expect(f.require_u64("negative", 0, 1), "'negative': is of type i32");
  expect(f.require_u64("mixed", 0, 10), "'mixed': is of type array of i32");
  expect(f.require_u64("s", 0, 1), "'s': is of type string");
  expect(f.require_f64("s"), "'s'");
  expect(f.require_f64("inf"), "'inf': is not a finite");
  expect(f.require_string("n"), "'n': is of type u32");
  expect(f.require_array("s", ValueType::string), "'s': is of type string");
  expect(f.require_array("same", ValueType::string), "'same': is of type array of i32");
}

// ---- split files ----

/// Writes part `no` of `count` with one tensor of 8 floats (none if `name` is empty).
void write_part(const std::string& path, int no, int count, int total, const std::string& name) {
  Writer w;
  if (no == 0) w.add_string("general.architecture", "llama");
  w.add_u32("split.no", uint32_t(no)).add_u32("split.count", uint32_t(count));
  w.add_i32("split.tensors.count", total);
  const uint64_t shape[] = {8};
  if (!name.empty()) w.add_tensor(name, shape, 0, 32);
  ASSERT_TRUE(w.begin(path).ok());
  const std::vector<uint8_t> data(32, uint8_t(no + 1));
  if (!name.empty()) {
    ASSERT_TRUE(w.write_data(data).ok());
  }
  ASSERT_TRUE(w.finish().ok());
}

TEST(GgufSplit, PartsBecomeOneFile) {
  const Folder dir;
  write_part(dir / "m-00001-of-00003.gguf", 0, 3, 2, "");
  write_part(dir / "m-00002-of-00003.gguf", 1, 3, 2, "b");
  write_part(dir / "m-00003-of-00003.gguf", 2, 3, 2, "a");
  auto f = File::open(dir / "m-00001-of-00003.gguf");
  ASSERT_TRUE(f.ok()) << f.error().message;
  EXPECT_EQ((*f)->tensors().size(), 2u);
  EXPECT_EQ((*f)->find_tensor("a")->data[0], 3);
  EXPECT_EQ((*f)->find_tensor("b")->data[0], 2);
  EXPECT_EQ((*f)->get_string("general.architecture"), "llama");
  (*f)->will_need(*(*f)->find_tensor("a"));
  (*f)->drop(*(*f)->find_tensor("b"));
}

void expect_error(const std::string& path, const std::string& part, OpenOptions o = {}) {
  auto f = File::open(path, o);
  ASSERT_FALSE(f.ok());
  EXPECT_NE(f.error().message.find(part), std::string::npos) << f.error().message;
}

TEST(GgufSplit, WrongPartsAreNamed) {
  const Folder dir;
  const std::string one = dir / "m-00001-of-00002.gguf", two = dir / "m-00002-of-00002.gguf";
  write_part(one, 0, 2, 2, "a");
  expect_error(one, "part 2 of 2");  // missing
  EXPECT_TRUE(File::open(one, {.metadata_only = true}).ok());
  write_part(two, 0, 2, 2, "b");
  expect_error(two, "open " + one);
  expect_error(one, "m-00002-of-00002.gguf: key 'split.no': is 0 where 1 is expected");
  write_part(two, 1, 5, 2, "b");
  expect_error(one, "key 'split.count': is 5 where 2 is expected");
  write_part(two, 1, 2, 2, "a");
  expect_error(one, "tensor 'a': duplicate");
  write_part(two, 1, 2, 2, "b");
  EXPECT_TRUE(File::open(one).ok());
  write_part(one, 0, 2, 3, "a");
  expect_error(one, "key 'split.tensors.count': is 3 where 2 is expected");
  fs::rename(one, dir / "m.gguf");
  expect_error(dir / "m.gguf", "key 'split.count': this is one of 2 parts");
  write_part(one, 1, 2, 2, "a");
  expect_error(one, "key 'split.no': is 1 where 0 is expected");
  write_part(dir / "n-00001-of-00003.gguf", 0, 2, 2, "a");
  expect_error(dir / "n-00001-of-00003.gguf", "key 'split.count'");
}

TEST(GgufSplit, APartInMemoryIsRefused) {
  Writer w;
  w.add_u32("split.count", 2);
  auto f = parse(owned(w.header()));
  ASSERT_FALSE(f.ok());
  EXPECT_NE(f.error().message.find("split.count"), std::string::npos);
}

TEST(Gguf, MissingFileIsNotFound) {
  auto f = File::open("/nonexistent/m.gguf");
  ASSERT_FALSE(f.ok());
  EXPECT_EQ(f.error().code, ErrorCode::not_found);
}

// ---- real files ----

std::string cached(const std::string& name) {
  const auto dir = os::env("PONDER_MODEL_CACHE");
  return (dir ? *dir : os::home_directory() + "/.cache/ponder-tests") + "/" + name;
}

TEST(GgufRealFiles, QwenIsReadWhole) {
  auto f = File::open(cached("qwen-0.5b.gguf"));
  ASSERT_TRUE(f.ok()) << f.error().message << " (run `make test-models`)";
  EXPECT_EQ((*f)->get_string("general.architecture"), "qwen2");
  EXPECT_EQ((*f)->tensors().size(), 291u);
  EXPECT_EQ((*f)->total_bytes(), 491400064u);
  EXPECT_EQ((*f)->get_array("tokenizer.ggml.tokens")->size(), 151936u);
  EXPECT_EQ((*f)->find_tensor("blk.0.ffn_down.weight")->type, 14u);
}

TEST(GgufRealFiles, TruncatedModelIsRefusedButGivesItsVocabulary) {
  const std::string path = cached("r1-7b-head.gguf");
  auto whole = File::open(path);
  ASSERT_FALSE(whole.ok());
  EXPECT_NE(whole.error().message.find("the file is cut short"), std::string::npos)
      << whole.error().message << " (run `make test-models`)";
  auto f = File::open(path, {.metadata_only = true});
  ASSERT_TRUE(f.ok()) << f.error().message;
  EXPECT_EQ((*f)->get_array("tokenizer.ggml.tokens")->size(), 152064u);
  EXPECT_EQ((*f)->tensors().size(), 339u);
  EXPECT_EQ(*(*f)->require_u64("qwen2.block_count", 1, 1000), 28u);
}

TEST(Gguf, TensorTypesAreConsistent) {
  for (uint32_t i = 0; i < 64; ++i) {
    const TensorType* t = find_tensor_type(i);
    if (t == nullptr) continue;
    EXPECT_EQ(t->number, i);
    EXPECT_TRUE(t->block_size >= 1 && t->block_size <= 256 && t->block_bytes >= 1) << t->name;
  }
  EXPECT_EQ(find_tensor_type(4), nullptr);
  EXPECT_EQ(find_tensor_type(31), nullptr);
}

}  // namespace
}  // namespace ponder::gguf
