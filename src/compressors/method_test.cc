// The table of methods and what is refused. examples/custom_compressor registers a method and uses
// it.

#include "lgreco/method.h"

#include <gtest/gtest.h>

#include "lgreco/status.h"

namespace lgreco {
namespace {

MethodEntry other_method() {
  MethodEntry entry = entry_of(Method::topk);
  entry.row.method = Method{200};
  entry.row.name = "other";
  entry.row.example = "other:0.01";
  return entry;
}

void expect_refused(const MethodEntry& entry, const std::string& reason) {
  const std::size_t before = method_table().size();
  try {
    register_method(entry);
    ADD_FAILURE() << "registered in spite of: " << reason;
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
  EXPECT_EQ(method_table().size(), before);
  EXPECT_THROW((void)row_of(Method{200}), ConfigError);
}

TEST(RegisterMethod, RefusesWhatIsTaken) {
  MethodEntry entry = other_method();
  entry.row.name = "topk";
  expect_refused(entry, "the name is taken");
  entry = other_method();
  entry.row.method = Method::topk;
  expect_refused(entry, "the id 3 is that of 'topk'");
  entry.row.method = Method{100};
  expect_refused(entry, "from 128 to 255");
}

TEST(RegisterMethod, RefusesRowsThatContradictThemselves) {
  MethodEntry entry = other_method();
  entry.row.name = "o:ther";
  expect_refused(entry, "no colon");
  entry = other_method();
  entry.row.coded = false;
  expect_refused(entry, "make_linear");
  entry = other_method();
  entry.make_coded = nullptr;
  expect_refused(entry, "make_coded");
  entry = other_method();
  entry.add_losses = nullptr;
  expect_refused(entry, "a function is missing");
  entry = other_method();
  entry.row.example = "topk:0.01";
  expect_refused(entry, "a level of another method");
  entry.row.example = "other:7";
  expect_refused(entry, "out of range");
}

TEST(MethodTable, LevelsOfMethodsThatAreNotThereAreRefused) {
  EXPECT_THROW(check(Level{.method = Method{200}}), ConfigError);
  EXPECT_THROW((void)to_string(Level{.method = Method{200}}), ConfigError);
}

TEST(MethodTable, SettingsReadWhatTheyWrite) {
  for (const MethodRow& row : method_table()) {
    const Level level = parse_level(row.example);
    for (const Setting& setting : entry_of(row.method).settings) {
      Level again = level;
      EXPECT_TRUE(setting.parse(setting.spell(level), again)) << setting.key;
      EXPECT_EQ(again, level) << setting.key;
      EXPECT_FALSE(setting.parse("impossible", again)) << setting.key;
      EXPECT_EQ(again, level) << setting.key;
    }
  }
}

TEST(MethodTable, ElementsAreCountedAsPapersDo) {
  const auto elements = [](const char* spelling) {
    const Level level = parse_level(spelling);
    return entry_of(level.method).elements_sent(level, {100, 200});
  };
  EXPECT_EQ(elements("dense"), 20'000);
  EXPECT_EQ(elements("cast:bf16"), 10'000);
  EXPECT_EQ(elements("quantize:4"), 2500);
  EXPECT_EQ(elements("topk:0.01"), 25);
  EXPECT_EQ(elements("topk:0.01:values=bf16"), 200);
  EXPECT_EQ(elements("low_rank:4"), 4 * (100 + 200));
}

}  // namespace
}  // namespace lgreco
