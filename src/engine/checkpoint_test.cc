#include "lgreco/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "lgreco/status.h"
#include "tests/some_state.h"

namespace lgreco {
namespace {

using Bytes = std::vector<std::byte>;
namespace fs = std::filesystem;

constexpr std::size_t kHeaderBytes = 16, kTrailerBytes = 8;

void expect_equal(const Stats& a, const Stats& b) {
  EXPECT_EQ(a.steps, b.steps);
  EXPECT_EQ(a.bytes_sent, b.bytes_sent);
  EXPECT_EQ(a.bytes_received, b.bytes_received);
  EXPECT_EQ(a.messages_sent, b.messages_sent);
  EXPECT_EQ(a.dense_bytes, b.dense_bytes);
  EXPECT_EQ(a.encode_s, b.encode_s);
  EXPECT_EQ(a.decode_s, b.decode_s);
  EXPECT_EQ(a.wait_s, b.wait_s);
  EXPECT_EQ(a.plan_s, b.plan_s);
  EXPECT_EQ(a.plan_wait_s, b.plan_wait_s);
  EXPECT_EQ(a.check_s, b.check_s);
  EXPECT_EQ(a.plans, b.plans);
  EXPECT_EQ(a.plan_fallbacks, b.plan_fallbacks);
  EXPECT_EQ(a.plan_failures, b.plan_failures);
  EXPECT_EQ(a.overflow_steps, b.overflow_steps);
  EXPECT_EQ(a.failed_steps, b.failed_steps);
  EXPECT_EQ(a.residual_norm, b.residual_norm);
}

void expect_equal(const AggregatorState& a, const AggregatorState& b) {
  EXPECT_EQ(a.rank, b.rank);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.grad_scale, b.grad_scale);
  EXPECT_EQ(a.critical, b.critical);
  EXPECT_EQ(a.plan.layers, b.plan.layers);
  EXPECT_EQ(a.plan.levels, b.plan.levels);
  EXPECT_EQ(a.plan.estimates, b.plan.estimates);
  EXPECT_EQ(a.plan.version, b.plan.version);
  EXPECT_EQ(a.plan.step, b.plan.step);
  EXPECT_EQ(a.plan.bytes, b.plan.bytes);
  EXPECT_EQ(a.plan.error, b.plan.error);
  EXPECT_EQ(a.plan.budget, b.plan.budget);
  EXPECT_EQ(a.plan.lower_bound, b.plan.lower_bound);
  expect_equal(a.stats, b.stats);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    EXPECT_EQ(a.layers[i].residual, b.layers[i].residual) << i;
    EXPECT_EQ(a.layers[i].factor, b.layers[i].factor) << i;
    EXPECT_EQ(a.layers[i].window, b.layers[i].window) << i;
    EXPECT_EQ(a.layers[i].window_steps, b.layers[i].window_steps) << i;
    EXPECT_EQ(a.layers[i].interval_sum, b.layers[i].interval_sum) << i;
    EXPECT_EQ(a.layers[i].interval_norm, b.layers[i].interval_norm) << i;
    EXPECT_EQ(a.layers[i].critical, b.layers[i].critical) << i;
  }
}

/// Why the bytes are refused; empty when they are not.
std::string refusal(std::span<const std::byte> bytes) {
  // A copy of exactly this size, so that AddressSanitizer sees a read behind its end.
  const Bytes exact(bytes.begin(), bytes.end());
  try {
    parse_state(exact);
  } catch (const StateError& error) {
    return error.what();
  }
  return "";
}

testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not contain '" << part << "'";
}

template <typename T>
void put(Bytes& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

void flip(Bytes& bytes, std::size_t bit) {
  bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
}

TEST(Checkpoint, ComesBackAsItWas) {
  expect_equal(parse_state(serialize(some_state())), some_state());
  AggregatorState tight = some_state();
  tight.plan.estimates[0].reason = Reason::nothing_fits;  // the last one
  expect_equal(parse_state(serialize(tight)), tight);
  expect_equal(parse_state(serialize(AggregatorState{})), AggregatorState{});
}

TEST(Checkpoint, KeepsEveryBitOfNumbers) {
  AggregatorState state = some_state();
  state.layers[0].factor = {-0.0f, 1e-45f, std::nanf("7"), -INFINITY};
  const auto back = parse_state(serialize(state)).layers[0].factor;
  ASSERT_EQ(back.size(), 4u);
  EXPECT_EQ(std::memcmp(back.data(), state.layers[0].factor.data(), 4 * sizeof(float)), 0);
}

TEST(Checkpoint, ChecksumIsThatOfTheBytes) {
  AggregatorState state = some_state();
  const Bytes bytes = serialize(state);
  EXPECT_EQ(checksum(state), XXH3_64bits(bytes.data(), bytes.size() - kTrailerBytes));
  state.layers[2].window[1] += 1;
  EXPECT_NE(checksum(state), checksum(some_state()));
}

TEST(Checkpoint, EveryTruncationIsRefused) {
  const Bytes bytes = serialize(some_state());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_NE(refusal(std::span(bytes).first(length)), "") << length;
  }
}

