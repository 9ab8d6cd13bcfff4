#include "src/engine/checkpoint.h"

#include <xxhash.h>

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"

namespace lgreco {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian");

constexpr std::uint32_t kMagic = 0x5453474C;  // "LGST"

struct Header {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t length;
};
static_assert(sizeof(Header) == 16);

constexpr std::size_t kFixedBytes = sizeof(Header) + sizeof(std::uint64_t);
// Six lengths, the steps of the window, Accordion's norm and decision.
constexpr std::size_t kMinLayerBytes = 8 * sizeof(std::uint64_t) + 1;
constexpr std::size_t kEstimateBytes = 1 + 9 * sizeof(double);
constexpr std::size_t kLongestSpelling = 256;

[[noreturn]] void refuse(const std::string& why) { throw StateError("[state] " + why); }

// The content of a state in its order on disk: the one list of its fields, for both directions.
// Naming all members at once has a forgotten one refused by the compiler. A new field goes where
// `archive.version` says that it exists, with the next kCheckpointVersion.
template <typename Archive, typename Value>
void visit(Archive& archive,
           Value& value) requires std::is_same_v<std::remove_const_t<Value>, Stats> {
  auto& [steps, bytes_sent, bytes_received, messages_sent, dense_bytes, encode_s, decode_s, wait_s,
         plan_s, plan_wait_s, check_s, plans, plan_fallbacks, plan_failures, overflow_steps,
         failed_steps, dropped_residuals, unapplied_steps, large_residual_steps, residual_norm,
         plan_failure] = value;
  archive.numbers("statistics", steps, bytes_sent, bytes_received, messages_sent, dense_bytes,
                  encode_s, decode_s, wait_s, plan_s, plan_wait_s, check_s, plans, plan_fallbacks,
                  plan_failures, overflow_steps, failed_steps, residual_norm);
  if (archive.version < 2) return;
  archive.numbers("statistics", dropped_residuals, unapplied_steps, large_residual_steps);
  archive.text("the reason of a plan's failure", plan_failure);
}

template <typename Archive, typename Value>
void visit(Archive& archive,
           Value& value) requires std::is_same_v<std::remove_const_t<Value>, LayerState> {
  auto& [residual, factor, window, window_steps, interval_sum, interval_norm, critical] = value;
  archive.floats("a residual", residual);
  archive.floats("a factor", factor);
  archive.floats("a window", window);
  archive.numbers("the steps of a window", window_steps);
  archive.floats("the sum of an interval", interval_sum);
  archive.numbers("the norm of an interval", interval_norm);
  archive.flag("a regime", critical);
}

template <typename Archive, typename Value>
void visit(Archive& archive,
           Value& value) requires std::is_same_v<std::remove_const_t<Value>, LayerEstimate> {
  auto& [reason, chosen, reference, dense] = value;
  archive.reason("the reason of a level", reason);
  for (auto* estimate : {&chosen, &reference, &dense}) {
    auto& [bytes, error, seconds] = *estimate;
    archive.numbers("an estimate", bytes, error, seconds);
  }
}

template <typename Archive, typename Value>
void visit(Archive& archive,
           Value& value) requires std::is_same_v<std::remove_const_t<Value>, AggregatorState> {
  auto& [rank, size, step, fingerprint, grad_scale, critical, learning_rate_decayed,
         decay_is_agreed, unsettled, plan, stats, layers] = value;
  auto& [names, levels, estimates, plan_version, plan_step, bytes, error, budget, lower_bound] =
      plan;
  archive.numbers("rank, size, step, fingerprint and scale", rank, size, step, fingerprint,
                  grad_scale);
  archive.flag("the regime", critical);
  if (archive.version >= 2) {
    archive.flag("the learning rate's decay", learning_rate_decayed);
    archive.flag("the decay agreed on", decay_is_agreed);
    archive.flag("what follows the step", unsettled);
  }
  archive.numbers("the plan", plan_version, plan_step, bytes, error, budget, lower_bound);
  visit(archive, stats);
  archive.count("the number of layers", kMinLayerBytes, names, levels, layers);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    archive.text("a layer's name", names[i]);
    archive.level("a level", levels[i]);
    visit(archive, layers[i]);
  }
  archive.count("the number of estimates", kEstimateBytes, estimates);
  for (auto& estimate : estimates) visit(archive, estimate);
}

