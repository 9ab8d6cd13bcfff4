// Where the wire version of a method is compared: by ranks that register, in plans, in states.

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>

#include "lgreco/compressor.h"
#include "lgreco/status.h"
#include "src/engine/registration.h"
#include "src/engine/state_check.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

const std::vector<LayerSpec> kModel = {{.name = "a", .shape = {32, 96}}};
const AggregatorOptions kOptions{.method = parse_level("quantize:4")};

std::string field_of(const MethodRow& row) { return "wire version of " + std::string(row.name); }

/// As a library registers that writes `method` in the version before.
Fingerprint earlier(const MethodRow& method) {
  Fingerprint fields = fingerprint_of(kModel, kOptions);
  for (auto& [field, value] : fields) {
    if (field == field_of(method)) value = std::to_string(method.wire_version - 1);
  }
  return fields;
}

TEST(WireVersions, OfEveryMethodAreRegistered) {
  const Fingerprint fields = fingerprint_of(kModel, kOptions);
  for (const MethodRow& row : method_table()) {
    const auto version = std::pair(field_of(row), std::to_string(row.wire_version));
    EXPECT_EQ(std::count(fields.begin(), fields.end(), version), 1) << row.name;
  }
}

TEST(WireVersions, OfRanksAreRefusedByTheMethodsName) {
  for (const MethodRow& row : method_table()) {
    run_ranks(2, [&](std::unique_ptr<Communicator> communicator) {
      const Fingerprint own =
          communicator->rank() == 0 ? fingerprint_of(kModel, kOptions) : earlier(row);
      try {
        require_same(registration_of(own, kOptions), *communicator, soon());
        FAIL() << row.name;
      } catch (const MismatchError& error) {
        const std::string message = error.what();
        EXPECT_NE(message.find(field_of(row)), std::string::npos) << message;
        EXPECT_NE(message.find("install the same"), std::string::npos) << message;
      }
    });
  }
}

TEST(WireVersions, AreInAPlansHash) {
  const Plan plan{.layers = {"a", "b"}, .levels = {parse_level("quantize:4"), Level{}}};
  const std::string version = std::to_string(row_of(Method::quantize).wire_version);
  const std::string text =
      std::string("a\0quantize:4\0", 13) + version + "\n" + std::string("b\0dense\0", 8) + "1\n";
  EXPECT_EQ(plan.hash(), XXH3_64bits(text.data(), text.size()));
}

TEST(WireVersions, OfASavedStateAreRefused) {
  AggregatorState state;
  state.rank = 0;
  state.size = 1;
  state.fingerprint = hash_of(earlier(row_of(Method::quantize)));
  try {
    check_state(state, {.rank = 0, .ranks = 1}, hash_of(fingerprint_of(kModel, kOptions)), {});
    FAIL();
  } catch (const StateError& error) {
    EXPECT_NE(std::string(error.what()).find("wire versions"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace lgreco
