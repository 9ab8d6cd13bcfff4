#include "src/engine/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace lgreco {
namespace {

const Frame kFrame{.phase = Phase::gather_b,
                   .sender = 2,
                   .sequence = 7,
                   .step = 1'000'000'000'000,
                   .plan = 0xFEEDFACECAFEBEEF};

std::vector<std::byte> sealed(const Frame& frame = kFrame, std::size_t body = 100) {
  std::vector<std::byte> message(kFrameBytes + body, std::byte{0x5A});
  seal(frame, message);
  return message;
}

bool is_accepted(const Frame& expected, std::span<const std::byte> message) {
  bool failed = false;
  return check(expected, message, failed).is_ok();
}

TEST(Frame, AcceptsWhatItSealed) {
  for (const bool failed : {false, true}) {
    Frame frame = kFrame;
    frame.failed = failed;
    bool found = !failed;
    EXPECT_TRUE(check(kFrame, sealed(frame), found).is_ok());
    EXPECT_EQ(found, failed);
  }
  EXPECT_TRUE(is_accepted(kFrame, sealed(kFrame, 0)));
}

TEST(Frame, NamesTheFieldThatDiffers) {
  const auto refuses = [](auto change, const std::string& field) {
    Frame other = kFrame;
    change(other);
    bool failed = false;
    const Status status = check(kFrame, sealed(other), failed);
    EXPECT_NE(status.reason().find(field), std::string::npos) << status.reason();
  };
  refuses([](Frame& f) { f.phase = Phase::scatter_a; }, "phase");
  refuses([](Frame& f) { f.sender = 1; }, "sender");
  refuses([](Frame& f) { f.sequence = 6; }, "sequence");
  refuses([](Frame& f) { f.step -= 1; }, "step");
  refuses([](Frame& f) { f.plan ^= 1; }, "plan");
}

TEST(Frame, EveryFlippedBitIsSeen) {
  const auto message = sealed();
  for (std::size_t bit = 0; bit < 8 * message.size(); ++bit) {
    auto damaged = message;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_FALSE(is_accepted(kFrame, damaged)) << "bit " << bit;
  }
}

TEST(Frame, EveryOtherLengthIsRefused) {
  auto message = sealed();
  for (std::size_t length = 0; length < message.size(); ++length) {
    ASSERT_FALSE(is_accepted(kFrame, std::span(message).first(length))) << length;
  }
  message.push_back(std::byte{0});
  EXPECT_FALSE(is_accepted(kFrame, message));
}

}  // namespace
}  // namespace lgreco
