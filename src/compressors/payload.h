// What the payloads of several methods have in common.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "lgreco/status.h"

namespace lgreco {

/// Refuses a payload of another size than `expected`. `tag` is of whom, such as "[topk]".
inline Status check_size(std::string_view tag, std::span<const std::byte> payload,
                         std::size_t expected) {
  if (payload.size() == expected) return Status::ok();
  return Status::corrupt(std::string(tag) + " payload has " + std::to_string(payload.size()) +
                         " bytes instead of " + std::to_string(expected));
}

/// Of `count` values in buckets of `bucket`, of which the last may be shorter; `bytes_of(n)` are
/// those of a bucket of n values.
template <typename BytesOf>
std::size_t bytes_in_buckets(std::size_t count, std::size_t bucket, const BytesOf& bytes_of) {
  const std::size_t full = count / bucket, rest = count % bucket;
  return full * bytes_of(bucket) + (rest == 0 ? 0 : bytes_of(rest));
}

}  // namespace lgreco
