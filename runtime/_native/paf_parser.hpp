// People from confidence maps and part affinity fields.
//
// 1. Keypoints (paf_peaks). Maxima of 3 x 3 cells on the raw grid, without up-sampling, in one pass over the confidence maps. Ties are
//    ordered and a plateau is one keypoint, so the maps of INT8 networks, whose neighbouring cells are often equal, lose nothing and
//    report nothing twice. Sub-cell position: per axis the vertex of a parabola through the logarithms of three cells, exact for a
//    Gaussian; at the map's border, where one of the three is missing, the other axis' curvature stands in (a keypoint's blob is round).
// 2. Limbs (paf_limbs). The field is read at samples between two keypoints (Cao et al., Realtime Multi-Person 2D Pose Estimation using Part
//    Affinity Fields, CVPR 2017, eq. 10). A pair is dropped as soon as its field cannot be that of a limb.
// 3. Assembly (paf_people). The limbs of all types, best first, are joined as in Kruskal's algorithm; a join is refused where both sides
//    own a keypoint of the same type, so nobody has two left knees.
// 4. Fragments of one body (paf_people). Where a keypoint is hidden, its neighbours in the skeleton fall apart: without a neck the legs are
//    two groups of their own. Two groups that share no type and both lack a keypoint that would link them are joined if the gap
//    between that keypoint's neighbours is no longer than `reach` times the sum of the groups' extents, smallest ratio first. One
//    hidden keypoint explains both; two people would have to lose complementary halves at the same place. No body proportions are
//    assumed, so this holds for any skeleton.
// 5. Score. Sum of the squares of a person's confidences and of its limbs' weights, over the number of keypoints and limbs there could be.
//
// 4 and 5 are ours; docs/parser.md says what each step gains. runtime/paf_reference.py is the slow twin: the same bits.
//
// Hostile input has a defined result. A NaN cell is lower than any other; a cell beyond 1e6 is no keypoint, nor is one beside it; a field
// value beyond 1e6 or NaN counts as 0. Time and memory are bounded by `most_peaks` a type and kMostFragments.
#pragma once
#include <cstdint>
#include <vector>

#include "paf_limbs.hpp"
#include "paf_peaks.hpp"
#include "paf_people.hpp"

namespace edgepose {

// Maps of one picture, (channels, height, width); cells of a row lie side by side, strides are in elements.
template <class T>
struct Maps {
    const T* cells;
    int channels, height, width;
    std::ptrdiff_t channel_stride, row_stride;
};

struct Parameters {
    float threshold;  // least confidence of a keypoint's cell
    int most_peaks;   // a type, the strongest; at most kMostPeaks
    LimbParameters limbs;
    PeopleParameters people;
};

// Owns all scratch memory: `parse` allocates nothing unless the maps are larger than any before. One object serves one thread at a time.
class PafParser {
   public:
    // The limbs' keypoints lie in [0, types); there are at most kMostLimbs.
    PafParser(int types, const std::vector<Limb>& limbs, const Parameters& parameters, const Kernels& kernels);

    // People, best first; they are valid until the next call. Both maps have one height and width and the channels that `types` and the
    // limbs ask for; all cells lie within 2^31 elements and no side is longer than kLongestSide. T is float or std::uint16_t (IEEE half precision).
    template <class T>
    const std::vector<Person>& parse(const Maps<T>& heatmaps, const Maps<T>& fields);

   private:
    const Kernels& kernels_;
    const int types_, field_channels_;
    PeakFinder peaks_;
    LimbFinder limbs_;
    Assembly people_;
    Buffer<float> heatmap_room_, field_room_;  // single precision copies of half precision maps
};

}  // namespace edgepose
