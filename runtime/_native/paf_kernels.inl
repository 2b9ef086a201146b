// The kernels themselves, written against `Simd`; included by one source file per instruction set.
//
// Nothing here may call a function template or inline function of the standard library: compiled for AVX-512, its one copy could be the one
// that the linker keeps for everybody.
#include <cstring>

#include "paf_kernels.hpp"
#include "simd.hpp"

namespace edgepose::EDGEPOSE_SIMD_NAMESPACE {
namespace {

using F = Simd::F;
using I = Simd::I;
using M = Simd::M;
constexpr int kLanes = Simd::lanes;

// -- maxima ---------------------------------------------------------------------------------------------------------------------------

F faint(F value) { return Simd::raised(value, Simd::set(kFaintest)); }

I lane_numbers() {
    std::int32_t numbers[kLanes];
    for (int k = 0; k < kLanes; ++k) numbers[k] = k;
    return Simd::load_int(numbers);
}

// The cells of one map, a row at a time. `up` and `down` are null beside the border.
class Scan {
   public:
    Scan(const Map& map, float threshold, Maxima& found, std::int32_t* ties)
        : map_(map), threshold_(threshold), bar_(Simd::set(threshold)), found_(found), ties_(ties) {}

    int run() {
        const int last = map_.width - 1;  // columns 0 and `last` lack a neighbour and are tested one by one
        for (int y = 0; y < map_.height; ++y) {
            row_ = map_.cells + y * map_.stride;
            up_ = y > 0 ? row_ - map_.stride : nullptr;
            down_ = y + 1 < map_.height ? row_ + map_.stride : nullptr;
            y_ = static_cast<float>(y) + 0.5f;
            if (last - 1 < kLanes) {
                for (int x = 0; x <= last; ++x) test(x);
                continue;
            }
            test(0);
            if (row_may_have_some(last))
                for (int x = 1; x < last; x += kLanes) {
                    const int at = x + kLanes <= last ? x : last - kLanes;  // the last block is moved left to end before the last column
                    test_block(at, ~0u << (x - at));                        // without the lanes that the block before has tested
                }
            test(last);
        }
        return tie_count_;
    }

   private:
    // Most rows hold nothing: one test for all of it.
    bool row_may_have_some(int last) const {
        M any = Simd::greater(Simd::load(row_ + last - kLanes), bar_);
        for (int x = 1; x + kLanes < last; x += kLanes) any = any | Simd::greater(Simd::load(row_ + x), bar_);
        return Simd::bits(any);
    }

    void test_block(int at, std::uint32_t untested) {
        const float* p = row_ + at;
        const F here = Simd::load(p);
        const M candidates = Simd::greater(here, bar_) & Simd::at_least(Simd::set(kHuge), here);
        if (!(Simd::bits(candidates) & untested)) return;
        // The neighbours beside, above and below rule out nearly all; those across corners are read for what is left.
        F left = Simd::load(p - 1), right = Simd::load(p + 1), up = Simd::set(kMissing), down = up;
        M hidden = Simd::at_least(left, here) | Simd::greater(right, here);
        if (up_) hidden = hidden | Simd::at_least(up = Simd::load(up_ + at), here);
        if (down_) hidden = hidden | Simd::greater(down = Simd::load(down_ + at), here);
        std::uint32_t bits = Simd::bits(candidates) & ~Simd::bits(hidden) & untested;
        if (!bits) return;
        M level = Simd::at_least(right, here) | Simd::at_least(down, here);
        if (up_) {
            hidden = Simd::at_least(Simd::load(up_ + at - 1), here) | Simd::at_least(Simd::load(up_ + at + 1), here);
            bits &= ~Simd::bits(hidden);
            up = faint(up);
        }
        if (down_) {
            const F before = Simd::load(down_ + at - 1), after = Simd::load(down_ + at + 1);
            hidden = Simd::greater(before, here) | Simd::greater(after, here);
            level = level | Simd::at_least(before, here) | Simd::at_least(after, here);
            bits &= ~Simd::bits(hidden);
            down = faint(down);
        }
        if (!bits) return;
        int place = found_.count;
        const std::uint32_t tied = Simd::bits(level);
        for (std::uint32_t left_over = bits & tied ? bits : 0; left_over; left_over &= left_over - 1, ++place)
            if (left_over & (0u - left_over) & tied) ties_[tie_count_++] = place;
        const M maxima = Simd::from_bits(bits);
        const F column = Simd::to_float(Simd::add(lanes_, Simd::set_int(at))) + Simd::set(0.5f);
        const int n = found_.count;
        Simd::pack(found_.x + n, column, maxima);
        Simd::pack(found_.y + n, Simd::set(y_), maxima);
        Simd::pack(found_.here + n, here, maxima);
        Simd::pack(found_.left + n, faint(left), maxima);
        Simd::pack(found_.right + n, faint(right), maxima);
        Simd::pack(found_.up + n, up, maxima);
        Simd::pack(found_.down + n, down, maxima);
        found_.count += __builtin_popcount(bits);
    }

