#include "paf_peaks.hpp"

#include <algorithm>
#include <numeric>

namespace edgepose {
namespace {

struct Cell {
    int row, column;
};

template <class Visit>
void each_neighbour(const Map& map, Cell c, Visit visit) {
    for (int row = std::max(c.row - 1, 0); row <= std::min(c.row + 1, map.height - 1); ++row)
        for (int column = std::max(c.column - 1, 0); column <= std::min(c.column + 1, map.width - 1); ++column)
            if (row != c.row || column != c.column) visit(Cell{row, column}, map.cells[row * map.stride + column]);
}

}  // namespace

PeakFinder::PeakFinder(int types, float threshold, int most_peaks, const Kernels& kernels)
    : kernels_(kernels), threshold_(threshold), most_(most_peaks), peaks_(types) {}

void PeakFinder::fit(int height, int width) {
    if (height == height_ && width == width_) return;
    const std::size_t most_maxima = std::size_t((height + 1) / 2) * ((width + 1) / 2);
    const std::size_t row = peaks_.size() * most_ + most_maxima + kSlack;
    float* room = room_.sized(7 * row);
    found_ = {room, room + row, room + 2 * row, room + 3 * row, room + 4 * row, room + 5 * row, room + 6 * row, 0};
    ties_.sized(most_maxima);
    strongest_.sized(most_maxima);
    plateaus_.sized(std::size_t(height) * width);
    seen_.sized(std::size_t(height) * width);
    height_ = height, width_ = width;
}

const std::vector<Peaks>& PeakFinder::find(Map map, std::ptrdiff_t map_stride) {
    fit(map.height, map.width);
    found_.count = 0;
    for (Peaks& peaks : peaks_) {
        const int first = found_.count;
        const int ties = kernels_.find_maxima(map, threshold_, found_, ties_.get());
        if (ties) drop_plateaus(map, ties);
        if (found_.count - first > most_) keep_strongest(first);
        peaks = {found_.x + first, found_.y + first, found_.here + first, first, found_.count - first};
        map.cells += map_stride;
    }
    kernels_.refine(found_);
    return peaks_;
}

// A plateau of equal cells is one peak, at its first cell; one that has a higher cell beside it is none.
void PeakFinder::drop_plateaus(const Map& map, int ties) {
    const std::int32_t *tie = ties_.get(), *last = tie + ties;
    std::int32_t* queue = plateaus_.get();
    int kept = *tie;
    for (int place = *tie; place < found_.count; ++place) {
        const bool tied = tie != last && *tie == place;
        if (tied) ++tie;
        if (!tied || plateau(map, place, queue)) move(place, kept++);
    }
    found_.count = kept;
    for (const std::int32_t* cell = plateaus_.get(); cell != queue; ++cell) seen_.get()[*cell] = 0;
}

// Visits the plateau that starts at a peak, and appends its cells to the queue. Returns whether it is a top that has not been seen before.
bool PeakFinder::plateau(const Map& map, int place, std::int32_t*& queue) {
    const float here = found_.here[place];
    const std::int32_t* const start = queue;
    double columns = 0, rows = 0;
    bool top = true;
    const auto add = [&](Cell c) {
        const std::int32_t index = c.row * map.width + c.column;
        if (seen_.get()[index]) return;
        seen_.get()[index] = 1;
        *queue++ = index;
        columns += c.column, rows += c.row;
    };
    add({static_cast<int>(found_.y[place]), static_cast<int>(found_.x[place])});
    if (queue == start) return false;
    for (const std::int32_t* cell = start; cell != queue; ++cell)
        each_neighbour(map, {*cell / map.width, *cell % map.width}, [&](Cell c, float value) {
            if (value == here) add(c);
            if (value > here) top = false;
        });
    const auto size = static_cast<double>(queue - start);
    if (top && size > 2) {  // too wide for a parabola: its middle
        found_.x[place] = static_cast<float>(columns / size) + 0.5f;
        found_.y[place] = static_cast<float>(rows / size) + 0.5f;
        found_.left[place] = found_.right[place] = found_.up[place] = found_.down[place] = kMissing;
    }
    return top;
}

void PeakFinder::keep_strongest(int first) {
    std::int32_t *places = strongest_.get(), *last = places + (found_.count - first);
    std::iota(places, last, first);
    const float* here = found_.here;
    std::nth_element(places, places + most_, last, [&](int a, int b) { return here[a] != here[b] ? here[a] > here[b] : a < b; });
    std::sort(places, places + most_);
    for (int k = 0; k < most_; ++k) move(places[k], first + k);
    found_.count = first + most_;
}

void PeakFinder::move(int from, int to) {
    for (float* values : {found_.x, found_.y, found_.here, found_.left, found_.right, found_.up, found_.down}) values[to] = values[from];
}

}  // namespace edgepose
