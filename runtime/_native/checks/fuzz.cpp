// libFuzzer: any skeleton, any parameters, any bytes as maps. All instruction sets must agree, and nothing may crash, hang or leak.
#include <algorithm>
#include <cstdlib>

#include "maps.hpp"

using namespace edgepose;

namespace {

class Bytes {
   public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
    int upto(int n) { return size_ ? (--size_, *data_++) % (n + 1) : 0; }
    float unit() { return static_cast<float>(upto(255)) / 255.0f; }

    // Floats with any bits: two bytes are the upper half, so that all signs, exponents, infinities and NaN come.
    void fill(std::vector<float>& values) {
        for (float& v : values) {
            const std::uint32_t bits = std::uint32_t(upto(255)) << 24 | std::uint32_t(upto(255)) << 16;
            std::memcpy(&v, &bits, sizeof v);
        }
    }

   private:
    const std::uint8_t* data_;
    std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    checks::Case c;
    c.types = 1 + bytes.upto(5), c.height = bytes.upto(9), c.width = bytes.upto(37);
    for (int k = bytes.upto(7); k > 0; --k) {
        c.limbs.push_back({bytes.upto(c.types - 1), bytes.upto(c.types - 1), bytes.upto(5), bytes.upto(5)});
        c.channels = std::max({c.channels, c.limbs.back().x + 1, c.limbs.back().y + 1});
    }
    c.parameters = {bytes.unit() / 2, 1 + bytes.upto(40), {1 + bytes.upto(8), bytes.unit() / 4, bytes.unit(), 9 * bytes.unit(), bytes.unit() / 20},
                    {3 * bytes.unit(), 1 + bytes.upto(4), 0.0f, 1 + bytes.upto(9)}};
    const std::size_t cells = std::size_t(c.height) * c.width;
    c.heatmaps.resize(c.types * cells);
    c.fields.resize(c.channels * cells);
    bytes.fill(c.heatmaps);
    bytes.fill(c.fields);
    std::vector<std::uint32_t> expected;
    bool first = true;
    for (const Kernels* kernels : available_kernels()) {
        PafParser parser(c.types, c.limbs, c.parameters, *kernels);
        const auto found = checks::bits_of(parser.parse(c.heat(), c.field()), c.types);
        if (!first && found != expected) std::abort();
        expected = found, first = false;
    }
    return 0;
}
