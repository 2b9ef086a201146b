// The parser's inner loops, one set per instruction set; all sets give the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgepose {

// One map; `stride` is the distance between rows in elements. Cell (row i, column j) has its centre at (j + 0.5, i + 0.5).
struct Map {
    const float* cells;
    int height, width;
    std::ptrdiff_t stride;
};

// All channels of the fields, of one shape, at least 2 x 2; a limb's components lie at two offsets from `cells`.
struct Fields {
    const float* cells;
    int height, width;
    std::ptrdiff_t stride;
};

// Keypoints and the confidences that place them, one array a property; the next free place of each is `count`.
// A neighbour outside the map is kMissing; other neighbours below kFaintest, NaN included, are kFaintest.
struct Maxima {
    float *x, *y;  // the cell's centre, in cells
    float *here, *left, *right, *up, *down;
    int count;
};

// Keypoints as the ends of limbs: where the limb's components lie, the field there, and the least square of its component along a limb
// (times the limb's squared length) with which it points along that limb. Arrays have kSlack readable and writeable elements more.
struct Ends {
    float *x, *y;
    std::int32_t *offset_x, *offset_y;
    float *field_x, *field_y, *least;
};

// The pairs of one limb: its starts and its ends lie side by side in `Ends`.
struct PairGroup {
    int start, starts, end, ends;
    std::int32_t offset_x, offset_y;
    std::uint32_t id;  // of its first pair; the others are id | start << kPairShift | end
};

// When a pair is a limb. `place` holds the samples' places along it (0 to 1), the two coarse ones first; `coarse` of them are coarse.
struct PairRule {
    float along, near_squared, length_cost;
    int samples, needed, coarse;
    const float* place;
};

constexpr int kPairShift = 10;        // peaks of a type: at most 1 << kPairShift
constexpr int kWeightScale = 1 << 16;  // weights are kept in steps of 1 / kWeightScale ...
constexpr float kMostWeight = 3.9f;   // ... and so in 18 bits, which two passes sort
constexpr int kLongestSide = 1 << 22;  // cells of a map's side: their centres are exact floats
constexpr int kSlack = 16;           // vectors may read and write so many elements past the end of their arrays
constexpr int kChunk = 256;          // pairs scored together
constexpr float kHuge = 1e6f;        // larger values, infinities and NaN are no measurements
constexpr float kMissing = -1.0f;
constexpr float kFlattest = 1e-6f;   // curvature of a logarithm below which the vertex means nothing
constexpr float kNarrowest = 0.5f;   // squared cosine: the field at both ends of a limb points within 45 degrees of it
constexpr float kFaintest = 1e-3f;   // smaller confidences have no meaningful logarithm

// The pairs in hand between the stages of scoring: where they start, the way to their end, and what their samples gave so far.
struct PairScratch {
    static constexpr int kRoom = kChunk + 2 * kSlack;
    float x[kRoom], y[kRoom], dx[kRoom], dy[kRoom], sum[kRoom], agree[kRoom];
    std::int32_t offset_x[kRoom], offset_y[kRoom], id[kRoom];
};

struct Kernels {
    const char* name;
    // Appends the cells above the threshold (and not beyond kHuge) that exceed their neighbours before them in reading order and are not
    // below those after them; at most ceil(h / 2) * ceil(w / 2). `ties` receives the places of those that equal a neighbour.
    // NaN is lower than anything. Returns the number of ties.
    int (*find_maxima)(const Map& map, float threshold, Maxima& found, std::int32_t* ties);
    // Moves x and y to the sub-cell positions.
    void (*refine)(const Maxima& peaks);
    // Fills field_x, field_y and least of the ends. Pairs that are limbs, group by group, ascending: weights in steps of 1 / kWeightScale, and ids. Returns their number.
    int (*score_pairs)(const Fields& fields, const Ends& ends, const PairGroup* groups, int group_count, const PairRule& rule,
                       PairScratch& scratch, std::int32_t* weights, std::int32_t* ids);
    // The largest of `count` values: one pass over memory and nothing else, the measure of a parser's speed (benchmarks).
    float (*largest)(const float* values, std::size_t count);
    // IEEE half precision to single.
    void (*widen)(const std::uint16_t* halves, float* out, int count);
};

// The instruction sets of this build that this processor has, the best first, the plain one last.
std::vector<const Kernels*> available_kernels();

}  // namespace edgepose
