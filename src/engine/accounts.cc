#include "src/engine/accounts.h"

#include <string>
#include <utility>

#include "lgreco/status.h"

namespace lgreco {

Lanes counted(std::vector<std::unique_ptr<Communicator>> lanes) {
  if (lanes.empty() || lanes.size() > 2) {
    throw ConfigError("[aggregator] one or two communicators are needed, not " +
                      std::to_string(lanes.size()));
  }
  Lanes counting;
  for (auto& lane : lanes) {
    counting.push_back(std::make_unique<CountingCommunicator>(std::move(lane)));
  }
  return counting;
}

Traffic Accounts::traffic() const {
  Traffic total;
  for (const auto& lane : lanes_) {
    total.bytes_sent += lane->traffic().bytes_sent;
    total.bytes_received += lane->traffic().bytes_received;
    total.messages_sent += lane->traffic().messages_sent;
    total.seconds += lane->traffic().seconds;
  }
  return total;
}

void Accounts::add_traffic() {
  const Traffic total = traffic();
  stats.bytes_sent += total.bytes_sent - counted_.bytes_sent;
  stats.bytes_received += total.bytes_received - counted_.bytes_received;
  stats.messages_sent += total.messages_sent - counted_.messages_sent;
  stats.wait_s += total.seconds - counted_.seconds;
  counted_ = total;
}

void Accounts::add_dense_bytes(std::uint64_t gradient_bytes, int ranks) {
  const auto count = static_cast<std::uint64_t>(ranks);
  stats.dense_bytes += 2 * (count - 1) * gradient_bytes / count;
}

void Accounts::publish_notices() {
  dropped_residuals_ = stats.dropped_residuals;
  unapplied_steps_ = stats.unapplied_steps;
  large_residual_steps_ = stats.large_residual_steps;
}

Notices Accounts::notices() const {
  return {dropped_residuals_, unapplied_steps_, large_residual_steps_};
}

void Accounts::resume(const Stats& loaded) {
  stats = loaded;
  counted_ = traffic();
  publish_notices();
}

}  // namespace lgreco
