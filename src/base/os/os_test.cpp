#include <gtest/gtest.h>

#if !defined(_WIN32)
#include <unistd.h>
#endif

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/os/file.h"
#include "base/os/memory.h"
#include "base/os/system.h"

namespace ponder::os {
namespace {

class OsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = (std::filesystem::temp_directory_path() / ("ponder-os-" + std::to_string(random_u64()))).string();
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(OsTest, AtomicWriteReplacesAndLeavesNoTemporary) {
  const std::string path = folder_ + "/a.json";
  ASSERT_TRUE(write_file_atomically(path, "one").ok());
  ASSERT_TRUE(write_file_atomically(path, "two").ok());
  EXPECT_EQ(read_file(path).value(), "two");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_FALSE(write_file_atomically(folder_ + "/missing/a", "x").ok());
}

TEST_F(OsTest, EnergyIsTheSumOfThePackages) {
  EXPECT_FALSE(processor_joules(folder_).has_value());
  for (const char* n : {"0", "1"}) {
    std::filesystem::create_directory(folder_ + "/intel-rapl:" + n);
    ASSERT_TRUE(write_file_atomically(folder_ + "/intel-rapl:" + n + "/energy_uj", "1500000\n").ok());
  }
  // A part of a package: counted in it already.
  std::filesystem::create_directory(folder_ + "/intel-rapl:0:0");
  ASSERT_TRUE(write_file_atomically(folder_ + "/intel-rapl:0:0/energy_uj", "700000\n").ok());
  EXPECT_DOUBLE_EQ(processor_joules(folder_).value_or(0), 3.0);
}

TEST_F(OsTest, ReadFileNamesTheFileAndRespectsTheLimit) {
  const auto missing = read_file(folder_ + "/none");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_NE(missing.error().message.find("/none"), std::string::npos);
  ASSERT_TRUE(write_file_atomically(folder_ + "/b", "12345").ok());
  EXPECT_EQ(read_file(folder_ + "/b", 4).error().code, ErrorCode::out_of_range);
}

TEST_F(OsTest, MapsFilesAndRefusesFolders) {
  ASSERT_TRUE(write_file_atomically(folder_ + "/c", "hello").ok());
  auto f = MappedFile::open(folder_ + "/c");
  ASSERT_TRUE(f.ok());
  EXPECT_EQ(std::string((const char*)(*f)->bytes().data(), (*f)->bytes().size()), "hello");
  EXPECT_FALSE(MappedFile::open(folder_).ok());
  ASSERT_TRUE(write_file_atomically(folder_ + "/empty", "").ok());
  EXPECT_EQ(MappedFile::open(folder_ + "/empty").value()->bytes().size(), 0u);
}

TEST_F(OsTest, LockExcludesASecondHolder) {
  const std::string path = folder_ + "/lock";
  {
    auto one = FileLock::acquire(path, false);
    ASSERT_TRUE(one.ok());
    EXPECT_EQ(FileLock::acquire(path, false).error().code, ErrorCode::already_exists);
  }
  EXPECT_TRUE(FileLock::acquire(path, false).ok());
}

TEST_F(OsTest, ArenaIsAlignedZeroedAndRefusesAbsurdSizes) {
  auto a = Arena::allocate(3 << 20);
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a->data()) % (2 << 20), 0u);
  EXPECT_EQ(a->data()[12345], 0);
  a->data()[12345] = 7;
  a->discard(0, 3 << 20);
  EXPECT_EQ(a->data()[12345], 0);
  EXPECT_EQ(Arena::allocate(~uint64_t(0) - 5).error().code, ErrorCode::out_of_memory);
}

#if defined(__linux__)
TEST_F(OsTest, AContainersFileCacheIsAvailable) {
  const auto write = [&](const char* name, const std::string& text) {
    ASSERT_TRUE(write_file_atomically(folder_ + "/" + name, text).ok());
  };
  const uint64_t mib = 1 << 20;
  write("memory.max", "max\n");
  EXPECT_EQ(memory_info(folder_).total, memory_info(folder_ + "/none").total);
  write("memory.max", std::to_string(64 * mib) + "\n");
  write("memory.current", std::to_string(60 * mib) + "\n");
  EXPECT_EQ(memory_info(folder_).total, 64 * mib);
  EXPECT_EQ(memory_info(folder_).available, 4 * mib);
  // After a download most of what is in use is the file just written.
  write("memory.stat", "anon " + std::to_string(10 * mib) + "\nfile " + std::to_string(50 * mib) + "\ninactive_file " +
                           std::to_string(40 * mib) + "\nactive_file " + std::to_string(8 * mib) + "\nshmem 0\n");
  EXPECT_EQ(memory_info(folder_).available, 52 * mib);
  write("memory.current", std::to_string(1 * mib) + "\n");  // the two files are not read at one moment
  EXPECT_EQ(memory_info(folder_).available, 64 * mib);
}
#endif

#if !defined(_WIN32)
TEST_F(OsTest, ABrokenPipeIsAnErrorWhileItsSignalIsBlocked) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::close(ends[0]);
  {
    const BlockedSigpipe outer;
    {
      const BlockedSigpipe inner;
      EXPECT_EQ(::write(ends[1], "x", 1), -1);
      EXPECT_EQ(errno, EPIPE);
    }
    EXPECT_EQ(::write(ends[1], "x", 1), -1) << "still blocked by the outer one";
  }
  ::close(ends[1]);  // and this process is still here
}
#endif

TEST_F(OsTest, KnowsTheMachine) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_GE(physical_cores(), 1);
  EXPECT_GT(memory_info().total, 0u);
  EXPECT_LE(memory_info().available, memory_info().total);
  EXPECT_GT(process_memory().resident, 0u);
  EXPECT_GT(free_space(folder_ + "/not/yet").value(), 0u);
  EXPECT_FALSE(env("PONDER_NO_SUCH_VARIABLE"));
  EXPECT_NE(random_u64(), random_u64());
  const char* none[] = {"libponder-none.so"};
  EXPECT_FALSE(SharedLibrary::open(none, 1).ok());
}

}  // namespace
}  // namespace ponder::os
