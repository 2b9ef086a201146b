#include "paf_people.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace edgepose {
namespace {

using Word = std::uint64_t;

bool share_one(const Word* a, const Word* b, int words) {
    if (*a & *b) return true;
    for (int w = 1; w < words; ++w)
        if (a[w] & b[w]) return true;
    return false;
}

void add(Word* set, int type) { set[type / 64] |= Word(1) << type % 64; }

// Visits what both sets hold, ascending.
template <class Visit>
void each_of(const Word* a, const Word* b, int words, Visit visit) {
    for (int w = 0; w < words; ++w)
        for (Word left = a[w] & b[w]; left; left &= left - 1) visit(64 * w + __builtin_ctzll(left));
}

}  // namespace

Assembly::Assembly(int types, const std::vector<Limb>& limbs, const PeopleParameters& parameters, int most_peaks)
    : kinds_(types), words_((types + 63) / 64),
      most_persons_(std::min<std::size_t>(parameters.most_persons, std::size_t(types) * most_peaks / 2 + 1)), limbs_(limbs),
      parameters_(parameters), linked_(types) {
    for (const Limb& limb : limbs) {
        linked_[limb.start].push_back(limb.end);
        linked_[limb.end].push_back(limb.start);
    }
    for (auto& types_linked : linked_) {
        std::sort(types_linked.begin(), types_linked.end());
        types_linked.erase(std::unique(types_linked.begin(), types_linked.end()), types_linked.end());
    }
    linked_set_.sized(std::size_t(types) * words_);
    for (int type = 0; type < types; ++type)
        for (int other : linked_[type]) add(linked_set_.get() + std::size_t(type) * words_, other);
    const std::size_t peaks = std::size_t(types) * most_peaks, most_fragments = peaks / 2 + 1;  // a fragment has two keypoints at least
    parent_.sized(peaks);
    fragment_of_.sized(peaks);
    types_.sized(peaks * words_);
    paired_.sized(2 * limbs.size() * most_peaks);
    limb_peaks_.resize(limbs.size());
    joined_.reserve(limbs.size() * most_peaks);
    open_.reserve(kMostFragments);
    fragments_.reserve(most_fragments);
    owned_.sized(most_fragments * words_);
    lacking_.sized(most_fragments * words_);
    member_.sized(most_fragments * types);
    gaps_.reserve(std::size_t(kMostFragments) * (kMostFragments - 1) / 2);
    order_.reserve(most_fragments);
    keypoints_.sized(3 * std::size_t(types) * most_persons_);
    people_.reserve(most_persons_);
}

const std::vector<Person>& Assembly::join(Span<const Edge> edges, const std::vector<Peaks>& peaks) {
    x_ = peaks[0].x, y_ = peaks[0].y, confidence_ = peaks[0].confidence;
    clear(peaks);
    join_limbs(edges);
    collect_fragments(peaks);
    if (parameters_.reach > 0) join_fragments();
    rank();
    report();
    return people_;
}

void Assembly::clear(const std::vector<Peaks>& peaks) {
    joined_.clear();
    open_.clear();
    fragments_.clear();
    gaps_.clear();
    order_.clear();
    people_.clear();
    const int total = peaks.back().first + peaks.back().count;
    std::iota(parent_.get(), parent_.get() + total, 0);
    std::fill_n(fragment_of_.get(), total, -1);
    std::fill_n(types_.get(), std::size_t(total) * words_, Word(0));
    for (int type = 0; type < kinds_; ++type)
        for (int k = 0; k < peaks[type].count; ++k) add(types_of(peaks[type].first + k), type);
    std::uint8_t* flags = paired_.get();
    for (std::size_t limb = 0; limb < limbs_.size(); ++limb) {
        const Peaks &start = peaks[limbs_[limb].start], &end = peaks[limbs_[limb].end];
        limb_peaks_[limb] = {start.first, end.first, flags, flags + start.count};
        flags += start.count + end.count;
    }
    std::fill(paired_.get(), flags, std::uint8_t(0));
}

void Assembly::join_limbs(Span<const Edge> edges) {
    for (const Edge& edge : edges) {
        const LimbPeaks& limb = limb_peaks_[edge.limb()];
        std::uint8_t &start = limb.starts[edge.start()], &end = limb.ends[edge.end()];
        // Not a rule of its own: whoever has a partner by this limb owns a keypoint of the other's type. It is only quicker to see.
        if (start | end) continue;
        const std::int32_t from = limb.start + edge.start();
        const std::int32_t a = root(from), b = root(limb.end + edge.end());
        if (a != b) {
            if (share_one(types_of(a), types_of(b), words_)) continue;
            parent_.get()[b] = a;
            for (int w = 0; w < words_; ++w) types_of(a)[w] |= types_of(b)[w];
        }
        start = end = 1;
        joined_.push_back({edge.weight(), from, -1});
    }
}

