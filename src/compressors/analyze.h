// How `analyze` measures the library's methods: the MethodEntry::add_losses of each.
#pragma once

#include <algorithm>

#include "lgreco/method.h"

namespace lgreco {

void add_cast_losses(const LayerValues& layer, std::span<const Level> levels,
                     std::span<double> sums);
void add_entropy_losses(const LayerValues& layer, std::span<const Level> levels,
                        std::span<double> sums);
void add_low_rank_losses(const LayerValues& layer, std::span<const Level> levels,
                         std::span<double> sums);
void add_quantize_losses(const LayerValues& layer, std::span<const Level> levels,
                         std::span<double> sums);
void add_topk_losses(const LayerValues& layer, std::span<const Level> levels,
                     std::span<double> sums);

/// Calls `work` with each run of values that is encoded by itself.
template <typename Work>
void for_each_piece(const LayerValues& layer, const Work& work) {
  for (std::size_t at = 0; at < layer.values.size(); at += layer.piece) {
    work(layer.values.subspan(at, std::min(layer.piece, layer.values.size() - at)));
  }
}

}  // namespace lgreco