template <typename Sink>
class Writer {
 public:
  const std::uint32_t version = kCheckpointVersion;

  explicit Writer(Sink sink) : sink_(sink) {}

  template <typename... Numbers>
  void numbers(const char*, const Numbers&... values) {
    (sink_(std::as_bytes(std::span(&values, 1))), ...);
  }
  template <typename First, typename... Lists>
  void count(const char*, std::size_t, const First& first, const Lists&...) {
    length(first.size());
  }
  void text(const char*, std::string_view value) {
    length(value.size());
    sink_(std::as_bytes(std::span(value)));
  }
  void level(const char* field, const Level& value) { text(field, to_string(value)); }
  void flag(const char* field, bool value) { numbers(field, std::uint8_t{value}); }
  void reason(const char* field, Reason value) { numbers(field, static_cast<std::uint8_t>(value)); }
  void floats(const char*, std::span<const float> values) {
    length(values.size());
    sink_(std::as_bytes(values));
  }

 private:
  void length(std::uint64_t value) { numbers("", value); }

  Sink sink_;
};

/// Reads bytes of unknown origin: what is announced is compared with what is left before it is
/// believed.
class Reader {
 public:
  Reader(std::uint32_t version, std::span<const std::byte> bytes)
      : version(version), rest_(bytes) {}

  const std::uint32_t version;

  template <typename... Numbers>
  void numbers(const char* field, Numbers&... values) {
    (copy(take(field, sizeof values), &values), ...);
  }
  template <typename... Lists>
  void count(const char* field, std::size_t min_bytes, Lists&... lists) {
    const std::size_t announced = length(field, min_bytes);
    (lists.resize(announced), ...);
  }
  void text(const char* field, std::string& value) {
    value.resize(length(field, 1));
    copy(take(field, value.size()), value.data());
  }
  void level(const char* field, Level& value) {
    std::string spelling;
    text(field, spelling);
    if (spelling.size() > kLongestSpelling) refuse(std::string(field) + " is too long");
    try {
      value = parse_level(spelling);
    } catch (const ConfigError& error) {
      refuse(std::string(field) + " is not known here: " + error.what());
    }
  }
  void flag(const char* field, bool& value) {
    std::uint8_t byte;
    numbers(field, byte);
    if (byte > 1) refuse(std::string(field) + " is neither 0 nor 1");
    value = byte == 1;
  }
  void reason(const char* field, Reason& value) {
    std::uint8_t byte;
    numbers(field, byte);
    if (byte > static_cast<std::uint8_t>(Reason::nothing_fits)) {
      refuse(std::string(field) + " is not known here");
    }
    value = static_cast<Reason>(byte);
  }
  void floats(const char* field, std::vector<float>& values) {
    values.resize(length(field, sizeof(float)));
    copy(take(field, values.size() * sizeof(float)), values.data());
  }
  void end() const {
    if (!rest_.empty()) refuse(std::to_string(rest_.size()) + " bytes follow the last estimate");
  }

 private:
  /// A number of things that take at least `each` bytes.
  std::size_t length(const char* field, std::size_t each) {
    std::uint64_t announced;
    numbers(field, announced);
    if (announced > rest_.size() / each) {
      refuse(std::string(field) + " has " + std::to_string(announced) + " entries, but only " +
             std::to_string(rest_.size()) + " bytes are left");
    }
    return announced;
  }
  std::span<const std::byte> take(const char* field, std::size_t bytes) {
    if (bytes > rest_.size()) {
      refuse(std::string(field) + " needs " + std::to_string(bytes) + " bytes, but only " +
             std::to_string(rest_.size()) + " are left");
    }
    const auto taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }
  static void copy(std::span<const std::byte> from, void* to) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }

  std::span<const std::byte> rest_;
};

