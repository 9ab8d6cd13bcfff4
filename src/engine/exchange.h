// The compressed all-reduce of one bucket, stage by stage.
//
//   start     wait for the gradients, if they are not at hand
//   take_in   the values encode their first message
//   round_a   it goes to its owners; means of first rounds go to everybody, if there is a second
//   round_b   second rounds go to their owners, if there are any; all other means to everybody
//   finish    write the averages; commit what the next step needs, or leave it as it was
//
// Without owners the first message goes to everybody in round A, and second rounds in round B.
//
// An exchange conducts: it owns the order of the stages, the messages, the flags of presence, the
// failures and the traces. What is computed in each stage lies behind BucketValues.
//
// Every rank runs every collective of every stage, also after something failed here: its messages
// then say so, and nobody waits. Only a failure of the network itself ends the exchange
// (PeerError).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lgreco/bucket.h"
#include "lgreco/layer.h"
#include "lgreco/values.h"
#include "src/engine/failure.h"
#include "src/engine/messages.h"
#include "src/engine/place.h"
#include "src/engine/trace.h"

namespace lgreco {

using Done = std::function<void(std::exception_ptr)>;

class Exchange {
 public:
  /// For the layers of `gradients`, at the present levels of `values`. `specs`, by which messages
  /// name the layers, and the rest must outlive it. Buffers are made here, once.
  Exchange(const std::vector<Gradient>& gradients, const std::vector<LayerSpec>& specs,
           Values& values, Place place, Trace& trace);

  /// Whether it is for these layers, and free.
  bool fits(const std::vector<Gradient>& gradients) const;

  /// Fetches the gradients of `bucket`. Their memory is used until finish().
  void start(Bucket& bucket, Done done, const StepContext& context);
  void take_in();
  void round_a(Communicator& communicator);
  /// Announces the collectives of round_b(), see Communicator::expect.
  void expect_round_b(Communicator& communicator) const;
  void round_b(Communicator& communicator);
  /// Write the results. `commit`: take over residuals, factors and windows.
  void finish(bool commit);

  /// After round_b: some layer is non-finite on some rank. Equal on all ranks.
  bool overflowed() const;
  /// The step is lost to an overflow elsewhere: no average of it is to be taken for one.
  void lose();
  /// The first failure on this rank.
  const std::optional<Failure>& failure() const { return failure_; }

  bool last() const { return last_; }
  const StepContext& context() const { return context_; }
  Findings findings() const { return values_->findings(); }
  /// Hand the result to whoever submitted the bucket. Releases what `done` holds.
  void deliver();
  void complete(const std::exception_ptr& failure);

  double encode_s = 0;
  double decode_s = 0;
  /// Sealing and checking messages.
  double check_s = 0;
  /// What an uncompressed all-reduce would have to move.
  std::size_t gradient_bytes() const { return gradient_bytes_; }

 private:
  void fetch(Bucket& bucket);
  std::string place(const char* doing) const;
  template <typename Work>
  void attempt(const char* doing, const Work& work);
  void run(Messages& messages, const char* name, const char* track, Communicator& communicator);
  bool has_two_rounds() const { return values_->sizes().rounds == 2; }
  /// The collective that brings the averages, the last one.
  Messages& last_messages() { return gather_b_ ? *gather_b_ : *gather_a_; }
  void write_flags(Messages& messages) const;
  void read_flags(const Messages& messages);

  std::vector<std::size_t> layers_;  // as in the bucket
  const std::vector<LayerSpec>& specs_;
  Place place_;
  Trace& trace_;
  std::size_t gradient_bytes_ = 0;
  std::uint64_t layers_hash_ = 0;  // in every frame, so that only the same layers are summed

  std::unique_ptr<BucketValues> values_;
  std::unique_ptr<Messages> scatter_a_, gather_a_, scatter_b_, gather_b_;  // null: not made
  BucketBodies bodies_;

  StepContext context_;
  bool last_ = true;
  std::atomic<bool> busy_{false};  // read by the encoder while a failure releases it on lane B
  Done done_;
  std::function<void(Deadline)> deliver_;
  std::optional<Failure> failure_;
  bool peer_failed_ = false;  // its messages say so; what happened, the commit round tells
};

}  // namespace lgreco
