// The resize rule of gfocal, bit for bit: bilinear with antialiasing in whole numbers, along rows and then along columns.
// Part of gfocal, Apache-2.0.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gfocal {

// What each new pixel of a line is made of: `first`, and weights in units of 2^-bits.
struct Taps {
    struct One { std::size_t first; std::vector<int32_t> weights; };
    std::vector<One> pixels;
    int bits = 0;

    Taps(std::size_t size, std::size_t wanted) {
        const double scale = double(size) / double(wanted), support = std::max(scale, 1.0);
        std::vector<std::vector<double>> shares(wanted);
        double largest = 0;
        for (std::size_t i = 0; i < wanted; ++i) {
            const double centre = scale * (i + 0.5);
            const auto from = std::max<int64_t>(int64_t(centre - support + 0.5), 0);
            const auto until = std::min<int64_t>(int64_t(centre + support + 0.5), int64_t(size));
            double sum = 0;
            for (int64_t place = from; place < until; ++place) {
                shares[i].push_back(std::max(1 - std::abs((place - centre + 0.5) / support), 0.0));
                sum += shares[i].back();
            }
            for (double& share : shares[i]) largest = std::max(largest, share /= sum);
            pixels.push_back({std::size_t(from), {}});
        }
        while (bits < 22 && int64_t(0.5 + largest * (1 << (bits + 1))) < 1 << 15) ++bits;
        for (std::size_t i = 0; i < wanted; ++i)
            for (double share : shares[i]) pixels[i].weights.push_back(int32_t(0.5 + share * (1 << bits)));
    }
};

// One axis: rows of `size` pixels, or columns; there are `other` of them.
inline std::vector<uint8_t> along(const std::vector<uint8_t>& in, std::size_t size, std::size_t wanted, bool columns,
                                  std::size_t other) {
    if (size == wanted) return in;
    const Taps taps(size, wanted);
    std::vector<uint8_t> out(wanted * other * 3);
    const std::size_t step = columns ? other * 3 : 3, from = columns ? 3 : size * 3, to = columns ? 3 : wanted * 3;
    for (std::size_t line = 0; line < other; ++line)
        for (std::size_t i = 0; i < wanted; ++i)
            for (std::size_t colour = 0; colour < 3; ++colour) {
                int32_t total = 1 << std::max(taps.bits - 1, 0);
                std::size_t at = line * from + taps.pixels[i].first * step + colour;
                for (int32_t weight : taps.pixels[i].weights) total += weight * in[at], at += step;
                out[line * to + i * step + colour] = uint8_t(std::clamp(total >> taps.bits, 0, 255));
            }
    return out;
}

// RGB bytes of height x width pixels in another size.
inline std::vector<uint8_t> resize(const std::vector<uint8_t>& rgb, std::size_t height, std::size_t width,
                                   std::size_t new_height, std::size_t new_width) {
    return along(along(rgb, width, new_width, false, height), height, new_height, true, new_width);
}

}  // namespace gfocal
