#include "paf_limbs.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace edgepose {

LimbFinder::LimbFinder(const std::vector<Limb>& limbs, const LimbParameters& p, int most_peaks, const Kernels& kernels)
    : kernels_(kernels), limbs_(limbs), most_(most_peaks) {
    // The two coarse samples come first. A pair whose field agrees at neither is dropped: it would have to agree nearly everywhere else.
    const bool coarse = p.samples >= 4;
    const int low = p.samples / 4, high = p.samples - 1 - low;
    const auto place = [&](int k) { return (static_cast<float>(k) + 0.5f) / static_cast<float>(p.samples); };
    if (coarse) places_ = {place(low), place(high)};
    for (int k = 0; k < p.samples; ++k)
        if (!coarse || (k != low && k != high)) places_.push_back(place(k));
    const int needed = static_cast<int>(std::ceil(p.share * p.samples - 1e-6));  // a share of 0.6 of 5 is 3 in spite of rounding
    rule_ = {p.along, p.near * p.near, p.length_cost, p.samples, needed, coarse ? 2 : 0, places_.data()};
    for (const Limb& limb : limbs) channels_ = std::max({channels_, limb.x + 1, limb.y + 1});
    const std::size_t row = 2 * limbs.size() * most_ + kSlack;
    float* values = end_values_.sized(5 * row);
    std::int32_t* offsets = end_offsets_.sized(2 * row);
    ends_ = {values, values + row, offsets, offsets + row, values + 2 * row, values + 3 * row, values + 4 * row};
    groups_.reserve(limbs.size());
    const std::size_t most_edges = limbs.size() * most_ * most_;
    weights_.sized(most_edges + kSlack);
    ids_.sized(most_edges + kSlack);
    edges_.sized(most_edges);
    edge_room_.sized(most_edges);
}

Span<const Edge> LimbFinder::find(const Map& map, std::ptrdiff_t map_stride, const std::vector<Peaks>& peaks) {
    if (peaks.back().first + peaks.back().count == 0) return {edges_.get(), 0};  // maps without a cell, among others
    const Fields fields = padded(map, map_stride);
    groups_.clear();
    end_count_ = 0;
    for (std::size_t k = 0; k < limbs_.size(); ++k) {
        const Peaks &start = peaks[limbs_[k].start], &end = peaks[limbs_[k].end];
        if (!start.count || !end.count) continue;
        const auto offset_x = static_cast<std::int32_t>(limbs_[k].x * map_stride), offset_y = static_cast<std::int32_t>(limbs_[k].y * map_stride);
        groups_.push_back({end_count_, start.count, end_count_ + start.count, end.count, offset_x, offset_y, std::uint32_t(k) << 2 * kPairShift});
        add_ends(start, offset_x, offset_y);
        add_ends(end, offset_x, offset_y);
    }
    std::fill_n(ends_.offset_x + end_count_, kSlack, 0);
    std::fill_n(ends_.offset_y + end_count_, kSlack, 0);
    const int count = kernels_.score_pairs(fields, ends_, groups_.data(), static_cast<int>(groups_.size()), rule_, scratch_, weights_.get(), ids_.get());
    return {sorted(count), count};
}

void LimbFinder::add_ends(const Peaks& peaks, std::int32_t offset_x, std::int32_t offset_y) {
    std::copy_n(peaks.x, peaks.count, ends_.x + end_count_);
    std::copy_n(peaks.y, peaks.count, ends_.y + end_count_);
    std::fill_n(ends_.offset_x + end_count_, peaks.count, offset_x);
    std::fill_n(ends_.offset_y + end_count_, peaks.count, offset_y);
    end_count_ += peaks.count;
}

Fields LimbFinder::padded(const Map& map, std::ptrdiff_t& map_stride) {
    if (map.height >= 2 && map.width >= 2) return {map.cells, map.height, map.width, map.stride};
    const int height = std::max(map.height, 2), width = std::max(map.width, 2);
    float* room = padded_.sized(std::size_t(channels_) * height * width);
    for (int c = 0; c < channels_; ++c)
        for (int i = 0; i < height; ++i)
            for (int j = 0; j < width; ++j)
                room[(c * height + i) * width + j] =
                    map.cells[c * map_stride + std::min(i, map.height - 1) * map.stride + std::min(j, map.width - 1)];
    map_stride = std::ptrdiff_t(height) * width;
    return {room, height, width, width};
}

// Edges come in the order of limb, start and end, which a radix sort by weight keeps.
Edge* LimbFinder::sorted(int count) {
    const std::int32_t *weights = weights_.get(), *ids = ids_.get();
    Edge *edges = edges_.get(), *room = edge_room_.get();
    if (count <= 64) {
        for (int k = 0; k < count; ++k) edges[k] = Edge(weights[k], ids[k]);
        std::sort(edges, edges + count, [](const Edge& a, const Edge& b) { return a.key() < b.key(); });
        return edges;
    }
    constexpr int kBits = kWeightBits / 2, kDigits = 1 << kBits;
    std::array<int, kDigits> low{}, high{};
    const auto low_digit = [](std::int32_t steps) { return (kWeightMask - steps) & (kDigits - 1); };
    const auto high_digit = [](std::int32_t steps) { return (kWeightMask - steps) >> kBits; };
    for (int k = 0; k < count; ++k) ++low[low_digit(weights[k])], ++high[high_digit(weights[k])];
    int lows = 0, highs = 0;
    for (int d = 0; d < kDigits; ++d) {
        lows += std::exchange(low[d], lows);
        highs += std::exchange(high[d], highs);
    }
    for (int k = 0; k < count; ++k) room[low[low_digit(weights[k])]++] = Edge(weights[k], ids[k]);
    for (int k = 0; k < count; ++k) edges[high[high_digit(room[k].steps())]++] = room[k];
    return edges;
}

}  // namespace edgepose
