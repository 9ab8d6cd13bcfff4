#include "src/engine/accounts.h"

#include <string>
#include <utility>

#include "lgreco/status.h"

namespace lgreco {

CountedGroups::CountedGroups(Groups groups) {
  if (groups.lanes.empty() || groups.lanes.size() > 2) {
    throw ConfigError("[aggregator] one or two communicators are needed, not " +
                      std::to_string(groups.lanes.size()));
  }
  for (auto& lane : groups.lanes) {
    lanes_.push_back(std::make_unique<CountingCommunicator>(std::move(lane)));
  }
  if (groups.agreement) {
    own_agreement_ = std::make_unique<CountingCommunicator>(std::move(groups.agreement));
  }
}

Traffic CountedGroups::traffic() const {
  Traffic total;
  const auto add = [&](const Traffic& traffic) {
    total.bytes_sent += traffic.bytes_sent;
    total.bytes_received += traffic.bytes_received;
    total.messages_sent += traffic.messages_sent;
    total.seconds += traffic.seconds;
  };
  for (const auto& lane : lanes_) add(lane->traffic());
  if (own_agreement_) add(own_agreement_->traffic());
  return total;
}

void CountedGroups::abort() const {
  for (const auto& lane : lanes_) lane->abort();
  if (own_agreement_) own_agreement_->abort();
}

void Accounts::add_traffic() {
  const Traffic total = groups_.traffic();
  stats.bytes_sent += total.bytes_sent - counted_.bytes_sent;
  stats.bytes_received += total.bytes_received - counted_.bytes_received;
  stats.messages_sent += total.messages_sent - counted_.messages_sent;
  stats.wait_s += total.seconds - counted_.seconds;
  counted_ = total;
}

void Accounts::leave_out_traffic() { counted_ = groups_.traffic(); }

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
  leave_out_traffic();
  publish_notices();
}

}  // namespace lgreco
