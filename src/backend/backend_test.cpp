#include "backend/backend.h"

#include <gtest/gtest.h>

namespace ponder::backend {
namespace {

struct NoStore : kv::PageStore {
  Result<void> prepare_page(kv::PageId) override { return {}; }
  void copy_page(kv::PageId, kv::PageId) override {}
};

class Validate : public ::testing::Test {
 protected:
  Validate() : a(pool, store), b(pool, store) {
    spec.vocab_size = 100;
    options.max_batch_rows = 8;
    options.max_output_rows = 2;
    EXPECT_TRUE(a.reserve(10).ok());
    a.advance(3);
    EXPECT_TRUE(b.reserve(4).ok());
  }
  std::string error(std::vector<Row> rows) {
    auto r = validate(Batch{std::move(rows)}, spec, options);
    return r.ok() ? "" : r.error().message;
  }
  kv::PagePool pool{8};
  NoStore store;
  SequenceState a, b;
  model::ModelSpec spec;
  PlanOptions options;
  sample::Params params;
};

TEST_F(Validate, AcceptsMixedRows) {
  sample::Request draw;
  draw.params = &params;
  EXPECT_EQ(error({{&a, 1, 3}, {&a, 2, 4}, {&b, 99, 0, &draw}, {&b, 0, 1, nullptr, true}}), "");
}

TEST_F(Validate, NamesWhatIsWrong) {
  EXPECT_NE(error({}).find("no rows"), std::string::npos);
  EXPECT_NE(error({{nullptr, 1, 0}}).find("no sequence"), std::string::npos);
  EXPECT_NE(error({{&a, 100, 3}}).find("0 to 99"), std::string::npos);
  EXPECT_NE(error({{&a, -1, 3}}).find("0 to 99"), std::string::npos);
  EXPECT_NE(error({{&a, 1, 2}}).find("expected position 3"), std::string::npos);
  EXPECT_NE(error({{&a, 1, 3}, {&a, 1, 5}}).find("expected position 4"), std::string::npos);
  EXPECT_NE(error({{&a, 1, 3}, {&b, 1, 0}, {&a, 1, 4}}).find("consecutive"), std::string::npos);
  SequenceState empty(pool, store);
  EXPECT_NE(error({{&empty, 1, 0}}).find("no room"), std::string::npos);
  EXPECT_NE(error(std::vector<Row>(9, Row{&a, 1, 3})).find("at most 8"), std::string::npos);
  EXPECT_NE(error({{&a, 1, 3, nullptr, true}, {&a, 1, 4, nullptr, true}, {&b, 1, 0, nullptr, true}}).find("at most 2"),
            std::string::npos);
  sample::Request draw;
  EXPECT_NE(error({{&a, 1, 3, &draw}}).find("parameters"), std::string::npos);
  draw.params = &params;
  const uint32_t word = ~0u;
  draw.mask = {&word, 1};
  EXPECT_NE(error({{&a, 1, 3, &draw}}).find("mask"), std::string::npos);
}

TEST(Names, RoundTrip) {
  for (Precision p : {Precision::standard, Precision::fast, Precision::exact})
    EXPECT_EQ(parse_precision(to_string(p)), p);
  for (KvFormat f : {KvFormat::f16, KvFormat::f32, KvFormat::q8}) EXPECT_EQ(parse_kv_format(to_string(f)), f);
  EXPECT_EQ(parse_kv_format("q8_0"), KvFormat::q8);
  EXPECT_FALSE(parse_precision("int8"));
  EXPECT_FALSE(parse_kv_format(""));
}

}  // namespace
}  // namespace ponder::backend
