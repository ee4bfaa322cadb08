// For tests of readers: a good JSON value with one to three of its leaves gone or replaced by what nobody expects there.
#pragma once

#include <functional>
#include <iterator>
#include <random>
#include <vector>

#include <nlohmann/json.hpp>

namespace ponder::runtime {

inline void mutate(const nlohmann::json& good, int rounds, const std::function<void(const nlohmann::json&)>& read) {
  using nlohmann::json;
  std::mt19937 random(1);
  const std::vector<json> odd = {nullptr,
                                 1e300,
                                 -1,
                                 "x",
                                 json::array(),
                                 json::object(),
                                 18446744073709551615ull,
                                 true,
                                 json::array({json::array({1})}),
                                 1.5,
                                 2147483648ll};
  const json flat = good.flatten();
  for (int round = 0; round < rounds; ++round) {
    json changed = flat;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) {
      auto it = changed.begin();
      std::advance(it, random() % changed.size());
      if (random() % 4 == 0) {
        changed.erase(it);
      } else {
        *it = odd[random() % odd.size()];
      }
    }
    json whole;
    try {
      whole = changed.unflatten();
    } catch (const json::exception&) {
      continue;  // an array with a hole: JSON itself cannot say that
    }
    read(whole);
  }
}

}  // namespace ponder::runtime
