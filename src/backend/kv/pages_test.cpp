#include "backend/kv/pages.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <set>

namespace ponder::backend::kv {
namespace {

struct Store : PageStore {
  std::set<PageId> prepared;
  std::vector<std::pair<PageId, PageId>> copies;
  int fail_after = -1;  // prepare_page fails when this many have succeeded
  Result<void> prepare_page(PageId page) override {
    if (fail_after == 0) return Error{ErrorCode::out_of_memory, "no storage"};
    if (fail_after > 0) --fail_after;
    prepared.insert(page);
    return {};
  }
  void copy_page(PageId from, PageId to) override { copies.push_back({from, to}); }
};

std::vector<int32_t> text(int n, int seed = 0) {
  std::vector<int32_t> v(static_cast<size_t>(n));
  std::iota(v.begin(), v.end(), seed * 1000);
  return v;
}

TEST(PagePool, LowestFreeIdFirstAndFullIsAnError) {
  PagePool pool(3);
  EXPECT_EQ(*pool.allocate(), 0);
  EXPECT_EQ(*pool.allocate(), 1);
  EXPECT_EQ(*pool.allocate(), 2);
  auto full = pool.allocate();
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::out_of_memory);
  EXPECT_NE(full.error().message.find("192 tokens"), std::string::npos) << full.error().message;
  pool.release(2);
  pool.release(0);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(*pool.allocate(), 0);
  EXPECT_EQ(*pool.allocate(), 2);
  pool.retain(1);
  pool.release(1);
  EXPECT_EQ(pool.references(1), 1);
}

TEST(SequenceState, ReserveTakesPagesAsNeeded) {
  PagePool pool(8);
  Store store;
  SequenceState s(pool, store);
  ASSERT_TRUE(s.reserve(1).ok());
  EXPECT_EQ(s.pages().size(), 1u);
  ASSERT_TRUE(s.reserve(64).ok());
  EXPECT_EQ(s.pages().size(), 1u);
  ASSERT_TRUE(s.reserve(65).ok());
  EXPECT_EQ(s.pages().size(), 2u);
  EXPECT_EQ(s.length(), 0);
  s.advance(65);
  s.trim(64);
  EXPECT_EQ(s.pages().size(), 1u);
  s.trim(0);
  EXPECT_EQ(pool.used(), 0);
}

TEST(SequenceState, ErrorChangesNothing) {
  PagePool pool(3);
  Store store;
  SequenceState a(pool, store);
  ASSERT_TRUE(a.reserve(100).ok());
  a.advance(100);
  auto b = a.fork();
  const std::vector<PageId> before(b->pages().begin(), b->pages().end());
  EXPECT_FALSE(b->reserve(64).ok());  // needs a copy of the last page and a new one: only one is left
  EXPECT_EQ(std::vector<PageId>(b->pages().begin(), b->pages().end()), before);
  EXPECT_EQ(pool.used(), 2);
  EXPECT_TRUE(store.copies.empty());
  store.fail_after = 0;
  EXPECT_FALSE(b->reserve(1).ok());
  EXPECT_EQ(pool.used(), 2);
  store.fail_after = -1;
  EXPECT_TRUE(b->reserve(28).ok());
}

TEST(SequenceState, ForkSharesUntilOneWrites) {
  PagePool pool(8);
  Store store;
  SequenceState a(pool, store);
  ASSERT_TRUE(a.reserve(100).ok());
  a.advance(100);
  {
    auto b = a.fork();
    EXPECT_EQ(pool.used(), 2);
    EXPECT_EQ(b->length(), 100);
    ASSERT_TRUE(b->reserve(1).ok());
    ASSERT_EQ(store.copies.size(), 1u);
    EXPECT_EQ(store.copies[0].first, a.pages()[1]);
    EXPECT_EQ(store.copies[0].second, b->pages()[1]);
    EXPECT_EQ(a.pages()[0], b->pages()[0]);
    EXPECT_NE(a.pages()[1], b->pages()[1]);
    ASSERT_TRUE(a.reserve(1).ok());  // a is now alone on its last page
    EXPECT_EQ(store.copies.size(), 1u);
    EXPECT_EQ(pool.used(), 3);
  }
  EXPECT_EQ(pool.used(), 2);
}

TEST(SequenceState, ForkDoesNotShareReservedPages) {
  PagePool pool(8);
  Store store;
  SequenceState a(pool, store);
  ASSERT_TRUE(a.reserve(128).ok());
  a.advance(64);
  auto b = a.fork();
  EXPECT_EQ(b->pages().size(), 1u);
  ASSERT_TRUE(b->reserve(1).ok());
  EXPECT_NE(b->pages()[1], a.pages()[1]);
  EXPECT_TRUE(store.copies.empty());
}

TEST(SequenceState, TrimIntoAnAdoptedPageCopiesIt) {
  PagePool pool(8);
  Store store;
  SequenceState a(pool, store);
  ASSERT_TRUE(a.reserve(128).ok());
  a.advance(128);
  SequenceState b(pool, store);
  b.adopt(a.pages());
  EXPECT_EQ(b.length(), 128);
  b.trim(64);  // exactly at the border: page 1 is not b's any more
  EXPECT_EQ(pool.references(a.pages()[1]), 1);
  b.trim(63);
  ASSERT_TRUE(b.reserve(1).ok());
  EXPECT_EQ(store.copies.size(), 1u);
  EXPECT_NE(a.pages()[0], b.pages()[0]);
  b.trim(0);
  a.trim(0);
  EXPECT_EQ(pool.used(), 0);
}

TEST(PrefixIndex, FindsChainedFullPagesOfTheSameClient) {
  PagePool pool(16);
  Store store;
  PrefixIndex index(pool);
  SequenceState a(pool, store);
  ASSERT_TRUE(a.reserve(200).ok());
  a.advance(200);
  const auto t = text(200);
  index.insert("one", t, a.pages());
  EXPECT_EQ(index.size(), 3);  // the fourth page is not full
  EXPECT_EQ(index.find("one", t, 200).size(), 3u);
  EXPECT_EQ(index.find("one", t, 191).size(), 2u);
  EXPECT_EQ(index.find("one", t, 63).size(), 0u);
  EXPECT_EQ(index.find("two", t, 200).size(), 0u);
  auto other = t;
  other[0] = -5;  // a different first page: the later ones must not match
  EXPECT_EQ(index.find("one", other, 200).size(), 0u);
  other = t;
  other[100]++;
  EXPECT_EQ(index.find("one", other, 200).size(), 1u);
  const auto pages = index.find("one", t, 200);
  EXPECT_TRUE(std::equal(pages.begin(), pages.end(), a.pages().begin()));
  a.trim(0);
  EXPECT_EQ(pool.used(), 3);
  index.clear();
  EXPECT_EQ(pool.used(), 0);
}

TEST(PrefixIndex, KnownPagesAreNotRetainedTwice) {
  PagePool pool(16);
  Store store;
  PrefixIndex index(pool);
  SequenceState a(pool, store), b(pool, store);
  const auto t = text(128);
  for (auto* s : {&a, &b}) {
    ASSERT_TRUE(s->reserve(128).ok());
    s->advance(128);
    index.insert("", t, s->pages());
  }
  EXPECT_EQ(index.size(), 2);
  EXPECT_EQ(pool.references(a.pages()[0]), 2);
  EXPECT_EQ(pool.references(b.pages()[0]), 1);
}

TEST(PrefixIndex, RoomComesFromTheOldestLeaves) {
  PagePool pool(6);
  Store store;
  PrefixIndex index(pool);
  for (int i = 0; i < 3; ++i) {
    SequenceState s(pool, store);
    ASSERT_TRUE(s.reserve(128).ok());
    s.advance(128);
    index.insert("", text(128, i), s.pages());
  }
  EXPECT_EQ(pool.available(), 0);
  index.find("", text(128, 0), 128);  // 0 is now the newest
  index.make_room(1);
  EXPECT_EQ(index.find("", text(128, 1), 128).size(), 1u);  // its leaf went, its first page stays
  EXPECT_EQ(pool.available(), 1);
  EXPECT_EQ(index.find("", text(128, 0), 128).size(), 2u);
  index.make_room(100);
  EXPECT_EQ(index.size(), 0);
  EXPECT_EQ(pool.available(), 6);
}

TEST(PrefixIndex, PagesInUseAreKeptWhenDroppingThemFreesNothing) {
  PagePool pool(4);
  Store store;
  PrefixIndex index(pool);
  SequenceState held(pool, store);
  ASSERT_TRUE(held.reserve(128).ok());
  held.advance(128);
  index.insert("", text(128, 7), held.pages());
  {
    SequenceState s(pool, store);
    ASSERT_TRUE(s.reserve(64).ok());
    s.advance(64);
    index.insert("", text(64, 8), s.pages());
  }
  index.make_room(4);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(index.size(), 2);
  EXPECT_EQ(index.find("", text(128, 7), 128).size(), 2u);
}

// Against a plain model: a random walk of inserts, finds and evictions never loses a page or finds
// a wrong one.
TEST(PrefixIndex, RandomWalkKeepsCounts) {
  PagePool pool(40);
  Store store;
  {
    PrefixIndex index(pool);
    std::mt19937 rng(5);
    for (int step = 0; step < 2000; ++step) {
      std::vector<int32_t> t;
      const int n = 1 + int(rng() % 4);
      for (int p = 0; p < n; ++p) {
        const int kind = int(rng() % 3);
        for (int i = 0; i < kPageTokens; ++i) t.push_back(kind * 100 + i);
      }
      SequenceState s(pool, store);
      const auto known = index.find("", t, int(t.size()));
      s.adopt(known);
      index.make_room(n);
      ASSERT_TRUE(s.reserve(int(t.size()) - s.length()).ok());
      s.advance(int(t.size()) - s.length());
      index.insert("", t, s.pages());
      ASSERT_EQ(index.find("", t, int(t.size())).size(), size_t(n));
      if (rng() % 8 == 0) index.make_room(int(rng() % 40));
      ASSERT_EQ(pool.used() >= index.size(), true);
    }
  }
  EXPECT_EQ(pool.used(), 0);
}

}  // namespace
}  // namespace ponder::backend::kv
