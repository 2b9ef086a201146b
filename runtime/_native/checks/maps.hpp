// Maps and skeletons for the core's own tests, from a seed.
#pragma once
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "paf_parser.hpp"

namespace edgepose::checks {

struct Case {
    int types = 0, channels = 0, height = 0, width = 0;
    std::vector<Limb> limbs;
    std::vector<float> heatmaps, fields;
    Parameters parameters{0.07f, 64, {5, 0.05f, 0.6, 4.0f, 0.006f}, {1.0f, 3, 0.0f, 64}};

    Maps<float> heat() const { return {heatmaps.data(), types, height, width, std::ptrdiff_t(height) * width, width}; }
    Maps<float> field() const { return {fields.data(), channels, height, width, std::ptrdiff_t(height) * width, width}; }
};

// People as blobs joined by straight fields, noise, and, where `hostile`, values that no network should give.
inline Case random_case(unsigned seed, int height, int width, int people, bool hostile) {
    std::mt19937 random(seed);
    const auto uniform = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); };
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    Case c;
    c.types = 3 + below(16), c.height = height, c.width = width;
    for (int k = 1; k < c.types + 3; ++k) {  // a tree, and three limbs more, perhaps repeated
        const int start = below(c.types), end = k < c.types ? k : below(c.types);
        if (start != end) c.limbs.push_back({start, end, c.channels, c.channels + 1}), c.channels += 2;
    }
    const std::size_t cells = std::size_t(height) * width;
    c.heatmaps.resize(c.types * cells);
    c.fields.resize(c.channels * cells);
    for (float& v : c.heatmaps) v = uniform(0.0f, 0.09f);
    for (float& v : c.fields) v = uniform(-0.05f, 0.05f);
    for (int person = 0; person < people && cells; ++person) {
        std::vector<float> x(c.types), y(c.types);
        const float cx = uniform(0, float(width)), cy = uniform(0, float(height)), size = uniform(2, 9);
        for (int t = 0; t < c.types; ++t) {
            x[t] = cx + uniform(-size, size), y[t] = cy + uniform(-size, size);
            for (int i = 0; i < height; ++i)
                for (int j = 0; j < width; ++j) {
                    const float dx = float(j) + 0.5f - x[t], dy = float(i) + 0.5f - y[t];
                    float& cell = c.heatmaps[t * cells + std::size_t(i) * width + j];
                    cell = std::max(cell, 0.9f * std::exp(-(dx * dx + dy * dy) / 1.6f));
                }
        }
        for (const Limb& limb : c.limbs) {
            const float dx = x[limb.end] - x[limb.start], dy = y[limb.end] - y[limb.start], length = std::hypot(dx, dy) + 1e-3f;
            for (int s = 0; s <= 60; ++s) {
                const int j = int(x[limb.start] + dx * float(s) / 60), i = int(y[limb.start] + dy * float(s) / 60);
                if (i < 0 || j < 0 || i >= height || j >= width) continue;
                c.fields[limb.x * cells + std::size_t(i) * width + j] = dx / length;
                c.fields[limb.y * cells + std::size_t(i) * width + j] = dy / length;
            }
        }
    }
    if (hostile) {
        const float odd[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e38f, 1e38f, 0.5f, 0.5f, 0.0f};
        for (auto* maps : {&c.heatmaps, &c.fields})
            for (float& v : *maps)
                if (below(6) == 0) v = odd[below(7)];
        c.parameters = {uniform(0, 0.5f), 1 + below(20), {1 + below(12), uniform(0, 0.3f), uniform(0, 1), uniform(0, 9), uniform(0, 0.1f)},
                        {uniform(0, 3), 1 + below(4), 0.0f, 1 + below(9)}};
    }
    return c;
}

// Everything that a parse gave, comparable bit by bit.
inline std::vector<std::uint32_t> bits_of(const std::vector<Person>& people, int types) {
    std::vector<std::uint32_t> bits;
    for (const Person& person : people) {
        const auto append = [&](float v) {
            std::uint32_t b;
            std::memcpy(&b, &v, sizeof b);
            bits.push_back(b);
        };
        append(person.score);
        for (int k = 0; k < 3 * types; ++k) append(person.keypoints[k]);
    }
    return bits;
}

}  // namespace edgepose::checks
