#include "src/engine/registration.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "lgreco/compressor.h"
#include "lgreco/status.h"
#include "src/engine/frame.h"
#include "src/engine/gather.h"

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

std::string text_of(const LGrecoPolicy& policy) {
  std::string text =
      "LGreCo every=" + std::to_string(policy.every) + " start=" + std::to_string(policy.start) +
      " window=" + std::to_string(policy.window) + " alpha=" + text_of(policy.alpha) +
      " budget=" + std::string(name_of(policy.budget)) +
      " objective=" + std::to_string(static_cast<int>(policy.objective)) +
      " solver=" + std::to_string(static_cast<int>(policy.solver)) +
      " reference_layers_only=" + std::to_string(policy.reference_layers_only);
  if (policy.network) {
    text +=
        " network=" + text_of(policy.network->bandwidth) + "," + text_of(policy.network->latency);
  }
  text += " levels=";
  for (const Level& level : policy.candidates) text += to_string(level) + ",";
  return text;
}

std::string text_of(const AccordionPolicy& policy) {
  return "Accordion low=" + to_string(policy.low) + " high=" + to_string(policy.high) +
         " every=" + std::to_string(policy.every) + " threshold=" + text_of(policy.threshold) +
         (policy.then ? " then " + text_of(*policy.then) : "");
}

std::string text_of(const FixedPolicy& policy) {
  std::string text = "Fixed";
  for (const auto& [name, level] : policy.levels) text += " " + name + "=" + to_string(level);
  return text;
}

std::string text_of(const UniformPolicy&) { return "Uniform"; }

// One field a line; \x1f between name and value.
std::string serialise(const Fingerprint& fingerprint) {
  std::string text;
  for (const auto& [field, value] : fingerprint) {
    text.append(field).append(1, '\x1f').append(value).append(1, '\n');
  }
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
    const std::string field = named.substr(0, named.find('\x1f'));
    return "[compress] the ranks differ in " + field + ": rank 0 has " + quoted(left) + ", rank " +
           std::to_string(rank) + " has " + quoted(right) + "; " +
           (field.find("version") == std::string::npos
                ? "call it with equal arguments and models on every rank"
                : "install the same lgreco on every rank");
  }
  return "[compress] the ranks differ";
}

}  // namespace

Fingerprint fingerprint_of(const std::vector<LayerSpec>& layers, const AggregatorOptions& options) {
  Fingerprint fields = {
      {"method", to_string(options.method)},
      {"policy", std::visit([](const auto& p) { return text_of(p); }, options.policy)},
      {"error_feedback", options.error_feedback ? "true" : "false"},
      {"residual", std::string(name_of(options.residual))},
      {"seed", std::to_string(options.seed)},
      {"start", std::to_string(options.start)},
      {"number of layers", std::to_string(layers.size())}};
  // Of all methods, as a plan may come to any of them.
  for (const MethodRow& row : method_table()) {
    fields.emplace_back("wire version of " + std::string(row.name),
                        std::to_string(row.wire_version));
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    fields.emplace_back("layer " + std::to_string(i), layers[i].name + " " +
                                                          text_of(layers[i].shape) + " " +
                                                          std::string(name_of(layers[i].dtype)));
  }
  return fields;
}

Fingerprint registration_of(const Fingerprint& fingerprint, const AggregatorOptions& options) {
  Fingerprint fields = {{"library version", LGRECO_VERSION},
                        {"wire version", std::to_string(kWireVersion)},
                        {"drift_check_every", std::to_string(options.drift_check_every)},
                        {"keep_previous", options.keep_previous ? "true" : "false"}};
  fields.insert(fields.end(), options.caller_settings.begin(), options.caller_settings.end());
  fields.insert(fields.end(), fingerprint.begin(), fingerprint.end());
  return fields;
}

std::uint64_t hash_of(const Fingerprint& fingerprint) {
  const std::string text = serialise(fingerprint);
  return XXH3_64bits(text.data(), text.size());
}

const std::vector<LayerSpec>& model_of(const std::vector<LayerSpec>& layers,
                                       const AggregatorOptions& options) {
  return options.model.empty() ? layers : options.model;
}

void require_same(const Fingerprint& fingerprint, Communicator& communicator, Deadline deadline) {
  const std::string text = serialise(fingerprint);
  const Summary own{XXH3_64bits(text.data(), text.size()), text.size()};
  const auto ranks = static_cast<std::size_t>(communicator.size());
  const auto summaries =
      gather(std::as_bytes(std::span(&own, 1)), std::vector<std::size_t>(ranks, sizeof own),
             communicator, deadline);
  std::vector<std::size_t> lengths;
  for (const auto& message : summaries) {
    Summary summary;
    std::memcpy(&summary, message.data(), sizeof summary);
    lengths.push_back(summary.length);
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

}  // namespace lgreco
