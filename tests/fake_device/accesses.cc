#include "tests/fake_device/accesses.h"

#include <algorithm>

namespace fake_device {

void Accesses::add(const StreamKey& stream, Kind kind, const std::string& what) {
  const Clock clock = clock_of_next_submission(stream);
  const auto require = [&](const StreamKey& other, const Access& before, const char* did) {
    if (other == stream || clock.covers(other, before.position)) return;
    report_race(what + " on stream " + std::to_string(stream.second) +
                (kind == Kind::write ? " writes" : " reads") + " what " + before.what +
                " on stream " + std::to_string(other.second) + did + ", without waiting for it");
  };
  require(writer_, written_, " writes");
  const Access now{clock.at(stream), what};
  if (kind == Kind::read) {
    readers_[stream] = now;
    return;
  }
  for (const auto& [other, read] : readers_) require(other, read, " reads");
  writer_ = stream;
  written_ = now;
  readers_.clear();
}

void Accesses::forget(const StreamKey& stream) {
  readers_.erase(stream);
  if (writer_ == stream) written_ = {};
}

bool Accesses::may(Kind kind, const Clock& host) const {
  if (!host.covers(writer_, written_.position)) return false;
  return kind == Kind::read || std::ranges::all_of(readers_, [&](const auto& reader) {
           return host.covers(reader.first, reader.second.position);
         });
}

}  // namespace fake_device