    void test(int x) {
        const float here = row_[x];
        if (!(here > threshold_ && here <= kHuge)) return;
        bool tied = false;
        const float* const rows[3] = {up_, row_, down_};
        for (const float* row : rows)
            for (int column = x - 1; row && column <= x + 1; ++column) {
                if (column < 0 || column >= map_.width || row + column == row_ + x) continue;
                const bool before = row == up_ || (row == row_ && column < x);
                if (before ? row[column] >= here : row[column] > here) return;
                tied |= row[column] == here;
            }
        const auto neighbour = [&](const float* row, int column) {
            if (!row || column < 0 || column >= map_.width) return kMissing;
            return row[column] > kFaintest ? row[column] : kFaintest;
        };
        const int n = found_.count++;
        if (tied) ties_[tie_count_++] = n;
        found_.x[n] = static_cast<float>(x) + 0.5f;
        found_.y[n] = y_;
        found_.here[n] = here;
        found_.left[n] = neighbour(row_, x - 1);
        found_.right[n] = neighbour(row_, x + 1);
        found_.up[n] = neighbour(up_, x);
        found_.down[n] = neighbour(down_, x);
    }

    const Map& map_;
    const float threshold_;
    const F bar_;
    const I lanes_ = lane_numbers();
    Maxima& found_;
    std::int32_t* ties_;
    int tie_count_ = 0;
    const float *row_ = nullptr, *up_ = nullptr, *down_ = nullptr;
    float y_ = 0;
};

int find_maxima(const Map& map, float threshold, Maxima& found, std::int32_t* ties) { return Scan(map, threshold, found, ties).run(); }

// -- sub-cell positions ---------------------------------------------------------------------------------------------------------------

// Cephes' logf (S. Moshier): the mantissa in [sqrt(1/2), sqrt(2)), a polynomial of degree 9. Values are positive.
F logarithm(F value) {
    F mantissa, exponent;
    Simd::split(value, mantissa, exponent);
    const F f = mantissa - Simd::set(1.0f), square = f * f;
    F p = Simd::set(7.0376836292e-2f);
    constexpr float coefficients[] = {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                                      -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
    for (const float c : coefficients)
        p = p * f + Simd::set(c);
    return (f + (p * f * square - Simd::set(0.5f) * square)) + Simd::set(0.6931471806f) * exponent;
}

F within_cell(F offset) { return Simd::raised(Simd::lowered(offset, Simd::set(0.5f)), Simd::set(-0.5f)); }

F or_faint(F value) { return Simd::select(Simd::greater(Simd::set(0.0f), value), Simd::set(kFaintest), value); }

// One axis: the logarithms before, here and after, the axis' curvature, the other's, and which neighbours exist.
F vertex(F before, F here, F after, F curvature, F other, M has_before, M has_after) {
    const F zero = Simd::set(0.0f), half = Simd::set(0.5f), flattest = Simd::set(kFlattest);
    const M both = has_before & has_after;
    const F inside = within_cell(half * (after - before) / curvature);
    const F right = within_cell(half - (here - after) / other), left = zero - within_cell(half - (here - before) / other);
    const F border = Simd::select(has_after, right, Simd::select(has_before, left, zero));
    return Simd::select(both, Simd::select(Simd::greater(curvature, flattest), inside, zero),
                        Simd::select(Simd::greater(other, flattest), border, zero));
}

void refine(const Maxima& m) {
    const F zero = Simd::set(0.0f);
    for (int k = 0; k < m.count; k += kLanes) {
        const F left = Simd::load(m.left + k), right = Simd::load(m.right + k), up = Simd::load(m.up + k), down = Simd::load(m.down + k);
        const M has_left = Simd::greater(left, zero), has_right = Simd::greater(right, zero);
        const M has_up = Simd::greater(up, zero), has_down = Simd::greater(down, zero);
        const F l = logarithm(or_faint(left)), r = logarithm(or_faint(right)), u = logarithm(or_faint(up)), d = logarithm(or_faint(down));
        const F here = logarithm(faint(Simd::load(m.here + k)));
        const F across = Simd::select(has_left & has_right, (here - l) + (here - r), zero);
        const F along = Simd::select(has_up & has_down, (here - u) + (here - d), zero);
        const F x = Simd::load(m.x + k) + vertex(l, here, r, across, along, has_left, has_right);
        const F y = Simd::load(m.y + k) + vertex(u, here, d, along, across, has_up, has_down);
        Simd::store(m.x + k, x);
        Simd::store(m.y + k, y);
    }
}

// -- fields ---------------------------------------------------------------------------------------------------------------------------

// NaN, in lanes that hold no pair, becomes 0.
F clamped(F value, F high) { return Simd::lowered(Simd::raised(value, Simd::set(0.0f)), high); }

F measured(F value) {
    const M sane = Simd::at_least(Simd::set(kHuge), value) & Simd::at_least(value, Simd::set(-kHuge));
    return Simd::select(sane, value, Simd::set(0.0f));
}

class Sampler {
   public:
    explicit Sampler(const Fields& fields)
        : cells_(fields.cells), stride_(fields.stride), right_(Simd::set(float(fields.width - 1))), bottom_(Simd::set(float(fields.height - 1))),
          last_column_(Simd::set_int(fields.width - 2)), last_row_(Simd::set_int(fields.height - 2)), row_(Simd::set_int(int(fields.stride))) {}

    // The field at (x, y) in cells, bilinear, edges clamped; values beyond kHuge and NaN become 0.
    void at(F x, F y, I offset_x, I offset_y, F& out_x, F& out_y) const {
        const F half = Simd::set(0.5f);
        const F column = clamped(x - half, right_), line = clamped(y - half, bottom_);
        const I j = Simd::smaller(Simd::truncate(column), last_column_), i = Simd::smaller(Simd::truncate(line), last_row_);
        const F u = column - Simd::to_float(j), v = line - Simd::to_float(i);
        const I cell = Simd::add(Simd::times(i, row_), j);
        out_x = blended(Simd::add(cell, offset_x), u, v);
        out_y = blended(Simd::add(cell, offset_y), u, v);
    }

   private:
    F blended(I cell, F u, F v) const {
        F a, b, c, d;
        Simd::neighbours(cells_, cell, a, b);
        Simd::neighbours(cells_ + stride_, cell, c, d);
        const F upper = a + (b - a) * u, lower = c + (d - c) * u;
        return measured(upper + (lower - upper) * v);
    }

    const float* cells_;
    std::ptrdiff_t stride_;
    F right_, bottom_;
    I last_column_, last_row_, row_;
};

void read_ends(const Fields& fields, const Ends& ends, int count, float along) {
    const Sampler sampler(fields);
    const F least = Simd::set(along * along), narrowest = Simd::set(kNarrowest);
    for (int k = 0; k < count; k += kLanes) {
        F fx, fy;
        sampler.at(Simd::load(ends.x + k), Simd::load(ends.y + k), Simd::load_int(ends.offset_x + k), Simd::load_int(ends.offset_y + k), fx, fy);
        const F share = narrowest * (fx * fx + fy * fy);
        Simd::store(ends.field_x + k, fx);
        Simd::store(ends.field_y + k, fy);
        Simd::store(ends.least + k, Simd::raised(share, least));
    }
}

// -- pairs ----------------------------------------------------------------------------------------------------------------------------

struct Samples {
    F length, sum, agree;
};

// A vector of pairs.
struct Pairs {
    Pairs(const PairScratch& c, int k)
        : x(Simd::load(c.x + k)), y(Simd::load(c.y + k)), dx(Simd::load(c.dx + k)), dy(Simd::load(c.dy + k)),
          offset_x(Simd::load_int(c.offset_x + k)), offset_y(Simd::load_int(c.offset_y + k)), id(Simd::load_int(c.id + k)) {}

    // Reads the samples first..last.
    Samples sampled(const Sampler& sampler, const PairRule& rule, int first, int last, F sum, F agree) const {
        const F length = Simd::root(dx * dx + dy * dy);
        const F tiny = Simd::set(1e-6f), one = Simd::set(1.0f);
        const F per_cell = one / Simd::raised(length, tiny), unit_x = dx * per_cell, unit_y = dy * per_cell;
        for (int s = first; s < last; ++s) {
            const F t = Simd::set(rule.place[s]);
            F fx, fy;
            sampler.at(x + dx * t, y + dy * t, offset_x, offset_y, fx, fy);
            const F along = fx * unit_x + fy * unit_y;
            sum = sum + along;
            agree = agree + Simd::select(Simd::greater(along, Simd::set(rule.along)), one, Simd::set(0.0f));
        }
        return {length, sum, agree};
    }

    F x, y, dx, dy;
    I offset_x, offset_y, id;
};

// Scores pairs in three stages, each on what the one before has left.
class Scorer {
   public:
    Scorer(const Fields& fields, const Ends& ends, const PairRule& rule, PairScratch& scratch, std::int32_t* weights, std::int32_t* ids)
        : sampler_(fields), ends_(ends), rule_(rule), chunk_(scratch), weights_(weights), ids_(ids) {}

    void add(const PairGroup& group) {
        const F near = Simd::set(rule_.near_squared), zero = Simd::set(0.0f);
        const I offset_x = Simd::set_int(group.offset_x), offset_y = Simd::set_int(group.offset_y);
        for (int a = 0; a < group.starts; ++a) {
            const int start = group.start + a;
            const F x = Simd::set(ends_.x[start]), y = Simd::set(ends_.y[start]);
            const F from_x = Simd::set(ends_.field_x[start]), from_y = Simd::set(ends_.field_y[start]), from_least = Simd::set(ends_.least[start]);
            const I ids = Simd::add(Simd::set_int(static_cast<std::int32_t>(group.id | a << kPairShift)), lanes_);
            for (int b = 0; b < group.ends; b += kLanes) {
                const int end = group.end + b;
                const F dx = Simd::load(ends_.x + end) - x, dy = Simd::load(ends_.y + end) - y;
                const F square = dx * dx + dy * dy;
                // The field at both keypoints must point along the limb, unless it is so short that a blob next door may have bent it. Both
                // fields were read once per keypoint, so this costs no memory access: most hopeless pairs end here.
                const F leaving = from_x * dx + from_y * dy;
                const F arriving = Simd::load(ends_.field_x + end) * dx + Simd::load(ends_.field_y + end) * dy;
                const M agree = Simd::greater(leaving, zero) & Simd::greater(leaving * leaving, from_least * square) &
                                Simd::greater(arriving, zero) & Simd::greater(arriving * arriving, Simd::load(ends_.least + end) * square);
                const M kept = (agree | Simd::at_least(near, square)) & Simd::first(group.ends - b);
                const std::uint32_t bits = Simd::bits(kept);
                if (!bits) continue;
                Simd::pack(chunk_.id + held_, Simd::add(Simd::set_int(b), ids), kept);
                Simd::pack(chunk_.dx + held_, dx, kept);
                Simd::pack(chunk_.dy + held_, dy, kept);
                Simd::store(chunk_.x + held_, x);
                Simd::store(chunk_.y + held_, y);
                Simd::store(chunk_.offset_x + held_, offset_x);
                Simd::store(chunk_.offset_y + held_, offset_y);
                held_ += __builtin_popcount(bits);
                if (held_ > kChunk - kLanes) flush();
            }
        }
    }

    int finish() {
        flush();
        return count_;
    }

   private:
    void flush() {
        const int left = rule_.coarse ? after_coarse_samples() : held_;
        const F zero = Simd::set(0.0f);
        for (int k = 0; k < left; k += kLanes) {
            const Pairs pairs(chunk_, k);
            const F sum = rule_.coarse ? Simd::load(chunk_.sum + k) : zero, agree = rule_.coarse ? Simd::load(chunk_.agree + k) : zero;
            const Samples all = pairs.sampled(sampler_, rule_, rule_.coarse, rule_.samples, sum, agree);
            const F weight = all.sum / Simd::set(float(rule_.samples)) - Simd::set(rule_.length_cost) * all.length;
            const M kept = Simd::at_least(all.agree, Simd::set(float(rule_.needed))) & Simd::greater(weight, zero) & Simd::first(left - k);
            const std::uint32_t bits = Simd::bits(kept);
            if (!bits) continue;
            const F scaled = Simd::lowered(weight, Simd::set(kMostWeight)) * Simd::set(float(kWeightScale));
            Simd::pack(weights_ + count_, Simd::truncate(scaled), kept);
            Simd::pack(ids_ + count_, pairs.id, kept);
            count_ += __builtin_popcount(bits);
        }
        held_ = 0;
    }

    // Drops the pairs whose field agrees at no coarse sample, and returns how many are left.
    int after_coarse_samples() {
        const F zero = Simd::set(0.0f);
        int left = 0;
        for (int k = 0; k < held_; k += kLanes) {
            const Pairs pairs(chunk_, k);
            const Samples coarse = pairs.sampled(sampler_, rule_, 0, rule_.coarse, zero, zero);
            const M kept = Simd::greater(coarse.agree, zero) & Simd::first(held_ - k);
            const std::uint32_t bits = Simd::bits(kept);
            if (!bits) continue;
            Simd::pack(chunk_.x + left, pairs.x, kept);
            Simd::pack(chunk_.y + left, pairs.y, kept);
            Simd::pack(chunk_.dx + left, pairs.dx, kept);
            Simd::pack(chunk_.dy + left, pairs.dy, kept);
            Simd::pack(chunk_.sum + left, coarse.sum, kept);
            Simd::pack(chunk_.agree + left, coarse.agree, kept);
            Simd::pack(chunk_.offset_x + left, pairs.offset_x, kept);
            Simd::pack(chunk_.offset_y + left, pairs.offset_y, kept);
            Simd::pack(chunk_.id + left, pairs.id, kept);
            left += __builtin_popcount(bits);
        }
        return left;
    }

    const Sampler sampler_;
    const Ends& ends_;
    const PairRule& rule_;
    const I lanes_ = lane_numbers();
    PairScratch& chunk_;
    int held_ = 0;  // pairs in the chunk
    std::int32_t* weights_;
    std::int32_t* ids_;
    int count_ = 0;
};

int score_pairs(const Fields& fields, const Ends& ends, const PairGroup* groups, int group_count, const PairRule& rule, PairScratch& scratch,
                std::int32_t* weights, std::int32_t* ids) {
    if (!group_count) return 0;
    read_ends(fields, ends, groups[group_count - 1].end + groups[group_count - 1].ends, rule.along);
    Scorer scorer(fields, ends, rule, scratch, weights, ids);
    for (int k = 0; k < group_count; ++k) scorer.add(groups[k]);
    return scorer.finish();
}

// -- half precision -------------------------------------------------------------------------------------------------------------------

// Exponent and mantissa move into place and a multiplication by 2^112 rights the exponent, subnormals included; infinity and NaN are set apart.
void widen(const std::uint16_t* halves, float* out, int count) {
    for (int i = 0; i < count; ++i) {
        const std::uint32_t half = halves[i], magnitude = (half & 0x7fffu) << 13;
        float value;
        std::memcpy(&value, &magnitude, sizeof value);
        value *= 0x1p112f;
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        bits |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
        bits |= (half & 0x8000u) << 16;
        std::memcpy(out + i, &bits, sizeof bits);
    }
}

// -- one pass -------------------------------------------------------------------------------------------------------------------------

float largest(const float* values, std::size_t count) {
    float best = values[0];
    std::size_t done = 0;
    if (count >= 4 * kLanes) {
        F lanes[4];
        for (int k = 0; k < 4; ++k) lanes[k] = Simd::load(values + k * kLanes);
        for (; done + 4 * kLanes <= count; done += 4 * kLanes)
            for (int k = 0; k < 4; ++k) lanes[k] = Simd::raised(Simd::load(values + done + k * kLanes), lanes[k]);
        float each[4 * kLanes];
        for (int k = 0; k < 4; ++k) Simd::store(each + k * kLanes, lanes[k]);
        for (const float value : each) best = value > best ? value : best;
    }
    for (; done < count; ++done) best = values[done] > best ? values[done] : best;
    return best;
}

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels{EDGEPOSE_SIMD_NAME, find_maxima, refine, score_pairs, largest, widen};

}  // namespace edgepose::EDGEPOSE_SIMD_NAMESPACE
