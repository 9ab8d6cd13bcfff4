// Checkpoints: the state of an aggregator as bytes, in a file, and for another number of ranks.
//
// Each rank saves its own state beside the parameters and loads its own again; the run then goes on
// bit for bit. When the number of ranks changed, load all old states and `resize` them. Bytes and
// files may come from anywhere: what is damaged, foreign or too new is refused with a StateError.
// docs/checkpoint_format.md gives the bytes field by field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lgreco/state.h"

namespace lgreco {

/// Grows by one with each change of the format. Every version ever released can be read.
inline constexpr std::uint32_t kCheckpointVersion = 2;

/// Equal states give equal bytes, on every machine. Throws StateError when the plan and the state
/// have not the same number of layers.
std::vector<std::byte> serialize(const AggregatorState& state);

/// The inverse of serialize. Total over all byte strings: throws StateError saying what is wrong,
/// before it takes memory for more than the bytes can hold. Whether the state fits a model is for
/// Aggregator::load_state to say.
AggregatorState parse_state(std::span<const std::byte> bytes);

/// The checksum that serialize writes (XXH3-64 of all bytes before it), without making the bytes.
/// Throws as serialize does.
std::uint64_t checksum(const AggregatorState& state);

/// Write `state` to `path`. Whatever happens, `path` holds either what it held before or the whole
/// new state: the bytes go to `path`.tmp, to the disk, and only then to their name. After a crash
/// `path`.tmp may be left; the next save replaces it. A new file keeps the mode of the one before;
/// no link is followed.
/// Throws StateError when the file cannot be written, and when `path` is no regular file. REQUIRES:
/// nobody else saves to `path`.
void save_state(const AggregatorState& state, const std::string& path);

/// Throws StateError when the file cannot be read or is not a whole state.
AggregatorState load_state(const std::string& path);

/// The state of rank `rank` of `size`, which holds `layers`, by name, made of the states of all
/// ranks of a run of another size, in any order; those ranks, too, may have held some layers each.
/// Residuals become their mean over the old ranks that held the layer, so that what all ranks
/// together have not sent yet stays the same; a layer's window is that of the old rank that
/// measured it, the longest if there are several. Plan, step and factors are kept; statistics are
/// those of the old rank of that number, or of the last one. Throws StateError, naming what and
/// which rank, when `states` are not those of all ranks of one run at one step, or none has one of
/// `layers`; ConfigError when `rank` is none of `size`.
AggregatorState resize(std::span<const AggregatorState> states, std::span<const std::string> layers,
                       int rank, int size);
/// The same, of the layers of the first state.
AggregatorState resize(std::span<const AggregatorState> states, int rank, int size);

/// As resize(), but each rank that was there before keeps its own residual, times `size` / the old
/// number of ranks: as an addend of a mean over more or fewer ranks it counts as much as before.
/// New ranks begin without any; what ranks that are gone have not sent is shared out evenly. So
/// the mean over the ranks is what it was here, too, and how it was spread over them is kept.
AggregatorState keep_residuals(std::span<const AggregatorState> states,
                               std::span<const std::string> layers, int rank, int size);

/// As resize(), but residuals and windows start anew, and `states` may be those of any old ranks
/// that hold the layers together.
AggregatorState reset_residuals(std::span<const AggregatorState> states,
                                std::span<const std::string> layers, int rank, int size);

}  // namespace lgreco
