// Eight parsers in eight threads share nothing (for ThreadSanitizer).
#include <cstdio>
#include <thread>

#include "maps.hpp"

int main() {
    using namespace edgepose;
    const checks::Case shared = checks::random_case(3, 46, 82, 12, false);
    std::vector<std::vector<std::uint32_t>> results(8);
    std::vector<std::thread> threads;
    for (auto& result : results)
        threads.emplace_back([&] {
            PafParser parser(shared.types, shared.limbs, shared.parameters, *available_kernels().front());
            for (int k = 0; k < 50; ++k) result = checks::bits_of(parser.parse(shared.heat(), shared.field()), shared.types);
        });
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results)
        if (result.empty() || result != results[0]) return std::printf("threads disagree\n"), 1;
    std::printf("threads: 8 parsers, 400 parses, equal\n");
    return 0;
}
