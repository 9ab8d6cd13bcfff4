// The compressed all-reduce of one bucket, stage by stage.
//
//   take_in   values = gradient + residual, in fp32; is anything non-finite? Encode; P = M Q.
//   round_a   encoded pieces and P factors to their owners; mean P to everybody
//   round_b   orthonormalise P, Q = M^T P, Q to its owners; encoded means and mean Q to everybody
//   finish    write the averages; commit residuals and factors, or leave them as they were
//
// Every rank runs every collective of every stage, also after something failed here: its messages
// then say so, and nobody waits. Only a failure of the network itself ends the exchange
// (PeerError).
//
// The memory of an fp32 gradient is the staging area: it holds gradient + residual first, then what
// was not sent, and the average in the end. Buffers are made once for a set of layers and a plan.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "lgreco/bucket.h"
#include "src/engine/failure.h"
#include "src/engine/layer_record.h"
#include "src/engine/sharded_sum.h"
#include "src/engine/trace.h"
#include "src/engine/worker_pool.h"

namespace lgreco {

/// What ranks agree on for each layer: the largest of theirs.
enum class Presence : std::uint8_t { absent = 0, present = 1, non_finite = 2 };

/// The step that an exchange belongs to.
struct StepContext {
  std::uint64_t step = 0;
  std::uint64_t plan = 0;        // Plan::hash()
  std::uint32_t sequence = 0;    // of the bucket, since the start
  std::uint32_t bucket = 0;      // in the step, for messages and traces
  bool collect_windows = false;  // of the layers that are measured here
  bool sum_averages = false;
  bool compare_parameters = false;
  Deadline deadline;
};

using Done = std::function<void(std::exception_ptr)>;

class Exchange {
 public:
  struct Settings {
    Place place;
    std::uint64_t seed = 0;
    bool error_feedback = true;
  };

  /// For the layers of `gradients`, at their present levels. `layers` and the rest must outlive it.
  Exchange(const std::vector<Gradient>& gradients, std::vector<LayerRecord>& layers,
           const Settings& settings, WorkerPool& pool, Trace& trace);

  /// Whether it is for these layers, and free.
  bool fits(const std::vector<Gradient>& gradients) const;

  /// The memory of the gradients is used until finish().
  void start(const std::vector<Gradient>& gradients, bool last, Done done,
             const StepContext& context);
  void take_in();
  void round_a(Communicator& communicator);
  /// Announces the collectives of round_b(), see Communicator::expect.
  void expect_round_b(Communicator& communicator) const;
  void round_b(Communicator& communicator);
  /// Write the results. `commit`: take over residuals, factors and windows.
  void finish(bool commit);

  /// After round_b: some layer is non-finite on some rank. Equal on all ranks.
  bool overflowed() const;
  /// The first failure on this rank.
  const std::optional<Failure>& failure() const { return failure_; }

  bool last() const { return last_; }
  const StepContext& context() const { return context_; }
  /// Some gradient of this rank is not all zeros. Only known when context().compare_parameters.
  bool has_gradient() const { return has_gradient_; }
  /// Hand the result to whoever submitted the bucket. Releases what `done` holds.
  void complete(const std::exception_ptr& failure);

  double encode_s = 0;
  double decode_s = 0;
  /// Sealing and checking messages.
  double check_s = 0;
  /// What an uncompressed all-reduce would have to move.
  std::size_t gradient_bytes() const;

 private:
  struct Part {
    LayerRecord* record = nullptr;
    Gradient gradient;
    /// Gradient + residual, later what was not sent. An fp32 gradient's own memory, or `wide_`.
    std::span<float> values;
    /// 16-bit gradients only: the average.
    std::span<float> result;
    /// This rank's first, the agreed one after each round.
    Presence presence = Presence::absent;
    /// Position among the coded or among the linear parts.
    std::size_t index = 0;
    /// low_rank: P and Q.
    std::array<std::span<float>, 2> factors;
  };

  template <typename Work>
  void attempt(const char* doing, const Work& work);
  void run(Messages& messages, Communicator& communicator);

  RandomKey key(const Part& part) const { return {settings_.seed, context_.step, part.record->id}; }
  static bool is_fp32(const Part& part) { return part.record->spec.dtype == DType::f32; }
  bool collects_window(const LayerRecord& record) const {
    return context_.collect_windows && record.measured_here;
  }
  void load(Part& part);
  void write_flags(Messages& messages, bool to_all_peers) const;
  void read_flags(const Messages& messages);
  void update_addends();
  void take_over_overflows();
  void encode_second_round();
  void check_factors();
  void read_16_bit_results();
  void finish_part(Part& part, bool commit) const;
  void decode_part(const Part& part, std::span<float> result) const;
  void commit_part(Part& part) const;
  void keep_residual(Part& part) const;
  void keep_16_bit_residual(Part& part) const;

  Settings settings_;
  WorkerPool& pool_;
  Trace& trace_;
  StepContext context_;
  bool last_ = true;
  std::atomic<bool> busy_{false};  // read by the encoder while a failure releases it on lane B
  std::atomic<bool> has_gradient_{false};
  std::uint64_t layers_hash_ = 0;  // in every frame, so that only the same layers are summed
  Done done_;
  std::optional<Failure> failure_;
  bool peer_failed_ = false;  // its messages say so; what happened, the commit round tells

  std::vector<Part> parts_;  // as in the bucket
  std::vector<Part*> linear_parts_;
  std::vector<float> wide_;     // values and results of 16-bit gradients
  std::vector<float> factors_;  // P and Q of the linear parts

  std::vector<Addend> coded_;              // one per coded part
  std::array<std::vector<Addend>, 2> pq_;  // one per linear part, by round
  std::unique_ptr<ShardedSum> coded_sum_;
  std::array<std::unique_ptr<ShardedSum>, 2> pq_sums_;
  std::vector<std::size_t> coded_first_, factor_first_;  // in scatter A and gather B
  std::vector<std::size_t> alone_first_;                 // in gather A and scatter B
  std::unique_ptr<Messages> scatter_a_, gather_a_, scatter_b_, gather_b_;
};

}  // namespace lgreco
