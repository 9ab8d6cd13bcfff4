// A small state in which every field has a value of its own.
#pragma once

#include <cstring>
#include <span>

#include <xxhash.h>

#include "lgreco/state.h"

namespace lgreco {

inline AggregatorState some_state() {
  AggregatorState state{.rank = 1,
                        .size = 3,
                        .step = 1234567890123,
                        .fingerprint = 0x0123456789ABCDEF,
                        .grad_scale = 1024,
                        .critical = false,
                        .learning_rate_decayed = true,
                        .decay_is_agreed = true,
                        .unsettled = true};
  state.plan = {.layers = {"conv.weight", "bias", "head"},
                .levels = {parse_level("low_rank:2:min_ratio=1:factors=bf16"), parse_level("dense"),
                           parse_level("quantize:3:bucket=64:rounding=nearest")},
                .estimates = {{.reason = Reason::least_time,
                               .chosen = {1, 2, 3},
                               .reference = {4, 5, 6},
                               .dense = {7, 0, 8}},
                              {.reason = Reason::only_candidate},
                              {.reason = Reason::not_measured, .chosen = {.bytes = 9}}},
                .version = 5,
                .step = 1000,
                .bytes = 4321,
                .error = 0.25,
                .budget = 0.5,
                .lower_bound = 4000};
  state.stats = {.steps = 11,
                 .bytes_sent = 12,
                 .bytes_received = 13,
                 .messages_sent = 14,
                 .dense_bytes = 15,
                 .encode_s = 1.5,
                 .decode_s = 2.5,
                 .wait_s = 3.5,
                 .plan_s = 4.5,
                 .plan_wait_s = 7.5,
                 .check_s = 6.5,
                 .plans = 16,
                 .plan_fallbacks = 17,
                 .plan_failures = 20,
                 .overflow_steps = 18,
                 .failed_steps = 19,
                 .dropped_residuals = 21,
                 .unapplied_steps = 22,
                 .large_residual_steps = 23,
                 .residual_norm = 5.5,
                 .plan_failure = "late"};
  state.layers = {{.residual = {1, -2, 3, 4, 5, 6}, .factor = {0.5f, 1e-42f, -0.0f}},
                  {},
                  {.residual = {7, 8},
                   .window = {9, 10},
                   .window_steps = 3,
                   .interval_sum = {11, 12},
                   .interval_norm = 13,
                   .critical = false}};
  return state;
}

/// Make length and checksum right again after a change, so that the change is looked at.
inline void reseal_state(std::span<std::byte> bytes) {
  const std::uint64_t length = bytes.size();
  std::memcpy(bytes.data() + 8, &length, sizeof length);
  const std::uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - sizeof length);
  std::memcpy(bytes.data() + bytes.size() - sizeof sum, &sum, sizeof sum);
}

}  // namespace lgreco
