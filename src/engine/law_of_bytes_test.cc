#include "tests/law_of_bytes.h"

#include "lgreco/compressor.h"
#include "tests/ranks_as_threads.h"

namespace lgreco {
namespace {

TEST(LawOfBytes, HoldsBetweenThreads) {
  for (const MethodRow& row : method_table()) {
    for (const int lanes : {1, 2}) {
      for (const int ranks : {2, 3, 8}) {
        run_ranks_on_lanes(ranks, lanes + 1, [&](Communicators all) {
          const auto beside = std::move(all.back());
          all.pop_back();
          check_law_of_bytes(std::string(row.example), *beside, std::move(all), soon());
        });
      }
    }
  }
}

}  // namespace
}  // namespace lgreco