TEST(Checkpoint, EveryTruncationWithARightChecksumIsRefused) {
  const Bytes bytes = serialize(some_state());
  for (std::size_t length = kHeaderBytes + kTrailerBytes; length < bytes.size(); ++length) {
    Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    reseal_state(cut);
    ASSERT_TRUE(contains(refusal(cut), "left")) << length;
  }
}

TEST(Checkpoint, TrailingBytesAreRefused) {
  Bytes bytes = serialize(some_state());
  bytes.push_back(std::byte{0});
  EXPECT_TRUE(contains(refusal(bytes), "bytes instead of"));
  reseal_state(bytes);
  EXPECT_TRUE(contains(refusal(bytes), "1 bytes follow"));
}

TEST(Checkpoint, EveryFlippedBitIsRefused) {
  const Bytes bytes = serialize(some_state());
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    Bytes damaged = bytes;
    flip(damaged, bit);
    ASSERT_NE(refusal(damaged), "") << bit;
  }
}

TEST(Checkpoint, FiveThousandTimesSeveralFlippedBitsAreRefused) {
  const Bytes bytes = serialize(some_state());
  std::mt19937 generator(1);
  for (int i = 0; i < 5000; ++i) {
    Bytes damaged = bytes;
    for (unsigned flips = 1 + generator() % 16; flips > 0; --flips) {
      flip(damaged, generator() % (8 * bytes.size()));
    }
    if (damaged == bytes) continue;
    ASSERT_NE(refusal(damaged), "") << i;
  }
}

// Every place, so also every announced size, with a checksum that fits: read or refused, and never
// by another exception, such as one for memory.
TEST(Checkpoint, HostileNumbersAreRefusedOrHarmless) {
  const Bytes bytes = serialize(some_state());
  const std::uint64_t left = bytes.size();
  for (std::size_t at = kHeaderBytes; at + 8 <= bytes.size() - kTrailerBytes; ++at) {
    for (const std::uint64_t number :
         {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{1} << 62,
          std::uint64_t{1} << 62 | 1, std::uint64_t{1} << 32, left, left / 4, left / 48}) {
      Bytes hostile = bytes;
      put(hostile, at, number);
      reseal_state(hostile);
      ASSERT_NO_THROW(refusal(hostile)) << number << " at " << at;
    }
  }
}

TEST(Checkpoint, NamesWhatIsWrong) {
  const Bytes bytes = serialize(some_state());
  const auto refuses = [&](auto change, const char* why) {
    Bytes changed = bytes;
    change(changed);
    reseal_state(changed);
    EXPECT_TRUE(contains(refusal(changed), why));
  };
  refuses([](Bytes& b) { put(b, 0, 'X'); }, "not a saved state");
  refuses([](Bytes& b) { put(b, 4, kCheckpointVersion + 1); }, "newer");
  refuses([](Bytes& b) { put(b, 4, 0); }, "version 0");
  refuses([](Bytes& b) { put(b, kHeaderBytes, 3); }, "rank 3 of 3");
  refuses([](Bytes& b) { put(b, kHeaderBytes + 4, -1); }, "rank 1 of -1");
  const std::size_t layers = kHeaderBytes + 2 * 4 + 3 * 8 + 4 + 6 * 8 + 20 * 8 + 8 +
                             some_state().stats.plan_failure.size();
  refuses([=](Bytes& b) { put(b, layers, ~std::uint64_t{0}); }, "the number of layers has");
  const std::size_t name = layers + 8, level = name + 8 + std::strlen("conv.weight");
  refuses([=](Bytes& b) { put(b, name, std::uint64_t{1} << 61); }, "a layer's name has");
  refuses([=](Bytes& b) { put(b, level + 8, 'X'); }, "unknown method");
  const std::size_t residual = level + 8 + to_string(some_state().plan.levels[0]).size();
  refuses([=](Bytes& b) { put(b, residual, std::uint64_t{1} << 62); }, "a residual has");
  refuses([](Bytes& b) { b[kHeaderBytes + 2 * 4 + 3 * 8] = std::byte{2}; },
          "the regime is neither");
  constexpr std::size_t kEstimate = 1 + 9 * 8;
  const std::size_t estimates = bytes.size() - kTrailerBytes - 3 * kEstimate - 8;
  refuses([=](Bytes& b) { put(b, estimates, std::uint64_t{1} << 60); }, "number of estimates has");
  refuses([=](Bytes& b) { b[estimates + 8] = std::byte{77}; },
          "the reason of a level is not known");
  refuses(
      [=](Bytes& b) {
        put(b, estimates, std::uint64_t{2});
        b.erase(b.end() - kTrailerBytes - kEstimate, b.end() - kTrailerBytes);
      },
      "estimates of some layers only");
}

