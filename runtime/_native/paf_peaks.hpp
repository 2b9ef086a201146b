// Keypoints: maxima of the confidence maps, placed to a fraction of a cell.
#pragma once
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "paf_kernels.hpp"

namespace edgepose {

// Memory that only grows. It is zero at first and keeps nothing when it grows.
template <class T>
class Buffer {
   public:
    T* sized(std::size_t count) {
        if (count > size_) {
            cells_.reset();
            cells_.reset(static_cast<T*>(std::calloc(count, sizeof(T))));
            if (!cells_) throw std::bad_alloc();
            size_ = count;
        }
        return cells_.get();
    }
    T* get() const { return cells_.get(); }

   private:
    struct Free {
        void operator()(T* cells) const { std::free(cells); }
    };
    std::unique_ptr<T[], Free> cells_;
    std::size_t size_ = 0;
};

// The keypoints of one type in reading order; positions in cells. Arrays have kSlack readable elements more than `count`.
// `first` counts the keypoints of the types before.
struct Peaks {
    const float *x, *y, *confidence;
    int first, count;
};

class PeakFinder {
   public:
    PeakFinder(int types, float threshold, int most_peaks, const Kernels& kernels);
    PeakFinder(const PeakFinder&) = delete;

    // The keypoints of all types; `map` is the first of as many maps as there are types, `map_stride` apart. Valid until the next call.
    const std::vector<Peaks>& find(Map map, std::ptrdiff_t map_stride);

   private:
    void fit(int height, int width);
    void drop_plateaus(const Map& map, int ties);
    bool plateau(const Map& map, int place, std::int32_t*& queue);
    void keep_strongest(int first);
    void move(int from, int to);

    const Kernels& kernels_;
    const float threshold_;
    const int most_;
    Maxima found_{};
    Buffer<float> room_;
    Buffer<std::int32_t> ties_, plateaus_;
    Buffer<std::uint8_t> seen_;  // per cell: its plateau has been looked at; all 0 between maps
    Buffer<std::int32_t> strongest_;
    std::vector<Peaks> peaks_;
    int height_ = -1, width_ = -1;
};

}  // namespace edgepose
