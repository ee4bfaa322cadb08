// A forest: one root per salt, a node per indexed page under the node of the page before it. A hash
// of (parent, tokens) finds candidates; the 64 tokens themselves decide, so that two texts can
// never share a page by a collision. Leaves are kept in order of their last use; only leaves can
// leave, so that a chain never has a hole. Next to read: pages.cpp; engine/ decides when to insert
// and when to make room.
#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "backend/kv/pages.h"

namespace ponder::backend::kv {
namespace {

using PageTokens = std::array<int32_t, kPageTokens>;

uint64_t mix(uint64_t h) {  // the finaliser of splitmix64 (Steele et al. 2014)
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9ull;
  h ^= h >> 27;
  h *= 0x94d049bb133111ebull;
  return h ^ (h >> 31);
}

uint64_t hash_of(uint64_t parent, std::span<const int32_t> tokens) {
  uint64_t h = mix(parent + 0x9e3779b97f4a7c15ull);
  for (int32_t t : tokens) h = mix(h ^ uint64_t(uint32_t(t)));
  return h;
}

}  // namespace

struct PrefixIndex::State {
  struct Node {
    uint64_t parent = 0;  // a node's or a root's id
    uint64_t hash = 0, used = 0;
    int children = 0;
    PageId page = -1;
    PageTokens tokens;
  };

  explicit State(PagePool& p) : pool(p) {}

  PagePool& pool;
  uint64_t next_id = 1, clock = 0;
  std::unordered_map<std::string, uint64_t> roots;
  std::unordered_map<uint64_t, Node> nodes;
  std::unordered_multimap<uint64_t, uint64_t> by_hash;
  std::set<std::pair<uint64_t, uint64_t>> leaves;  // (used, id)

  uint64_t child(uint64_t parent, std::span<const int32_t> tokens) const {
    const auto [begin, end] = by_hash.equal_range(hash_of(parent, tokens));
    for (auto it = begin; it != end; ++it) {
      const Node& n = nodes.at(it->second);
      if (n.parent == parent && std::equal(tokens.begin(), tokens.end(), n.tokens.begin())) return it->second;
    }
    return 0;
  }

  void touch(uint64_t id) {
    Node& n = nodes.at(id);
    const bool leaf = n.children == 0;
    if (leaf) leaves.erase({n.used, id});
    n.used = ++clock;
    if (leaf) leaves.insert({n.used, id});
  }

  uint64_t add(uint64_t parent, std::span<const int32_t> tokens, PageId page) {
    const uint64_t id = next_id++;
    Node& n = nodes[id];
    n.parent = parent;
    n.hash = hash_of(parent, tokens);
    n.used = ++clock;
    n.page = page;
    std::copy(tokens.begin(), tokens.end(), n.tokens.begin());
    by_hash.emplace(n.hash, id);
    leaves.insert({n.used, id});
    if (const auto p = nodes.find(parent); p != nodes.end() && p->second.children++ == 0)
      leaves.erase({p->second.used, parent});
    pool.retain(page);
    return id;
  }

  void remove_leaf(uint64_t id) {
    const auto it = nodes.find(id);
    const Node& n = it->second;
    leaves.erase({n.used, id});
    const auto [begin, end] = by_hash.equal_range(n.hash);
    for (auto h = begin; h != end; ++h)
      if (h->second == id) {
        by_hash.erase(h);
        break;
      }
    if (const auto p = nodes.find(n.parent); p != nodes.end() && --p->second.children == 0)
      leaves.insert({p->second.used, n.parent});
    pool.release(n.page);
    nodes.erase(it);
  }

  bool frees_a_page(uint64_t id) const { return pool.references(nodes.at(id).page) == 1; }
};

PrefixIndex::PrefixIndex(PagePool& pool) : state_(std::make_unique<State>(pool)) {}
PrefixIndex::~PrefixIndex() { clear(); }

std::vector<PageId> PrefixIndex::find(std::string_view salt, std::span<const int32_t> tokens, int max_tokens) {
  std::vector<PageId> found;
  const auto root = state_->roots.find(std::string(salt));
  if (root == state_->roots.end()) return found;
  const size_t n = std::min(tokens.size(), size_t(std::max(0, max_tokens))) / kPageTokens;
  uint64_t at = root->second;
  for (size_t i = 0; i < n; ++i) {
    at = state_->child(at, tokens.subspan(i * kPageTokens, kPageTokens));
    if (at == 0) break;
    state_->touch(at);
    found.push_back(state_->nodes.at(at).page);
  }
  return found;
}

void PrefixIndex::insert(std::string_view salt, std::span<const int32_t> tokens, std::span<const PageId> pages) {
  const size_t n = std::min(tokens.size() / kPageTokens, pages.size());
  if (n == 0) return;
  const auto [root, is_new] = state_->roots.try_emplace(std::string(salt), state_->next_id);
  if (is_new) ++state_->next_id;
  uint64_t at = root->second;
  for (size_t i = 0; i < n; ++i) {
    const auto piece = tokens.subspan(i * kPageTokens, kPageTokens);
    const uint64_t known = state_->child(at, piece);
    if (known != 0) state_->touch(known);
    at = known != 0 ? known : state_->add(at, piece, pages[i]);
  }
}

void PrefixIndex::make_room(int n) {
  State& s = *state_;
  while (s.pool.available() < n && !s.nodes.empty()) {
    // A leaf whose page a running sequence holds too would free nothing: the oldest other one goes.
    // When all leaves are held, go on only while some page behind them would become free.
    auto victim =
        std::find_if(s.leaves.begin(), s.leaves.end(), [&](const auto& l) { return s.frees_a_page(l.second); });
    if (victim == s.leaves.end()) {
      const bool hope =
          std::any_of(s.nodes.begin(), s.nodes.end(), [&](const auto& x) { return s.frees_a_page(x.first); });
      if (!hope) return;
      victim = s.leaves.begin();
    }
    s.remove_leaf(victim->second);
  }
}

void PrefixIndex::clear() {
  for (const auto& [id, node] : state_->nodes) state_->pool.release(node.page);
  state_->nodes.clear();
  state_->by_hash.clear();
  state_->leaves.clear();
  state_->roots.clear();
}

int PrefixIndex::size() const { return int(state_->nodes.size()); }

}  // namespace ponder::backend::kv
