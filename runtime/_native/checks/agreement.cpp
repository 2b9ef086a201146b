// All instruction sets of this processor find the same people, bit for bit.
#include <cstdio>

#include "maps.hpp"

int main() {
    using namespace edgepose;
    const auto sets = available_kernels();
    int people = 0, cases = 0;
    for (unsigned seed = 0; seed < 400; ++seed) {
        const int height = seed % 7 ? 1 + int(seed * 7 % 40) : int(seed % 3), width = 1 + int(seed * 13 % 61);
        const checks::Case c = checks::random_case(seed, height, width, int(seed % 9), seed % 2);
        PafParser plain(c.types, c.limbs, c.parameters, *sets.back());
        const auto expected = checks::bits_of(plain.parse(c.heat(), c.field()), c.types);
        people += int(expected.size()) / (1 + 3 * c.types);
        for (const Kernels* kernels : sets) {
            PafParser parser(c.types, c.limbs, c.parameters, *kernels);
            for (int twice = 0; twice < 2; ++twice, ++cases)
                if (checks::bits_of(parser.parse(c.heat(), c.field()), c.types) != expected) {
                    std::printf("seed %u: %s differs from %s\n", seed, kernels->name, sets.back()->name);
                    return 1;
                }
        }
    }
    std::printf("agreement: %d parses, %d people,", cases, people);
    for (const Kernels* kernels : sets) std::printf(" %s", kernels->name);
    std::printf("\n");
    return people > 300 ? 0 : 1;
}