std::uint64_t content_bytes(const AggregatorState& state) {
  std::uint64_t total = 0;
  Writer writer([&](std::span<const std::byte> bytes) { total += bytes.size(); });
  visit(writer, state);
  return total;
}

std::uint64_t trailer_of(std::span<const std::byte> bytes) {
  std::uint64_t sum;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  return sum;
}

Header checked_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kFixedBytes) {
    refuse("only " + std::to_string(bytes.size()) + " bytes; the save was cut off, or it is none");
  }
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kMagic) refuse("not a saved state: it begins with other bytes");
  if (header.version > kCheckpointVersion) {
    refuse("format version " + std::to_string(header.version) + " is newer than this library, " +
           "which reads up to " + std::to_string(kCheckpointVersion) + "; install a newer lgreco");
  }
  if (header.version == 0) refuse("format version 0 does not exist: damaged");
  if (header.length != bytes.size()) {
    refuse(std::to_string(bytes.size()) + " bytes instead of " + std::to_string(header.length) +
           ": cut off or damaged");
  }
  if (trailer_of(bytes) != XXH3_64bits(bytes.data(), bytes.size() - sizeof(std::uint64_t))) {
    refuse("the checksum does not match: damaged");
  }
  return header;
}

}  // namespace

std::uint64_t write_state(const AggregatorState& state,
                          const std::function<void(std::span<const std::byte>)>& sink) {
  const std::size_t layers = state.layers.size();
  if (state.plan.layers.size() != layers || state.plan.levels.size() != layers) {
    refuse("the plan has " + std::to_string(state.plan.layers.size()) + " layers and " +
           std::to_string(state.plan.levels.size()) + " levels, the state " +
           std::to_string(layers) + " layers");
  }
  if (!state.plan.estimates.empty() && state.plan.estimates.size() != layers) {
    refuse("the plan has estimates of some layers only");
  }
  XXH3_state_t hash;
  XXH3_64bits_reset(&hash);
  const auto hashing = [&](std::span<const std::byte> bytes) {
    XXH3_64bits_update(&hash, bytes.data(), bytes.size());
    sink(bytes);
  };
  const Header header{kMagic, kCheckpointVersion, kFixedBytes + content_bytes(state)};
  hashing(std::as_bytes(std::span(&header, 1)));
  Writer writer(hashing);
  visit(writer, state);
  const std::uint64_t sum = XXH3_64bits_digest(&hash);
  sink(std::as_bytes(std::span(&sum, 1)));
  return sum;
}

std::vector<std::byte> serialize(const AggregatorState& state) {
  std::vector<std::byte> bytes;
  bytes.reserve(kFixedBytes + content_bytes(state));
  write_state(state, [&](std::span<const std::byte> piece) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  });
  return bytes;
}

std::uint64_t checksum(const AggregatorState& state) {
  return write_state(state, [](std::span<const std::byte>) {});
}

AggregatorState parse_state(std::span<const std::byte> bytes) {
  const Header header = checked_header(bytes);
  Reader reader(header.version, bytes.subspan(sizeof header, bytes.size() - kFixedBytes));
  AggregatorState state;
  visit(reader, state);
  reader.end();
  // The first version wrote 1 when nobody had named a scale.
  if (header.version == 1 && state.grad_scale == 1) state.grad_scale = 0;
  if (!state.plan.estimates.empty() && state.plan.estimates.size() != state.layers.size()) {
    refuse("the plan has estimates of some layers only");
  }
  const bool is_of_a_rank = state.rank >= 0 && state.rank < state.size;
  if (!is_of_a_rank && !(state.is_portable() && state.rank == 0)) {
    refuse("rank " + std::to_string(state.rank) + " of " + std::to_string(state.size) +
           " cannot be");
  }
  return state;
}

}  // namespace lgreco
