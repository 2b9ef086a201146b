// People: limbs joined into bodies. See paf_parser.hpp for the rules.
#pragma once
#include <vector>

#include "paf_limbs.hpp"

namespace edgepose {

constexpr int kMostFragments = 256;  // that may be joined; the best limbs' fragments come first

struct PeopleParameters {
    float reach;  // longest gap between fragments of one body, as a multiple of the sum of their extents; 0 joins none
    int minimum_keypoints;
    float minimum_score;
    int most_persons;  // the best are kept
};

struct Person {
    float score;
    const float* keypoints;  // x, y and confidence a type, in cells; (NaN, NaN, 0) where it was not found
};

class Assembly {
   public:
    Assembly(int types, const std::vector<Limb>& limbs, const PeopleParameters& parameters, int most_peaks);

    // The people, best first; valid until the next call.
    const std::vector<Person>& join(Span<const Edge> edges, const std::vector<Peaks>& peaks);

   private:
    using Word = std::uint64_t;  // sets of types are `words_` of them

    struct Fragment {
        std::int32_t into;     // the fragment it was joined to, or itself
        std::int32_t members;  // keypoints
        float extent;          // largest distance between two of them, cells; negative until it is asked for
        float score;
    };
    struct LimbPeaks {  // of one limb: its first peaks, and its flags in `paired_`
        std::int32_t start, end;
        std::uint8_t *starts, *ends;
    };
    struct Joined {  // an edge inside a person; one that was refused once can never come to be inside
        float weight;
        std::int32_t peak, fragment;  // where it starts, and whose it is
    };
    struct Gap {
        float ratio;
        std::int32_t first, second;
        bool operator<(const Gap& o) const {
            return ratio != o.ratio ? ratio < o.ratio : first != o.first ? first < o.first : second < o.second;
        }
    };

    void clear(const std::vector<Peaks>& peaks);
    std::int32_t root(std::int32_t peak) {
        std::int32_t* parent = parent_.get();
        while (parent[peak] != peak) peak = parent[peak] = parent[parent[peak]];
        return peak;
    }
    void join_limbs(Span<const Edge> edges);
    void collect_fragments(const std::vector<Peaks>& peaks);
    float extent(int fragment) const;
    void find_gaps();
    void join_fragments();
    float gap(int first, int second) const;
    int group(int fragment) const;
    void rank();
    void report();

    Word* types_of(std::int32_t peak) { return types_.get() + std::size_t(peak) * words_; }
    Word* owned(int fragment) { return owned_.get() + std::size_t(fragment) * words_; }
    const Word* owned(int fragment) const { return owned_.get() + std::size_t(fragment) * words_; }
    Word* lacking(int fragment) { return lacking_.get() + std::size_t(fragment) * words_; }
    const Word* lacking(int fragment) const { return lacking_.get() + std::size_t(fragment) * words_; }
    std::int32_t* member(int fragment) { return member_.get() + std::size_t(fragment) * kinds_; }
    const std::int32_t* member(int fragment) const { return member_.get() + std::size_t(fragment) * kinds_; }

    const int kinds_, words_;
    const std::size_t most_persons_;
    const std::vector<Limb> limbs_;
    const PeopleParameters parameters_;
    std::vector<std::vector<int>> linked_;  // per type: the types it has limbs with, ascending
    Buffer<Word> linked_set_;               // the same as sets
    const float *x_ = nullptr, *y_ = nullptr, *confidence_ = nullptr;  // of all peaks, type by type
    Buffer<std::int32_t> parent_, fragment_of_;  // per peak
    Buffer<Word> types_;                         // per peak: of the keypoints joined to it, where it is a root
    Buffer<std::uint8_t> paired_;                // per limb: which starts, then which ends, have been joined
    std::vector<LimbPeaks> limb_peaks_;
    std::vector<Joined> joined_;                 // best first
    std::vector<Fragment> fragments_;
    Buffer<Word> owned_, lacking_;  // per fragment; `lacking` are the types it has not, linked to one it has
    Buffer<std::int32_t> member_;   // per fragment and type: the peak, or -1
    std::vector<std::int32_t> open_;  // fragments that lack something
    std::vector<Gap> gaps_;
    std::vector<std::int32_t> order_;
    Buffer<float> keypoints_;
    std::vector<Person> people_;
};

}  // namespace edgepose
