// `edgepose.runtime._paf`: PafParser for Python. Its face for users is runtime/paf.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <memory>
#include <string>

#include "paf_parser.hpp"

namespace nb = nanobind;

namespace edgepose {
namespace {

using Array = nb::ndarray<nb::ro, nb::ndim<3>, nb::device::cpu>;

const Kernels& kernels_named(const std::string& name) {
    for (const Kernels* kernels : available_kernels())
        if (name == "auto" || name == kernels->name) return *kernels;
    throw nb::value_error(("instruction set '" + name + "' is not available on this processor").c_str());
}

std::string shape_of(const Array& a) {
    return "(" + std::to_string(a.shape(0)) + ", " + std::to_string(a.shape(1)) + ", " + std::to_string(a.shape(2)) + ")";
}

[[noreturn]] void refuse(const std::string& what) { throw nb::value_error(what.c_str()); }

template <class T>
Maps<T> maps_of(const Array& a) {
    return {static_cast<const T*>(a.data()), int(a.shape(0)), int(a.shape(1)), int(a.shape(2)), a.stride(0), a.stride(1)};
}

void check_layout(const Array& a, const char* name) {
    constexpr auto most = std::numeric_limits<std::int32_t>::max();
    const auto c = std::int64_t(a.shape(0)), h = std::int64_t(a.shape(1)), w = std::int64_t(a.shape(2));
    if (c * h * w == 0) return;
    if ((w > 1 && a.stride(2) != 1) || (h > 1 && a.stride(1) < w) || (c > 1 && a.stride(0) < (h - 1) * a.stride(1) + w))
        refuse(std::string(name) + " " + shape_of(a) + ": the cells of a row must lie side by side, rows and channels in order and apart: copy the array");
    if (h > kLongestSide || w > kLongestSide)
        refuse(std::string(name) + " " + shape_of(a) + ": wanted at most " + std::to_string(kLongestSide) + " rows and columns");
    if (c > most || (c - 1) * a.stride(0) + (h - 1) * a.stride(1) + w > most)
        refuse(std::string(name) + " " + shape_of(a) + ": wanted fewer than 2^31 elements from first to last");
}

class Parser {
   public:
    Parser(int types, const std::vector<std::tuple<int, int, int, int>>& limbs, const Parameters& parameters, const std::string& instructions)
        : types_(types), kernels_(kernels_named(instructions)), parser_(types, limbs_from(limbs), parameters, kernels_) {
        for (const auto& [start, end, x, y] : limbs) channels_ = std::max({channels_, x + 1, y + 1});
    }

    nb::tuple parse(const Array& heatmaps, const Array& fields) {
        check(heatmaps, fields);
        const Busy busy(busy_);
        const std::vector<Person>& people = run(heatmaps, fields);
        const std::size_t count = people.size(), row = 3 * std::size_t(types_);
        float *keypoints = new float[count * row + 1], *scores = new float[count + 1];
        const nb::capsule keypoints_owner(keypoints, [](void* p) noexcept { delete[] static_cast<float*>(p); });
        const nb::capsule scores_owner(scores, [](void* p) noexcept { delete[] static_cast<float*>(p); });
        for (std::size_t k = 0; k < count; ++k) {
            std::copy_n(people[k].keypoints, row, keypoints + k * row);
            scores[k] = people[k].score;
        }
        using Result = nb::ndarray<nb::numpy, float>;
        return nb::make_tuple(Result(keypoints, {count, std::size_t(types_), 3}, keypoints_owner), Result(scores, {count}, scores_owner));
    }

    const char* instructions() const { return kernels_.name; }

    // Microseconds of this thread's CPU time that one parse takes, and one pass over the same maps: the medians of `rounds` times `repeats`.
    // The maps lie in one block and stay in the cache. The block starts 16 bytes past a cache line, where malloc puts large ones: a pass over
    // it costs up to twice that over an aligned one, and without a rule the measure would change from run to run.
    std::pair<double, double> microseconds(const Array& heatmaps, const Array& fields, int rounds, int repeats) {
        check(heatmaps, fields);
        if (is_half(heatmaps)) refuse("timing wants float32 maps");
        if (rounds < 1 || repeats < 1) refuse("timing wants at least one round and one repeat");
        const std::size_t heat_cells = heatmaps.size(), cells = heat_cells + fields.size();
        const std::unique_ptr<float, decltype(&std::free)> room(static_cast<float*>(std::aligned_alloc(64, (cells + 4 + 15) / 16 * 64)), std::free);
        float* const block = room.get() + 4;
        const Maps<float> heat = copied(heatmaps, block), field = copied(fields, block + heat_cells);
        const Busy busy(busy_);
        const nb::gil_scoped_release released;
        volatile float sink = 0;
        std::vector<double> parses, passes;
        for (int round = 0; round < rounds; ++round) {  // in turn, so that both see the same machine
            parses.push_back(microseconds_each(repeats, [&] { parser_.parse(heat, field); }));
            passes.push_back(microseconds_each(repeats, [&] { sink = kernels_.largest(block, cells); }));
        }
        return {median(parses), median(passes)};
    }