// Numbers the fragments by their best limbs.
void Assembly::collect_fragments(const std::vector<Peaks>& peaks) {
    for (Joined& edge : joined_) {
        const std::int32_t a = root(edge.peak);
        if (fragment_of_.get()[a] < 0) {
            const int number = static_cast<int>(fragments_.size());
            fragment_of_.get()[a] = number;
            fragments_.push_back({number, 0, -1.0f, 0.0f});
            std::copy_n(types_of(a), words_, owned(number));
            std::fill_n(lacking(number), words_, Word(0));
            std::fill_n(member(number), kinds_, -1);
        }
        edge.fragment = fragment_of_.get()[a];
    }
    for (int type = 0; type < kinds_; ++type)
        for (int peak = peaks[type].first; peak < peaks[type].first + peaks[type].count; ++peak) {
            const int number = fragment_of_.get()[root(peak)];
            if (number < 0) continue;  // a keypoint without a limb
            member(number)[type] = peak;
            ++fragments_[number].members;
            for (int w = 0; w < words_; ++w) lacking(number)[w] |= linked_set_.get()[type * words_ + w];
        }
    for (int k = 0; k < static_cast<int>(fragments_.size()); ++k)
        for (int w = 0; w < words_; ++w) lacking(k)[w] &= ~owned(k)[w];
}

float Assembly::extent(int fragment) const {
    float square = 0;
    each_of(owned(fragment), owned(fragment), words_, [&](int a) {
        const float x = x_[member(fragment)[a]], y = y_[member(fragment)[a]];
        each_of(owned(fragment), owned(fragment), words_, [&](int b) {
            const float dx = x_[member(fragment)[b]] - x, dy = y_[member(fragment)[b]] - y;
            square = std::max(square, dx * dx + dy * dy);
        });
    });
    return std::sqrt(square);
}

void Assembly::find_gaps() {
    const int count = std::min<int>(static_cast<int>(fragments_.size()), kMostFragments);
    for (int k = 0; k < count; ++k)
        if (share_one(lacking(k), lacking(k), words_)) open_.push_back(k);
    for (auto first = open_.begin(); first != open_.end(); ++first)
        for (auto second = first + 1; second != open_.end(); ++second) {
            const std::int32_t a = *first, b = *second;
            if (share_one(owned(a), owned(b), words_) || !share_one(lacking(a), lacking(b), words_)) continue;
            for (Fragment* each : {&fragments_[a], &fragments_[b]})
                if (each->extent < 0) each->extent = extent(each->into);
            const float extents = fragments_[a].extent + fragments_[b].extent;
            if (!(extents > 0)) continue;
            const float ratio = gap(a, b) / extents;
            if (ratio <= parameters_.reach) gaps_.push_back({ratio, a, b});
        }
    std::sort(gaps_.begin(), gaps_.end());
}

// Least distance between two keypoints that one keypoint, which both fragments lack, would link.
float Assembly::gap(int first, int second) const {
    float least = std::numeric_limits<float>::infinity();
    each_of(lacking(first), lacking(second), words_, [&](int hidden) {
        for (int a : linked_[hidden]) {
            const std::int32_t from = member(first)[a];
            if (from < 0) continue;
            for (int b : linked_[hidden]) {
                const std::int32_t to = member(second)[b];
                if (to < 0) continue;
                const float dx = x_[to] - x_[from], dy = y_[to] - y_[from];
                least = std::min(least, dx * dx + dy * dy);
            }
        }
    });
    return std::sqrt(least);
}

void Assembly::join_fragments() {
    find_gaps();
    for (const Gap& each : gaps_) {
        const int a = group(each.first), b = group(each.second);
        if (a == b || share_one(owned(a), owned(b), words_)) continue;
        fragments_[b].into = a;
        fragments_[a].members += fragments_[b].members;
        for (int w = 0; w < words_; ++w) owned(a)[w] |= owned(b)[w];
        each_of(owned(b), owned(b), words_, [&](int type) { member(a)[type] = member(b)[type]; });
    }
}

int Assembly::group(int fragment) const {
    while (fragments_[fragment].into != fragment) fragment = fragments_[fragment].into;
    return fragment;
}

void Assembly::rank() {
    for (int k = 0; k < static_cast<int>(fragments_.size()); ++k) {
        if (fragments_[k].into != k || fragments_[k].members < parameters_.minimum_keypoints) continue;
        each_of(owned(k), owned(k), words_, [&](int type) {
            const float confidence = confidence_[member(k)[type]];
            fragments_[k].score += confidence * confidence;
        });
        order_.push_back(k);
    }
    for (const Joined& edge : joined_) fragments_[group(edge.fragment)].score += edge.weight * edge.weight;
    const auto most = static_cast<float>(kinds_ + limbs_.size());
    for (int k : order_) fragments_[k].score /= most;
    std::sort(order_.begin(), order_.end(), [&](int a, int b) {
        return fragments_[a].score != fragments_[b].score ? fragments_[a].score > fragments_[b].score : a < b;
    });
}

void Assembly::report() {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int k : order_) {
        if (people_.size() == most_persons_ || fragments_[k].score < parameters_.minimum_score) break;
        float* row = keypoints_.get() + 3 * std::size_t(kinds_) * people_.size();
        people_.push_back({fragments_[k].score, row});
        for (int type = 0; type < kinds_; ++type, row += 3) {
            const int peak = member(k)[type];
            row[0] = peak < 0 ? nan : x_[peak];
            row[1] = peak < 0 ? nan : y_[peak];
            row[2] = peak < 0 ? 0.0f : confidence_[peak];
        }
    }
}

}  // namespace edgepose
