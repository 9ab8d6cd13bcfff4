// The compressed all-reduce of one bucket, phase by phase.
//
//   take_in   values = gradient + residual, in fp32; is anything non-finite?
//   round A   all-reduce of dense values and P factors; all-to-all of encoded pieces
//   between   orthonormalise P, form Q; owners add and encode their pieces
//   round B   all-reduce of Q; all-gather of encoded pieces
//   give_out  write the averages, update residuals and factors
//
// State changes in give_out alone, after every collective succeeded.
#pragma once

#include <vector>

#include "lgreco/aggregator.h"
#include "src/engine/coded_rounds.h"
#include "src/engine/linear_rounds.h"

namespace lgreco {

class Exchange {
 public:
  /// `bucket` and `layers` must outlive the exchange.
  Exchange(const Bucket& bucket, std::vector<LayerRecord>& layers, const ExchangeSettings& settings,
           Communicator& communicator);

  void take_in();
  void round_a();
  void between();
  void round_b();
  void give_out();

  /// After give_out: some layer was non-finite on some rank.
  bool overflowed() const;

 private:
  /// values_ and results_ hold all layers of the bucket one after the other.
  std::vector<ExchangePart> make_parts(std::vector<LayerRecord>& layers);
  std::vector<ExchangePart*> parts_that_are(bool coded);
  void write_result(const ExchangePart& part, const Gradient& gradient) const;

  const Bucket& bucket_;
  ExchangeSettings settings_;
  Communicator& communicator_;
  std::vector<float> values_;
  std::vector<float> results_;
  std::vector<ExchangePart> parts_;  // as in bucket_.gradients
  LinearRounds linear_;
  CodedRounds coded_;
};

}  // namespace lgreco