   private:
    static Maps<float> copied(const Array& a, float* to) {
        const Maps<float> from = maps_of<float>(a);
        const Maps<float> copy{to, from.channels, from.height, from.width, std::ptrdiff_t(from.height) * from.width, from.width};
        for (int c = 0; c < from.channels; ++c)
            for (int y = 0; y < from.height; ++y, to += from.width)
                std::copy_n(from.cells + c * from.channel_stride + y * from.row_stride, from.width, to);
        return copy;
    }

    template <class Work>
    static double microseconds_each(int repeats, Work work) {
        work();  // warm: the other measurement has filled the cache
        const double begin = thread_us();
        for (int k = 0; k < repeats; ++k) work();
        return (thread_us() - begin) / repeats;
    }

    static double median(std::vector<double>& values) {
        std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
        return values[values.size() / 2];
    }

    static double thread_us() {
        timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return double(t.tv_sec) * 1e6 + double(t.tv_nsec) * 1e-3;
    }

    // The maps stay in the same place while the interpreter is released: `heatmaps` and `fields` hold references to them.
    class Busy {
       public:
        explicit Busy(std::atomic_flag& flag) : flag_(flag) {
            if (flag_.test_and_set()) throw std::runtime_error("this parser is at work in another thread: give each thread its own");
        }
        ~Busy() { flag_.clear(); }

       private:
        std::atomic_flag& flag_;
    };

    static std::vector<Limb> limbs_from(const std::vector<std::tuple<int, int, int, int>>& limbs) {
        std::vector<Limb> result;
        for (const auto& [start, end, x, y] : limbs) result.push_back({start, end, x, y});
        return result;
    }

    void check(const Array& heatmaps, const Array& fields) const {
        const auto types = std::size_t(types_), channels = std::size_t(channels_);
        if (heatmaps.shape(1) != fields.shape(1) || heatmaps.shape(2) != fields.shape(2) || heatmaps.shape(0) < types || fields.shape(0) < channels)
            refuse("heatmaps " + shape_of(heatmaps) + " and PAFs " + shape_of(fields) + ": wanted (channels, h, w) with the same h and w, at least " +
                   std::to_string(types) + " heatmaps and " + std::to_string(channels) + " PAF channels");
        if (heatmaps.dtype() != fields.dtype() || (heatmaps.dtype() != nb::dtype<float>() && !is_half(heatmaps)))
            refuse("heatmaps and PAFs must both be float32 or both float16");
        check_layout(heatmaps, "heatmaps");
        check_layout(fields, "PAFs");
    }

    static bool is_half(const Array& a) { return a.dtype().code == std::uint8_t(nb::dlpack::dtype_code::Float) && a.dtype().bits == 16; }

    const std::vector<Person>& run(const Array& heatmaps, const Array& fields) {
        const nb::gil_scoped_release released;
        if (is_half(heatmaps)) return parser_.parse(maps_of<std::uint16_t>(heatmaps), maps_of<std::uint16_t>(fields));
        return parser_.parse(maps_of<float>(heatmaps), maps_of<float>(fields));
    }

    const int types_;
    int channels_ = 0;
    const Kernels& kernels_;
    PafParser parser_;
    std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace
}  // namespace edgepose

NB_MODULE(_paf, m) {
    using namespace edgepose;
    nb::set_leak_warnings(false);  // an error's traceback may outlive the interpreter, and its parser with it
    m.attr("MOST_PEAKS") = kMostPeaks;
    m.attr("MOST_LIMBS") = kMostLimbs;
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const Kernels* kernels : available_kernels()) names.emplace_back(kernels->name);
        return names;
    });
    nb::class_<Parser>(m, "Parser")
        .def(
            "__init__",
            [](Parser* self, int types, const std::vector<std::tuple<int, int, int, int>>& limbs, float threshold, int most_peaks, int samples,
               float along, double share, float near, float length_cost, float reach, int minimum_keypoints, float minimum_score, int most_persons,
               const std::string& instructions) {
                const Parameters parameters{threshold, most_peaks, {samples, along, share, near, length_cost},
                                            {reach, minimum_keypoints, minimum_score, most_persons}};
                new (self) Parser(types, limbs, parameters, instructions);
            },
            nb::arg("types"), nb::arg("limbs"), nb::kw_only(), nb::arg("threshold"), nb::arg("most_peaks"), nb::arg("samples"), nb::arg("along"),
            nb::arg("share"), nb::arg("near"), nb::arg("length_cost"), nb::arg("reach"), nb::arg("minimum_keypoints"), nb::arg("minimum_score"),
            nb::arg("most_persons"), nb::arg("instructions"))
        .def("parse", &Parser::parse, nb::arg("heatmaps"), nb::arg("pafs"))
        .def("microseconds", &Parser::microseconds, nb::arg("heatmaps"), nb::arg("pafs"), nb::arg("rounds"), nb::arg("repeats"))
        .def_prop_ro("instructions", &Parser::instructions);
}
