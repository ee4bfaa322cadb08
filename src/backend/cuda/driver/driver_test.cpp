// Every machine on which the card cannot be used, played: each must give its own clear sentence.
#include "backend/cuda/driver/driver.h"

#include <gtest/gtest.h>

#include <cstring>

namespace ponder::backend::cuda {
namespace {

struct Machine {
  int init = 0, version = 13000;
  std::vector<Card> cards = {};
  bool answers = true;
};
Machine machine;

DriverApi play(const Machine& m) {
  machine = m;
  DriverApi api;
  api.init = [](unsigned) { return machine.init; };
  api.driver_version = [](int* v) { return *v = machine.version, 0; };
  api.device_count = [](int* n) { return *n = int(machine.cards.size()), 0; };
  api.device_get = [](int* device, int i) { return *device = i, machine.answers ? 0 : 999; };
  api.device_name = [](char* name, int size, int i) {
    std::strncpy(name, machine.cards[size_t(i)].name.c_str(), size_t(size));
    return 0;
  };
  api.device_memory = [](size_t* bytes, int i) { return *bytes = machine.cards[size_t(i)].memory, 0; };
  api.device_attribute = [](int* value, int attribute, int i) {
    const int c = machine.cards[size_t(i)].capability;
    return *value = attribute == 75 ? c / 10 : c % 10, 0;
  };
  return api;
}

std::string sentence(const Machine& m) {
  const auto cards = find_cards(play(m));
  EXPECT_FALSE(cards.ok());
  if (cards.ok()) return "";
  EXPECT_EQ(cards.error().code, ErrorCode::unsupported);
  return cards.error().message;
}

const Card kGood{0, "NVIDIA GeForce RTX 4060 Ti", 89, uint64_t(16) << 30},
    kOld{0, "NVIDIA GeForce GTX 1080", 61, 8u << 20};

TEST(Driver, NamesTheUsableCards) {
  const auto cards = find_cards(play({.cards = {kOld, kGood}}));
  ASSERT_TRUE(cards.ok()) << cards.error().message;
  ASSERT_EQ(cards->size(), 1u);
  EXPECT_EQ((*cards)[0].name, kGood.name);
  EXPECT_EQ((*cards)[0].index, 1);
  EXPECT_EQ((*cards)[0].capability, 89);
  EXPECT_EQ((*cards)[0].memory, kGood.memory);
}

TEST(Driver, EachBrokenMachineGetsItsOwnSentence) {
  EXPECT_NE(sentence({.version = 12040, .cards = {kGood}}).find("offers CUDA 12.4, this build needs 13.0 (driver 580"),
            std::string::npos);
  EXPECT_NE(sentence({.init = 100}).find("sees no card"), std::string::npos);
  EXPECT_NE(sentence({}).find("sees no card"), std::string::npos);
  EXPECT_NE(sentence({.init = 803}).find("reboot"), std::string::npos);
  EXPECT_NE(sentence({.init = 802}).find("fabric manager"), std::string::npos);
  EXPECT_NE(sentence({.init = 800}).find("/dev/nvidia"), std::string::npos);
  EXPECT_NE(sentence({.init = 999}).find("error 999"), std::string::npos);
  EXPECT_NE(sentence({.cards = {kOld}}).find("GTX 1080 (compute capability 6.1): too old"), std::string::npos);
  EXPECT_NE(sentence({.cards = {kGood}, .answers = false}).find("none of them answers"), std::string::npos);
}

// On this machine, whatever it is: cards or a sentence, never a crash.
TEST(Driver, ThisMachineIsDescribedWithoutHarm) {
  const auto cards = find_cards();
  if (cards.ok()) {
    EXPECT_FALSE(cards->empty());
  } else {
    EXPECT_GT(cards.error().message.size(), 20u);
  }
}

}  // namespace
}  // namespace ponder::backend::cuda
