#include "src/engine/agreement.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "lgreco/status.h"

namespace lgreco {
namespace {

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::int64_t extent : shape) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  }
  return text + ")";
}

std::string text_of(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.17g", value);
  return buffer;
}

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

std::string text_of(const Policy& policy) {
  return std::visit(
      Overloaded{[](const UniformPolicy&) { return std::string("Uniform"); },
                 [](const FixedPolicy& fixed) {
                   std::string text = "Fixed";
                   for (const auto& [name, level] : fixed.levels) {
                     text += " " + name + "=" + to_string(level);
                   }
                   return text;
                 },
                 [](const LGrecoPolicy& p) {
                   std::string text =
                       "LGreCo every=" + std::to_string(p.every) +
                       " start=" + std::to_string(p.start) + " window=" + std::to_string(p.window) +
                       " alpha=" + text_of(p.alpha) +
                       " budget=" + std::to_string(static_cast<int>(p.budget)) +
                       " solver=" + std::to_string(static_cast<int>(p.solver)) +
                       " reference_layers_only=" + std::to_string(p.reference_layers_only) +
                       " levels=";
                   for (const Level& level : p.candidates) {
                     text += to_string(level) + ",";
                   }
                   return text;
                 }},
      policy);
}

// One field a line; \x1f between name and value.
std::string serialise(const Fingerprint& fingerprint) {
  std::string text;
  for (const auto& [field, value] : fingerprint) text += field + '\x1f' + value + '\n';
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::vector<std::vector<std::byte>> gather(std::span<const std::byte> own,
                                           const std::vector<std::size_t>& sizes,
                                           Communicator& communicator, Deadline deadline) {
  std::size_t total = 0;
  for (std::size_t size : sizes) total += size;
  std::vector<std::byte> all(total);
  std::vector<std::span<std::byte>> slots;
  std::size_t at = 0;
  for (std::size_t size : sizes) {
    slots.push_back(std::span(all).subspan(at, size));
    at += size;
  }
  communicator.all_gather(own, slots, deadline);
  std::vector<std::vector<std::byte>> messages;
  for (const auto& slot : slots) messages.emplace_back(slot.begin(), slot.end());
  return messages;
}

struct Summary {
  std::uint64_t hash;
  std::uint64_t length;
};

std::string quoted(const std::string& line) {
  const std::size_t separator = line.find('\x1f');
  return separator == std::string::npos ? "nothing" : "'" + line.substr(separator + 1) + "'";
}

// The first line in which `other` differs from `first`.
std::string difference(const std::string& first, const std::string& other, int rank) {
  const auto a = lines_of(first), b = lines_of(other);
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string left = i < a.size() ? a[i] : "", right = i < b.size() ? b[i] : "";
    if (left == right) continue;
    const std::string& named = left.empty() ? right : left;
    return "[compress] the ranks differ in " + named.substr(0, named.find('\x1f')) +
           ": rank 0 has " + quoted(left) + ", rank " + std::to_string(rank) + " has " +
           quoted(right) + "; call it with equal arguments and models on every rank";
  }
  return "[compress] the ranks differ";
}

/// What a rank tells in a commit round.
struct Verdict {
  std::uint64_t parameters;
  std::uint8_t failed;  // Failure::Kind, or 0
  char message[503];    // ends with a zero
};

}  // namespace

Fingerprint fingerprint_of(const std::vector<LayerSpec>& layers, const AggregatorOptions& options,
                           std::size_t lanes) {
  Fingerprint fields = {{"library version", LGRECO_VERSION},
                        {"wire version", std::to_string(kWireVersion)},
                        {"lanes", std::to_string(lanes)},
                        {"method", to_string(options.method)},
                        {"policy", text_of(options.policy)},
                        {"error_feedback", options.error_feedback ? "true" : "false"},
                        {"residual", std::string(name_of(options.residual))},
                        {"seed", std::to_string(options.seed)},
                        {"start", std::to_string(options.start)},
                        {"drift_check_every", std::to_string(options.drift_check_every)},
                        {"number of layers", std::to_string(layers.size())}};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    fields.emplace_back("layer " + std::to_string(i), layers[i].name + " " +
                                                          text_of(layers[i].shape) + " " +
                                                          std::string(name_of(layers[i].dtype)));
  }
  return fields;
}

