// Who averages, and who agrees.
//
// Ranks that hold the same layers average them. Ranks that train one model commit together: when a
// step is lost for one, it is lost for all, and they spend one budget on one plan. In plain data
// parallelism these are the same ranks. Where a model is sharded, they are not: the replicas of one
// shard average it, and all shards of all replicas agree.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

struct Groups {
  /// Ranks that hold the same layers and average them: one communicator, or two over the same
  /// ranks; then the second round of a bucket and the first of the next one overlap.
  std::vector<std::unique_ptr<Communicator>> lanes;
  /// Ranks that commit together and share one plan: those of the lanes and others, each with as
  /// many that average with it. A layer is known by its name: one of a name that others hold, too,
  /// is the same layer, with the same level. Null: the ranks of the lanes, by the last of them.
  std::unique_ptr<Communicator> agreement;

  Groups() = default;
  /// Those who average agree.
  Groups(std::vector<std::unique_ptr<Communicator>> communicators)  // NOLINT: is one
      : lanes(std::move(communicators)) {}
  Groups(std::vector<std::unique_ptr<Communicator>> communicators,
         std::unique_ptr<Communicator> agreeing)
      : lanes(std::move(communicators)), agreement(std::move(agreeing)) {}
};

}  // namespace lgreco
