// Limbs: pairs of keypoints that a field joins, best first.
#pragma once
#include <vector>

#include "paf_peaks.hpp"

namespace edgepose {

template <class T>
struct Span {
    T* first;
    int count;
    T* begin() const { return first; }
    T* end() const { return first + count; }
};

struct Limb {
    int start, end, x, y;  // keypoint types; channels of the field's components
};

constexpr int kMostPeaks = 1 << kPairShift;  // a type
constexpr int kMostLimbs = 1 << 12;
constexpr int kWeightBits = 18, kWeightMask = (1 << kWeightBits) - 1;

// A limb found. Sorts by weight, the best first, then by limb, start and end.
class Edge {
   public:
    Edge() = default;
    Edge(std::int32_t steps, std::int32_t id) : key_(std::uint64_t(kWeightMask - steps) << 32 | static_cast<std::uint32_t>(id)) {}
    std::int32_t steps() const { return kWeightMask - static_cast<std::int32_t>(key_ >> 32); }
    float weight() const { return static_cast<float>(steps()) / kWeightScale; }
    int limb() const { return static_cast<int>(key_ >> 2 * kPairShift & (kMostLimbs - 1)); }
    int start() const { return static_cast<int>(key_ >> kPairShift & (kMostPeaks - 1)); }  // peaks, counted within their types
    int end() const { return static_cast<int>(key_ & (kMostPeaks - 1)); }
    std::uint64_t key() const { return key_; }

   private:
    std::uint64_t key_;
};

struct LimbParameters {
    int samples;        // along a limb
    float along;        // least component of the field along the limb for a sample to agree
    double share;       // least share of samples that agree
    float near;         // cells; in longer limbs the field agrees at both keypoints
    float length_cost;  // taken from a limb's weight per cell: of two equally good fields the nearer keypoint is the likelier
};

class LimbFinder {
   public:
    LimbFinder(const std::vector<Limb>& limbs, const LimbParameters& parameters, int most_peaks, const Kernels& kernels);

    LimbFinder(const LimbFinder&) = delete;

    // The limbs, best first; `fields` is channel 0 of maps that lie `map_stride` apart. Valid until the next call.
    Span<const Edge> find(const Map& fields, std::ptrdiff_t map_stride, const std::vector<Peaks>& peaks);

   private:
    Fields padded(const Map& fields, std::ptrdiff_t& map_stride);
    void add_ends(const Peaks& peaks, std::int32_t offset_x, std::int32_t offset_y);
    Edge* sorted(int count);

    const Kernels& kernels_;
    const std::vector<Limb> limbs_;
    const int most_;
    int channels_ = 0;
    std::vector<float> places_;
    PairRule rule_;
    PairScratch scratch_{};
    Buffer<float> end_values_;
    Buffer<std::int32_t> end_offsets_;
    Ends ends_;
    int end_count_ = 0;
    std::vector<PairGroup> groups_;
    Buffer<float> padded_;  // fields less than two cells high or wide, their border repeated
    Buffer<std::int32_t> weights_, ids_;
    Buffer<Edge> edges_, edge_room_;
};

}  // namespace edgepose