void require_same(const Fingerprint& fingerprint, Communicator& communicator, Deadline deadline) {
  const std::string text = serialise(fingerprint);
  const Summary own{XXH3_64bits(text.data(), text.size()), text.size()};
  const auto ranks = static_cast<std::size_t>(communicator.size());
  const auto summaries =
      gather(std::as_bytes(std::span(&own, 1)), std::vector<std::size_t>(ranks, sizeof own),
             communicator, deadline);
  std::vector<std::size_t> lengths;
  bool same = true;
  for (const auto& message : summaries) {
    Summary summary;
    std::memcpy(&summary, message.data(), sizeof summary);
    lengths.push_back(summary.length);
    same = same && summary.hash == own.hash && summary.length == own.length;
  }
  // Ranks that agree with each other must know, too, that somebody does not.
  if (std::all_of(summaries.begin(), summaries.end(),
                  [&](const auto& message) { return message == summaries[0]; })) {
    return;
  }
  constexpr std::size_t kLongest = std::size_t{1} << 28;
  for (std::size_t length : lengths) {
    if (length > kLongest) throw MismatchError("[compress] a rank runs something else than lgreco");
  }
  const auto texts = gather(std::as_bytes(std::span(text)), lengths, communicator, deadline);
  const auto string_of = [](const std::vector<std::byte>& bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
    throw MismatchError(
        difference(string_of(texts[0]), string_of(texts[rank]), static_cast<int>(rank)));
  }
}

CommitRound::CommitRound(Place place)
    : place_(place),
      messages_(Messages::Kind::gather, Phase::commit, place, 0,
                std::vector<std::size_t>(static_cast<std::size_t>(place.ranks), sizeof(Verdict))) {}

std::optional<Failure> CommitRound::agree(Communicator& communicator, const Frame& frame,
                                          Deadline deadline, const std::optional<Failure>& failure,
                                          std::uint64_t parameters, bool& parameters_differ) {
  Verdict own{};
  own.parameters = parameters;
  if (failure) {
    own.failed = static_cast<std::uint8_t>(failure->kind);
    failure->message.copy(own.message, sizeof own.message - 1);
  }
  std::memcpy(messages_.outgoing(place_.rank).data(), &own, sizeof own);
  messages_.exchange(communicator, frame, deadline);
  std::optional<Failure> agreed;
  parameters_differ = false;
  for (int rank = 0; rank < place_.ranks; ++rank) {
    Verdict verdict;
    std::memcpy(&verdict, messages_.incoming(rank).data(), sizeof verdict);
    parameters_differ |= verdict.parameters != own.parameters;
    if (agreed || verdict.failed == 0) continue;
    verdict.message[sizeof verdict.message - 1] = 0;
    agreed = Failure{static_cast<Failure::Kind>(verdict.failed), verdict.message};
  }
  return agreed;
}

void hash_parameters(const AggregatorOptions& options, std::span<std::uint64_t> hashes) {
  for (std::size_t layer = 0; layer < hashes.size(); ++layer) {
    const std::span<const std::byte> bytes = options.parameter(layer);
    hashes[layer] = XXH3_64bits(bytes.data(), bytes.size());
  }
}

std::uint64_t hash_of(std::span<const std::uint64_t> hashes) {
  return XXH3_64bits(hashes.data(), hashes.size_bytes());
}

Failure describe_drift(std::span<const std::uint64_t> hashes, const std::vector<LayerSpec>& layers,
                       Place place, Communicator& communicator, const Frame& frame,
                       Deadline deadline) {
  Messages messages(
      Messages::Kind::gather, Phase::commit, place, 0,
      std::vector<std::size_t>(static_cast<std::size_t>(place.ranks), hashes.size_bytes()));
  std::memcpy(messages.outgoing(place.rank).data(), hashes.data(), hashes.size_bytes());
  messages.exchange(communicator, frame, deadline);
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const auto hash_on = [&](int rank) {
      std::uint64_t hash;
      std::memcpy(&hash, messages.incoming(rank).data() + layer * sizeof hash, sizeof hash);
      return hash;
    };
    for (int rank = 1; rank < place.ranks; ++rank) {
      if (hash_on(rank) == hash_on(0)) continue;
      return {Failure::Kind::mismatch,
              "[step " + std::to_string(frame.step) + "] the parameters of layer '" +
                  layers[layer].name + "' on rank " + std::to_string(rank) +
                  " are not those of rank 0; load the same parameters on every rank"};
    }
  }
  return {Failure::Kind::mismatch, "the ranks' parameters differ"};
}

}  // namespace lgreco
