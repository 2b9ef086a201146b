// After the first frame of a size nothing is allocated, however many people come. Linked with --wrap for the C functions.
#include <cstdio>
#include <cstdlib>
#include <new>

#include "maps.hpp"

static long allocations = 0;

extern "C" {
void* __real_malloc(std::size_t);
void* __real_calloc(std::size_t, std::size_t);
void* __wrap_malloc(std::size_t size) { return ++allocations, __real_malloc(size); }
void* __wrap_calloc(std::size_t count, std::size_t size) { return ++allocations, __real_calloc(count, size); }
}
void* operator new(std::size_t size) { return ++allocations, __real_malloc(size ? size : 1); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

int main() {
    using namespace edgepose;
    for (const Kernels* kernels : available_kernels())
        for (const bool hostile : {false, true}) {
            const checks::Case first = checks::random_case(1, 40, 60, 0, hostile);
            PafParser parser(first.types, first.limbs, first.parameters, *kernels);
            std::vector<std::uint16_t> half(first.heatmaps.size() + first.fields.size(), 0x3555);
            const Maps<std::uint16_t> heat{half.data(), first.types, 40, 60, 2400, 60}, field{half.data(), first.channels, 40, 60, 2400, 60};
            parser.parse(first.heat(), first.field());
            parser.parse(heat, field);
            std::vector<checks::Case> cases;
            for (const int people : {1, 5, 20, 60}) {
                cases.push_back(checks::random_case(1, 40, 60, people, hostile));
                cases.push_back(cases.back());
                std::fill(cases.back().heatmaps.begin(), cases.back().heatmaps.end(), 0.5f);
                cases.push_back(checks::random_case(1, 40, 60, people, hostile));
                for (std::size_t k = 0; k < cases.back().heatmaps.size(); ++k) cases.back().heatmaps[k] = (k * 2654435761u >> 7 & 1023) / 1024.0f;
                std::fill(cases.back().fields.begin(), cases.back().fields.end(), 0.7f);
            }
            const long before = allocations;
            std::size_t people = 0;
            for (const checks::Case& c : cases) people += parser.parse(c.heat(), c.field()).size();
            parser.parse(heat, field);
            if (allocations != before || before == 0) {
                std::printf("%s: %ld allocations after the first frame\n", kernels->name, allocations - before);
                return 1;
            }
            std::printf("allocation: %s, none in %zu frames with %zu people\n", kernels->name, cases.size() + 1, people);
        }
    return 0;
}
