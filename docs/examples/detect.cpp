// What a file of `gfocal export MODEL --static 1` finds on a picture, by OpenVINO's C++ library, which reads ONNX.
// For detectors that look at squares (`"kind": "square"` in the file's resize rule) of a multiple of 32 pixels.
#include <cstring>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include "resize.hpp"

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: detect MODEL.onnx PICTURE.ppm");
    ov::Core core;
    // In float32: processors with bfloat16 would be faster, and a little off.
    auto model = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    const auto shape = model.input("images").get_shape();  // 1, height, width, 3

    // The simplest of image files; with OpenCV: cv::imread, then cv::cvtColor to RGB.
    std::ifstream file(argv[2], std::ios::binary);
    std::string kind;
    size_t width = 0, height = 0, most = 0;
    file >> kind >> width >> height >> most;
    std::vector<uint8_t> pixels(width * height * 3);
    if (kind != "P6" || most != 255 || !file.get() || !file.read(reinterpret_cast<char*>(pixels.data()), pixels.size()))
        throw std::runtime_error(std::string(argv[2]) + " is no PPM file of 8 bits (P6)");

    auto request = model.create_infer_request();
    const auto input = gfocal::resize(pixels, height, width, shape[1], shape[2]);
    std::memcpy(request.get_tensor("images").data<uint8_t>(), input.data(), input.size());
    auto* sizes = request.get_tensor("sizes").data<int64_t>();
    sizes[0] = shape[1], sizes[1] = shape[2];
    request.infer();

    const auto count = request.get_tensor("count").data<int64_t>()[0];
    const auto* labels = request.get_tensor("labels").data<int64_t>();
    const auto* scores = request.get_tensor("scores").data<float>();
    const auto* boxes = request.get_tensor("boxes").data<float>();
    const auto* spread = request.get_tensor("edge_std").data<float>();
    const float factor[2] = {float(width) / shape[2], float(height) / shape[1]};  // back to the picture's pixels
    for (int64_t i = 0; i < count; ++i) {
        std::cout << labels[i] << ' ' << scores[i];
        for (int edge = 0; edge < 4; ++edge)  // left, top, right, bottom
            std::cout << ' ' << boxes[4 * i + edge] * factor[edge % 2] << ' ' << spread[4 * i + edge] * factor[edge % 2];
        std::cout << '\n';
    }
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
}
