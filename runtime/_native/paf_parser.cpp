#include "paf_parser.hpp"

#include <algorithm>

namespace edgepose {
namespace {

int channels_of(const std::vector<Limb>& limbs) {
    int most = 0;
    for (const Limb& limb : limbs) most = std::max({most, limb.x + 1, limb.y + 1});
    return most;
}

Maps<float> single(const Maps<float>& maps, int, Buffer<float>&, const Kernels&) { return maps; }

Maps<float> single(const Maps<std::uint16_t>& maps, int channels, Buffer<float>& room, const Kernels& kernels) {
    float* at = room.sized(std::size_t(channels) * maps.height * maps.width);
    const Maps<float> copy{at, channels, maps.height, maps.width, std::ptrdiff_t(maps.height) * maps.width, maps.width};
    for (int c = 0; c < channels; ++c)
        for (int y = 0; y < maps.height; ++y, at += maps.width)
            kernels.widen(maps.cells + c * maps.channel_stride + y * maps.row_stride, at, maps.width);
    return copy;
}

Map first(const Maps<float>& maps) { return {maps.cells, maps.height, maps.width, maps.row_stride}; }

}  // namespace

PafParser::PafParser(int types, const std::vector<Limb>& limbs, const Parameters& p, const Kernels& kernels)
    : kernels_(kernels), types_(types), field_channels_(channels_of(limbs)), peaks_(types, p.threshold, p.most_peaks, kernels),
      limbs_(limbs, p.limbs, p.most_peaks, kernels), people_(types, limbs, p.people, p.most_peaks) {}

template <class T>
const std::vector<Person>& PafParser::parse(const Maps<T>& heatmaps, const Maps<T>& fields) {
    const Maps<float> heat = single(heatmaps, types_, heatmap_room_, kernels_);
    const Maps<float> field = single(fields, field_channels_, field_room_, kernels_);
    const std::vector<Peaks>& peaks = peaks_.find(first(heat), heat.channel_stride);
    return people_.join(limbs_.find(first(field), field.channel_stride, peaks), peaks);
}

template const std::vector<Person>& PafParser::parse(const Maps<float>&, const Maps<float>&);
template const std::vector<Person>& PafParser::parse(const Maps<std::uint16_t>&, const Maps<std::uint16_t>&);

}  // namespace edgepose