TEST(Checkpoint, PlanAndStateMustHaveTheSameLayers) {
  for (const auto& shorten : {+[](AggregatorState& s) { s.layers.pop_back(); },
                              +[](AggregatorState& s) { s.plan.layers.pop_back(); },
                              +[](AggregatorState& s) { s.plan.levels.pop_back(); },
                              +[](AggregatorState& s) { s.plan.estimates.pop_back(); }}) {
    AggregatorState state = some_state();
    shorten(state);
    EXPECT_THROW(serialize(state), StateError);
    EXPECT_THROW(checksum(state), StateError);
  }
}

class CheckpointFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("lgreco-test-" + std::to_string(::getpid()));
    fs::create_directory(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path() const { return folder_ / "rank1.state"; }

  fs::path folder_;
};

TEST_F(CheckpointFile, ComesBackAsItWas) {
  save_state(some_state(), path());
  expect_equal(load_state(path()), some_state());
  std::ifstream file(path(), std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  const Bytes bytes = serialize(some_state());
  EXPECT_EQ(content, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

TEST_F(CheckpointFile, ASaveReplacesTheOneBefore) {
  AggregatorState state = some_state();
  save_state(state, path());
  state.step = 7;
  save_state(state, path());
  EXPECT_EQ(load_state(path()).step, 7u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "a file was left over";
}

TEST_F(CheckpointFile, AFailedSaveLeavesTheOneBefore) {
  save_state(some_state(), path());
  AggregatorState broken = some_state();
  broken.layers.pop_back();
  EXPECT_THROW(save_state(broken, path()), StateError);
  expect_equal(load_state(path()), some_state());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "a file was left over";
}

TEST_F(CheckpointFile, AFullDiskIsAnError) {
  save_state(some_state(), path());
  struct rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit full = {64, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  EXPECT_THROW(save_state(some_state(), path()), StateError);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  expect_equal(load_state(path()), some_state());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "a file was left over";
}

TEST_F(CheckpointFile, FollowsNoPlantedLink) {
  std::ofstream(folder_ / "precious") << "untouched";
  fs::create_symlink(folder_ / "precious", path() + ".tmp");
  save_state(some_state(), path());
  expect_equal(load_state(path()), some_state());
  std::string content;
  std::ifstream(folder_ / "precious") >> content;
  EXPECT_EQ(content, "untouched");
}

TEST_F(CheckpointFile, ReplacesRegularFilesOnly) {
  std::ofstream(folder_ / "behind") << "untouched";
  fs::create_symlink(folder_ / "behind", folder_ / "link");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  for (const fs::path& odd : {folder_ / "link", folder_ / "pipe", folder_}) {
    EXPECT_THROW(save_state(some_state(), odd), StateError) << odd;
  }
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_TRUE(fs::is_fifo(folder_ / "pipe"));
}

TEST_F(CheckpointFile, KeepsTheModeOfTheOneBefore) {
  save_state(some_state(), path());
  const fs::perms own = fs::perms::owner_read | fs::perms::owner_write;
  fs::permissions(path(), own);
  save_state(some_state(), path());
  EXPECT_EQ(fs::status(path()).permissions(), own);
}

TEST_F(CheckpointFile, NamesTheFileThatCannotBeRead) {
  const auto message = [](const std::string& path) {
    try {
      load_state(path);
    } catch (const StateError& error) {
      return std::string(error.what());
    }
    return std::string("loaded");
  };
  EXPECT_TRUE(contains(message(path()), path()));
  EXPECT_TRUE(contains(message(folder_), folder_));
  std::ofstream(path()) << "not a state";
  EXPECT_TRUE(contains(message(path()), path()));
  EXPECT_THROW(save_state(some_state(), folder_ / "missing" / "state"), StateError);
}

// A process is killed while it saves one state after the other: the file is always a whole one.
TEST_F(CheckpointFile, AKilledSaveLeavesAWholeFile) {
  AggregatorState state = some_state();
  state.layers[0].residual.assign(100'000, 1.0f);
  save_state(state, path());
  std::mt19937 generator(1);
  std::uint64_t last = 0;
  for (int kill_number = 0; kill_number < 50; ++kill_number) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (state.step = last + 1;; ++state.step) save_state(state, path());
    }
    ASSERT_GT(child, 0);
    ::usleep(1000 + generator() % 10'000);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the save failed by itself";
    const AggregatorState loaded = load_state(path());
    EXPECT_EQ(loaded.layers[0].residual, state.layers[0].residual);
    last = loaded.step;
  }
}

}  // namespace
}  // namespace lgreco
